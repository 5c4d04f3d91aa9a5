"""YAML text to plain dictionaries, lists and scalars that remember where they stood.

The subset that configuration needs: one document of mappings, sequences and plain scalars. Anchors, merge keys and
tags are problems: they hide from a reader what a file says. So are duplicate keys; YAML would let the last one win.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from harness.config.problems import Problem
from harness.model.units import quote

LARGEST_FILE = 1 << 20
_DEEPEST = 20

Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None
Plain = Scalar | list["Plain"] | dict[str, "Plain"]

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}")


@dataclass
class YamlTree:
    """What a file says (``value``), where, and what is already wrong with it as YAML."""

    file: str
    value: Plain = None
    problems: list[Problem] = field(default_factory=list)
    values_at: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys_at: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """A problem at the value (or the key) of ``path``; at its nearest ancestor when the file has no such path."""
        places = [self.keys_at, self.values_at] if at_key else [self.values_at, self.keys_at]
        for length in range(len(path), -1, -1):
            for place in places:
                if path[:length] in place:
                    line, column = place[path[:length]]
                    return Problem(file=self.file, line=line, column=column, message=message)
        return Problem(file=self.file, line=1, column=1, message=message)

    def get(self, path: Path) -> Plain:
        """The value at ``path``; None when there is none."""
        value = self.value
        for step in path:
            if isinstance(value, dict):
                value = value.get(str(step))
            elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
                value = value[step]
            else:
                return None
        return value


def read_tree(data: bytes, file: str) -> YamlTree:
    """Never raises for bad input: whatever is wrong stands in ``problems``, and ``value`` is then None or partial."""
    tree = YamlTree(file)
    if len(data) > LARGEST_FILE:
        tree.problems.append(_at(file, 1, 1, f"the file is larger than {LARGEST_FILE >> 20} MiB"))
        return tree
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        tree.problems.append(_at(file, line, column, "the file is not UTF-8 text"))
        return tree
    try:
        root = YAML(typ="safe", pure=True).compose(text)
        if root is None:
            tree.problems.append(_at(file, 1, 1, "the file is empty"))
        else:
            tree.value = _plain(tree, root, (), set())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = " ".join(str(error.problem or error.context or "it cannot be parsed").split())
        tree.problems.append(_at(file, line, column, f"not valid YAML: {said}"))
    except RecursionError:
        tree.problems.append(_at(file, 1, 1, "the file is nested too deeply"))
    except Exception as error:
        # The parser's own errors for odd bytes are of many kinds (ReaderError, ValueError, AttributeError ...).
        said = quote(str(error).splitlines()[0] if str(error) else type(error).__name__)
        tree.problems.append(_at(file, 1, 1, f"not valid YAML: {said}"))
    return tree


def _at(file: str, line: int, column: int, message: str) -> Problem:
    return Problem(file=file, line=line, column=column, message=message)


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _plain(tree: YamlTree, node: Node, path: Path, seen: set[int]) -> Plain:
    line, column = tree.values_at[path] = _position(node)
    if id(node) in seen:
        tree.problems.append(_at(tree.file, line, column, "anchors and aliases are not accepted; write it out"))
        return None
    seen.add(id(node))
    if len(path) > _DEEPEST:
        tree.problems.append(_at(tree.file, line, column, "the file is nested too deeply"))
        return None
    if node.anchor is not None:
        tree.problems.append(_at(tree.file, line, column, "anchors and aliases are not accepted; write it out"))
    tag = str(node.tag).removeprefix(_TAG)
    match node:
        case MappingNode() if tag == "map":
            return _mapping(tree, node, path, seen)
        case SequenceNode() if tag == "seq":
            return [_plain(tree, item, (*path, index), seen) for index, item in enumerate(node.value)]
        case ScalarNode() if tag in {"str", "int", "float", "bool", "null", "timestamp", "value"}:
            return _scalar(node, tag)
    tree.problems.append(_at(tree.file, line, column, f"the tag {quote(tag)} is not accepted"))
    return None


def _mapping(tree: YamlTree, node: MappingNode, path: Path, seen: set[int]) -> dict[str, Plain]:
    mapping: dict[str, Plain] = {}
    for key_node, value_node in node.value:
        line, column = _position(key_node)
        if not isinstance(key_node, ScalarNode):
            tree.problems.append(_at(tree.file, line, column, "a key must be plain text"))
            continue
        if str(key_node.tag) == f"{_TAG}merge":
            tree.problems.append(_at(tree.file, line, column, "merge keys (<<) are not accepted; write it out"))
            continue
        key = str(key_node.value)
        if key in mapping:
            first_line, _ = tree.keys_at[(*path, key)]
            message = f"duplicate key {quote(key)}; it is already on line {first_line}"
            tree.problems.append(_at(tree.file, line, column, message))
            continue
        tree.keys_at[(*path, key)] = (line, column)
        mapping[key] = _plain(tree, value_node, (*path, key), seen)
        if mapping[key] is None:
            # An absent value has no place of its own: YAML puts it wherever the next token starts.
            tree.values_at[(*path, key)] = (line, column)
    return mapping


def _scalar(node: ScalarNode, tag: str) -> Scalar:
    text = str(node.value)
    if tag == "null":
        return None
    if tag == "bool" and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if tag == "int" and _INTEGER.fullmatch(text):
        return int(text)
    if tag == "float" and _DECIMAL.fullmatch(text):
        return float(text)
    return text
