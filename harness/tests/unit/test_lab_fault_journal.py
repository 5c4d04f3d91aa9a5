"""What the journal of faults tells, and how another process undoes what stands in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import InputError
from harness.lab.fault_desk import FaultDesk, holder_of, noted
from harness.lab.fault_journal import FaultJournal
from harness.lab.links import LinkState, Overlay, with_overlay, without_overlay
from harness.model.impairment import Impairment
from harness.model.timeline import LinkChoice, Play
from harness.tests.lab_topologies import two_sites

LINK = ("east", "west")
EVENT = Play(links=LinkChoice(pairs=(LINK,)), trace="lte-driving")


def _lab(directory: Path) -> Any:
    states = {LINK: LinkState(base=Impairment())}

    def lift(links: object, holder: str, *_: object) -> None:
        states[LINK] = without_overlay(holder)(states[LINK])

    return SimpleNamespace(
        state_dir=directory,
        topology=two_sites(),
        epoch_s=0.0,
        link_states=lambda: states,
        let_go=lambda *_: None,
        lift=lift,
        states=states,
    )


def test_what_could_not_be_made_is_no_fault(tmp_path: Path) -> None:
    lab = _lab(tmp_path)
    with pytest.raises(InputError), noted(lab, EVENT, "test"):
        raise InputError("no such link")
    journal = FaultJournal(tmp_path / "faults.jsonl")
    assert journal.spans() == ()
    # Its name is not used again all the same.
    assert journal.next_id() == "f2"


def test_another_process_takes_a_trace_off_and_sees_whether_it_is_off(tmp_path: Path) -> None:
    lab = _lab(tmp_path)
    with noted(lab, EVENT, "longhaul play") as fault:
        lab.states[LINK] = with_overlay(Overlay.of(holder_of(fault), {"rate_bps": 1_000}))(lab.states[LINK])
        desk = FaultDesk(lab, origin="command")
        assert desk.problem(fault) == "east>west is still held"
        (healed,) = desk.heal()
        assert healed.problem is None
        assert lab.states[LINK].overlays == ()
        (span,) = desk.spans()
        ended_s = span.ended_s
        assert ended_s is not None
    # Who played it has nothing more to say of its end.
    (span,) = desk.spans()
    assert span.ended_s == ended_s
