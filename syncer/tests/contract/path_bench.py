"""What one connection between two movers can carry, and what of it is the price of AES-GCM.

    python -m syncer.tests.contract.path_bench --transport tcp --bytes 2000000000 --directory /dev/shm
    python -m syncer.tests.contract.path_bench --transport udt --repeats 3 --json result.json

The movers' own sender and receiver in two processes over loopback: file, record, transport, record, BLAKE3, file and
fsync.
Each run is made with encryption and without, in turns. Without it a record is copied where it would be encrypted, so
what is compared is the encryption alone; there is no such sealer outside of this module. CPU is that of a whole
process, kernel included, so ``mbit_per_core`` is what one core sends or receives; on fewer cores than two processes
need, throughput is less than either. ``aes_alone`` is the time that sealing and opening take by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from blake3 import blake3

from syncer.core.records import block_size_for
from syncer.errors import TransportError
from syncer.movers.disk import DiskPool
from syncer.movers.receiver import Receiver
from syncer.movers.sender import Sender
from syncer.movers.transport import Transport
from syncer.wire import mover_protocol as protocol
from syncer.wire.record import (
    FRAME_HEADER_SIZE,
    KEY_SIZE,
    MAX_CONTENT,
    MAX_RECORD,
    RECORD_HEADER_SIZE,
    TAG_SIZE,
    Kind,
    Opener,
    Sealer,
)

SESSION = 7
KEY = bytes(range(KEY_SIZE))
DEADLINE_S = 170.0


class _NoCipher:
    """In AESGCM's place: copies, and leaves room for a tag."""

    def encrypt_into(self, nonce: bytes, data: memoryview, header: bytes, record: memoryview) -> None:
        record[: len(data)] = data

    def decrypt_into(self, nonce: bytes, body: memoryview, header: bytes, content: memoryview) -> None:
        content[:] = body[: len(content)]


def _sealer(encrypts: bool) -> Sealer:
    sealer = Sealer(KEY, SESSION)
    if not encrypts:
        sealer._aead = _NoCipher()  # type: ignore[assignment]
    return sealer


def _opener(encrypts: bool) -> Opener:
    opener = Opener(KEY, SESSION)
    if not encrypts:
        opener._aead = _NoCipher()  # type: ignore[assignment]
    return opener


def make_transport(name: str) -> Transport:
    """Imported only where it is used, so that a process has the threads of one."""
    if name == "tcp":
        from syncer.movers.tcp.transport import TcpTransport

        return TcpTransport()
    from syncer.movers.udt.transport import UdtTransport

    return UdtTransport()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _receive(transport: str, encrypts: bool, expected: protocol.ExpectFile, answers: int, go: int) -> None:
    """The receiving process: writes its port, then its CPU seconds when the file is durable and all was sent."""
    listener = make_transport(transport).listen("127.0.0.1", 0)
    os.write(answers, f"{listener.port}\n".encode())
    connection = listener.accept()
    done = threading.Event()

    def report(message: protocol.FromMover) -> None:
        assert isinstance(message, protocol.Received), message
        done.set()

    disk = DiskPool()
    receiver = Receiver(SESSION, connection, _opener(encrypts), disk, report)
    receiver.expect(expected)
    before = _cpu()
    running = threading.Thread(target=_until_broken, args=(receiver.run,))
    running.start()
    if not done.wait(DEADLINE_S):
        os._exit(1)
    os.write(answers, f"{_cpu() - before}\n".encode())
    os.read(go, 1)
    os._exit(0)


def _until_broken(run: Any) -> None:
    try:
        run()
    except TransportError:
        return


def measure(transport: str, encrypts: bool, source: Path, target: Path, blocks: bytes) -> dict[str, float]:
    """Move ``source`` to ``target`` once."""
    status = source.stat()
    size = status.st_size
    expected = protocol.ExpectFile(
        session=SESSION,
        job=1,
        temp_path=os.fsencode(target),
        size=size,
        block_size=block_size_for(size),
        blocks=blocks,
    )
    answers_read, answers_write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        _receive(transport, encrypts, expected, answers_write, go_read)
    os.close(answers_write)
    with os.fdopen(answers_read) as answers:
        connection = make_transport(transport).connect("127.0.0.1", int(answers.readline()))
        sender = Sender(SESSION, connection, _sealer(encrypts), lambda message: None)
        running = threading.Thread(target=_until_broken, args=(sender.run,))
        before, began = _cpu(), time.monotonic()
        running.start()
        sender.submit(
            protocol.SendFile(
                session=SESSION,
                job=1,
                path=os.fsencode(source),
                size=size,
                mtime_ns=status.st_mtime_ns,
                ranges=[(0, size)],
            )
        )
        receiving = float(answers.readline())
        seconds, sending = time.monotonic() - began, _cpu() - before
    sender.stop()
    running.join()
    os.write(go_write, b".")
    os.waitpid(child, 0)
    connection.close()
    for fd in (go_read, go_write):
        os.close(fd)
    target.unlink()
    return {"seconds": seconds, "sending_cpu_s": sending, "receiving_cpu_s": receiving}


def aes_alone() -> dict[str, float]:
    """Microseconds for sealing and for opening one full record."""
    content = memoryview(os.urandom(MAX_CONTENT))
    record, opened = memoryview(bytearray(MAX_RECORD)), memoryview(bytearray(MAX_CONTENT))
    rounds, spent = 2000, [0.0, 0.0]
    sealer, opener = _sealer(True), _opener(True)
    for _ in range(rounds):
        start = time.thread_time()
        sealer.seal_into(Kind.DATA, content, record)
        middle = time.thread_time()
        opener.open_into(record[:RECORD_HEADER_SIZE], record[RECORD_HEADER_SIZE:], opened)
        spent[0] += middle - start
        spent[1] += time.thread_time() - middle
    assert len(record) == RECORD_HEADER_SIZE + MAX_CONTENT + TAG_SIZE
    return {"seal_us": spent[0] / rounds * 1e6, "open_us": spent[1] / rounds * 1e6}


def compare(transport: str, size: int, directory: Path, repeats: int) -> dict[str, Any]:
    """Medians of ``repeats`` runs with encryption and as many without, in turns."""
    source, target = directory / "source", directory / "target"
    hashes = bytearray()
    with source.open("wb") as file:
        left = size
        while left:
            block = os.urandom(min(left, block_size_for(size)))
            hashes += blake3(block).digest()
            file.write(block)
            left -= len(block)
    os.sync()
    runs: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    measure(transport, True, source, target, bytes(hashes))  # the first run also fills the page cache
    for _ in range(repeats):
        for encrypts in (True, False):
            runs[encrypts].append(measure(transport, encrypts, source, target, bytes(hashes)))
    result: dict[str, Any] = {"transport": transport, "bytes": size, "repeats": repeats, "aes_alone": aes_alone()}
    for encrypts, name in ((True, "encrypted"), (False, "plain")):
        middle = {key: statistics.median(run[key] for run in runs[encrypts]) for key in runs[encrypts][0]}
        result[name] = {
            **{key: round(value, 3) for key, value in middle.items()},
            "mbit_per_s": round(size * 8 / middle["seconds"] / 1e6),
            "sending_mbit_per_core": round(size * 8 / middle["sending_cpu_s"] / 1e6),
            "receiving_mbit_per_core": round(size * 8 / middle["receiving_cpu_s"] / 1e6),
        }
    encrypted, plain = result["encrypted"], result["plain"]
    records = size / (MAX_CONTENT - FRAME_HEADER_SIZE)
    result["aes_cost"] = {
        "throughput": round(1 - encrypted["mbit_per_s"] / plain["mbit_per_s"], 3),
        "sending_cpu": round(1 - plain["sending_cpu_s"] / encrypted["sending_cpu_s"], 3),
        "receiving_cpu": round(1 - plain["receiving_cpu_s"] / encrypted["receiving_cpu_s"], 3),
        "share_of_sending_cpu": round(records * result["aes_alone"]["seal_us"] / 1e6 / encrypted["sending_cpu_s"], 3),
        "share_of_receiving_cpu": round(
            records * result["aes_alone"]["open_us"] / 1e6 / encrypted["receiving_cpu_s"], 3
        ),
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transport", choices=("tcp", "udt"), default="udt")
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where the files are; the system's temporary directory if not")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="path-bench-", dir=arguments.directory))
    try:
        result = compare(arguments.transport, arguments.bytes, directory, arguments.repeats)
    finally:
        shutil.rmtree(directory)
    print(json.dumps(result, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
