"""What two lines in series do to packets together: an access line and a link, or a link and one more line in its path.

Delays and jitters add. Losses, duplication, corruption and reordering combine as independent stages. The slower line is
the bottleneck and brings its buffer, queue and framing. The line with the larger jitter gives the shape and the
correlation of the delay. Order is kept only if both keep it; marks for losses, and being closed, come from either.
"""

from __future__ import annotations

from harness.model.impairment import (
    Chance,
    GilbertElliottLoss,
    Impairment,
    IndependentLoss,
    Loss,
    Reordering,
)


class NotInSeries(ValueError):
    """No single link does what these two do; ``key`` is the document's key that is at fault."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def in_series(first: Impairment, second: Impairment) -> Impairment:
    """Both lines as one link. Raises NotInSeries for two losses with memory, and for slots in both."""
    loss = losses_in_series(first.loss, second.loss)
    if loss is None and (first.loss or second.loss):
        raise NotInSeries(
            "loss", "burst loss meets burst loss in series; give one of the two an independent loss such as 1%"
        )
    if first.slots is not None and second.slots is not None:
        raise NotInSeries("slots", "slots meet slots in series; only one line of a path can have them")
    shape = second if second.jitter_us > first.jitter_us else first
    rates = [line for line in (first, second) if line.rate_bps is not None]
    slow = min(rates, key=lambda line: line.rate_bps or 0, default=second)
    return Impairment(
        delay_us=first.delay_us + second.delay_us,
        jitter_us=first.jitter_us + second.jitter_us,
        distribution=shape.distribution,
        delay_correlation=shape.delay_correlation,
        in_order=first.in_order and second.in_order,
        loss=loss,
        loss_marks=first.loss_marks or second.loss_marks,
        duplicate=_either(first.duplicate, second.duplicate),
        corrupt=_either(first.corrupt, second.corrupt),
        reorder=_reordered(first.reorder, second.reorder),
        slots=first.slots or second.slots,
        rate_bps=slow.rate_bps,
        framing=slow.framing,
        buffer_bytes=slow.buffer_bytes,
        buffer_packets=slow.buffer_packets,
        active_queue=slow.active_queue,
        blocked=first.blocked or second.blocked,
    )


def losses_in_series(first: Loss | None, second: Loss | None) -> Loss | None:
    """Loss of two independent stages in series; None when no model that netem has can express both."""
    match first, second:
        case None, only:
            return only
        case only, None:
            return only
        case IndependentLoss(probability=p, correlation=0), IndependentLoss(probability=q, correlation=0):
            return IndependentLoss(probability=1 - (1 - p) * (1 - q))
        case (GilbertElliottLoss() as bursts, IndependentLoss(probability=p, correlation=0)) | (
            IndependentLoss(probability=p, correlation=0),
            GilbertElliottLoss() as bursts,
        ):
            return GilbertElliottLoss(
                good_to_bad=bursts.good_to_bad,
                bad_to_good=bursts.bad_to_good,
                loss_in_bad=1 - (1 - bursts.loss_in_bad) * (1 - p),
                loss_in_good=1 - (1 - bursts.loss_in_good) * (1 - p),
            )
    return None


def _either(first: Chance | None, second: Chance | None) -> Chance | None:
    if first is None or second is None:
        return first or second
    larger = max(first, second, key=lambda chance: chance.share)
    return Chance(share=1 - (1 - first.share) * (1 - second.share), correlation=larger.correlation)


def _reordered(first: Reordering | None, second: Reordering | None) -> Reordering | None:
    """Of the two gaps the smaller one, so that the combined share has its candidates."""
    if first is None or second is None:
        return first or second
    larger = max(first, second, key=lambda reordering: reordering.share)
    return Reordering(
        share=1 - (1 - first.share) * (1 - second.share),
        correlation=larger.correlation,
        gap=min(first.gap, second.gap),
    )
