"""Whether what a test asked of the WAN ever met the traffic of the system under test, from the core's counters. Pure.

A test that passes under an impairment which touched nothing says nothing: it is vacuous, and INVALID. Two rules decide,
on what a link carried between the test's begin and its end, without the declared cross traffic:

1. **Untouched.** The test changed links, and of all that it changed nothing met a packet: no packet came to any changed
   link; or it cut links off and none of them swallowed a packet; or it raised the loss of links and none lost one.
2. **Dead dice.** A link lost packets by the same model all through the test, n packets came to it, none was lost, and
   the chance of that is below ``IMPOSSIBLE`` (1e-9, so that a run of a thousand tests on a hundred links errs less than
   once in ten thousand runs). The chance is exact: ``(1-p)^n`` for independent loss, the product of the state process
   for Gilbert-Elliott; for four states it is an upper bound.

What must not make a test INVALID: links that are changed back at its end, and a link that carried too little to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.model.base import Value
from harness.model.impairment import FourStateLoss, GilbertElliottLoss, Impairment, IndependentLoss, Loss
from harness.model.measurement import LinkCounters
from harness.model.run_record import WanChange
from harness.model.units import brief_share

IMPOSSIBLE = 1e-9
LinkKey = tuple[str, str]


class LinkTraffic(Value):
    """What came to a link and what became of it, over some time."""

    offered: int
    lost: int
    overflowed: int


def traffic_between(
    before: Iterable[LinkCounters], after: Iterable[LinkCounters], cross_packets: Mapping[LinkKey, int] | None = None
) -> dict[LinkKey, LinkTraffic]:
    """What the counters gained on each link, less the packets of cross traffic that were sent over it."""
    first = {(link.source, link.destination): link for link in before}
    found = {}
    for now in after:
        ends = (now.source, now.destination)
        then = first.get(ends)
        if then is None:
            continue
        lost, overflowed = now.dropped_loss - then.dropped_loss, now.dropped_queue - then.dropped_queue
        offered = now.packets - then.packets + lost + overflowed - (cross_packets or {}).get(ends, 0)
        found[ends] = LinkTraffic(offered=max(0, offered), lost=max(0, lost), overflowed=max(0, overflowed))
    return found


def vacuous(
    traffic: Mapping[LinkKey, LinkTraffic],
    in_force: Mapping[LinkKey, Impairment],
    changes: Sequence[WanChange],
    declared: Callable[[WanChange], bool] = lambda _: True,
) -> str:
    """Why the test is vacuous; empty when it is not.

    ``in_force`` is what each link did when the test began, ``changes`` what was changed during it, in order, and
    ``declared`` tells the test's own changes from those of the topology's timeline.
    """
    own = [change for change in changes if declared(change)]
    return _untouched(traffic, in_force, own) or _dead_dice(traffic, in_force, changes)


def _untouched(
    traffic: Mapping[LinkKey, LinkTraffic], in_force: Mapping[LinkKey, Impairment], own: Sequence[WanChange]
) -> str:
    asked = [change for change in own if _asks(change, in_force)]
    links = {(change.source, change.destination) for change in asked} & set(traffic)
    if not links:
        return ""
    if not any(traffic[link].offered for link in links):
        return f"no packet came to any of the {len(links)} links that the test changed ({_reasons(asked)})"
    cut = _links_of_all(asked, lambda change: change.after.blocked) & links
    if cut and not any(traffic[link].lost for link in cut):
        return f"the {len(cut)} links that were cut off swallowed no packet: the fault never met the traffic"
    lossy = _links_of_all(asked, lambda change: _lossier(change, in_force)) & links
    if lossy and not any(traffic[link].lost for link in lossy):
        offered = sum(traffic[link].offered for link in lossy)
        return f"the loss that the test set ({_reasons(asked)}) took none of {offered} packets"
    return ""


def _links_of_all(changes: Iterable[WanChange], holds: Callable[[WanChange], bool]) -> set[LinkKey]:
    """Links for which it holds of every change: a link that a trace moves to and fro is not among them."""
    held: dict[LinkKey, bool] = {}
    for change in changes:
        ends = (change.source, change.destination)
        held[ends] = held.get(ends, True) and holds(change)
    return {ends for ends, all_hold in held.items() if all_hold}


def _asks(change: WanChange, in_force: Mapping[LinkKey, Impairment]) -> bool:
    """Whether a change takes a link away from what it did when the test began; the rest are undos."""
    return change.after != in_force.get((change.source, change.destination))


def _lossier(change: WanChange, in_force: Mapping[LinkKey, Impairment]) -> bool:
    before = in_force.get((change.source, change.destination))
    if change.after.blocked or change.after.loss_marks:
        return False
    return change.after.mean_loss > (0.0 if before is None else before.mean_loss)


def _reasons(changes: Iterable[WanChange]) -> str:
    return ", ".join(dict.fromkeys(change.reason for change in changes))


def _dead_dice(
    traffic: Mapping[LinkKey, LinkTraffic], in_force: Mapping[LinkKey, Impairment], changes: Sequence[WanChange]
) -> str:
    changed = {(change.source, change.destination) for change in changes}
    for link, seen in traffic.items():
        impairment = in_force.get(link)
        if impairment is None or link in changed or seen.lost or impairment.blocked or impairment.loss_marks:
            continue
        chance = chance_of_none(impairment.loss, seen.offered)
        if chance < IMPOSSIBLE:
            return (
                f"{link[0]}>{link[1]} lost none of {seen.offered} packets where {brief_share(impairment.mean_loss)} "
                f"was asked for (chance {chance:.1e}): the loss was not in force"
            )
    return ""


def chance_of_none(loss: Loss | None, packets: int) -> float:
    """The probability that a loss model loses none of so many packets in a row, started in its long-run mix of states.

    For states that lose with shares ``l`` and change by a matrix ``T`` it is ``pi D (T D)^(n-1) 1`` with ``D`` the
    diagonal of ``1 - l``.
    """
    if packets <= 0 or loss is None:
        return 1.0
    match loss:
        case IndependentLoss():
            # netem's correlation only makes losses rarer: the linter refuses it, and no verdict is built on it.
            return 1.0 if loss.correlation else (1.0 - loss.probability) ** packets
        case GilbertElliottLoss():
            start = (1 - loss.bad_share, loss.bad_share)
            keep = (1 - loss.loss_in_good, 1 - loss.loss_in_bad)
            step = (
                ((1 - loss.good_to_bad), loss.good_to_bad),
                (loss.bad_to_good, (1 - loss.bad_to_good)),
            )
            return _survival(start, keep, step, packets)
        case FourStateLoss():
            # In the states 1 and 2 packets pass; to be without a loss is to stay in them.
            good = (1 - loss.mean) * 1.0
            stay = 1 - min(loss.p13 + loss.p14, 1.0)
            inside = 1 - loss.p23
            return good * max(stay, inside) ** (packets - 1)


_Pair = tuple[float, float]
_Matrix = tuple[_Pair, _Pair]


def _survival(start: _Pair, keep: _Pair, step: _Matrix, packets: int) -> float:
    """``start D (T D)^(packets-1) 1`` by repeated squaring."""
    vector = (start[0] * keep[0], start[1] * keep[1])
    power: _Matrix = (
        (step[0][0] * keep[0], step[0][1] * keep[1]),
        (step[1][0] * keep[0], step[1][1] * keep[1]),
    )
    left = packets - 1
    while left:
        if left & 1:
            vector = (
                vector[0] * power[0][0] + vector[1] * power[1][0],
                vector[0] * power[0][1] + vector[1] * power[1][1],
            )
        power = _product(power, power)
        left >>= 1
    return vector[0] + vector[1]


def _product(first: _Matrix, second: _Matrix) -> _Matrix:
    return (
        (
            first[0][0] * second[0][0] + first[0][1] * second[1][0],
            first[0][0] * second[0][1] + first[0][1] * second[1][1],
        ),
        (
            first[1][0] * second[0][0] + first[1][1] * second[1][0],
            first[1][0] * second[0][1] + first[1][1] * second[1][1],
        ),
    )
