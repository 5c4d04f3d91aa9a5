"""What a change of a link sends to the kernel: a stage that stays as it is must not be set again."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import cast

from harness.model.impairment import GilbertElliottLoss, Impairment
from harness.model.topology import Link, Site, Topology
from harness.plan.addressing import plan_lab
from harness.plan.shaping import LinkHandles
from harness.wan.kernel import Kernel
from harness.wan.qdisc_tree import QdiscTree
from harness.wan.tc_messages import RTM_GETQDISC, RTM_NEWQDISC, Qdisc, read_qdisc

LINK = ("a", "b")
BURSTS = GilbertElliottLoss(good_to_bad=0.01, bad_to_good=0.1)
START = Impairment(delay_us=20_000, loss=BURSTS, rate_bps=8_000_000)
_HEADER = struct.Struct("=IHHII")


class KeepingKernel:
    """Keeps the last options of each qdisc, as a kernel does, and gives them back."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], bytes] = {}
        self.set: list[Qdisc] = []

    def transact(
        self, messages: Iterable[bytes], subject: Callable[[int], str] | None = None, *, changes_alone: bool = False
    ) -> list[bytes]:
        answers = []
        for message in messages:
            kind = _HEADER.unpack_from(message)[1]
            if kind not in (RTM_NEWQDISC, RTM_GETQDISC):
                continue
            qdisc = read_qdisc(message)
            key = qdisc.interface, qdisc.handle
            if kind == RTM_NEWQDISC:
                self.kept[key] = message
                self.set.append(qdisc)
            else:
                answers.append(self.kept[key])
        return answers

    def dump_qdiscs(self) -> list[bytes]:
        return list(self.kept.values())

    def links(self) -> dict[str, object]:
        return {}


def tree_on(kernel: KeepingKernel) -> QdiscTree:
    topology = Topology(
        name="two",
        sites=(Site(name="a"), Site(name="b")),
        links=(
            Link(source="a", destination="b", impairment=START),
            Link(source="b", destination="a", impairment=START),
        ),
    )
    tree = QdiscTree(cast(Kernel, kernel), plan_lab(topology, "x", 1), {0: 10, 1: 11}, seed=1)
    tree.change([("b", "a", START)])
    return tree


def stages_set(kernel: KeepingKernel, tree: QdiscTree, impairment: Impairment) -> set[str]:
    kernel.set.clear()
    tree.change([(*LINK, impairment)])
    handles = LinkHandles(0, 10)
    names = {handles.propagation: "propagation", handles.bottleneck: "bottleneck"}
    return {names[qdisc.handle] for qdisc in kernel.set}


def test_a_change_of_rate_leaves_the_loss_model_where_it_is() -> None:
    kernel = KeepingKernel()
    tree = tree_on(kernel)
    assert stages_set(kernel, tree, START) == {"propagation", "bottleneck"}
    slower = START.model_copy(update={"rate_bps": 4_000_000})
    assert stages_set(kernel, tree, slower) == {"bottleneck"}
    farther = slower.model_copy(update={"delay_us": 30_000})
    assert stages_set(kernel, tree, farther) == {"propagation", "bottleneck"}
    read = tree.read_back()[LINK]
    assert (read.rate_bps, read.delay_us, read.loss) == (4_000_000, 30_000, BURSTS)


def test_what_another_process_set_meanwhile_is_set_back() -> None:
    kernel = KeepingKernel()
    mine, other = tree_on(kernel), tree_on(kernel)
    mine.change([(*LINK, START)])
    other.change([(*LINK, START.model_copy(update={"delay_us": 90_000}))])
    slower = START.model_copy(update={"rate_bps": 4_000_000})
    assert stages_set(kernel, mine, slower) == {"propagation", "bottleneck"}
    assert mine.read_back()[LINK].delay_us == START.delay_us
