"""Pydantic's errors as problems in the user's file, in the user's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from harness.config.problems import Problem, did_you_mean
from harness.config.yaml_tree import Path, YamlTree
from harness.model.units import quote

Checked = TypeVar("Checked", bound=BaseModel)

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "list_type": "a list",
    "bool_type": "true or false",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}


def validate(model: type[Checked], tree: YamlTree) -> tuple[Checked | None, list[Problem]]:
    """The document that the tree says, or every reason why it says none."""
    try:
        return model.model_validate(tree.value, context={"file": tree.file}), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        return None, [_problem(model, tree, detail) for detail in details]


def _problem(model: type[BaseModel], tree: YamlTree, detail: ErrorDetails) -> Problem:
    location = detail["loc"]
    path = _path_in_file(tree, location)
    kind = detail["type"]
    if kind == "extra_forbidden":
        key = str(location[-1])
        accepted = _keys_at(model, location[:-1])
        message = f"unknown key {quote(key)}; accepted: {', '.join(accepted)}{did_you_mean(key, accepted)}"
        return tree.problem((*path, key) if path[-1:] != (key,) else path, message, at_key=True)
    if kind == "missing":
        return tree.problem(path, f"the key {quote(str(location[-1]))} is missing")
    at_key = "[key]" in location
    return tree.problem(path, _message(kind, detail), at_key=at_key)


def _message(kind: str, detail: ErrorDetails) -> str:
    given = detail["input"]
    context: dict[str, Any] = detail.get("ctx", {})
    found = "nothing" if given is None else quote(given)
    if kind == "literal_error":
        accepted = [part.strip(" '") for part in str(context["expected"]).replace(" or ", ",").split(",")]
        return f"{found} is not accepted; accepted: {', '.join(accepted)}{did_you_mean(str(given), accepted)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found}"
    if kind in {"greater_than_equal", "less_than_equal"}:
        bound = context.get("ge", context.get("le"))
        return f"{found} is out of range; accepted: {'at least' if 'ge' in context else 'at most'} {bound}"
    if kind in {"too_short", "too_long"}:
        bound, word = (context["min_length"], "at least") if kind == "too_short" else (context["max_length"], "at most")
        return f"{context['actual_length']} entries here; accepted: {word} {bound}"
    if kind == "string_pattern_mismatch":
        return f"{found} is not a name; accepted: small letters, digits and -, beginning with a letter or a digit"
    if kind in {"string_too_short", "string_too_long"}:
        return f"{found} is {'empty' if kind == 'string_too_short' else 'too long'}"
    return str(detail["msg"])


def _path_in_file(tree: YamlTree, location: Sequence[str | int]) -> Path:
    """Without the parts that only Pydantic knows: tags of unions, and ``[key]``."""
    path: Path = ()
    for step in location:
        if (*path, step) in tree.values_at or (*path, step) in tree.keys_at:
            path = (*path, step)
    return path


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that the document accepts at a location (which does name the tags of unions)."""
    annotation: Any = model
    for step in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
            if step not in fields:
                break
            field = fields[str(step)]
            annotation = _without_metadata(field.annotation)
        elif get_origin(annotation) is list:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            annotation = dict(_tagged(annotation)).get(str(step), annotation)
        annotation = _without_metadata(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [field.alias or name for name, field in annotation.model_fields.items()]
    return []


def _without_metadata(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated and not any(isinstance(part, Tag) for part in annotation.__metadata__):
        annotation = annotation.__origin__
    given = [argument for argument in get_args(annotation) if argument is not NoneType]
    # What may be left out accepts what it accepts when it is there.
    return given[0] if get_origin(annotation) in (Union, UnionType) and len(given) == 1 else annotation


def _tagged(annotation: Any) -> Iterator[tuple[str, Any]]:
    """Every ``(tag, type)`` of a union, however deeply it is annotated."""
    if get_origin(annotation) is Annotated:
        for part in annotation.__metadata__:
            if isinstance(part, Tag):
                yield part.tag, annotation.__origin__
        annotation = annotation.__origin__
    for argument in get_args(annotation):
        yield from _tagged(argument)
