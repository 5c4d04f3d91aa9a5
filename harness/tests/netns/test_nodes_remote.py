"""The contract of ``Remote``, on a real sshd."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import NodeError, RemoteTimeout
from harness.lab.lab import Lab
from harness.nodes.fabric_remote import FabricRemote

pytestmark = [pytest.mark.root, pytest.mark.vm]


@pytest.fixture
def remote(lab: Lab) -> FabricRemote:
    return lab.nodes["east"].remote


@pytest.mark.parametrize("code", [0, 1, 7, 124, 125, 255])
def test_exit_code_is_the_commands_own(remote: FabricRemote, code: int) -> None:
    assert remote.run(["sh", "-c", f"exit {code}"], check=False).exit_code == code


def test_a_signal_gives_128_and_its_number_and_no_remarks_of_the_shell(remote: FabricRemote) -> None:
    done = remote.run(["sh", "-c", "kill -KILL $$"], check=False)
    assert (done.exit_code, done.stdout, done.stderr) == (137, "", "")


def test_a_failing_command_raises_with_both_streams(remote: FabricRemote) -> None:
    with pytest.raises(NodeError, match=r"(?s)east: .* ended with 3 .*stdout: out.*stderr: err"):
        remote.run(["sh", "-c", "echo out; echo err >&2; exit 3"])


def test_an_unknown_program_is_127(remote: FabricRemote) -> None:
    assert remote.run(["no-such-program"], check=False).exit_code == 127


@pytest.mark.parametrize("word", ["a b", "it's", '"', "$HOME", "*", "a;b", "\n", "\\", "é", "\udcff", "-n", "`id`"])
def test_arguments_arrive_as_they_are(remote: FabricRemote, word: str) -> None:
    echoed = remote.run(["python3", "-c", "import os, sys; os.write(1, os.fsencode(sys.argv[1]))", word]).stdout
    assert echoed == word


def test_environment_and_directory(remote: FabricRemote) -> None:
    done = remote.run(["sh", "-c", 'echo "$LETTER"; pwd'], env={"LETTER": "x 'y' $z"}, cwd="/tmp")
    assert done.stdout == "x 'y' $z\n/tmp\n"


def test_output_that_is_no_utf8_survives(remote: FabricRemote) -> None:
    done = remote.run(["printf", r"\377\000caf\303\251"])
    assert os.fsencode(done.stdout) == b"\xff\x00caf\xc3\xa9"


@pytest.mark.parametrize("text", ["", "one\n", "x" * 3_000_000], ids=["empty", "short", "3 MB"])
def test_standard_input_arrives_whole_and_ends(remote: FabricRemote, text: str) -> None:
    assert remote.run(["sha256sum"], stdin=text).stdout.split()[0] == hashlib.sha256(text.encode()).hexdigest()


def test_input_that_nobody_reads_does_no_harm(remote: FabricRemote) -> None:
    assert remote.run(["true"], stdin="x" * 5_000_000).exit_code == 0


def test_both_streams_are_drained_at_once(remote: FabricRemote) -> None:
    script = "import sys\nfor _ in range(40): sys.stdout.write('o' * 65536); sys.stderr.write('e' * 65536)"
    done = remote.run(["python3", "-c", script])
    assert (len(done.stdout), len(done.stderr)) == (40 * 65536, 40 * 65536)


def test_a_deadline_kills_the_whole_process_group(remote: FabricRemote) -> None:
    begin = time.monotonic()
    with pytest.raises(RemoteTimeout, match=r"within 0.3 s.*\n.*begun"):
        remote.run(["sh", "-c", "echo begun; sleep 654.3 & sleep 654.3"], timeout_s=0.3)
    assert time.monotonic() - begin < 3
    assert "654.3" not in remote.run(["ps", "ax", "-o", "args"]).stdout


def test_a_descendant_that_holds_the_streams_does_not_hold_the_caller(remote: FabricRemote) -> None:
    begin = time.monotonic()
    with pytest.raises(RemoteTimeout):
        remote.run(["sh", "-c", "setsid sleep 30 & sleep 30"], timeout_s=0.2)
    assert time.monotonic() - begin < 10
    remote.run(["pkill", "-KILL", "sleep"], check=False)


def test_commands_run_side_by_side(remote: FabricRemote) -> None:
    """Twelve commands that all wait for the last one to begin: they end only when they run at the same time."""
    script = "mkdir -p gate; touch gate/$0; until [ $(ls gate | wc -l) -ge 12 ]; do :; done; echo $0"
    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(lambda number: remote.run(["sh", "-c", script, str(number)]).stdout, range(12)))
    assert done == [f"{number}\n" for number in range(12)]
    remote.run(["rm", "-r", "gate"])


def test_a_started_process_outlives_the_connection_and_logs(remote: FabricRemote) -> None:
    process = remote.start("talker", ["sh", "-c", "echo said; exec sleep 99.5"], env={"A": "b"})
    remote.close()
    assert "sleep" in remote.run(["ps", "-o", "args=", "-p", str(process.pid)]).stdout
    assert remote.run(["cat", process.log]).stdout == "said\n"
    assert remote.signal(process.pid, "SIGKILL")
    remote.run(["sh", "-c", f"while test -d /proc/{process.pid}; do :; done"], timeout_s=5)
    assert not remote.signal(process.pid, "TERM")


def test_starting_what_does_not_exist_fails_at_once(remote: FabricRemote) -> None:
    with pytest.raises(NodeError, match="no such program"):
        remote.start("nothing", ["/no/such/program"])


def test_a_killed_process_is_gone_when_the_call_returns(remote: FabricRemote) -> None:
    hold = "held = bytearray(300 << 20); held[::4096] = bytes(len(held[::4096])); import signal; signal.pause()"
    for _ in range(5):
        process = remote.start("large", ["python3", "-c", hold])
        wait = f"until [ $(awk '/VmRSS/ {{print $2}}' /proc/{process.pid}/status) -gt 300000 ]; do sleep 0.02; done"
        remote.run(["sh", "-c", wait], timeout_s=20)
        assert remote.signal(process.pid, "KILL")
        assert remote.run(["kill", "-0", str(process.pid)], check=False).exit_code != 0


def test_an_unknown_signal_is_the_callers_mistake(remote: FabricRemote) -> None:
    with pytest.raises(ValueError, match="NOPE"):
        remote.signal(1, "NOPE")


def test_files_go_there_and_back(remote: FabricRemote, tmp_path: Path) -> None:
    local, back = tmp_path / "{braces} and spaces", tmp_path / "back"
    local.write_bytes(os.urandom(300_000))
    local.chmod(0o750)
    remote.put(local, "put file")
    assert remote.run(["stat", "-c", "%a", "put file"]).stdout == "750\n"
    remote.get("put file", back)
    assert back.read_bytes() == local.read_bytes()
    with pytest.raises(NodeError, match="cannot copy"):
        remote.get("no such file", back)


def test_a_wrong_host_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    """Pinned: the other node's key is not good enough."""
    east, west = lab.nodes["east"], lab.nodes["west"]
    known = (lab.paths.credentials / "known_hosts").read_text().splitlines()
    keys = dict(line.split(" ", 1) for line in known)
    wrong = tmp_path / "known_hosts"
    wrong.write_text(f"{east.management_address} {keys[west.management_address]}\n")
    impostor = FabricRemote(
        site="east",
        address=east.management_address,
        key=lab.paths.credentials / "client_key",
        known_hosts=wrong,
        home="/",
        log_dir="/tmp",
    )
    with pytest.raises(NodeError, match="no SSH"):
        impostor.run(["true"])


def test_a_command_costs_little(remote: FabricRemote) -> None:
    remote.run(["true"])
    begin = time.monotonic()
    for _ in range(20):
        remote.run(["true"])
    assert (time.monotonic() - begin) / 20 < 0.1
