"""Traces as files: the project's own form, written and read, and finding one by name or path.

    version: 1                      a header in YAML, as strict as a topology's
    name: lte-driving
    source: Where the numbers come from.
    duration: 300 s                 when it ends or begins again
    down_buffer: 1.5 MB             the bottleneck's queue where a link has none of its own
    ---
    time_ms,down_rate_kbps,down_delay_ms,up_rate_kbps         columns as in ``trace_table``
    0,12300,38,4200
    50,11900,,4150                  an empty cell: as before

What else can be read stands in ``trace_import``; ``load_trace`` tells the forms apart by their content.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import Field, ValidationError

from harness.config.explain import validate
from harness.config.fields import Document, Name, Span, Text
from harness.config.problems import DocumentError, Problem, did_you_mean
from harness.config.shipped import shipped_dir
from harness.config.trace_fields import SizeText
from harness.config.trace_import import Form, file_problem, import_csv, import_json, import_mahimahi, looks_like
from harness.config.trace_table import Row, read_table
from harness.config.yaml_tree import read_tree
from harness.errors import InputError
from harness.model.trace import COLUMNS, Trace
from harness.model.units import format_duration, format_share, format_size, quote

LARGEST_TRACE_FILE = 64 << 20
SUFFIX = ".trace"
_SEPARATOR = "---"
_PRECISION = {"rate_bps": ("rate_kbps", 1_000), "delay_us": ("delay_ms", 1_000), "jitter_us": ("jitter_ms", 1_000)}


class TraceHeader(Document):
    """What stands above the table of a trace file."""

    version: int = Field(ge=1, le=1, description="Version of this file's form; 1.")
    name: Name = Field(description="The trace's name; its file is NAME.trace.")
    title: Text = Field(default="", description="Human name.")
    description: Text = Field(default="", description="What it is and what it is for.")
    source: Text = Field(default="", description="Where its numbers come from, or that they are an own choice.")
    recipe: Text = Field(default="", description="How to make it again.")
    duration: Span = Field(description="How long it is; then it ends or begins again.")
    down_buffer: SizeText | None = Field(default=None, description="The bottleneck's queue towards the subscriber.")
    up_buffer: SizeText | None = Field(default=None, description="The bottleneck's queue from the subscriber.")


class TraceNotFound(InputError):
    """No file for a trace's name or path."""


def load_trace(path: Path, *, form: Form | None = None) -> Trace:
    """Read a trace in whichever form it is. Raises DocumentError with ``file:line:column`` for every problem."""
    return parse_trace(read_bytes(path), path, form=form)


def parse_trace(data: bytes, path: Path, *, form: Form | None = None) -> Trace:
    """The trace that ``data`` says; ``path`` names it in messages, and where the form has no name."""
    text = decode(data, str(path))
    match form or looks_like(text):
        case "mahimahi":
            return import_mahimahi(text, str(path), name=path.stem)
        case "json":
            return import_json(text, str(path), name=path.stem)
        case "csv":
            return import_csv(text, str(path), name=path.stem)
    return _read_native(text, str(path))


def find_trace(reference: str, *, beside: Path | None = None) -> Path:
    """A trace's file: a path (relative to the file ``beside``, or to the working directory), or the name of one in
    ``traces/`` beside that file or of a shipped one. Raises TraceNotFound with the names that there are."""
    folders = [] if beside is None else [beside.parent / "traces"]
    folders.append(shipped_dir("topologies") / "traces")
    candidates = [folder / f"{reference}{SUFFIX}" for folder in folders] if "/" not in reference else []
    candidates.append(Path(reference) if beside is None else beside.parent / reference)
    for candidate in candidates:
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):
            continue
    names = sorted({path.stem for folder in folders for path in folder.glob(f"*{SUFFIX}")})
    raise TraceNotFound(
        f"there is no trace {quote(reference)}{did_you_mean(reference, names)}",
        hint=f"Give a file, or one of: {', '.join(names) or 'none is shipped'}.",
    )


def shipped_traces() -> tuple[Path, ...]:
    """Files of the library, by name."""
    return tuple(sorted((shipped_dir("topologies") / "traces").glob(f"*{SUFFIX}")))


def digest(path: Path) -> str:
    """Names a trace's content, so that a run can tell that it plays what was checked."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises DocumentError when it cannot be read or is larger than any trace."""
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_TRACE_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DocumentError([file_problem(str(path), None, f"cannot be read: {reason}")]) from None
    if len(data) > LARGEST_TRACE_FILE:
        raise DocumentError([file_problem(str(path), None, f"is larger than {LARGEST_TRACE_FILE >> 20} MiB")])
    return data


def decode(data: bytes, file: str) -> str:
    """The file as text. Raises DocumentError with the line of the first byte that is none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DocumentError([file_problem(file, line, "the file is not UTF-8 text")]) from None


def trace_text(trace: Trace) -> str:
    """The trace in the project's own form; reading it gives an equal trace, if its courses are compacted."""
    header: list[tuple[str, str]] = [("version", "1"), ("name", trace.name)]
    header += [
        (key, _yaml_text(value))
        for key, value in (
            ("title", trace.title),
            ("description", trace.description),
            ("source", trace.source_note),
            ("recipe", trace.recipe),
        )
        if value
    ]
    header.append(("duration", format_duration(trace.duration_us)))
    courses = {"": trace.down} if trace.up is None else {"down_": trace.down, "up_": trace.up}
    for prefix, course in courses.items():
        if course.buffer_bytes is not None:
            header.append((f"{prefix or 'down_'}buffer", format_size(course.buffer_bytes)))
    once = [name for name in COLUMNS if _said_once(trace, name)]
    if trace.up is not None and all(name in once or not getattr(trace.up, name) for name in COLUMNS):
        # Without any column of its own, the way up would be read as missing.
        once = []
    columns = [
        (prefix, name, course)
        for prefix, course in courses.items()
        for name in COLUMNS
        if getattr(course, name) and name not in once
    ]
    columns += [("", name, trace.down) for name in once]
    lines = [f"{key}: {value}" for key, value in header]
    lines += [_SEPARATOR, ",".join(["time_ms", *(prefix + _written_name(name) for prefix, name, _ in columns)])]
    before: list[str] = []
    for at_us in sorted({at_us for course in courses.values() for at_us in course.at_us}):
        cells = [_cell(name, getattr(course, name)[course.index_at(at_us)]) for _, name, course in columns]
        shown = ["" if before and old == new else new for old, new in zip(before or cells, cells, strict=True)]
        if before != cells:
            lines.append(",".join([_decimal(at_us, 1_000), *(shown if before else cells)]))
        before = cells
    return "\n".join(lines) + "\n"


def _read_native(text: str, file: str) -> Trace:
    lines = text.splitlines()
    try:
        end = next(place for place, line in enumerate(lines) if line.strip() == _SEPARATOR)
    except StopIteration:
        message = "no line --- between the header and the table; see `longhaul trace import` for other forms"
        raise DocumentError([file_problem(file, len(lines) or 1, message)]) from None
    tree = read_tree("\n".join(lines[:end]).encode(), file)
    header, problems = validate(TraceHeader, tree)
    if header is None or tree.problems:
        raise DocumentError([*tree.problems, *problems])
    rows = [
        Row(number, line.split(","))
        for number, line in enumerate(lines[end + 1 :], start=end + 2)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not rows:
        raise DocumentError([file_problem(file, len(lines), "there is no table below the line ---")])
    table = read_table(file, rows[0], rows[1:], from_zero=False, buffers=(header.down_buffer, header.up_buffer))
    last_us = max(course.at_us[-1] for course in (table.down, table.up) if course is not None)
    if last_us >= header.duration:
        message = f"the last row is at {format_duration(last_us)}, not within the duration"
        raise DocumentError([tree.problem(("duration",), message)])
    try:
        return Trace(
            name=header.name,
            title=header.title,
            description=header.description,
            source_note=header.source,
            recipe=header.recipe,
            duration_us=header.duration,
            down=table.down,
            up=table.up,
        )
    except ValidationError as error:
        raise DocumentError([Problem(file=file, line=1, column=1, message=str(error))]) from None


def _said_once(trace: Trace, name: str) -> bool:
    """Whether both directions say the same of it at every time, so that one column does for both."""
    down, up = trace.down, trace.up
    if up is None or not getattr(down, name) or not getattr(up, name):
        return False
    times = {*down.at_us, *up.at_us}
    return all(getattr(down, name)[down.index_at(at)] == getattr(up, name)[up.index_at(at)] for at in times)


def _written_name(name: str) -> str:
    return {"loss": "loss_pct", "blocked": "blocked"}.get(name) or _PRECISION[name][0]


def _cell(name: str, value: float) -> str:
    match name:
        case "blocked":
            return str(int(value))
        case "loss":
            return format_share(value).removesuffix("%")
    return _decimal(int(value), _PRECISION[name][1])


def _decimal(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)


def _yaml_text(text: str) -> str:
    """One line of plain text as a YAML scalar that reads back the same."""
    flat = " ".join(text.split())
    escaped = flat.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
