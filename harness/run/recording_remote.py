"""A remote that notes every command in the history: what was run, how it ended, how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import LabError
from harness.nodes.port import Completed, Node, Remote, RemoteProcess
from harness.run.recorder import Recorder

KEPT_CHARACTERS = 2_000


class RecordingRemote:
    """A Remote around another; streams are kept up to KEPT_CHARACTERS each."""

    def __init__(self, site: str, inner: Remote, recorder: Recorder) -> None:
        self._site = site
        self._inner = inner
        self._recorder = recorder

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str | None = None,
    ) -> Completed:
        """See Remote."""
        began_s = self._recorder.now()
        try:
            done = self._inner.run(argv, timeout_s=timeout_s, check=check, env=env, cwd=cwd, stdin=stdin)
        except LabError as error:
            self._record(began_s, argv, {"error": error.message})
            raise
        self._record(
            began_s,
            argv,
            {
                "exit_code": done.exit_code,
                "seconds": round(done.seconds, 3),
                "stdout": _printable(done.stdout),
                "stderr": _printable(done.stderr),
            },
        )
        return done

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> RemoteProcess:
        """See Remote."""
        began_s = self._recorder.now()
        process = self._inner.start(name, argv, env=env, cwd=cwd)
        self._record(began_s, argv, {"name": name, "pid": process.pid, "log": process.log})
        return process

    def signal(self, pid: int, signal: str) -> bool:
        """See Remote."""
        return self._inner.signal(pid, signal)

    def put(self, local: Path, remote: str) -> None:
        """See Remote."""
        self._inner.put(local, remote)

    def get(self, remote: str, local: Path) -> None:
        """See Remote."""
        self._inner.get(remote, local)

    def close(self) -> None:
        """See Remote."""
        self._inner.close()

    def _record(self, began_s: float, argv: Sequence[str], data: Mapping[str, object]) -> None:
        words = [_printable(word) for word in argv]
        self._recorder.record("command", words[0], site=self._site, at_s=began_s, data={"argv": words, **data})


@dataclass
class RecordingNode:
    """A Node whose remote notes what it runs."""

    name: str
    site: str
    wan_address: str
    public_address: str
    data_dir: str
    log_dir: str
    remote: Remote


def recording(node: Node, recorder: Recorder) -> RecordingNode:
    """The same node with its remote wrapped."""
    remote = RecordingRemote(node.name, node.remote, recorder)
    return RecordingNode(
        node.name, node.site, node.wan_address, node.public_address, node.data_dir, node.log_dir, remote
    )


def _printable(text: str) -> str:
    shown = text if len(text) <= KEPT_CHARACTERS else f"{text[:KEPT_CHARACTERS]}... ({len(text)} characters)"
    return shown.encode("utf-8", "backslashreplace").decode()
