"""A loss model as the Markov chain that it is, and how much less a sample of it says than independent packets. Pure.

Loss that has a memory comes in clumps: the lost share of n packets varies by ``variance_inflation`` times as much as
that of n independent ones (the variance of a stationary chain's mean, from the sum of its autocovariances), so that the
sample is worth only n divided by it.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.impairment import FourStateLoss, GilbertElliottLoss, Impairment, IndependentLoss

_MOST_LAGS = 20_000
_NEGLIGIBLE = 1e-7

Matrix = Sequence[Sequence[float]]


def variance_inflation(impairment: Impairment) -> float:
    """Of the lost share of a long stream that is alone on the link; 1 or more."""
    loss = impairment.loss
    if impairment.blocked or loss is None:
        return 1.0
    if isinstance(loss, IndependentLoss):
        # Each draw keeps that share of the one before (netem's get_crandom): an autoregression of the first order.
        memory = loss.correlation
        return (1 + memory) / (1 - memory) if 0 < memory < 1 else 1.0
    mean = loss.mean
    if not 0 < mean < 1:
        return 1.0
    weights, lost, steps = _chain(loss)
    covered = 0.0
    # Expected loss k packets on, from each state; it tends to the mean.
    ahead = list(lost)
    for _ in range(_MOST_LAGS):
        ahead = [sum(chance * later for chance, later in zip(row, ahead, strict=True)) for row in steps]
        covariance = sum(weight * now * later for weight, now, later in zip(weights, lost, ahead, strict=True))
        covariance -= mean * mean
        covered += covariance
        if abs(covariance) < _NEGLIGIBLE * mean * (1 - mean):
            break
    return max(1.0, 1 + 2 * covered / (mean * (1 - mean)))


def _chain(loss: GilbertElliottLoss | FourStateLoss) -> tuple[Sequence[float], Sequence[float], Matrix]:
    """Stationary weights of the states, loss probability in each, and transition probabilities by row."""
    if isinstance(loss, GilbertElliottLoss):
        bad = loss.bad_share
        stay_good, stay_bad = 1 - loss.good_to_bad, 1 - loss.bad_to_good
        return (
            (1 - bad, bad),
            (loss.loss_in_good, loss.loss_in_bad),
            ((stay_good, loss.good_to_bad), (loss.bad_to_good, stay_bad)),
        )
    one, two, three, four = loss.state_shares
    return (
        (one, two, three, four),
        (0.0, 0.0, 1.0, 1.0),
        (
            (1 - loss.p13 - loss.p14, 0.0, loss.p13, loss.p14),
            (0.0, 1 - loss.p23, loss.p23, 0.0),
            (loss.p31, loss.p32, 1 - loss.p31 - loss.p32, 0.0),
            (1.0, 0.0, 0.0, 0.0),
        ),
    )
