"""Listening to an interface of a lab by tcpdump, which ends with the process that started it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from typing import BinaryIO, Self

from harness.errors import InputError, NodeError
from harness.model.base import Value
from harness.nodes.host_network import NETNS_DIRECTORY

_COUNTS = re.compile(r"^(\d+) packets? (captured|received by filter|dropped by kernel)$", re.MULTILINE)
_END_DEADLINE_S = 10.0
_ETHERNET = "EN10MB"
BUFFER_KIB = 16_384
"""Room for bursts that come faster than they are written; libpcap's own 2 MiB hold 20 ms of 1 Gbit/s."""


class CaptureCounts(Value):
    """What tcpdump says at its end. ``dropped`` packets passed and are not in the file."""

    captured: int = 0
    matched: int = 0
    dropped: int = 0


def check_filter(expression: str) -> None:
    """Raises InputError for a filter that does not compile (pcap-filter(7)), and NodeError without tcpdump."""
    answer = subprocess.run(
        [_tcpdump(), "-y", _ETHERNET, "-d", expression], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        said = answer.stderr.strip().splitlines()
        why = said[-1].removeprefix("tcpdump: ") if said else "it does not compile"
        raise InputError(
            f"the filter {expression!r}: {why}", hint="as in tcpdump: 'tcp port 22', 'udp and greater 100'"
        )


class Capture:
    """A running tcpdump. With ``output`` it writes pcap there, else one line of text for each packet to its own
    standard output. It is killed when this thread ends, however that happens: nothing stays behind.

    Raises NodeError when this machine has no tcpdump.
    """

    def __init__(
        self,
        netns: str,
        interface: str,
        expression: str,
        *,
        output: BinaryIO | None,
        packets: int | None = None,
        snap_bytes: int | None = None,
    ) -> None:
        options = ["-w", "-", "-U"] if output is not None else ["-l"]
        options += [] if packets is None else ["-c", str(packets)]
        options += [] if snap_bytes is None else ["-s", str(snap_bytes)]
        within = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={NETNS_DIRECTORY / netns}"]
        self._process = subprocess.Popen(
            # Without -Z root tcpdump changes its user, and the kernel then forgets whose death ends it.
            # Without immediate mode the kernel hands packets over once a second, and a stop loses the last of them.
            [
                *within,
                _tcpdump(),
                "-Z",
                "root",
                "--immediate-mode",
                "-n",
                "-B",
                str(BUFFER_KIB),
                "-i",
                interface,
                *options,
                expression,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def await_listening(self) -> None:
        """Return when packets are being caught. Raises NodeError when tcpdump ends instead."""
        assert self._process.stderr is not None
        while b"listening on" not in self._said:
            line = self._process.stderr.readline()
            if not line:
                self._process.wait()
                raise NodeError(f"tcpdump does not start: {_in_one_line(self._said)}")
            self._said += line

    def wait(self, seconds: float | None = None) -> CaptureCounts:
        """Until it has its packets, the time is over, or whoever reads it went away; what it counted.

        Raises NodeError when it failed. KeyboardInterrupt passes through; call ``stop`` then.
        """
        try:
            _, rest = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return self.stop()
        return self._end(rest)

    def stop(self) -> CaptureCounts:
        """End it cleanly, so that the file is whole. Raises NodeError when it does not end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            _, rest = self._process.communicate(timeout=_END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise NodeError("tcpdump does not end: nobody reads what it writes") from None
        return self._end(rest)

    def _end(self, rest: bytes) -> CaptureCounts:
        self._said += rest
        text = self._said.decode(errors="replace")
        if self._process.returncode not in (0, -signal.SIGPIPE) and "Broken pipe" not in text:
            raise NodeError(f"tcpdump ended with {self._process.returncode}: {_in_one_line(self._said)}")
        found = {what: int(number) for number, what in _COUNTS.findall(text)}
        return CaptureCounts(
            captured=found.get("captured", 0),
            matched=found.get("received by filter", 0),
            dropped=found.get("dropped by kernel", 0),
        )


def _in_one_line(text: bytes) -> str:
    return " ".join(text.decode(errors="replace").split()) or "it says nothing"


def _tcpdump() -> str:
    found = shutil.which("tcpdump") or shutil.which("tcpdump", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise NodeError("this machine has no tcpdump", hint="apt-get install tcpdump")
    return found
