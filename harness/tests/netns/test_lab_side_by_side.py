"""Several labs on one host, and what the commands say of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.lab.lab import Lab
from harness.lab.ledger import LedgerContent
from harness.lab.undo import undo
from harness.model.impairment import Impairment
from harness.model.resource import Resource
from harness.nodes.host_processes import boot_id, start_ticks
from harness.tests.lab_topologies import two_sites

pytestmark = [pytest.mark.root, pytest.mark.vm]


def longhaul(root: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LONGHAUL_STATE": str(root), "COLUMNS": "120"}
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, timeout=60)


def test_two_labs_built_at_once_live_side_by_side(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda delay: Lab.up(two_sites(delay_us=delay), state_root=tmp_path), (1_000, 30_000))
    try:
        assert one.lab_id != two.lab_id
        assert one.plan.slot != two.plan.slot
        two.change({("east", "west"): Impairment(delay_us=31_000)}, "only here")
        assert one.impairment("east", "west") == Impairment(delay_us=1_000)
        assert one.read_back()["east", "west"].delay_us == 1_000
        one.down()
        two.nodes["east"].remote.run(["ping", "-c", "1", "-W", "5", "west"])
        routes = subprocess.run(["ip", "route", "show", "proto", "198"], capture_output=True, text=True, check=True)
        assert "198.18.0.0/16" in routes.stdout
    finally:
        one.down()
        two.down()


def test_an_id_that_is_taken_is_refused_and_the_lab_unharmed(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        Lab.up(two_sites(), lab_id=lab.lab_id, state_root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    lab.nodes["east"].remote.run(["true"])


def test_exec_passes_streams_and_the_exit_code_through(lab: Lab) -> None:
    root = lab.paths.state_root
    done = longhaul(root, "exec", "west", "--", "sh", "-c", "cat; echo err >&2; exit 42", stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (42, "in\n", "err\n")


def test_link_changes_and_shows(whole_lab: Lab) -> None:
    root = whole_lab.paths.state_root
    changed = longhaul(root, "link", "east", "west", "--delay", "3ms", "--loss", "1%", "--one-way", "--json")
    assert changed.returncode == 0, changed.stderr
    (link,) = json.loads(changed.stdout)["links"]
    assert link["kernel"]["delay_us"] == 3_000
    assert link["in_force"]["loss"]["probability"] == 0.01
    assert "changed: east>west" in longhaul(root, "status").stdout
    assert longhaul(root, "link", "east", "west", "--block").stdout.count("blocked") == 2
    assert whole_lab.in_force("west", "east").blocked
    assert longhaul(root, "link", "east", "west", "--restore").returncode == 0
    assert whole_lab.in_force("east", "west") == Impairment(delay_us=10_000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("exec", "mars", "--", "true"), "has no site 'mars'"),
        (("link", "east", "mars"), "no link east>mars"),
        (("link", "east", "west", "--loss", "many"), "many"),
        (("link", "east", "west", "--buffer", "1MB"), "buffer needs a rate"),
        (("link", "east", "west", "--restore", "--block"), "--restore stands alone"),
        (("down", "zz"), "there is no lab 'zz'"),
        (("down", "zz", "--all"), "not both"),
        (("up", "no-such-topology"), "no-such-topology"),
        (("up", "four-sites", "--lab", "Much too long"), "no lab id"),
    ],
)
def test_mistakes_are_told_in_a_sentence(lab: Lab, arguments: tuple[str, ...], said: str) -> None:
    done = longhaul(lab.paths.state_root, *arguments)
    assert done.returncode == 2, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_status_tells_a_dead_node(lab: Lab) -> None:
    status = json.loads(longhaul(lab.paths.state_root, "status", "--json").stdout)["labs"]
    (mine,) = [one for one in status if one["lab"] == lab.lab_id]
    assert mine["state"] == "up"
    assert [node["alive"] for node in mine["nodes"]] == [True, True]


def test_undo_checks_that_a_process_is_the_one_that_was_made(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    process = subprocess.Popen(["sleep", "60"])
    try:
        ticks = start_ticks(process.pid)
        assert ticks is not None
        other = Resource(kind="process", name=str(process.pid), start_ticks=ticks + 1)
        assert undo(LedgerContent(boot=boot_id(), outstanding=(other,))) == ()
        same = other.model_copy(update={"start_ticks": ticks})
        assert undo(LedgerContent(boot="another boot", outstanding=(same,))) == ()
        assert process.poll() is None
        assert undo(LedgerContent(boot=boot_id(), outstanding=(same,))) == ()
        assert process.wait(timeout=10) == -9
    finally:
        process.kill()
        process.wait()


def test_undo_goes_on_past_what_it_cannot_do_and_says_so(tmp_path: Path) -> None:
    removable = tmp_path / "data"
    removable.mkdir()
    resources = (
        Resource(kind="directory", name=str(removable)),
        Resource(kind="directory", name="/etc"),
        Resource(kind="netns", name="lh-none-such"),
        Resource(kind="link", name="lhnonem0"),
        Resource(kind="file", name=str(tmp_path / "none")),
    )
    (left,) = undo(LedgerContent(boot=boot_id(), outstanding=resources))
    assert left.resource.name == "/etc"
    assert not removable.exists()
