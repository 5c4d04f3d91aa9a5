"""Would parity packets (forward error correction) pay? The best case for them, against retransmission as it is.

    python syncer/tests/native/parity_study.py [--transfers 4000]

A transfer of some packets leaves at the link's rate over a path with a loss process. Retransmission: a lost packet is
sent again one round trip later (the report's interval counted), and again until it arrives. Parity: of each block of k
packets and r ideal parity packets any k suffice (no code can do better); what a block still misses is sent again in the
same way. Printed is what each costs on the wire and how long a transfer takes: the mean, the 95th and 99th percentile.

The answer decided that this UDT has none: see "Parity" in syncer/ARCHITECTURE.md.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator

REPORT_S = 0.010
PACKETS_PER_S = 200e6 / (1514 * 8)


def losses(seed: int, share: float, burst: float) -> Iterator[bool]:
    """Whether each packet in turn is lost: ``share`` of them, in bursts of ``burst`` packets on average (1: random)."""
    draw = random.Random(seed).random
    if burst <= 1:
        while True:
            yield draw() < share
    leave_bad = 1 / burst
    enter_bad = leave_bad * share / (1 - share)
    bad = draw() < share
    while True:
        yield bad
        bad = draw() >= leave_bad if bad else draw() < enter_bad


def transfer(packets: int, rtt: float, lost: Iterator[bool], block: int, parity: int) -> tuple[int, float]:
    """Packets sent, and seconds until the last needed one arrived."""
    sent, clock, done = 0, 0.0, 0.0
    waiting: list[tuple[float, int]] = []  # (not before, packets to be sent again)
    for first in range(0, packets, block):
        data = min(block, packets - first)
        # A short last block gets its share of parity, rounded up.
        total = data + -(-parity * data // block)
        arrived = 0
        for _ in range(total):
            sent += 1
            clock += 1 / PACKETS_PER_S
            arrived += not next(lost)
        if arrived >= data:
            done = max(done, clock + rtt / 2)
        else:
            waiting.append((clock + rtt + REPORT_S, data - arrived))
    while waiting:
        waiting.sort()
        ready, missing = waiting.pop(0)
        clock = max(clock, ready)
        again = 0
        for _ in range(missing):
            sent += 1
            clock += 1 / PACKETS_PER_S
            again += next(lost)
        if again:
            waiting.append((clock + rtt + REPORT_S, again))
        else:
            done = max(done, clock + rtt / 2)
    return sent, done


def row(packets: int, rtt: float, share: float, burst: float, code: tuple[int, int], transfers: int) -> str:
    lost = losses(7, share, burst)
    sent = 0
    times = []
    for _ in range(transfers):
        count, seconds = transfer(packets, rtt, lost, *code)
        sent += count
        times.append(seconds)
        for _ in range(997):  # transfers come one at a time: each meets the path in a state of its own
            next(lost)
    times.sort()
    overhead = sent / (packets * transfers) - 1
    mean, p95, p99 = sum(times) / transfers, times[int(0.95 * transfers)], times[int(0.99 * transfers)]
    return f"{overhead:7.1%} {mean * 1e3:9.1f} {p95 * 1e3:9.1f} {p99 * 1e3:9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfers", type=int, default=2000, help="of each size up to 100 packets; fewer of larger")
    options = parser.parse_args()
    print("packets  rtt ms   loss  burst  parity      wire   mean ms    95% ms    99% ms")
    for packets in (7, 70, 7000):
        transfers = options.transfers if packets <= 100 else max(20, options.transfers // 50)
        for rtt, share, burst in ((0.08, 0.01, 1), (0.08, 0.01, 12), (0.2, 0.05, 1), (0.2, 0.05, 12)):
            for code in ((10, 0), (10, 1), (10, 3), (100, 10), (100, 30)):
                name = "none" if not code[1] else f"{code[0]}+{code[1]}"
                figures = row(packets, rtt, share, burst, code, transfers)
                print(f"{packets:7} {rtt * 1e3:7.0f} {share:6.0%} {burst:6} {name:>7}  {figures}", flush=True)


if __name__ == "__main__":
    main()
