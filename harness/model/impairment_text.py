"""One line of English for an impairment, for a change of one, and for a loss model. Rounded, for people."""

from __future__ import annotations

from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss, Loss
from harness.model.units import brief_duration, brief_number, brief_rate, brief_share, brief_size


def describe_loss(loss: Loss | None) -> str:
    """``1% loss``, ``1% loss in bursts of 8``, ``no loss``."""
    if loss is None or loss.mean == 0:
        return "no loss"
    match loss:
        case IndependentLoss():
            return f"{brief_share(loss.mean)} loss"
        case GilbertElliottLoss():
            if loss.bad_to_good == 0:
                return f"{brief_share(loss.mean)} loss in the end, never recovering"
            return f"{brief_share(loss.mean)} loss in bursts of {brief_number(1 / loss.bad_to_good)}"


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
    absent = {"delay": "no delay", "loss": "no loss", "rate": "unlimited", "buffer": "no buffer"}
    changes = [f"{old[key] or absent[key]} → {new[key] or absent[key]}" for key in old if old[key] != new[key]]
    return "; ".join(changes) or "unchanged"


def _parts(impairment: Impairment) -> dict[str, str]:
    delay = ""
    if impairment.delay_us or impairment.jitter_us:
        delay = brief_duration(impairment.delay_us)
        if impairment.jitter_us:
            delay += f" ±{brief_duration(impairment.jitter_us)}"
    return {
        "delay": delay,
        "loss": describe_loss(impairment.loss) if impairment.mean_loss and not impairment.blocked else "",
        "rate": brief_rate(impairment.rate_bps) if impairment.rate_bps is not None else "",
        "buffer": f"buffer {brief_size(impairment.buffer_bytes)}" if impairment.buffer_bytes is not None else "",
    }
