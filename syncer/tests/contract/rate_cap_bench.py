"""How exactly a mover keeps its cap, counted at the wire: ``python -m syncer.tests.contract.rate_cap_bench`` (root).

Two namespaces with a veth pair between them; nftables drops packets on arrival, both ways. Bytes are those of the
sending interface's counters, segmentation offload off so that every header is counted, as an Ethernet port would. The
acknowledgements of the way back are another direction's and not in the figure. Nothing is asserted: rows of JSON.

    python -m syncer.tests.contract.rate_cap_bench --transports tcp udt --rates 5 20 100 --loss 0 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from syncer.tests.contract.mover_bench import Pair
from syncer.wire import mover_protocol as protocol

WARM_UP_S = 2.0
DROP = (
    "add table inet cap; add chain inet cap arrive {{ type filter hook input priority 0; }}; "
    'add rule inet cap arrive iifname "wan" numgen random mod 10000 < {of_ten_thousand} drop'
)
ADDRESSES = ("10.213.77.1", "10.213.77.2")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def two_hosts(*, loss_percent: float) -> Iterator[tuple[str, str]]:
    """The names of two namespaces; the loss is each way's."""
    names = (f"cap{os.getpid()}a", f"cap{os.getpid()}b")
    try:
        for name in names:
            run("ip", "netns", "add", name)
        run("ip", "link", "add", "wan", "netns", names[0], "type", "veth", "peer", "name", "wan", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            inside = ("ip", "netns", "exec", name)
            run(*inside, "ip", "address", "add", f"{address}/24", "dev", "wan")
            run(*inside, "ip", "link", "set", "lo", "up")
            run(*inside, "ip", "link", "set", "wan", "up")
            run(*inside, "ethtool", "-K", "wan", "tso", "off", "gso", "off", "gro", "off")
            run(*inside, "nft", DROP.format(of_ten_thousand=round(loss_percent * 100)))
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def sent_bytes(namespace: str) -> int:
    text = run("ip", "netns", "exec", namespace, "cat", "/sys/class/net/wan/statistics/tx_bytes")
    return int(text)


def measure(transport: str, rate_bps: int, *, seconds: float, loss: float) -> dict[str, object]:
    """Wire bits per second over the cap, after the warm-up; and the goodput of the records."""
    with two_hosts(loss_percent=loss) as names, tempfile.TemporaryDirectory() as place:
        places = tuple(("ip", "netns", "exec", name) for name in names)
        pair = Pair(Path(place), f"syncer.movers.{transport}", address=ADDRESSES[1], places=places)
        try:
            session = pair.open(rate_bps=rate_bps)
            test = protocol.SpeedTest(session=session, test=1, direction="there", seconds=seconds + WARM_UP_S + 1)
            pair.sender.say(test)
            _poll(pair, WARM_UP_S)
            began, before = time.monotonic(), sent_bytes(names[0])
            _poll(pair, seconds)
            wire = (sent_bytes(names[0]) - before) * 8 / (time.monotonic() - began)
            result = pair.sender.wait(protocol.SpeedResult, timeout_s=60)
            stats = [message for message in pair.sender.seen if isinstance(message, protocol.SessionStats)][-1]
        finally:
            pair.close()
    return {
        "transport": transport,
        "loss_percent": loss,
        "cap_mbps": rate_bps / 1e6,
        "wire_mbps": round(wire / 1e6, 3),
        "wire_over_cap": round(wire / rate_bps, 4),
        "goodput_mbps": round(result.bytes * 8 / max(1, result.microseconds), 3),
        "retransmitted": stats.packets_retransmitted,
        "sent": stats.packets_sent,
        "congestion_control": stats.congestion_control,
    }


def _poll(pair: Pair, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        pair.sender.poll(min(left, 0.1))
        pair.receiver.poll(0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m syncer.tests.contract.rate_cap_bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--transports", nargs="+", default=["tcp", "udt"])
    parser.add_argument("--rates", nargs="+", type=float, default=[5, 20, 100], help="Mbit/s on the wire")
    parser.add_argument("--loss", nargs="+", type=float, default=[0.0, 1.0], help="percent, each way")
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    for transport in arguments.transports:
        for loss in arguments.loss:
            for rate in arguments.rates:
                row = measure(transport, int(rate * 1e6), seconds=arguments.seconds, loss=loss)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
