"""Where everything of a run lies."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError


@dataclass(frozen=True)
class RunDirectory:
    """The layout: ``run.json index.html junit.xml log.html report.html output.xml history.jsonl logs/<site>/``."""

    root: Path

    @staticmethod
    def create(root: Path) -> RunDirectory:
        """Make it. Raises InputError when it exists and is not empty, or cannot be made."""
        try:
            root.mkdir(parents=True, exist_ok=True)
            if any(root.iterdir()):
                raise InputError(f"{root} is not empty", hint="give another --out, or remove it")
        except OSError as error:
            raise InputError(f"cannot make {root}: {error.strerror}") from None
        return RunDirectory(root.resolve())

    def discard(self) -> None:
        """Remove it when nothing was found yet, so that the same directory may be named again."""
        self.history.unlink(missing_ok=True)
        with suppress(OSError):
            self.root.rmdir()

    @property
    def history(self) -> Path:
        """The history, JSON lines."""
        return self.root / "history.jsonl"

    @property
    def host(self) -> Path:
        """The host's health, second by second, JSON lines."""
        return self.root / "host.jsonl"

    @property
    def logs(self) -> Path:
        """Logs of every process, by site."""
        return self.root / "logs"

    @property
    def output_xml(self) -> Path:
        """Robot's machine-readable output."""
        return self.root / "output.xml"

    @property
    def log_html(self) -> Path:
        """Robot's log."""
        return self.root / "log.html"

    @property
    def report_html(self) -> Path:
        """Robot's report."""
        return self.root / "report.html"

    @property
    def real_data(self) -> Path:
        """The packed real tree while it travels; removed at the end."""
        return self.root / "real-data.tar"

    def artifacts(self) -> tuple[str, ...]:
        """Every file in it, relative."""
        return tuple(sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()))
