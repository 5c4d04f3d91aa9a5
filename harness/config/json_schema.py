"""JSON Schemas of the files that people write, from the document models, for editors and other tools."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from harness.config.fields import SITE_NAME_PATTERN
from harness.config.profile_document import ProfileDocument
from harness.config.topology_document import TopologyDocument

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _WithoutNull(GenerateJsonSchema):
    """An optional key may be left out, which is not the same as null."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = super().default_schema(schema)
        if inner.get("default", 0) is None:
            del inner["default"]
        return inner


def topology_schema() -> str:
    """JSON Schema of a topology file, as the text that is shipped."""
    schema = _schema(TopologyDocument, "A Longhaul topology")
    properties = schema["properties"]
    sites = properties["sites"]
    described = next(iter(sites.pop("patternProperties").values()))
    sites["propertyNames"] = {"pattern": SITE_NAME_PATTERN}
    sites["additionalProperties"] = {"anyOf": [described, {"type": "null"}]}
    defaults = properties["defaults"]
    reference = defaults.pop("$ref", None) or defaults.pop("allOf")[0]["$ref"]
    defaults.pop("default", None)
    defaults["anyOf"] = [{"$ref": reference}, {"type": "null"}]
    return _text(schema)


def profile_schema() -> str:
    """JSON Schema of a profile file, as the text that is shipped."""
    return _text(_schema(ProfileDocument, "A Longhaul profile"))


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = model.model_json_schema(schema_generator=_WithoutNull)
    return {"$schema": _DIALECT, **schema, "title": title}


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
