"""The report of a run on disk: ``index.html`` for people, the rest for machines."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.model.run_record import RunRecord
from harness.report.junit import to_junit
from harness.report.run_json import to_json
from harness.report.view import report_view

OWN_FILES = ("run.json", "junit.xml")
CERTIFICATE_FILE = "certificate.json"
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(record: RunRecord, directory: Path) -> Path:
    """Write ``index.html``, ``run.json``, ``junit.xml`` and, when links were measured, ``certificate.json`` into
    ``directory`` (made when missing); the path of ``index.html``.

    ``record.artifacts`` are paths relative to ``directory``; those that lead elsewhere are left out of the page. Each
    file appears complete or not at all. Raises OSError when the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    inside = tuple(path for path in record.artifacts if _is_inside(path))
    own = OWN_FILES if record.certificate is None else (*OWN_FILES, CERTIFICATE_FILE)
    record = record.model_copy(update={"artifacts": tuple(dict.fromkeys((*inside, *own)))})
    _write(directory / "run.json", to_json(record))
    if record.certificate is not None:
        _write(directory / CERTIFICATE_FILE, record.certificate.model_dump_json(indent=2) + "\n")
    _write(directory / "junit.xml", to_junit(record))
    index = directory / "index.html"
    _write(index, to_html(record))
    return index


def to_html(record: RunRecord) -> str:
    """The page: one file that needs nothing from outside."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    view = report_view(record)
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    environment.filters["markup"] = Markup
    template = environment.get_template("report.html.j2")
    # The pictures are made here, from escaped text; nothing else goes into the page unescaped.
    return template.render(view=view, style=Markup(style), picture=Markup(view.picture), strip=Markup(view.strip))


def _is_inside(path: str) -> bool:
    return bool(path) and not path.startswith("/") and ".." not in path.split("/")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
