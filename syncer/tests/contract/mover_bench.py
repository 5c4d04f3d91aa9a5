"""Two sites' worth of real mover processes, driven over the mover protocol as coordinators drive them."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import zmq
from blake3 import blake3

from syncer.core.records import block_size_for
from syncer.wire import mover_protocol as protocol

DEADLINE_S = 30.0
SMALL_BLOCK = 1 << 17
M = TypeVar("M", bound=protocol.Message)


class Mover:
    """One mover process and the ROUTER that it talks to."""

    def __init__(self, directory: Path, module: str, *, place: tuple[str, ...] = ()) -> None:
        """``place`` is put before the command, to run it elsewhere (``ip netns exec NAME``)."""
        directory.mkdir(parents=True, exist_ok=True)
        self._command = [*place, sys.executable, "-m", module, "--name", "mover"]
        self.endpoint = f"ipc://{directory}/movers.ipc"
        self._log = (directory / "mover.log").open("ab")
        self._socket = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # A mover that was restarted has the same identity.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.bind(self.endpoint)
        self.seen: list[protocol.FromMover] = []
        self.incarnation = 1
        self.process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._command, "--coordinator", self.endpoint], stdin=subprocess.DEVNULL, stderr=self._log
        )

    def say(self, *messages: protocol.ToMover) -> None:
        self._socket.send_multipart([b"mover", protocol.encode(list(messages))])

    def poll(self, timeout_s: float) -> list[protocol.FromMover]:
        if not self._socket.poll(int(timeout_s * 1000)):
            return []
        _identity, frame = self._socket.recv_multipart()
        messages = protocol.decode_from_mover(frame)
        if any(isinstance(message, protocol.Hello) for message in messages):
            self.say(protocol.Welcome(incarnation=self.incarnation))
        self.seen += messages
        return messages

    def wait(
        self, kind: type[M], matches: Callable[[M], bool] = lambda message: True, timeout_s: float = DEADLINE_S
    ) -> M:
        """The first message of this kind that matches, past or to come; it is taken out of ``seen``."""
        deadline = time.monotonic() + timeout_s
        while True:
            for index, message in enumerate(self.seen):
                if isinstance(message, kind) and matches(message):
                    del self.seen[index]
                    return message
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {kind.__name__} in {timeout_s} s; seen: {self.seen[-5:]}")
            self.poll(left)

    def received(self, session: int, jobs: set[int], timeout_s: float = DEADLINE_S) -> None:
        """Wait until all these jobs were reported as received."""
        missing = set(jobs)
        deadline = time.monotonic() + timeout_s
        while missing:
            for message in [m for m in self.seen if isinstance(m, protocol.Received) and m.session == session]:
                missing -= set(message.jobs)
                self.seen.remove(message)
            failed = [m for m in self.seen if isinstance(m, protocol.ReceiveFailed | protocol.SessionDown)]
            assert not failed, failed
            left = deadline - time.monotonic()
            assert left > 0, f"{len(missing)} jobs not received"
            if missing:
                self.poll(left)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def respawn(self) -> None:
        self.seen.clear()
        self.process = self._spawn()
        self.wait(protocol.Hello)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._socket.close()
            self._log.close()


class Pair:
    """A sending and a receiving mover, and what to say to them."""

    def __init__(
        self,
        directory: Path,
        module: str,
        *,
        address: str = "127.0.0.1",
        places: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    ) -> None:
        """``address``: the receiver's. ``places``: where the sender and the receiver run."""
        self.address = address
        self.sender = Mover(directory / "a", module, place=places[0])
        self.receiver = Mover(directory / "b", module, place=places[1])
        for mover in (self.sender, self.receiver):
            mover.wait(protocol.Hello)
        self.port = self.listen()
        self._jobs = iter(range(1, 1 << 40))

    def listen(self) -> int:
        self.receiver.say(protocol.Listen(address=self.address, port=0))
        return self.receiver.wait(protocol.Listening).port

    def open(self, *, wrong_key: str = "", wait: bool = True, rate_bps: int = 0) -> int:
        """A new session; its number."""
        session = secrets.randbits(63)
        forward, backward = secrets.token_bytes(32), secrets.token_bytes(32)
        common = {"session": session, "address": self.address, "port": self.port, "rate_bps": rate_bps}
        expected = {"forward": forward, "backward": backward}
        if wrong_key:
            expected[wrong_key] = secrets.token_bytes(32)
        self.receiver.say(
            protocol.OpenSession(
                site="a", role="accept", send_key=expected["backward"], receive_key=expected["forward"], **common
            )
        )
        self.sender.say(
            protocol.OpenSession(site="b", role="connect", send_key=forward, receive_key=backward, **common)
        )
        if wait:
            for mover in (self.sender, self.receiver):
                mover.wait(protocol.SessionUp, lambda message: message.session == session)
        return session

    def job(
        self,
        session: int,
        source: Path,
        temp: Path,
        *,
        have: tuple[int, ...] = (),
        block_size: int = 0,
        job: int | None = None,
    ) -> tuple[protocol.ExpectFile, protocol.SendFile]:
        """The two messages that move ``source`` to ``temp``."""
        found = source.stat()
        size = block_size or block_size_for(found.st_size)
        digests = b"".join(blake3(block).digest() for block in _blocks(source, size))
        number = next(self._jobs) if job is None else job
        wanted = [block for block in range(len(digests) // 32) if block not in have]
        ranges = [(block * size, min(size, found.st_size - block * size)) for block in wanted]
        return (
            protocol.ExpectFile(
                session=session,
                job=number,
                temp_path=os.fsencode(temp),
                size=found.st_size,
                block_size=size,
                blocks=digests,
                have=list(have),
            ),
            protocol.SendFile(
                session=session,
                job=number,
                path=os.fsencode(source),
                size=found.st_size,
                mtime_ns=found.st_mtime_ns,
                ranges=ranges,
            ),
        )

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(size):
            yield block
