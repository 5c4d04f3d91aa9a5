"""Rounds of a measurement: what one leaves undecided is probed again, and nothing that was known is lost by that."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from harness.lab import fidelity
from harness.model.impairment import Chance, Impairment, IndependentLoss
from harness.model.measurement import MeasuringNoise
from harness.model.topology import Link, Site, Topology
from harness.model.verdict import Verdict
from harness.plan.addressing import plan_lab
from harness.plan.prober_protocol import Observation
from harness.plan.probing import LinkKey, Session, plan_sessions
from harness.tests.simulated_link import observe

RARE = Impairment(delay_us=20_000, loss=IndependentLoss(probability=0.0001))
WANTED = {("a", "b"): RARE, ("b", "a"): Impairment(delay_us=20_000, jitter_us=2_000)}


class Simulated:
    """In the place of probers on nodes: links that are just as asked for."""

    noise = MeasuringNoise()
    common_clock = True

    def __init__(self, *_: object) -> None:
        self._dice = random.Random(3)

    def carry_out(
        self, sessions: Sequence[Session], links: Sequence[LinkKey], number: int
    ) -> dict[LinkKey, list[Observation]]:
        streams = [stream for session in sessions for stream in session.streams if stream.kind != "noise"]
        return {
            link: [observe(one, WANTED[link], self._dice, WANTED[link[::-1]]) for one in streams if one.link == link]
            for link in links
        }


def test_a_link_that_is_probed_alone_again_keeps_its_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "_Measuring", Simulated)
    links = tuple(Link(source=a, destination=b, impairment=one) for (a, b), one in WANTED.items())
    plan = plan_lab(Topology(name="two", sites=(Site(name="a"), Site(name="b")), links=links), "x", 1)
    there, back = fidelity.measure_links(plan, {}, WANTED, depth="full").links
    assert (there.rounds, there.verdict) == (3, None)
    assert (back.rounds, back.verdict) == (1, Verdict.PASS)
    rtt = there.quantity("rtt")
    assert rtt is not None and rtt.verdict is Verdict.PASS, rtt


@pytest.mark.parametrize("link", [Impairment(duplicate=Chance(share=0.02)), Impairment(corrupt=Chance(share=0.02))])
def test_what_happens_to_a_share_of_all_packets_gets_packets_enough(link: Impairment) -> None:
    wanted = {("a", "b"): link, ("b", "a"): Impairment()}
    sessions = plan_sessions(wanted, [("a", "b")], "full", dict.fromkeys(wanted, 1500))
    dense = [stream for session in sessions for stream in session.streams if stream.kind == "dense"]
    assert [stream.packets for stream in dense] == [3_000]
