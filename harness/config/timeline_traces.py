"""The traces that a timeline plays: read when the file is, so that a lab is not built for one that cannot be played."""

from __future__ import annotations

import math
from pathlib import Path

from harness.config.problems import DocumentError, Problem
from harness.config.trace_file import TraceNotFound, find_trace, load_trace
from harness.config.yaml_tree import YamlTree
from harness.model.timeline import Play
from harness.model.topology import Topology


def with_traces_found(topology: Topology, tree: YamlTree, path: Path) -> tuple[Topology | None, list[Problem]]:
    """The topology with the absolute path of each trace that its timeline plays, or what is wrong with them."""
    problems: list[Problem] = []
    lengths_us: dict[Path, float] = {}
    events = list(topology.timeline)
    for index, event in enumerate(events):
        if isinstance(event, Play):
            try:
                found = find_trace(event.trace, beside=path).absolute()
                if found not in lengths_us:
                    # What is wrong in a file is told once.
                    lengths_us[found] = math.inf
                    lengths_us[found] = load_trace(found).duration_us
            except TraceNotFound as error:
                problems.append(tree.problem(("timeline", index, "trace"), error.message))
                continue
            except DocumentError as error:
                problems += error.problems
                continue
            if not event.loop and event.offset_s * 1e6 >= lengths_us[found]:
                message = f"the trace {found.stem} ends before {event.offset_s:g} s"
                problems.append(tree.problem(("timeline", index, "offset"), message))
            events[index] = event.model_copy(update={"trace": str(found)})
    return (None, problems) if problems else (topology.model_copy(update={"timeline": tuple(events)}), [])
