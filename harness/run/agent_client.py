"""Talks to the node agent: one remote command for each request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import LabError
from harness.model.tree import TreeEntry, entry_from_json
from harness.nodes.port import Node
from harness.run import node_agent
from harness.run.workload import Operation

BATCH_DEADLINE_S = 120.0
MARGIN_S = 30.0

EffectRow = list[Any]
"""``[path as surrogateescape text, before, after, visible]``, as the agent answers."""


class AgentClient:
    """Carries out requests on one node, in the folder ``root`` (absolute, on the node)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._script = f"{node.data_dir}/node_agent.py"
        node.remote.put(Path(node_agent.__file__), self._script)

    def operate(self, root: str, operations: Sequence[Operation]) -> list[dict[str, Any]]:
        """One result for each operation: ``effects`` and ``skipped`` (why, or empty)."""
        answer = self._ask({"do": "operate", "root": root, "operations": list(operations)}, BATCH_DEADLINE_S)
        results: list[dict[str, Any]] = answer["results"]
        return results

    def unpack(self, root: str, archive: Path, path: str) -> list[EffectRow]:
        """Copy a tar archive to the node and extract it as the new directory ``path``."""
        place = f"{self._node.data_dir}/{archive.name}"
        self._node.remote.put(archive, place)
        answer = self._ask({"do": "unpack", "root": root, "archive": place, "path": path}, BATCH_DEADLINE_S)
        self._node.remote.run(["rm", "-f", place])
        effects: list[EffectRow] = answer["effects"]
        return effects

    def tree(self, root: str) -> dict[bytes, TreeEntry]:
        """All that stands in the folder now."""
        rows = self._ask({"do": "snapshot", "root": root}, BATCH_DEADLINE_S)["tree"]
        return {raw_path(path): entry_from_json(entry) for path, *entry in rows}

    def usage(self, root: str) -> int:
        """Bytes that the file system has given to the folder, the engine's own files included."""
        return int(self._ask({"do": "usage", "root": root}, MARGIN_S)["bytes"])

    def await_usage(self, root: str, size: int, timeout_s: float) -> bool:
        """Wait until the folder takes at least ``size`` bytes; False when the deadline passes."""
        request = {"do": "await-usage", "root": root, "bytes": size, "timeout_s": timeout_s}
        return bool(self._ask(request, timeout_s + MARGIN_S)["reached"])

    def await_tree(self, root: str, path: str, files: int, size: int, timeout_s: float) -> bool:
        """Wait until exactly ``files`` files with ``size`` bytes in all stand at or below ``path``."""
        request = {
            "do": "await-tree",
            "root": root,
            "path": path,
            "files": files,
            "bytes": size,
            "timeout_s": timeout_s,
        }
        return bool(self._ask(request, timeout_s + MARGIN_S)["reached"])

    def _ask(self, request: dict[str, Any], timeout_s: float) -> Any:
        answer = self._node.remote.run(["python3", self._script], stdin=json.dumps(request), timeout_s=timeout_s)
        try:
            return json.loads(answer.stdout)
        except ValueError:
            raise LabError(
                f"the agent at {self._node.site} answered {answer.stdout[:200]!r}",
                hint=f"its standard error: {answer.stderr[-500:]}",
            ) from None


def raw_path(text: str) -> bytes:
    """The raw bytes of a path in surrogateescape text."""
    return text.encode("utf-8", "surrogateescape")
