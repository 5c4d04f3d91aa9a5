"""One line of English for an impairment, for a change of one, and for a loss model. Rounded, for people."""

from __future__ import annotations

from harness.model.impairment import (
    UNIFORM,
    ActiveQueue,
    Chance,
    FourStateLoss,
    Framing,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Loss,
    Reordering,
    Slots,
)
from harness.model.units import brief_duration, brief_number, brief_rate, brief_share, brief_size


def describe_loss(loss: Loss | None) -> str:
    """``1% loss``, ``1% loss in bursts of 8``, ``no loss``."""
    if loss is None or loss.mean == 0:
        return "no loss"
    text = f"{brief_share(loss.mean)} loss"
    match loss:
        case IndependentLoss():
            return f"{text} correlated by {brief_share(loss.correlation)}" if loss.correlation else text
        case GilbertElliottLoss():
            if loss.bad_to_good == 0:
                return f"{text} in the end, never recovering"
            return f"{text} in bursts of {brief_number(1 / loss.bad_to_good)}"
        case FourStateLoss():
            return f"{text} in bursts of {brief_number(loss.mean_burst)} (four states)"


def describe(impairment: Impairment) -> str:
    """``80 ms ±5 ms, 1% loss, 100 Mbit/s, buffer 250 kB``; ``blocked``; ``no impairment``. The delay is one way."""
    if impairment.blocked:
        return "blocked"
    return ", ".join(text for text in _parts(impairment).values() if text) or "no impairment"


def describe_change(before: Impairment, after: Impairment) -> str:
    """Only what differs: ``1% loss → 5% loss; 100 Mbit/s → unlimited``; ``blocked``, ``open again``; ``unchanged``."""
    if before.blocked != after.blocked:
        if after.blocked:
            return "blocked"
        as_before = before.model_copy(update={"blocked": False}) == after
        return "open again" if as_before else f"open again: {describe(after)}"
    old, new = _parts(before), _parts(after)
    changes = [
        f"{old[key] or _ABSENT.get(key, f'no {key}')} → {new[key] or _ABSENT.get(key, f'no {key}')}"
        for key in old
        if old[key] != new[key]
    ]
    return "; ".join(changes) or "unchanged"


_ABSENT = {"rate": "unlimited", "order": "in order", "queue": "drop-tail", "marks": "losses not marked"}


def _parts(impairment: Impairment) -> dict[str, str]:
    """What there is to say, by what it is about, in the order in which it is said; empty: nothing."""
    loses = bool(impairment.mean_loss) and not impairment.blocked
    return {
        "delay": _delay(impairment),
        "order": "out of order" if impairment.jitter_us and not impairment.in_order else "",
        "loss": describe_loss(impairment.loss) if loses else "",
        "marks": "losses marked" if impairment.loss_marks and loses else "",
        "duplicates": _chance(impairment.duplicate, "duplicated"),
        "corruption": _chance(impairment.corrupt, "corrupted"),
        "reordering": _reordering(impairment.reorder),
        "slots": _slots(impairment.slots),
        "rate": brief_rate(impairment.rate_bps) if impairment.rate_bps is not None else "",
        "framing": _framing(impairment.framing),
        "buffer": _buffer(impairment),
        "queue": _queue(impairment.active_queue),
    }


def _delay(impairment: Impairment) -> str:
    if not impairment.delay_us and not impairment.jitter_us:
        return ""
    text = brief_duration(impairment.delay_us)
    if impairment.jitter_us:
        text += f" ±{brief_duration(impairment.jitter_us)}"
        if impairment.distribution != UNIFORM:
            text += f" {impairment.distribution.kind}"
        if impairment.delay_correlation:
            text += f" correlated by {brief_share(impairment.delay_correlation)}"
    return text


def _chance(chance: Chance | None, word: str) -> str:
    return f"{brief_share(chance.share)} {word}" if chance is not None and chance.share else ""


def _reordering(reordering: Reordering | None) -> str:
    if reordering is None or not reordering.share:
        return ""
    return f"{brief_share(reordering.share)} reordered" + (f", each {reordering.gap}th" if reordering.gap > 1 else "")


def _slots(slots: Slots | None) -> str:
    if slots is None:
        return ""
    if slots.distribution is not None:
        every = f"{brief_duration(slots.delay_us)} ±{brief_duration(slots.jitter_us)}"
    elif slots.min_delay_us == slots.max_delay_us:
        every = brief_duration(slots.min_delay_us)
    else:
        every = f"{brief_duration(slots.min_delay_us)} to {brief_duration(slots.max_delay_us)}"
    room = [f"{slots.packets} packets"] if slots.packets else []
    room += [brief_size(slots.bytes)] if slots.bytes else []
    return f"open every {every}" + (f" for {' or '.join(room)}" if room else "")


def _framing(framing: Framing | None) -> str:
    if framing is None:
        return ""
    cells = f" in cells of {framing.cell + framing.cell_overhead} B" if framing.cell else ""
    return f"{framing.overhead:+d} B a packet{cells}"


def _buffer(impairment: Impairment) -> str:
    if impairment.buffer_packets is not None:
        return f"buffer {impairment.buffer_packets} packets"
    return f"buffer {brief_size(impairment.buffer_bytes)}" if impairment.buffer_bytes is not None else ""


def _queue(queue: ActiveQueue | None) -> str:
    if queue is None:
        return ""
    name = {"codel": "CoDel", "fq-codel": "FQ-CoDel"}[queue.discipline]
    return f"{name} {brief_duration(queue.target_us)}" + (" with ECN" if queue.ecn else "")
