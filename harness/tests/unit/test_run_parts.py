"""The small pure parts of a run: naming sites, cutting topologies down, access lines, packing real trees."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from harness.config.link_keys import LinkKeys
from harness.config.shipped import find_topology
from harness.config.topology_file import load_topology
from harness.errors import InputError
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.topology import CrossTraffic, Site
from harness.run.access import behind_access, in_series
from harness.run.directory import RunDirectory
from harness.run.real_data import LARGEST_FILE, MOST_BYTES, MOST_FILES, pack_tree
from harness.run.sites import first_sites, resolve_site

SITES = (Site(name="tokyo"), Site(name="bus", kind="mobile"), Site(name="ireland"))


@pytest.mark.parametrize(
    ("word", "site"),
    [
        ("first", "tokyo"),
        ("second", "bus"),
        ("last", "ireland"),
        ("mobile", "bus"),
        ("Last", "ireland"),
        ("bus", "bus"),
    ],
)
def test_words_name_sites(word: str, site: str) -> None:
    assert resolve_site(word, SITES) == site


def test_two_sites_are_enough_for_every_word() -> None:
    two = SITES[::2]
    assert [resolve_site(word, two) for word in ("second", "last", "mobile")] == ["ireland"] * 3


def test_an_unknown_word_is_answered_with_the_accepted_ones() -> None:
    with pytest.raises(InputError) as caught:
        resolve_site("third", SITES)
    assert caught.value.hint == "accepted: tokyo, bus, ireland, first, second, last, mobile"


def test_first_sites_keeps_only_their_links_and_outages() -> None:
    mobile = load_topology(find_topology("four-sites-mobile"))
    two = first_sites(mobile, 2)
    assert len(two.sites) == len(two.links) == 2
    assert two.timeline == ()
    assert first_sites(mobile, 4).timeline == mobile.timeline
    assert first_sites(mobile, None) is mobile


@pytest.mark.parametrize("count", [-1, 0, 1, 5])
def test_first_sites_refuses_what_is_no_wan(count: int) -> None:
    with pytest.raises(InputError, match=f"--sites {count}"):
        first_sites(load_topology(find_topology("four-sites")), count)


def test_an_access_line_stands_in_series_with_each_link_of_its_site() -> None:
    link = Impairment(delay_us=50_000, rate_bps=100_000_000, buffer_bytes=1_000_000)
    links = {("bus", "tokyo"): link, ("tokyo", "bus"): link, ("tokyo", "ireland"): link}
    changed = behind_access("bus", "lte", links)
    assert set(changed) == {("bus", "tokyo"), ("tokyo", "bus")}
    up, down = changed["bus", "tokyo"], changed["tokyo", "bus"]
    assert up.delay_us > 50_000
    assert up.rate_bps is not None
    assert down.rate_bps is not None
    assert up.rate_bps < down.rate_bps < 100_000_000
    assert up.mean_loss > 0


def test_a_slower_link_stays_the_bottleneck_behind_an_access_line() -> None:
    slow = Impairment(rate_bps=10_000, buffer_bytes=5_000)
    changed = behind_access("bus", "lte", {("bus", "tokyo"): slow})["bus", "tokyo"]
    assert (changed.rate_bps, changed.buffer_bytes) == (10_000, 5_000)


def test_losses_of_two_lines_in_series_combine() -> None:
    lossy = Impairment(loss=IndependentLoss(probability=0.01))
    changed = behind_access("bus", "lte", {("bus", "tokyo"): lossy})["bus", "tokyo"]
    assert changed.mean_loss == pytest.approx(1 - 0.99 * 0.998)


@pytest.mark.parametrize("name", ["four-sites", "four-sites-lossy"])
def test_any_site_of_the_shipped_topologies_goes_behind_lte(name: str) -> None:
    topology = load_topology(find_topology(name))
    links = {(link.source, link.destination): link.impairment for link in topology.links}
    for site in topology.site_names:
        assert len(behind_access(site, "lte", links)) == 6


def test_bursts_on_both_lines_are_refused() -> None:
    line = LinkKeys.model_validate({"loss": {"mean": "1%", "burst": "8 packets"}})
    link = Impairment(loss=GilbertElliottLoss(good_to_bad=0.001, bad_to_good=0.125))
    with pytest.raises(InputError, match="burst loss meets"):
        in_series(link, line)


def test_an_unknown_profile_is_bad_input() -> None:
    with pytest.raises(InputError, match="lte"):
        behind_access("bus", "carrier-pigeon", {("bus", "tokyo"): Impairment()})


def test_the_default_tree_is_bounded_and_real(tmp_path: Path) -> None:
    tree = pack_tree(None, tmp_path / "tree.tar")
    assert 500 < tree.files <= MOST_FILES
    assert tree.bytes <= MOST_BYTES
    with tarfile.open(tree.archive) as members:
        sizes = {member.name: member.size for member in members if member.isfile()}
    assert len(sizes) == tree.files
    assert max(sizes.values()) <= LARGEST_FILE
    assert "abc.py" in sizes


def test_a_given_directory_is_packed_whole(tmp_path: Path) -> None:
    source = tmp_path / "data"
    (source / "empty").mkdir(parents=True)
    (source / "f").write_bytes(b"12345")
    (source / "link").symlink_to("f")
    tree = pack_tree(str(source), tmp_path / "tree.tar")
    assert (tree.files, tree.bytes) == (1, 5)
    with tarfile.open(tree.archive) as members:
        assert sorted(members.getnames()) == ["empty", "f", "link"]


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_what_holds_no_file_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        pack_tree(str(tmp_path / name), tmp_path / "tree.tar")


def test_results_never_go_into_a_directory_that_holds_something(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "new")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not empty"):
        RunDirectory.create(tmp_path / "used")
    with pytest.raises(InputError):
        RunDirectory.create(tmp_path / "used" / "run.json" / "below")


def test_a_directory_without_findings_may_be_named_again(tmp_path: Path) -> None:
    made = RunDirectory.create(tmp_path / "out")
    made.history.touch()
    made.discard()
    assert not made.root.exists()


def test_first_sites_leaves_out_traces_and_cross_traffic_of_the_others() -> None:
    drive = load_topology(find_topology("four-sites-drive"))
    first, second, *_, last = drive.site_names
    (trace,) = drive.traces
    traffic = [CrossTraffic(source=first, destination=there, pattern="tcp") for there in (second, last)]
    pairs = ((first, second), (last, first))
    whole = drive.model_copy(
        update={
            "cross_traffic": tuple(traffic),
            "traces": (
                trace.model_copy(update={"site": last}),
                trace.model_copy(update={"site": None, "pairs": pairs}),
                trace.model_copy(update={"site": None, "pairs": pairs[1:]}),
            ),
        }
    )
    two = first_sites(whole, 2)
    assert two.cross_traffic == (traffic[0],)
    assert [(one.site, one.pairs) for one in two.traces] == [(None, pairs[:1])]
    assert first_sites(whole, 4).traces == whole.traces
