"""The key ``trace`` of a link and of a site: which trace it follows while the timeline runs, and how.

Where the link, its profile and the site's access line leave rate or delay out, the trace's mean over its whole time is
taken: what is in force while the trace is not playing, and what the fidelity check measures before a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, StrictBool, WithJsonSchema

from harness.config.fields import Buffer, Document, Moment
from harness.config.link_keys import LinkKeys
from harness.config.problems import DocumentError, Problem
from harness.config.trace_fields import MOST_SPEED, Speed
from harness.config.trace_file import TraceNotFound, digest, find_trace, load_trace
from harness.config.yaml_tree import Path, YamlTree
from harness.model import units
from harness.model.trace import Direction, Trace, TracePlay
from harness.model.trace_facts import facts

if TYPE_CHECKING:
    from harness.config.topology_document import TopologyDocument


class TraceDocument(Document):
    """A trace and how it is played."""

    play: Annotated[str, Field(strict=True, min_length=1, max_length=200)] = Field(
        description="A trace by name, from traces/ beside this file or a shipped one; or a file relative to this one."
    )
    loop: StrictBool = Field(default=True, description="Begin again at its end; true unless stated.")
    offset: Moment = Field(default=0, description="Where in the trace to begin (us, ms, s).")
    speed: Speed = Field(default=1.0, description="2 plays twice as fast (a plain number).")


def _named(value: Any) -> Any:
    return {"play": value} if isinstance(value, str) else value


TraceKey = Annotated[
    TraceDocument | None,
    BeforeValidator(_named),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "examples": ["lte-driving", "recorded.csv"]},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["play"],
                    "properties": {
                        "play": {"type": "string", "minLength": 1},
                        "loop": {"type": "boolean", "default": True},
                        "offset": {"type": "string", "pattern": units.DURATION_PATTERN},
                        "speed": {"type": "number", "minimum": 1 / MOST_SPEED, "maximum": MOST_SPEED},
                    },
                },
            ]
        }
    ),
]

LINK_TRACE = "The trace that the link follows while the timeline runs, in the place of its own rate, delay and loss."
SITE_TRACE = (
    "The trace that the site's access line follows while the timeline runs: in series with each of the site's links."
)


class FoundTrace(NamedTuple):
    """A trace that a topology names, read."""

    file: FilePath
    trace: Trace

    def keys(self, line: Literal["uplink", "downlink"]) -> LinkKeys:
        """Mean ``rate`` and ``delay`` of one direction, and its buffer, as far as the trace says anything of them."""
        direction: Direction = "up" if line == "uplink" else "down"
        course = self.trace.course(direction)
        mean = facts(course, self.trace.duration_us)
        rate = None if mean.mean_rate_bps is None else max(1_000, round(mean.mean_rate_bps / 1_000) * 1_000)
        delay = None if mean.mean_delay_us is None else round(mean.mean_delay_us / 100) * 100
        buffer = None if course.buffer_bytes is None or rate is None else Buffer(course.buffer_bytes, None)
        return LinkKeys.model_construct(rate=rate, delay=delay, buffer=buffer)


def found_traces(
    document: TopologyDocument, tree: YamlTree, path: FilePath
) -> tuple[dict[str, FoundTrace], list[Problem]]:
    """Every trace that links and sites name, by what they call it; or what is wrong with them."""
    found: dict[str, FoundTrace] = {}
    problems: list[Problem] = []
    for place, key in _keys(document):
        if key.play not in found:
            try:
                file = find_trace(key.play, beside=path).absolute()
                found[key.play] = FoundTrace(file, load_trace(file))
            except TraceNotFound as error:
                problems.append(tree.problem(place, error.message))
                continue
            except DocumentError as error:
                problems += error.problems
                continue
        if not key.loop and key.offset >= found[key.play].trace.duration_us:
            message = f"the trace {found[key.play].trace.name} ends before {key.offset / 1e6:g} s"
            problems.append(tree.problem(place, message))
    return found, problems


def plays(document: TopologyDocument, found: Mapping[str, FoundTrace]) -> tuple[TracePlay, ...]:
    """What the timeline plays from its begin to its end."""
    made = []
    for place, key in _keys(document):
        entry = found[key.play]
        pairs: tuple[tuple[str, str], ...] = ()
        site: str | None = None
        if place[0] == "sites":
            site = str(place[1])
        else:
            pairs = document.links[int(place[1])].pairs
        made.append(
            TracePlay(
                trace=entry.trace.name,
                file=str(entry.file),
                digest=digest(entry.file),
                pairs=pairs,
                site=site,
                offset_s=key.offset / 1e6,
                speed=key.speed,
                loop=key.loop,
            )
        )
    return tuple(made)


def _keys(document: TopologyDocument) -> Iterator[tuple[Path, TraceDocument]]:
    for name, site in document.sites.items():
        if site.trace is not None:
            yield ("sites", name, "trace"), site.trace
    for index, link in enumerate(document.links):
        if link.trace is not None:
            yield ("links", index, "trace"), link.trace
