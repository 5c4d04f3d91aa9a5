"""The traces that a timeline plays: found when the file is read, so that a lab is not built for one that is missing."""

from __future__ import annotations

from pathlib import Path

from harness.config.problems import Problem
from harness.config.trace_file import TraceNotFound, find_trace
from harness.config.yaml_tree import YamlTree
from harness.model.timeline import Play
from harness.model.topology import Topology


def with_traces_found(topology: Topology, tree: YamlTree, path: Path) -> tuple[Topology | None, list[Problem]]:
    """The topology with the absolute path of each trace that its timeline plays, or a problem for each missing one."""
    problems = []
    events = list(topology.timeline)
    for index, event in enumerate(events):
        if isinstance(event, Play):
            try:
                found = find_trace(event.trace, beside=path).absolute()
            except TraceNotFound as error:
                problems.append(tree.problem(("timeline", index, "trace"), error.message))
                continue
            events[index] = event.model_copy(update={"trace": str(found)})
    return (None, problems) if problems else (topology.model_copy(update={"timeline": tuple(events)}), [])
