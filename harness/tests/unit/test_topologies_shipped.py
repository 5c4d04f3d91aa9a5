"""The shipped topologies, profiles and schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from harness.config.json_schema import profile_schema, topology_schema
from harness.config.profile_file import load_profile
from harness.config.shipped import find_topology, shipped_dir, shipped_topologies
from harness.config.topology_file import load_topology
from harness.errors import InputError
from harness.model.impairment import GilbertElliottLoss

TOPOLOGIES = shipped_dir("topologies")
PROFILES = sorted((TOPOLOGIES / "profiles").glob("*.yaml"))
SMALL_MACHINE_RATE = 100_000_000


def test_the_shipped_schemas_are_the_models() -> None:
    assert (TOPOLOGIES / "topology.schema.json").read_text() == topology_schema()
    assert (TOPOLOGIES / "profiles" / "profile.schema.json").read_text() == profile_schema()


@pytest.mark.parametrize("name", shipped_topologies())
def test_every_shipped_topology_is_valid_and_has_a_source(name: str) -> None:
    path = find_topology(name)
    topology = load_topology(path)
    assert topology.name == name
    assert topology.source_note
    assert not name.startswith("four-sites") or topology.site_names == ("virginia", "ireland", "tokyo", "sydney")
    assert all(0 < (link.impairment.rate_bps or 0) <= SMALL_MACHINE_RATE for link in topology.links)
    jsonschema.validate(YAML(typ="safe").load(path), json.loads(topology_schema()))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_shipped_profile_is_valid_and_has_a_source(path: Path) -> None:
    profile = load_profile(path.stem, beside=Path("elsewhere/wan.yaml"))
    assert profile.source
    jsonschema.validate(YAML(typ="safe").load(path), json.loads(profile_schema()))


def test_the_profiles_that_a_wan_needs_are_there() -> None:
    assert {path.stem for path in PROFILES} >= {"data-centre", "broadband", "lte", "3g", "edge", "geo-satellite"}


@pytest.mark.parametrize(
    ("key", "value"),
    [("rtt", 80), ("rtt", "80"), ("rate", "1 Mbps"), ("loss", "25% 10%"), ("los", "1%"), ("rtt", None)],
)
def test_the_schema_refuses_what_the_loader_refuses(key: str, value: object) -> None:
    document = {
        "version": 1,
        "name": "x",
        "sites": {"a": {}, "b": None},
        "links": [{"between": ["a", "b"], "rtt": "1 ms"}],
    }
    jsonschema.validate(document, json.loads(topology_schema()))
    document["links"] = [{"between": ["a", "b"], key: value}]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(topology_schema()))


def test_the_four_sites_have_the_published_round_trips() -> None:
    topology = load_topology(find_topology("four-sites"))
    expected = {
        "virginia>ireland": 80_500,
        "ireland>sydney": 309_600,
        "tokyo>sydney": 103_900,
        "virginia>tokyo": 145_300,
    }
    for name, rtt_us in expected.items():
        a, b = name.split(">")
        assert topology.link(a, b).impairment.delay_us + topology.link(b, a).impairment.delay_us == rtt_us


def test_the_lossy_sites_lose_alone_and_in_bursts() -> None:
    topology = load_topology(find_topology("four-sites-lossy"))
    assert all(link.impairment.mean_loss > 0 for link in topology.links)
    bursts = [link.name for link in topology.links if isinstance(link.impairment.loss, GilbertElliottLoss)]
    assert bursts == ["virginia>sydney", "ireland>sydney", "sydney>virginia", "sydney>ireland"]


def test_the_mobile_site_is_asymmetric_bufferbloated_and_hands_over() -> None:
    topology = load_topology(find_topology("four-sites-mobile"))
    (mobile,) = (site for site in topology.sites if site.kind == "mobile")
    up = topology.link(mobile.name, "virginia").impairment
    down = topology.link("virginia", mobile.name).impairment
    assert up.rate_bps is not None and down.rate_bps is not None and up.buffer_bytes is not None
    assert up.rate_bps < down.rate_bps
    assert up.buffer_bytes * 8 / up.rate_bps == 1.0
    assert {outage.site for outage in topology.timeline} == {mobile.name}


def test_a_topology_is_found_by_name_or_path(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("x")
    assert find_topology(str(mine)) == mine
    assert find_topology("four-sites") == TOPOLOGIES / "four-sites.yaml"
    with pytest.raises(InputError, match=r"no topology 'four-site'; did you mean 'four-sites'\?"):
        find_topology("four-site")
    with pytest.raises(InputError, match="no topology"):
        find_topology("a\0b")


def test_the_field_reference_names_every_key() -> None:
    reference = (TOPOLOGIES / "README.md").read_text()
    schemas = [json.loads(topology_schema()), json.loads(profile_schema())]
    keys = set()
    for schema in schemas:
        for part in (schema, *schema["$defs"].values()):
            keys |= set(part.get("properties", {}))
    assert {key for key in keys if f"`{key}`" not in reference} == set()


def test_the_examples_of_the_field_reference_are_valid(tmp_path: Path) -> None:
    """Whole files by themselves, sections other than sites and links as part of the four sites."""
    blocks = [block.split("```")[0] for block in (TOPOLOGIES / "README.md").read_text().split("```yaml\n")[1:]]
    topology, profile = (block for block in blocks if "version: 1\n" in block)
    (tmp_path / "example.yaml").write_text(topology)
    (tmp_path / "village-dsl.yaml").write_text(profile)
    assert len(load_topology(tmp_path / "example.yaml").links) == 6
    assert load_profile("village-dsl.yaml", beside=tmp_path / "example.yaml").uplink.rate == 384_000
    sections = [block for block in blocks if "version: 1\n" not in block and "sites:" not in block]
    assert sections
    for section in sections:
        (tmp_path / "whole.yaml").write_text(find_topology("four-sites").read_text() + section)
        load_topology(tmp_path / "whole.yaml")
