"""What a lab writes of itself can be read by another process."""

from __future__ import annotations

from pathlib import Path

from harness.lab.state import LabPaths, LabState, read_state, write_state
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.topology import Link, Site, Topology
from harness.plan.addressing import plan_lab


def test_a_lab_whose_links_lose_packets_can_be_opened_again(tmp_path: Path) -> None:
    bursts = Impairment(delay_us=5, loss=GilbertElliottLoss(good_to_bad=0.1, bad_to_good=0.5))
    topology = Topology(
        name="two",
        sites=(Site(name="a"), Site(name="b")),
        links=(
            Link(source="a", destination="b", impairment=bursts),
            Link(source="b", destination="a", impairment=Impairment(loss=IndependentLoss(probability=0.1))),
        ),
    )
    paths = LabPaths(state_root=tmp_path, lab_id="x")
    paths.directory.mkdir(parents=True)
    plan = plan_lab(topology, "x", 1)
    state = LabState(plan=plan, core={}, nodes=(), seed=None, created_at="", up_seconds=1.0)
    write_state(paths, state)
    assert read_state(paths) == state
