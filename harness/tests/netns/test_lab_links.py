"""Links of a real lab, changed while it runs."""

from __future__ import annotations

import queue
import re

import pytest

from harness.errors import FidelityError, InputError, LabError, ShapingError
from harness.lab.fault_journal import FaultBegin
from harness.lab.injector import Injector
from harness.lab.lab import Lab
from harness.model.impairment import Impairment, IndependentLoss
from harness.model.measurement import LinkCertificate, QuantityName
from harness.model.timeline import BlackHole, Kill, LinkChoice, Outage, Target
from harness.model.verdict import Verdict

pytestmark = [pytest.mark.root, pytest.mark.vm]

BOTH = [("east", "west"), ("west", "east")]


def ping_ms(lab: Lab) -> float | None:
    """Smallest RTT of three pings from east to west; None when none is answered."""
    done = lab.nodes["east"].remote.run(["ping", "-c", "3", "-i", "0.1", "-W", "1", "west"], check=False)
    found = re.search(r"rtt min/avg/max/mdev = ([\d.]+)/", done.stdout)
    return float(found[1]) if found else None


def test_a_fresh_lab_is_as_its_topology_says(whole_lab: Lab) -> None:
    certificate = whole_lab.measure()
    assert [(one.source, one.destination) for one in certificate.links] == BOTH
    assert certificate.verdict is Verdict.PASS, certificate


def test_a_live_change_is_in_the_kernel_in_the_log_and_on_the_wire(whole_lab: Lab) -> None:
    slower = Impairment(delay_us=40_000, loss=IndependentLoss(probability=0.05))
    changes = whole_lab.change({("east", "west"): slower}, "a test")
    assert [(one.source, one.destination, one.after) for one in changes] == [("east", "west", slower)]
    assert whole_lab.impairment("east", "west") == slower
    assert whole_lab.changes()[-1].reason == "a test"
    certificate = whole_lab.measure()
    assert certificate.verdict is Verdict.PASS, certificate
    there, back = certificate.links
    assert 49_000 < measured(there, "rtt") < 53_000
    assert measured(there, "loss") > 0
    assert measured(back, "loss") == 0


def measured(link: LinkCertificate, name: QuantityName) -> float:
    quantity = link.quantity(name)
    assert quantity is not None and quantity.measured is not None
    return quantity.measured


def test_holds_overlap_and_come_apart(whole_lab: Lab) -> None:
    whole_lab.hold(BOTH, "one", "first")
    whole_lab.hold(BOTH, "two", "second")
    assert ping_ms(whole_lab) is None
    whole_lab.let_go(BOTH, "one", "first ends")
    assert whole_lab.in_force("east", "west").blocked
    assert ping_ms(whole_lab) is None
    whole_lab.let_go(BOTH, "two", "second ends")
    rtt = ping_ms(whole_lab)
    assert rtt is not None
    assert rtt >= 19


def test_a_change_during_an_outage_lasts_beyond_it(whole_lab: Lab) -> None:
    whole_lab.hold(BOTH, "outage", "cut")
    whole_lab.change({("east", "west"): Impairment(delay_us=5_000)}, "changed meanwhile")
    assert whole_lab.in_force("east", "west").blocked
    whole_lab.let_go(BOTH, "outage", "healed")
    assert whole_lab.in_force("east", "west") == Impairment(delay_us=5_000)


def test_another_process_sees_and_makes_changes(whole_lab: Lab) -> None:
    other = Lab.open(whole_lab.lab_id, state_root=whole_lab.paths.state_root)
    try:
        other.change({("west", "east"): Impairment(delay_us=1_000)}, "by another")
    finally:
        other.close()
    assert whole_lab.impairment("west", "east") == Impairment(delay_us=1_000)
    whole_lab.restore()
    assert whole_lab.impairment("west", "east") == Impairment(delay_us=10_000)
    assert whole_lab.read_back()["west", "east"].delay_us == 10_000


def test_a_link_that_does_not_exist_is_the_callers_mistake(whole_lab: Lab) -> None:
    with pytest.raises(InputError, match="east>mars"):
        whole_lab.change({("east", "west"): Impairment(), ("east", "mars"): Impairment()}, "nonsense")
    assert whole_lab.impairment("east", "west") == Impairment(delay_us=10_000)


def test_the_timeline_cuts_a_site_off_and_heals_it(whole_lab: Lab) -> None:
    faults: queue.Queue[tuple[str, FaultBegin, float | None, float]] = queue.Queue()
    timeline = (Outage(site="west", at_s=0.1, duration_s=0.6),)
    injector = Injector(whole_lab, timeline=timeline, on_fault=lambda *fault: faults.put(fault))
    injector.start()
    action, fault, planned_s, actual_s = faults.get(timeout=10)
    assert (action, fault.event.do) == ("begin", "outage")
    assert planned_s is not None
    assert 0 <= actual_s - planned_s < 0.2
    assert whole_lab.read_back()["east", "west"].blocked
    action, fault, planned_heal_s, actual_heal_s = faults.get(timeout=10)
    assert (action, fault.event.do) == ("end", "outage")
    assert planned_heal_s is not None
    assert planned_heal_s - planned_s == pytest.approx(0.6)
    assert 0 <= actual_heal_s - planned_heal_s < 0.2
    injector.stop()
    assert not whole_lab.read_back()["east", "west"].blocked


def test_stopping_the_injector_heals_an_outage_that_has_no_end(whole_lab: Lab) -> None:
    faults: queue.Queue[tuple[str, FaultBegin, float | None, float]] = queue.Queue()
    timeline = (Outage(site="west", at_s=0, duration_s=1e6),)
    injector = Injector(whole_lab, timeline=timeline, on_fault=lambda *fault: faults.put(fault))
    injector.start()
    assert faults.get(timeout=10)[0] == "begin"
    injector.stop()
    assert faults.get(timeout=1)[0] == "end"
    assert [(one.what, one.problem) for one in injector.healed] == [("outage", None)]
    assert not whole_lab.read_back()["west", "east"].blocked
    injector.stop()


def test_a_fault_that_cannot_be_made_ends_the_timeline_and_the_others_are_healed(whole_lab: Lab) -> None:
    links = LinkChoice(all=True)
    timeline = (BlackHole(links=links), Kill(node="west", target=Target(command="no such program"), at_s=0.05))
    injector = Injector(whole_lab, timeline=timeline)
    injector.start()
    assert injector.wait(10)
    with pytest.raises(FidelityError, match="no such program"):
        injector.stop()
    assert not whole_lab.read_back()["west", "east"].blocked


def test_broken_is_sticky(whole_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_changes: object) -> None:
        raise ShapingError("the kernel says otherwise")

    with monkeypatch.context() as patch:
        patch.setattr(whole_lab.core, "shape", refuse, raising=False)
        with pytest.raises(ShapingError):
            whole_lab.change({("east", "west"): Impairment()}, "fails")
    try:
        with pytest.raises(LabError, match="broken: the kernel says otherwise"):
            whole_lab.restore()
        with pytest.raises(LabError, match="broken"):
            whole_lab.measure()
    finally:
        whole_lab.paths.broken.unlink()
