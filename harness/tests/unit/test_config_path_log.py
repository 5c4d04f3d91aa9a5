"""Logs of real paths: what each program writes, what is damaged, and the profile that comes of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.path_log import read_path_logs, sample_of_irtt, sample_of_ping
from harness.config.problems import DocumentError
from harness.config.profile_file import load_profile
from harness.config.trace_file import load_trace, trace_text
from harness.errors import InputError
from harness.plan.fit import fit_path
from harness.plan.fit_trace import trace_of
from harness.run.fitted_profile import write_profile

PING = """\
PING example.net (192.0.2.7) 56(84) bytes of data.
64 bytes from 192.0.2.7: icmp_seq=2 ttl=64 time=80.1 ms
64 bytes from 192.0.2.7: icmp_seq=4 ttl=64 time=80.3 ms
64 bytes from 192.0.2.7: icmp_seq=3 ttl=64 time=90.0 ms
64 bytes from 192.0.2.7: icmp_seq=3 ttl=64 time=91.0 ms (DUP!)

--- example.net ping statistics ---
6 packets transmitted, 3 received, +1 duplicates, 50% packet loss, time 1004ms
"""


def test_ping_of_iputils() -> None:
    trip = sample_of_ping(PING, "x").round_trip
    assert trip is not None
    assert trip.delays_us == (None, 80_100.0, 90_000.0, 80_300.0, None, None)
    assert trip.arrivals == (1, 3, 2, 2)


def test_ping_of_bsd_and_busybox_count_from_0_and_a_log_may_have_no_summary() -> None:
    text = "64 bytes from x: icmp_seq=0 ttl=1 time=1.5 ms\n64 bytes from x: seq=2 ttl=1 time=2.500 ms\n"
    trip = sample_of_ping(text, "x").round_trip
    assert trip is not None
    assert trip.delays_us == (1500.0, None, 2500.0)


def test_numbers_of_ping_begin_anew() -> None:
    numbers = [65_534, 65_535, 0, 1, 2]
    text = "".join(f"64 bytes from x: icmp_seq={number} ttl=1 time=1 ms\n" for number in [1, *numbers])
    trip = sample_of_ping(text, "x").round_trip
    assert trip is not None
    assert trip.sent == 65_538
    assert trip.arrivals[-3:] == (65_535, 65_536, 65_537)


def irtt(fates: Iterable[str], one_way: bool = True) -> str:
    trips: list[dict[str, Any]] = []
    for number, fate in enumerate(fates):
        delay: dict[str, int] = {"rtt": 30_000_000}
        if one_way:
            delay |= {"send": 20_000_000 + number, "receive": 10_000_000}
        times = {"client": {"send": {"monotonic": number}, "receive": {"monotonic": 100 + number}}}
        trips.append({"seqno": number, "lost": fate, "delay": delay if fate == "false" else {}, "timestamps": times})
    return json.dumps({"round_trips": trips})


def test_irtt_knows_both_directions() -> None:
    sample = sample_of_irtt(irtt(["false", "true_up", "true_down", "false"]), "x")
    assert sample.uplink is not None
    assert sample.downlink is not None
    assert sample.uplink.lost == (False, True, False, False)
    assert sample.downlink.delays_us == (10_000.0, None, 10_000.0)


def test_irtt_without_the_servers_word_has_round_trips() -> None:
    sample = sample_of_irtt(irtt(["false", "true", "false"]), "x")
    assert sample.uplink is None
    assert sample.round_trip is not None
    assert sample.round_trip.delays_us == (30_000.0, None, 30_000.0)


def frame(data: Any) -> bytes:
    ip = dpkt.ip.IP(src=b"\xc6\x12\0\1", dst=b"\xc6\x12\0\2", p=1, id=data.data.seq, data=data)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(data=ip, type=dpkt.ethernet.ETH_TYPE_IP))


def echo(number: int, kind: int = 8) -> Any:
    return dpkt.icmp.ICMP(type=kind, data=dpkt.icmp.ICMP.Echo(id=7, seq=number, data=b"x" * 20))


def write(path: Path, packets: Iterable[tuple[float, bytes]]) -> Path:
    with path.open("wb") as stream:
        writer = dpkt.pcap.Writer(stream)
        for at_s, packet in packets:
            writer.writepkt(packet, at_s)
    return path


def test_two_captures_give_one_direction(tmp_path: Path) -> None:
    before = write(tmp_path / "a.pcap", ((n / 100, frame(echo(n))) for n in range(100)))
    arrive = sorted((n / 100 + (0.050 if n != 50 else 0.020), n) for n in range(10, 100) if n % 10 != 5)
    behind = write(tmp_path / "b.pcap", [*((at, frame(echo(n))) for at, n in arrive), (2.0, frame(echo(20)))])
    sample = read_path_logs([before, behind])
    stream = sample.uplink
    assert stream is not None
    # What was sent before the second capture saw anything is left out: 10 to 99 remain.
    assert stream.sent == 90
    assert sum(stream.lost) == 9
    assert stream.delays_us[0] == pytest.approx(50_000, abs=2)
    # Packet 50 overtook two, and packet 20 came twice; they are numbered from the first that counts.
    assert stream.arrivals.index(40) < stream.arrivals.index(38)
    assert stream.arrivals.count(10) == 2
    assert fit_path(sample).mirrored


def test_one_capture_of_echoes(tmp_path: Path) -> None:
    packets = []
    for number in range(40):
        packets.append((number / 10, frame(echo(number))))
        if number != 7:
            packets.append((number / 10 + 0.030, bytes(_answer(number))))
    sample = read_path_logs([write(tmp_path / "x.pcap", sorted(packets))])
    assert sample.round_trip is not None
    assert sample.round_trip.lost.index(True) == 7
    assert sum(sample.round_trip.lost) == 1
    assert sample.round_trip.delays_us[0] == pytest.approx(30_000, abs=2)


def _answer(number: int) -> Any:
    ip = dpkt.ip.IP(src=b"\xc6\x12\0\2", dst=b"\xc6\x12\0\1", p=1, data=echo(number, kind=0))
    ip.len = len(ip)
    return dpkt.ethernet.Ethernet(data=ip, type=dpkt.ethernet.ETH_TYPE_IP)


def tcp(number: int, acknowledged: int, payload: bytes, back: bool = False) -> bytes:
    ends = [(b"\xc6\x12\0\1", 1000), (b"\xc6\x12\0\2", 2000)]
    (source, sport), (target, dport) = reversed(ends) if back else ends
    data = dpkt.tcp.TCP(sport=sport, dport=dport, seq=number, ack=acknowledged, flags=dpkt.tcp.TH_ACK, data=payload)
    ip = dpkt.ip.IP(src=source, dst=target, p=6, data=data)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(data=ip, type=dpkt.ethernet.ETH_TYPE_IP))


def test_one_capture_of_tcp_times_what_was_sent_once(tmp_path: Path) -> None:
    start, size = 2**32 - 5000, 1000
    packets = []
    for index in range(60):
        number = (start + index * size) % 2**32
        packets.append((index * 0.1, tcp(number, 1, b"d" * size)))
        if index == 30:
            packets.append((index * 0.1 + 0.060, tcp(number, 1, b"d" * size)))
        late = 0.040 if index != 30 else 0.095
        packets.append((index * 0.1 + late, tcp(1, (number + size) % 2**32, b"", back=True)))
    trip = read_path_logs([write(tmp_path / "x.pcap", sorted(packets))]).round_trip
    assert trip is not None
    assert [place for place, gone in enumerate(trip.lost) if gone] == [30]
    assert {round(delay) for delay in trip.arrived_us} == {40_000}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello", "no line says seq=N"),
        (b"{}", "not irtt's"),
        (b'{"round_trips": []}', "no round trip"),
        (b"\xd4\xc3\xb2\xa1", "damaged"),
    ],
)
def test_what_is_no_log_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "x.log"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_path_logs([file])
    with pytest.raises(InputError, match="cannot be read"):
        read_path_logs([tmp_path / "absent"])


@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\xd4\xc3\xb2\xa1\x02\0\4\0" + b"\0" * 12 + b"\1\0\0\0", b"{"]))
def test_damage_is_the_users_and_never_a_traceback(tmp_path_factory: Any, rest: bytes, head: bytes) -> None:
    file = tmp_path_factory.mktemp("logs") / "x"
    file.write_bytes(head + rest)
    try:
        read_path_logs([file])
    except InputError as error:
        assert str(file) in str(error)


def test_a_trace_has_the_delay_and_the_loss_of_each_window(tmp_path: Path) -> None:
    lines = [f"64 bytes from x: icmp_seq={n} ttl=1 time={80 if n <= 50 else 120}.0 ms" for n in range(1, 101) if n % 10]
    sample = sample_of_ping(
        "\n".join([*lines, "100 packets transmitted, 90 received, 10% packet loss, time 9900ms"]), "x"
    )
    trace = trace_of(sample, "two-halves", 1_000_000)
    assert trace.up is not None
    assert (trace.down.delay_us, trace.up.delay_us) == ((40_000,), (40_000, 80_000))
    assert trace.up.at_us == (0, 5_000_000)
    assert set(trace.up.loss) == {0.1}
    file = tmp_path / "two-halves.trace"
    file.write_text(trace_text(trace))
    read = load_trace(file)
    assert (read.up, read.down, read.duration_us) == (trace.up, trace.down, 10_000_000)
    with pytest.raises(ValueError, match="longer windows"):
        trace_of(sample, "x", 100_000)


def test_the_profile_is_one_that_validate_accepts(tmp_path: Path) -> None:
    dice = random.Random(4)
    lines, bad = [], False
    for number in range(1, 4001):
        bad = dice.random() >= 0.25 if bad else dice.random() < 0.01
        if not bad:
            lines.append(
                f"64 bytes from x: icmp_seq={number} ttl=1 time={dice.choice([80, 95]) + dice.random():.3f} ms"
            )
    log = tmp_path / "x.txt"
    log.write_text("\n".join([*lines, "4000 packets transmitted, 3000 received"]))
    sample = read_path_logs([log])
    assert sample.round_trip is not None
    fitted = fit_path(sample)
    file = tmp_path / "two-humps.yaml"
    written = write_profile(fitted, file, (sample.round_trip.arrived_us, sample.round_trip.arrived_us))
    assert [path.name for path in written] == ["two-humps.yaml", "two-humps-up.delays"]
    document = load_profile("two-humps.yaml", beside=tmp_path / "topology.yaml")
    assert document.uplink.loss is not None
    assert document.uplink.distribution is not None
    assert document.uplink.distribution.kind == "custom"
    assert "gilbert by BIC" in document.source
    assert "KS distance" in document.source
    assert (document.uplink.delay or 0) + (document.downlink.delay or 0) == pytest.approx(88_000, rel=0.02)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.pcap", b"", "the file is empty"),
        ("junk.pcap", b"no capture", "neither a capture"),
        ("zeros.txt", b"\0\0\0\0", "neither a capture"),
        ("other.json", b'{"hello": 1}', "not irtt's: it has no 'round_trips'"),
    ],
)
def test_what_is_no_log_is_told_so(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DocumentError, match=f"{name}: .*{said}"):
        read_path_logs([tmp_path / name])
