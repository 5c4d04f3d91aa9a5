"""The certificate on a real lab with every kind of site and link, and what is said when it cannot be made."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import build_app
from harness.errors import InputError, LabError
from harness.lab.fidelity import PROBER
from harness.lab.lab import Lab
from harness.model.impairment import Chance, DelayDistribution, GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.measurement import Certificate, LinkCertificate, Quantity, QuantityName
from harness.model.topology import Link, Nat, Site, Topology
from harness.model.verdict import Verdict
from harness.wan.native_program import compiled

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]

PLAIN = Impairment(delay_us=10_000)
LINKS = {
    ("plain", "home"): Impairment(delay_us=20_000, loss=GilbertElliottLoss(good_to_bad=0.02, bad_to_good=0.25)),
    ("home", "plain"): Impairment(delay_us=30_000, duplicate=Chance(share=0.1)),
    ("plain", "office"): Impairment(delay_us=300_000, rate_bps=20_000),
    ("office", "plain"): Impairment(
        delay_us=40_000, jitter_us=4_000, distribution=DelayDistribution(kind="normal"), rate_bps=4_000_000
    ),
    ("office", "home"): PLAIN.model_copy(update={"blocked": True}),
    ("home", "office"): PLAIN.model_copy(update={"loss": IndependentLoss(probability=1.0)}),
}
SITES = (Site(name="plain"), Site(name="home", nat=Nat(kind="symmetric")), Site(name="office", more_nodes=("desk",)))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    links = tuple(
        Link(source=source, destination=destination, impairment=impairment)
        for (source, destination), impairment in LINKS.items()
    )
    topology = Topology(name="certificates", sites=SITES, links=links)
    built = Lab.up(topology, lab_id="t" + secrets.token_hex(2), state_root=tmp_path_factory.mktemp("state"))
    yield built
    built.down()


def link_of(certificate: Certificate, source: str, destination: str) -> LinkCertificate:
    return next(one for one in certificate.links if (one.source, one.destination) == (source, destination))


def of(link: LinkCertificate, name: QuantityName) -> Quantity:
    quantity = link.quantity(name)
    assert quantity is not None, link
    return quantity


def test_links_of_every_kind_get_a_certificate(lab: Lab) -> None:
    shares: list[float] = []
    certificate = lab.measure(advance=shares.append)
    assert [(one.source, one.destination) for one in certificate.links] == [*LINKS]
    assert certificate.verdict is Verdict.PASS, [one.reason for one in certificate.links]
    assert certificate.common_clock and certificate.noise.loopback_median_us is not None
    assert shares[-1] == 1.0
    bursts = link_of(certificate, "plain", "home")
    assert of(bursts, "loss").measured and of(bursts, "burst").requested == 4
    copies = of(link_of(certificate, "home", "plain"), "duplication")
    assert copies.measured is not None and copies.measured > 0.02
    # Eight probes, which is all that a quick measurement sends at such a jitter, tell nothing of a distribution.
    assert of(link_of(certificate, "office", "plain"), "delay distribution").undecided
    for cut in (("office", "home"), ("home", "office")):
        assert (of(link_of(certificate, *cut), "loss").measured, link_of(certificate, *cut).received) == (1, 0)


def test_a_link_that_is_not_as_asked_is_invalid(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    states = lab.link_states()
    lie = states["home", "plain"].model_copy(update={"base": Impairment(delay_us=60_000)})
    monkeypatch.setattr(lab._links, "states", lambda: {**states, ("home", "plain"): lie})
    certificate = lab.measure(links=[("home", "plain")], rounds=1)
    assert certificate.verdict is Verdict.INVALID
    assert "one-way delay 3" in certificate.links[0].reason


def test_the_command_writes_the_certificate_and_shows_a_table(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.measure.open_lab", lambda _: Lab.open(lab.lab_id, state_root=lab.paths.state_root))
    path = tmp_path / "certificate.json"
    command = ["measure", "--link", "plain", "home", "--rounds", "1", "-o", str(path)]
    done = CliRunner().invoke(build_app(), command, standalone_mode=False)
    kept = Certificate.model_validate_json(path.read_text())
    assert "plain>home" in done.stdout and "of 2 links as asked" in done.stdout
    assert kept.note == "2 of 6 links, as asked for"
    assert done.return_value == (0 if kept.verdict is Verdict.PASS else 4)


def test_nodes_that_do_not_see_the_prober_get_a_copy(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "prober"
    shutil.copy(compiled(PROBER), elsewhere)
    monkeypatch.setattr("harness.lab.fidelity.compiled", lambda _: elsewhere)
    (link,) = lab.measure(links=[("home", "plain")], rounds=1).links
    assert link.received > 50
    assert (Path(lab.nodes["home"].data_dir) / ".longhaul-prober").is_file()


def test_a_link_that_does_not_exist_is_the_callers_mistake(lab: Lab) -> None:
    with pytest.raises(InputError, match="no link plain>mars"):
        lab.measure(links=[("plain", "mars")])


def test_a_prober_that_is_killed_is_named(lab: Lab) -> None:
    kill = "until pid=$(pgrep -n ^prober); do :; done; kill -s KILL $pid"
    with ThreadPoolExecutor() as pool:
        measuring = pool.submit(lab.measure)
        killing = pool.submit(lab.nodes["home"].remote.run, ["timeout", "10", "sh", "-c", kill])
        assert killing.result().exit_code == 0
        with pytest.raises(LabError, match="prober at home failed"):
            measuring.result()


def test_a_node_that_is_gone_is_named(lab: Lab) -> None:
    # The last of this module: the lab is not whole afterwards.
    os.kill(lab.nodes["plain"].state.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while lab.nodes["plain"].alive and time.monotonic() < deadline:
        pass
    with pytest.raises(LabError, match="plain"):
        lab.measure(links=[("plain", "home"), ("home", "plain")])
