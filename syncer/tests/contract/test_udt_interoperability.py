"""Our UDT with other ones: every pair, both roles, streams and messages, with and without loss; all content by hash.

Each end is a process of its own, since libudt keeps state for a whole process. Losses come from a relay between them.
`test_udt_interoperability_bulk.py` carries as much as one likes.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import msgspec
import pytest

from syncer.tests.contract.udp_relay import Direction, Impairment, UdpRelay
from syncer.tests.contract.udt_peer import Account, Task, content
from syncer.udt.settings import UdtSettings

LOOPBACK, LOOPBACK6 = "127.0.0.1", "::1"
OTHERS = ("libudt", "udt4py")
LIBUDT_WITH_OURS = (("longhaul", "libudt"), ("libudt", "longhaul"))
BETWEEN_OTHERS = (("libudt", "udt4py"), ("udt4py", "libudt"))
WITH_OURS = (
    *itertools.chain.from_iterable((("longhaul", other), (other, "longhaul")) for other in OTHERS),
    ("longhaul", "longhaul"),
    ("longhaul", "longhaul-plain"),
    ("longhaul-plain", "longhaul"),
    ("longhaul-plain", "longhaul-plain"),
)
PAIRS = (*WITH_OURS, *(pytest.param(pair, marks=pytest.mark.long) for pair in BETWEEN_OTHERS))
"""(who listens, who connects). The others among themselves show that a failure is not the suite's."""

TELLING = (*LIBUDT_WITH_OURS, ("longhaul", "longhaul"), ("longhaul-plain", "longhaul-plain"))
LOSSY_PAIRS = tuple(
    pair if pair in TELLING else pytest.param(pair, marks=pytest.mark.long) for pair in (*WITH_OURS, *BETWEEN_OTHERS)
)
"""udt4py carries the same libudt, and half-plain pairs speak as plain ones do: they take long and tell little more."""

OUR_BYTES, MIXED_BYTES, OTHERS_BYTES = 3_000_000, 500_000, 300_000
"""Each way where packets get lost; a libudt that sends manages some 2 Mbit/s then."""

DEADLINE_S = 60.0
STREAM_SIZES = ((1, 0), (0, 1457), (3_000_000, 2_000_000))
MESSAGE_SIZES = [1, 100, 1456, 1457, 50_000, 1_000_000, 7]

LOSSES = {
    "1%": Impairment(loss=0.01),
    "5%": Impairment(loss=0.05),
    "reordered": Impairment(loss=0.01, duplicate=0.02, reorder=0.05, reorder_s=0.003),
}

pytestmark = pytest.mark.timeout(2 * DEADLINE_S)


def named(pair: tuple[str, str]) -> str:
    return f"{pair[0]}_from_{pair[1]}"


@dataclass
class End:
    """A peer process. Its output is read by a thread, so that a deadline holds for each line."""

    task: Task

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "syncer.tests.contract.udt_peer", msgspec.json.encode(self.task).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self, deadline: float) -> str:
        assert self.process.stdout is not None
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            assert self.process.stderr is not None
            who = f"{self.task.implementation} ({self.task.role})"
            pytest.fail(f"{who} ended or took too long:\n{self.process.stderr.read()}")
        return line.strip()

    def port(self, deadline: float) -> int:
        return int(self.line(deadline).removeprefix("port "))

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def end_of(task: Task) -> Iterator[End]:
    end = End(task)
    try:
        yield end
    finally:
        end.end()


@dataclass(frozen=True)
class Plan:
    """What goes over one connection. ``relayed`` None: no relay between."""

    pair: tuple[str, str]
    to_server: list[int]
    to_client: list[int]
    messages: bool = False
    host: str = LOOPBACK
    relayed: Impairment | None = None
    in_order: bool = True
    idle_s: float = 0.0
    seed: int = 1

    def task(self, role: str, *, port: int = 0, rendezvous: bool = False) -> Task:
        listens = role == "listen"
        sends, receives = (self.to_client, self.to_server) if listens else (self.to_server, self.to_client)
        return Task(
            implementation=self.pair[0] if listens else self.pair[1],
            role=role,
            host=self.host,
            port=port,
            messages=self.messages,
            sends=sends,
            receives=receives,
            seed=self.seed,
            in_order=self.in_order,
            idle_s=self.idle_s,
            rendezvous=rendezvous,
        )

    def expected(self, role: str) -> list[str]:
        """Digests of what the end of this role receives."""
        other, sizes = ("connect", self.to_server) if role == "listen" else ("listen", self.to_client)
        return [content(self.seed, other, index).digest(size) for index, size in enumerate(sizes)]


def carry(plan: Plan) -> dict[str, list[str]]:
    """The digests that each role received; both ends have closed properly."""
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(end_of(plan.task("listen")))
        address = plan.host, server.port(deadline)
        if plan.relayed is not None:
            relay = stack.enter_context(UdpRelay(address, dict.fromkeys(Direction, plan.relayed), plan.seed))
            address = relay.address
        client = stack.enter_context(end_of(plan.task("connect", port=address[1])))
        return concluded(server, client, deadline)


def concluded(server: End, client: End, deadline: float) -> dict[str, list[str]]:
    received = {}
    for role, end in (("listen", server), ("connect", client)):
        received[role] = msgspec.json.decode(end.line(deadline), type=Account).digests
    for end in (client, server):
        end.tell("close")
    for end in (client, server):
        assert end.line(deadline) == "closed"
    return received


def check(plan: Plan, received: dict[str, list[str]]) -> None:
    arranged: Callable[[list[str]], list[str]] = list if plan.in_order else sorted
    for role in ("listen", "connect"):
        assert arranged(received[role]) == arranged(plan.expected(role)), role


@pytest.fixture(autouse=True)
def built(request: pytest.FixtureRequest) -> None:
    pair = request.node.callspec.params.get("pair", ())
    for who in pair:
        if who == "udt4py" and find_spec("udt4py") is None:
            pytest.skip("udt4py is not installed: ./longhaul test installs it")


@pytest.mark.parametrize(("to_server", "to_client"), STREAM_SIZES)
@pytest.mark.parametrize("pair", PAIRS, ids=named)
def test_a_stream_arrives_unchanged(pair: tuple[str, str], to_server: int, to_client: int) -> None:
    plan = Plan(pair, [to_server], [to_client])
    check(plan, carry(plan))


@pytest.mark.parametrize("pair", PAIRS, ids=named)
def test_messages_arrive_whole_and_in_order(pair: tuple[str, str]) -> None:
    plan = Plan(pair, MESSAGE_SIZES, MESSAGE_SIZES[::-1], messages=True)
    check(plan, carry(plan))


@pytest.mark.parametrize("pair", [pair for pair in WITH_OURS if "udt4py" not in pair], ids=named)
@pytest.mark.parametrize("messages", [False, True], ids=["stream", "messages"])
def test_ipv6(pair: tuple[str, str], messages: bool) -> None:
    plan = Plan(pair, [1_000_000, 5], [5, 70_000], messages=messages, host=LOOPBACK6)
    check(plan, carry(plan))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("pair", LOSSY_PAIRS, ids=named)
def test_a_stream_survives_losses(pair: tuple[str, str], loss: str) -> None:
    size = OTHERS_BYTES if pair in BETWEEN_OTHERS else MIXED_BYTES if set(pair) & set(OTHERS) else OUR_BYTES
    plan = Plan(pair, [size], [size], relayed=LOSSES[loss], seed=7)
    check(plan, carry(plan))


@pytest.mark.parametrize(
    ("loss", "in_order"), [("1%", True), ("5%", True), ("5%", False), ("reordered", False)], ids=str
)
@pytest.mark.parametrize("pair", LOSSY_PAIRS, ids=named)
def test_messages_survive_losses(pair: tuple[str, str], loss: str, in_order: bool) -> None:
    sizes = [1, 1456, 3000, 20_000, 100, 60_000] * (1 if set(pair) & set(OTHERS) else 10)
    plan = Plan(pair, sizes, sizes[::-1], messages=True, relayed=LOSSES[loss], in_order=in_order, seed=8)
    check(plan, carry(plan))


@pytest.mark.long
@pytest.mark.parametrize("delay_s", [0.0, 0.3], ids=["near", "far"])
@pytest.mark.parametrize("pair", [*LIBUDT_WITH_OURS, ("longhaul", "longhaul-plain")], ids=named)
def test_an_idle_connection_lives(pair: tuple[str, str], delay_s: float) -> None:
    """Longer than after which our UDT takes a silent peer for dead; libudt speaks only when it hears nothing."""
    idle_s = UdtSettings().dead_after_s + 4
    plan = Plan(pair, [1000], [1000], relayed=Impairment(delay_s=delay_s), idle_s=idle_s, seed=10)
    check(plan, carry(plan))


@pytest.mark.parametrize("impairment", [Impairment(), Impairment(loss=0.05)], ids=["clean", "5%"])
@pytest.mark.parametrize("pair", LOSSY_PAIRS, ids=named)
def test_both_ends_call(pair: tuple[str, str], impairment: Impairment) -> None:
    """Rendezvous, through a relay as through two NATs."""
    deadline = time.monotonic() + DEADLINE_S
    plan = Plan(pair, [200_000], [100_000], seed=9)
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(end_of(plan.task(role, rendezvous=True))) for role in ("connect", "listen")
        )
        relay = stack.enter_context(
            UdpRelay((LOOPBACK, second.port(deadline)), dict.fromkeys(Direction, impairment), plan.seed)
        )
        seen_as = relay.seen_as((LOOPBACK, first.port(deadline)))
        first.tell(str(relay.address[1]))
        second.tell(str(seen_as[1]))
        check(plan, concluded(second, first, deadline))
