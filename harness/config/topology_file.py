"""A topology file to a Topology, or one DocumentError with every problem; nothing else is raised for any input."""

from __future__ import annotations

from pathlib import Path

from harness.config.compose import compose, profile_references
from harness.config.explain import validate
from harness.config.problems import DocumentError, Problem
from harness.config.profile_document import ProfileDocument
from harness.config.profile_file import ProfileNotFound, load_profile, read_file
from harness.config.references import check_references
from harness.config.timeline_traces import with_traces_found
from harness.config.topology_document import TopologyDocument
from harness.config.trace_keys import found_traces
from harness.config.yaml_tree import YamlTree, read_tree
from harness.model.topology import Topology

_KEYS_OF_A_PROFILE = {"uplink", "downlink"}


def load_topology(path: Path) -> Topology:
    """Read and check one file. Raises DocumentError (an InputError) with ``file:line:column`` for every problem."""
    return parse_topology(read_file(path), path)


def parse_topology(data: bytes, path: Path) -> Topology:
    """The topology that ``data`` says. ``path`` names it in messages, and profiles are looked for beside it."""
    return topology_of(read_tree(data, str(path)), path)


def is_profile(tree: YamlTree) -> bool:
    """Whether a file is a profile by its keys; anything else is taken for a topology."""
    return isinstance(tree.value, dict) and bool(_KEYS_OF_A_PROFILE & set(tree.value))


def topology_of(tree: YamlTree, path: Path) -> Topology:
    """The topology that a file says. Raises DocumentError with every problem."""
    if tree.problems and tree.value is None:
        raise DocumentError(tree.problems)
    document, invalid = validate(TopologyDocument, tree)
    references = check_references(tree)
    # An empty value is one mistake; saying also that it has the wrong type would not help.
    places = {(problem.line, problem.column) for problem in references}
    problems = [*tree.problems, *references]
    problems += [problem for problem in invalid if (problem.line, problem.column) not in places]
    if document is None or problems:
        raise DocumentError(problems)
    profiles, problems = _profiles(document, tree, path)
    if problems:
        raise DocumentError(problems)
    traces, problems = found_traces(document, tree, path)
    if problems:
        raise DocumentError(problems)
    topology, problems = compose(document, profiles, tree, traces)
    if topology is not None:
        topology, problems = with_traces_found(topology, tree, path)
    if topology is None:
        raise DocumentError(problems)
    return topology


def _profiles(
    document: TopologyDocument, tree: YamlTree, path: Path
) -> tuple[dict[str, ProfileDocument], list[Problem]]:
    profiles: dict[str, ProfileDocument] = {}
    problems: list[Problem] = []
    for place, reference in profile_references(document):
        if reference in profiles:
            continue
        try:
            profiles[reference] = load_profile(reference, beside=path)
        except ProfileNotFound as error:
            problems.append(tree.problem(place, error.message))
        except DocumentError as error:
            problems += error.problems
    return profiles, problems
