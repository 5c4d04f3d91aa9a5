"""Questions to a running coordinator, over a socket in its run directory: the server and the client's side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import zmq
import zmq.asyncio

from syncer.core.reconcile import is_conflict_copy
from syncer.errors import NotRunning
from syncer.site.home import Config, Home

if TYPE_CHECKING:
    from syncer.site.coordinator import Coordinator
    from syncer.site.data_plane import DataPlane
    from syncer.store.index import Index

ROLES = ("supervisor", "circusd", "coordinator")
SESSION_STATS = (
    "bytes_sent",
    "bytes_received",
    "rtt_us",
    "target_rate_bps",
    "delivered_rate_bps",
    "packets_sent",
    "packets_lost",
    "packets_retransmitted",
    "min_rtt_us",
    "congestion_control",
    "rate_cap_bps",
)

log = structlog.get_logger("status")


class StatusServer:
    """Answers from the start on; ``problem`` says why the site does not serve yet."""

    def __init__(self, home: Home, config: Config) -> None:
        self.problem: str | None = "starting"
        self._home = home
        self._config = config
        self._coordinator: Coordinator | None = None
        self._counted_seq = 0
        self._conflicts: set[bytes] = set()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 200)
        endpoint = home.endpoint("status")
        self._socket.bind(endpoint)
        os.chmod(endpoint.removeprefix("ipc://"), 0o600)  # noqa: PTH101
        self._answers: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._receive())

    def serve(self, coordinator: Coordinator) -> None:
        """The site serves: answer from this coordinator."""
        self._coordinator = coordinator

    async def close(self) -> None:
        for task in (self._task, *self._answers):
            task.cancel()
        await asyncio.gather(self._task, *self._answers, return_exceptions=True)
        self._socket.close()
        self._context.term()

    async def _receive(self) -> None:
        while True:
            *route, request = await self._socket.recv_multipart()
            task = asyncio.create_task(self._answer(route, request))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _answer(self, route: list[bytes], request: bytes) -> None:
        try:
            answer = await self._handle(msgspec.msgpack.decode(request))
        except Exception as error:
            log.exception("a question could not be answered")
            answer = {"error": str(error)}
        with contextlib.suppress(zmq.Again):
            await self._socket.send_multipart([*route, msgspec.msgpack.encode(answer)])

    async def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        coordinator = self._coordinator
        if request["ask"] == "reload":
            if coordinator is not None:
                coordinator.reload()
            return {}
        if request["ask"] == "confirm":
            if coordinator is None:
                await asyncio.sleep(min(0.2, request["for_s"]))
                return {"in_sync": False, "lagging": {self._config.site: self.problem}, "scanned": False}
            deadline = time.monotonic() + request["for_s"]
            scanned = request.get("scanned") == os.getpid()
            answer = await coordinator.agreement.confirm(deadline, scanned=scanned)
            answer["scanned"] = os.getpid() if answer["scanned"] else 0
            return answer
        if request["ask"].startswith("speed"):
            return self._speed(request)
        return self._status()

    def _speed(self, request: dict[str, Any]) -> dict[str, Any]:
        coordinator = self._coordinator
        if coordinator is None or not coordinator.ready:
            return {"error": f"the engine does not serve yet: {self.problem or 'it scans'}", "hint": "try again soon"}
        tests = coordinator.data.speed_tests
        match request["ask"]:
            case "speedtest":
                if request["site"] not in coordinator.replica.peers:
                    known = ", ".join(coordinator.replica.peers) or "none"
                    return {
                        "error": f"no site {request['site']!r} is known",
                        "hint": f"known are: {known}",
                        "input": True,
                    }
                return tests.start(request["site"], request["transport"], float(request["seconds"]))
            case "speed-progress":
                return tests.progress(request["test"])
            case _:
                return tests.stop(request["test"])

    def _status(self) -> dict[str, Any]:
        coordinator = self._coordinator
        pids: list[dict[str, Any]] = [{"role": role, "pid": self._home.read_pid(role)} for role in ROLES]
        answer: dict[str, Any] = {
            "site": self._config.site,
            "state": self.problem or "scanning",
            "in_sync": False,
            "alert": None,
            "entries": 0,
            "bytes": 0,
            "needs": 0,
            "conflicts": 0,
            "peers": [
                {"site": peer.name, "connected": False, "in_sync": False, "session": None, "link": None}
                for peer in self._config.sites
            ],
        }
        if coordinator is not None:
            replica, counts = coordinator.replica, coordinator.index.counts()
            pids += [{"role": each.name, "pid": each.pid or None} for each in coordinator.data.hub.movers.values()]
            answer |= {
                "state": "serving" if coordinator.ready else "scanning",
                "in_sync": coordinator.idle and replica.in_sync,
                "alert": coordinator.alert,
                "entries": counts.entries,
                "bytes": counts.bytes,
                "needs": len(replica.needs),
                "conflicts": self._count_conflicts(coordinator.index),
                "peers": [self._peer(coordinator, name) for name in replica.peers],
            }
        answer["processes"] = [row for row in pids if row["pid"]]
        return answer

    def _count_conflicts(self, index: Index) -> int:
        """Looks only at what changed since the last time."""
        while changes := index.since(self._counted_seq, 1000):
            for seq, entry in changes:
                self._counted_seq = seq
                if is_conflict_copy(entry.path):
                    (self._conflicts.discard if entry.deleted else self._conflicts.add)(entry.path)
        return len(self._conflicts)

    @staticmethod
    def _peer(coordinator: Coordinator, name: str) -> dict[str, Any]:
        peer, stats = coordinator.replica.peers[name], coordinator.data.stats(name)
        session: dict[str, Any] | None = None
        if peer.has_data_path:
            session = {"files_wanted": len(peer.jobs), "bytes_wanted": peer.bytes_wanted}
            if stats is not None:
                session |= {key: getattr(stats, key) for key in SESSION_STATS}
        return {
            "site": name,
            "connected": peer.connected,
            "in_sync": coordinator.replica.peer_in_sync(name),
            "session": session,
            "link": _link(coordinator.data, name),
        }


def _link(data: DataPlane, site: str) -> dict[str, Any]:
    """The transport of a link, why, and what was measured of each under load."""
    choice, now = data.choice(site), time.monotonic()
    sending, receiving = data.rates_now(site)
    return {
        "transport": data.transport(site) or None,
        "reason": data.why(site),
        "pinned": data.config.transport_to(site),
        "trial": choice.trial or None,
        "rate_cap_bps": data.config.rate_to(site),
        "sending_bps": sending,
        "receiving_bps": receiving,
        "measured": [
            {
                "transport": transport,
                "direction": direction,
                "goodput_bps": int(known.goodput_bps),
                "seconds": round(known.seconds, 1),
                "rtt_us": known.rtt_us,
                "loss": round(known.loss, 5) if known.packets else None,
                "age_s": round(now - known.at, 1),
            }
            for (transport, direction), known in sorted(choice.measured.items())
        ],
    }


def ask(home: Home, question: dict[str, Any], *, timeout_s: float, answer_s: float | None = None) -> dict[str, Any]:
    """One question to the engine that runs in ``home``: ``timeout_s`` for it to take the question and ``answer_s``
    (the same by default) to answer. Raises NotRunning when one of them passes."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.RECONNECT_IVL, 50),
            (zmq.SNDTIMEO, int(timeout_s * 1000)),
            (zmq.RCVTIMEO, int((timeout_s if answer_s is None else answer_s) * 1000)),
        ):
            socket.setsockopt(option, value)
        socket.connect(home.endpoint("status"))
        try:
            socket.send(msgspec.msgpack.encode(question))
            answer: dict[str, Any] = msgspec.msgpack.decode(socket.recv())
        except zmq.Again:
            raise NotRunning(
                f"no engine answers in {home.path}", hint=f"start it with: syncer run --home {home.path}"
            ) from None
    return answer
