"""``run.json``: the whole record of a run, and its JSON Schema."""

from __future__ import annotations

import json

from harness.model.run_record import RunRecord

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def to_json(record: RunRecord) -> str:
    """The record as text; ``from_json`` reads it back to an equal record."""
    return record.model_dump_json(indent=2) + "\n"


def from_json(text: str) -> RunRecord:
    """The record that ``to_json`` wrote. Raises ValueError for anything else."""
    return RunRecord.model_validate_json(text)


def run_schema() -> str:
    """JSON Schema of ``run.json``, as the text that is shipped."""
    schema = RunRecord.model_json_schema(mode="serialization")
    return json.dumps({"$schema": _DIALECT, **schema, "title": "A Longhaul run"}, indent=2, ensure_ascii=False) + "\n"
