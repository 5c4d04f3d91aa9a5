#!/usr/bin/env python3
"""Measures the WAN from one site: sends paced UDP probes to every peer, and echoes theirs. Stand-alone, stdlib only.

    python3 probe_agent.py '{"site": "a", "listen": "198.18.0.2", "port": 40404, "start_ns": 81234567890,
                             "peers": [{"site": "b", "address": "198.18.0.10", "packets": 120, "interval_us": 20000,
                                        "payload_bytes": 36, "drain_us": 500000}]}'

``start_ns``: CLOCK_MONOTONIC nanoseconds at which all sites of one host begin together; when it is absent, past or
more than a minute ahead (another host's clock), the agent begins at once. A peer with ``packets`` 0 is only answered.
The plan may come on standard input instead (argument ``-``).

Prints one JSON object when the last echo has had its time, and ends with 0:

    {"site": "a", "late_us": 180,                        how late the latest probe was sent
     "start_ns": 81234567890, "bound_ns": 81200000000,   monotonic: when it began, since when it could receive
     "peers": [{"site": "b", "sent": 120,                probes sent to b
                "received": 119,                         different probes of b that arrived here
                "duplicates": 0, "out_of_order": 0,      of b's probes
                "sent_at_us": [3021, ...],               when each probe was sent, since start_ns
                "rtt_us": [50123.4, ...]}]}              of probes to b whose echo arrived

What was lost from a to b is a's ``sent`` less b's ``received``; what a sent before b's agent was there is no loss. RTTs
hold neither end's scheduling: arrival times are the kernel's, and each echo tells how long its sender held it. Probes
go out at a random time within the first half of their interval, so that streams that cross on a link do not march in
step. An agent goes on answering until it ends by itself: every site's agent gets the same ``linger_us`` (default 0),
the longest duration among all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import socket
import struct
import sys
import time
from typing import Any

MAGIC = 0x4C48_5052
PROBE, ECHO = 1, 2
PACKET = struct.Struct("!IBIQQ")
"""magic, kind, sequence number, sender's monotonic ns, ns for which the echo was held"""
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@qq")
MOST_AHEAD_NS = 60 * 10**9
RECEIVE_BUFFER = 4 << 20


class Peer:
    """One other site: what is still to be sent to it, and what came from it."""

    def __init__(self, plan: dict[str, Any], start_ns: int) -> None:
        self.site = plan["site"]
        self.address = plan["address"]
        self.packets = plan["packets"]
        self.interval_ns = plan["interval_us"] * 1000
        self.padding = bytes(max(0, plan["payload_bytes"] - PACKET.size))
        self.end_ns = start_ns + self.packets * self.interval_ns + plan["drain_us"] * 1000
        self.start_ns = start_ns
        self.sent = 0
        self.sent_at_us: list[int] = []
        self.seen: set[int] = set()
        self.highest = -1
        self.duplicates = 0
        self.out_of_order = 0
        self.rtt_us: dict[int, float] = {}
        self.due_ns = self._due()

    def _due(self) -> int | None:
        if self.sent >= self.packets:
            return None
        return self.start_ns + int((self.sent + random.random() / 2) * self.interval_ns)

    def next_probe(self, now_ns: int) -> bytes:
        packet = PACKET.pack(MAGIC, PROBE, self.sent, now_ns, 0) + self.padding
        self.sent += 1
        self.sent_at_us.append((now_ns - self.start_ns) // 1000)
        self.due_ns = self._due()
        return packet

    def note_probe(self, sequence: int) -> None:
        if sequence in self.seen:
            self.duplicates += 1
            return
        self.seen.add(sequence)
        if sequence < self.highest:
            self.out_of_order += 1
        self.highest = max(self.highest, sequence)

    def report(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "sent": self.sent,
            "received": len(self.seen),
            "duplicates": self.duplicates,
            "out_of_order": self.out_of_order,
            "sent_at_us": self.sent_at_us,
            "rtt_us": [round(rtt, 1) for _, rtt in sorted(self.rtt_us.items())],
        }


class Agent:
    """One socket, one thread: sends what is due, answers what comes."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.site = plan["site"]
        now_ns = time.monotonic_ns()
        start_ns = plan.get("start_ns", now_ns)
        if not now_ns <= start_ns <= now_ns + MOST_AHEAD_NS:
            start_ns = now_ns
        self.peers = [Peer(peer, start_ns) for peer in plan["peers"]]
        self.by_address = {peer.address: peer for peer in self.peers}
        self.end_ns = max([peer.end_ns for peer in self.peers] + [start_ns + plan.get("linger_us", 0) * 1000])
        self.port = plan["port"]
        self.late_ns = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)
        self.socket.bind((plan["listen"], self.port))
        self.start_ns = start_ns
        self.bound_ns = time.monotonic_ns()

    def run(self) -> None:
        while True:
            now_ns = time.monotonic_ns()
            if now_ns >= self.end_ns:
                return
            wake_ns = self.end_ns
            for peer in self.peers:
                if peer.due_ns is not None and peer.due_ns <= now_ns:
                    self.late_ns = max(self.late_ns, now_ns - peer.due_ns)
                    self.send(peer.next_probe(time.monotonic_ns()), peer.address)
                if peer.due_ns is not None:
                    wake_ns = min(wake_ns, peer.due_ns)
            readable, _, _ = select.select([self.socket], [], [], max(0, wake_ns - time.monotonic_ns()) / 1e9)
            if readable:
                self.drain()

    def send(self, packet: bytes, address: str) -> None:
        # A full queue or an unreachable peer: the probe counts as sent, and is missed at the other end.
        with contextlib.suppress(OSError):
            self.socket.sendto(packet, (address, self.port))

    def drain(self) -> None:
        while True:
            try:
                data, ancillary, _, (address, _) = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            peer = self.by_address.get(address)
            if peer is None or len(data) < PACKET.size:
                continue
            magic, kind, sequence, stamp_ns, held_ns = PACKET.unpack_from(data)
            if magic != MAGIC:
                continue
            waited_ns = waited_in_socket(ancillary)
            if kind == PROBE:
                peer.note_probe(sequence)
                arrived_ns = time.monotonic_ns() - waited_ns
                held_ns = time.monotonic_ns() - arrived_ns
                self.send(PACKET.pack(MAGIC, ECHO, sequence, stamp_ns, held_ns) + data[PACKET.size :], address)
            elif kind == ECHO:
                rtt_ns = time.monotonic_ns() - waited_ns - stamp_ns - held_ns
                peer.rtt_us.setdefault(sequence, rtt_ns / 1000)

    def report(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "late_us": self.late_ns // 1000,
            "start_ns": self.start_ns,
            "bound_ns": self.bound_ns,
            "peers": [peer.report() for peer in self.peers],
        }


def waited_in_socket(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Nanoseconds since the kernel received the packet; its stamp is of the real-time clock, as is this difference."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            waited_ns = time.time_ns() - seconds * 10**9 - nanoseconds
            return waited_ns if 0 <= waited_ns < 10**9 else 0
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the WAN from one site.")
    parser.add_argument("plan", help="the plan as JSON, or - to read it from standard input")
    argument = parser.parse_args().plan
    agent = Agent(json.loads(sys.stdin.read() if argument == "-" else argument))
    agent.run()
    print(json.dumps(agent.report()))


if __name__ == "__main__":
    main()
