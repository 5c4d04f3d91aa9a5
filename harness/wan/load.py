"""UDP load through whatever lies between two network namespaces, and what it cost this machine to carry it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CoreError
from harness.wan.local_transport import in_netns
from harness.wan.native_program import compiled

GENERATOR = "native/load_generator.c"
_FIRST_PORT = 40500
_PATIENCE_S = 30.0
_ARRIVAL_S = 0.25
"""For what is still under way when the last packet has been sent."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Flow:
    """From one namespace (a name, or a path) to an address in another."""

    source: str
    destination: str
    address: str


@dataclass(frozen=True)
class Load:
    """What was offered and what arrived, over ``seconds`` of sending. CPU in seconds: of the whole machine, of the
    process that was watched, and of the load generators' own."""

    packet_bytes: int
    sent: int
    received: int
    seconds: float
    machine_cpu_s: float
    process_cpu_s: float
    generator_cpu_s: float

    @property
    def loss(self) -> float:
        """Share of the packets that did not arrive."""
        return max(0.0, 1 - self.received / self.sent) if self.sent else 0.0

    @property
    def packets_per_s(self) -> float:
        """What arrived."""
        return self.received / self.seconds

    @property
    def gigabits(self) -> float:
        """What arrived in all, as IP."""
        return self.received * self.packet_bytes * 8 / 1e9


def offer(flows: Sequence[Flow], packet_bytes: int, packets_per_s: float, seconds: float, watch: int = 0) -> Load:
    """Send on all flows together (0 packets per second: as many as go), and count. ``watch`` is a pid.

    ``packet_bytes`` is the IP packet's. Raises CoreError when a generator fails.
    """
    with ExitStack() as stack:
        receivers = []
        for number, flow in enumerate(flows):
            receiver = _start(stack, flow.destination, "receive", flow.address, str(_FIRST_PORT + number))
            assert receiver.stdout is not None
            if receiver.stdout.readline() != "ready\n":
                raise CoreError(f"the load generator cannot listen on {flow.address}")
            receivers.append(receiver)
        before = _machine_cpu_s(), process_cpu_s(watch)
        rate = packets_per_s / len(flows)
        senders = []
        for number, flow in enumerate(flows):
            load = (str(packet_bytes), str(rate), str(seconds))
            senders.append(_start(stack, flow.source, "send", flow.address, str(_FIRST_PORT + number), *load))
        sent = [_answer(sender) for sender in senders]
        # The generators are the clock here: no packet is told to arrive, so there is nothing to wait on but time.
        time.sleep(_ARRIVAL_S)
        after = _machine_cpu_s(), process_cpu_s(watch)
        received = [_answer(receiver) for receiver in receivers]
    return Load(
        packet_bytes=packet_bytes,
        sent=sum(int(one["packets"]) for one in sent),
        received=sum(int(one["packets"]) for one in received),
        seconds=max(one["seconds"] for one in sent),
        machine_cpu_s=after[0] - before[0],
        process_cpu_s=after[1] - before[1],
        generator_cpu_s=sum(one["cpu_s"] for one in [*sent, *received]),
    )


def idle_cores(seconds: float) -> float:
    """How many processors other work of this machine keeps busy: what is to be taken off a load's cost."""
    before = _machine_cpu_s()
    time.sleep(seconds)
    return (_machine_cpu_s() - before) / seconds


def process_cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used in all its threads; 0 for pid 0 or one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _machine_cpu_s() -> float:
    with Path("/proc/stat").open() as lines:
        user, nice, system, _idle, _wait, irq, softirq, *_ = (int(word) for word in lines.readline().split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS


def _start(stack: ExitStack, netns: str, *words: str) -> subprocess.Popen[str]:
    program = compiled(GENERATOR)
    with in_netns(netns):
        process = subprocess.Popen(
            [str(program), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _answer(process: subprocess.Popen[str]) -> dict[str, float]:
    """Its line of results; a receiver ends because its input does."""
    try:
        out, said = process.communicate(timeout=_PATIENCE_S)
        answer: dict[str, float] = json.loads(out)
    except (ValueError, subprocess.TimeoutExpired) as error:
        raise CoreError(f"the load generator failed: {said if isinstance(error, ValueError) else error}") from error
    return answer
