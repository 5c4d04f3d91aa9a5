"""Peers of the benchmarks: how their programs are called, and what the programs' own recorded words come to."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.model.bench import Workload
from harness.nodes.port import Node, Remote
from harness.suts.peers import iperf3, plain_udp, udt_perf
from harness.suts.peers.arrival_sampler import totals, written
from harness.suts.peers.file_tools import PARTS, Lftp, Rsync, Uftp
from harness.suts.peers.port import Ends, Job
from harness.suts.peers.registry import ENGINE_PEERS, TRANSPORT_PEERS, create_peers
from harness.suts.peers.staging import WanSsh, ssh_argv, sshd_argv
from harness.suts.registry import create_sut
from harness.suts.syncthing_config import FOLDER_ID, api_key_of, configured
from harness.suts.syncthing_sut import SyncthingSut

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bench"
SAMPLER = Path(iperf3.__file__).with_name("arrival_sampler.py")


@dataclass
class Place:
    """A node of which only names and addresses are asked."""

    name: str
    wan_address: str
    data_dir: str = "/data"
    log_dir: str = "/log"
    site: str = ""
    public_address: str = ""
    remote: Remote = field(default=None)  # type: ignore[assignment]


LEFT: Node = Place("left", "198.18.0.2", "/data/left")
RIGHT: Node = Place("right", "198.18.0.34", "/data/right")
ENDS = Ends(source=LEFT, destination=RIGHT)
JOB = Job(
    name="0001-x-0",
    workload=Workload(kind="large", files=1, bytes=100),
    seconds=15,
    rate_bps=200e6,
    window_bytes=4_000_000,
    port=41000,
)
MANY = JOB.model_copy(update={"workload": Workload(kind="small", files=3, bytes=10)})


def test_iperf3s_report_becomes_the_receivers_intervals() -> None:
    report = json.loads((GOLDEN / "iperf3-bbr.json").read_text())
    found = iperf3.parsed(report, "bbr")
    assert len(found.intervals) == 8
    assert found.intervals[0].begin_s == 0
    assert found.intervals[-1].end_s == pytest.approx(4, abs=0.01)
    assert sum(one.bytes for one in found.intervals) == report["end"]["sum_received"]["bytes"]
    assert found.figures["retransmitted_packets"] == report["end"]["sum_sent"]["retransmits"]
    assert not found.problem


def test_another_congestion_control_than_asked_for_is_a_problem() -> None:
    report = json.loads((GOLDEN / "iperf3-bbr.json").read_text())
    assert iperf3.parsed(report, "cubic").problem == "iperf3 used bbr, not cubic"


def test_plain_udp_fills_the_link_and_counts_what_arrived() -> None:
    peer = plain_udp.PlainUdp()
    argv = peer.argv("198.18.0.34", JOB)
    # 1,472 of the 1,500 bytes of an IP packet: the link's 200 Mbit/s count all of it.
    assert int(argv[argv.index("--bitrate") + 1]) == pytest.approx(200e6 * 1472 / 1500, rel=1e-6)
    report = json.loads((GOLDEN / "iperf3-udp.json").read_text())
    found = peer.parsed(report)
    assert sum(one.bytes for one in found.intervals) == report["end"]["sum_received"]["bytes"]
    assert found.figures == {"lost_packets": 0.0}


def test_perfs_report_becomes_the_receivers_intervals() -> None:
    report = json.loads((GOLDEN / "udt-perf-libudt.json").read_text())
    found = udt_perf.parsed(report)
    assert sum(one.bytes for one in found.intervals) == report["bytes"]
    assert [one.begin_s for one in found.intervals[:3]] == [0.0, 0.1, 0.2]
    assert found.intervals[-1].end_s == pytest.approx(report["seconds"], abs=1e-3)
    assert all(one.end_s > one.begin_s for one in found.intervals)
    assert found.figures["sender_cpu_s"] > 0
    broken = udt_perf.parsed({**report, "failure": "the other end says nothing"})
    assert broken.problem == "the other end says nothing"


def test_how_the_programs_of_streams_are_called() -> None:
    assert " ".join(iperf3.client_argv("198.18.0.34", 41000, "bbr", 15)).startswith(
        "iperf3 --client 198.18.0.34 --port 41000 --time 15 --json"
    )
    assert "--one-off" in iperf3.server_argv("198.18.0.34", 41000)
    send = udt_perf.send_argv("198.18.0.34", 41000, "longhaul", "fixed", 15, 194e6, None)
    assert send[:5] == ["python", "-m", "syncer.udt.perf", "send", "198.18.0.34"]
    assert " ".join(send).endswith("--implementation longhaul --control fixed --rate 194.000Mbit/s --json")
    serve = udt_perf.serve_argv("198.18.0.34", 41000, "libudt", 4_000_000)
    assert " ".join(serve).endswith("--once --implementation libudt --buffer 4000000 --json")


def test_how_the_file_tools_are_called() -> None:
    ssh = WanSsh()
    rsync = Rsync(ssh).argv(ENDS, JOB, "/data/left/stage/large", "/data/right/in/x")
    assert rsync[-2:] == ["/data/left/stage/large", "root@198.18.0.34:/data/right/in/x/"]
    assert rsync[rsync.index("-e") + 1].startswith("ssh -p 2222 -i /data/left/wan_key")
    # A directory's content, not the directory.
    assert Rsync(ssh).argv(ENDS, MANY, "/data/left/stage/small", "/p")[-2] == "/data/left/stage/small/"
    script = Lftp(ssh).argv(ENDS, JOB, "/data/left/stage/large", "/data/right/in/x")[-1]
    assert f"pget -n {PARTS} -O /data/right/in/x /data/left/stage/large" in script
    assert "sftp://198.18.0.2" in script
    assert "/data/right/wan_key" in script
    assert f"mirror --parallel={PARTS}" in Lftp(ssh).argv(ENDS, MANY, "/s", "/p")[-1]
    uftp = Uftp().argv(ENDS, JOB, "/data/left/stage/large", "/data/right/in/x")
    assert uftp[uftp.index("-R") + 1] == "190000"
    assert uftp[uftp.index("-M") + 1] == "198.18.0.34"
    assert uftp[-1] == "/data/left/stage/large"


def test_ssh_on_the_wan_takes_keys_of_the_lab_alone() -> None:
    assert "ListenAddress=198.18.0.34" in sshd_argv("198.18.0.34", "/data/right")
    assert "BatchMode=yes" in ssh_argv("/data/left")


def test_what_a_tool_may_leave_behind_is_not_the_server_that_all_use() -> None:
    server = " ".join(sshd_argv("198.18.0.34", "/data/right"))
    for tool, left in ((Rsync, "rsync --server -logDtpre.iLsfxCIvu . /p/"), (Lftp, "sshd: root@internal-sftp")):
        for pattern in tool.leftovers:
            assert re.search(pattern, left)
            assert not re.search(pattern, server)
            # The command that looks for it has the pattern on its own line.
            assert not re.search(pattern, f"pkill -KILL -f {pattern}")


def test_an_unknown_peer_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        create_peers(["bbr", "gridftp"])
    assert caught.value.hint is not None
    assert "libudt-fixed" in caught.value.hint
    made = create_peers([*TRANSPORT_PEERS, *ENGINE_PEERS])
    assert {name: peer.name for name, peer in made.items()} == {name: name for name in made}


def test_the_sampler_counts_what_is_written_and_no_holes(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as out:
        out.truncate(64 << 20)
        out.seek(32 << 20)
        out.write(b"x" * (2 << 20))
    assert written(str(sparse), 64 << 20) == 2 << 20
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "whole").write_bytes(b"y" * 100)
    (tmp_path / "sub" / ".part").write_bytes(b"y" * 100)
    (tmp_path / "sub" / "short").write_bytes(b"y" * 99)
    changed = (tmp_path / "sub" / "whole").stat().st_ctime
    assert totals(str(tmp_path), 100) == ((2 << 20) + 299, 1, changed, changed)
    assert totals(str(tmp_path / "gone"), 100) == (0, 0, 0, 0)


def test_the_sampler_is_a_program_of_its_own(tmp_path: Path) -> None:
    began_s = time.monotonic()
    (tmp_path / "file").write_bytes(b"z" * 10)
    (tmp_path / "other").write_bytes(b"z" * 10)
    spec = {"directory": str(tmp_path), "interval_s": 0.05, "seconds": 0.12, "file_bytes": 10}
    argv = [sys.executable, "-I", "-S", str(SAMPLER), json.dumps(spec)]
    lines = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    samples = [json.loads(line) for line in lines]
    assert len(samples) >= 2
    assert all(sample[1:3] == [20, 2] for sample in samples)
    # The kernel stamps files by its timer's ticks.
    assert all(began_s - 0.02 <= sample[3] <= sample[4] <= sample[0] + 0.02 for sample in samples)
    assert samples == sorted(samples)


OWN = "355BEI7-3ZB36XX-O2QEQIM-OSNK2PD-PFFFPFZ-D6GV56I-WGQ2EV7-63FC6AK"


def test_syncthing_is_closed_to_the_outside() -> None:
    made = (GOLDEN / "syncthing-config.xml").read_text()
    other = OWN.replace("355", "466")
    text = configured(
        made,
        own=OWN,
        devices={OWN: ("left", "198.18.0.2"), other: ("right", "198.18.0.34")},
        folder="/data/left/folder",
        address="198.18.0.2",
    )
    for name, value in {
        "globalAnnounceEnabled": "false",
        "localAnnounceEnabled": "false",
        "relaysEnabled": "false",
        "natEnabled": "false",
        "crashReportingEnabled": "false",
        "autoUpgradeIntervalH": "0",
        "urAccepted": "-1",
    }.items():
        assert f"<{name}>{value}</{name}>" in text
    assert text.count("<listenAddress>") == 1
    assert "<listenAddress>tcp://198.18.0.2:22000</listenAddress>" in text
    assert "<address>127.0.0.1:8384</address>" in text
    assert "<address>tcp://198.18.0.34:22000</address>" in text
    # Of two that call each other from the port on which they listen, neither answers.
    mirrored = configured(
        made,
        own=other,
        devices={OWN: ("left", "198.18.0.2"), other: ("right", "198.18.0.34")},
        folder="/data/right/folder",
        address="198.18.0.34",
    )
    assert "<address>tcp://" not in mirrored
    assert f'<folder id="{FOLDER_ID}" path="/data/left/folder"' in text
    assert api_key_of(text) == api_key_of(made) != ""


def test_syncthings_own_files_and_conflict_copies_are_known() -> None:
    sut = create_sut("syncthing")
    assert isinstance(sut, SyncthingSut)
    assert sut.ignored(b".stfolder")
    assert sut.ignored(b".stversions/old")
    assert sut.ignored(b"deep/.syncthing.report.txt.tmp")
    assert not sut.ignored(b"deep/report.txt")
    assert sut.conflict_original(b"a/report.sync-conflict-20260101-101010-ABCDEF7.txt") == b"a/report.txt"
    assert sut.conflict_original(b"plain.sync-conflict-20260101-101010-ABCDEF7") == b"plain"
    assert sut.conflict_original(b"a/report.txt") is None
