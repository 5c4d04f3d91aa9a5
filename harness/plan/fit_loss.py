"""A loss model for a sequence of packets of which some were lost: by maximum likelihood, chosen by BIC. Pure.

Three candidates: independent loss (one parameter), Gilbert (two: all is lost in the bad state) and Gilbert-Elliott with
a share lost in the bad state (three); none is lost in the good state. In all of them a lost packet tells the state, so
the gaps between losses are independent of one another, and the likelihood is a product over the distinct gaps:

    P(gap = k) = bad T (K T)^(k-1) L 1    K, L: kept and lost shares by state; T: transitions; after a loss it is bad

The first gap starts from the stationary mix, the last is open. BIC = parameters * ln(packets) - 2 ln(likelihood)
(Schwarz 1978); the smallest wins. Intervals of 95% are Wilson's for the shares of transitions; for Gilbert-Elliott they
come from the curvature of the likelihood on the logit scale.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field

from harness.model.base import Value
from harness.model.impairment import GilbertElliottLoss, IndependentLoss, Loss

Kind = Literal["none", "independent", "gilbert", "gilbert-elliott"]
Z95 = 1.959964
_TINY = 1e-300
_HOPELESS = -1e12
FEWEST_LOSSES = 5
"""Fewer losses than this say nothing of bursts."""


class Estimate(Value):
    """A parameter, and the bounds of its 95% interval."""

    value: float
    low: float
    high: float


class LossCandidate(Value):
    """One model at its best."""

    kind: Kind
    log_likelihood: float
    parameters: int
    bic: float


class LossFit(Value):
    """The model chosen, its parameters by name, and what the others came to."""

    kind: Kind
    model: Loss | None
    packets: int
    lost: int
    mean: Estimate
    mean_burst: float
    estimates: dict[str, Estimate] = Field(default_factory=dict)
    candidates: tuple[LossCandidate, ...] = ()


def fit_loss(lost: Sequence[bool]) -> LossFit:
    """The best model of these packets, in the order of their sending. Raises ValueError for none at all."""
    packets, losses = len(lost), sum(lost)
    if not packets:
        raise ValueError("no packets")
    mean = _wilson(losses, packets)
    burst = _mean_burst(lost)
    if losses in (0, packets):
        return LossFit(kind="none", model=None, packets=packets, lost=losses, mean=mean, mean_burst=burst)
    share = losses / packets
    fits: list[tuple[LossCandidate, Loss, dict[str, Estimate]]] = []
    alone = losses * math.log(share) + (packets - losses) * math.log1p(-share)
    fits.append((_candidate("independent", alone, 1, packets), IndependentLoss(probability=share), {"loss": mean}))
    if losses >= FEWEST_LOSSES:
        fits += [fit for fit in (_gilbert(lost), _gilbert_elliott(lost)) if fit is not None]
    chosen, model, estimates = min(fits, key=lambda fit: fit[0].bic)
    return LossFit(
        kind=chosen.kind,
        model=model,
        packets=packets,
        lost=losses,
        mean=mean,
        mean_burst=burst,
        estimates=estimates,
        candidates=tuple(candidate for candidate, _, _ in fits),
    )


def _candidate(kind: Kind, log_likelihood: float, parameters: int, packets: int) -> LossCandidate:
    bic = parameters * math.log(packets) - 2 * log_likelihood
    return LossCandidate(kind=kind, log_likelihood=log_likelihood, parameters=parameters, bic=bic)


def _gilbert(lost: Sequence[bool]) -> tuple[LossCandidate, Loss, dict[str, Estimate]] | None:
    """By counting: the state is seen. None when the bad state is never left or never entered."""
    steps = Counter(pairwise(lost))
    from_good, from_bad = steps[False, True] + steps[False, False], steps[True, False] + steps[True, True]
    if not steps[False, True] or not steps[True, False]:
        return None
    begin, end = _wilson(steps[False, True], from_good), _wilson(steps[True, False], from_bad)
    model = GilbertElliottLoss(good_to_bad=begin.value, bad_to_good=end.value)
    likelihood = _likelihood(lost, begin.value, end.value, 1.0)
    estimates = {"good_to_bad": begin, "bad_to_good": end}
    return _candidate("gilbert", likelihood, 2, len(lost)), model, estimates


def _gilbert_elliott(lost: Sequence[bool]) -> tuple[LossCandidate, Loss, dict[str, Estimate]] | None:
    """By climbing the likelihood on the logit scale from several starts; None when no climb succeeds."""
    from scipy.optimize import minimize  # here, since importing scipy takes longer than most commands

    likelihood = _likelihood_of(lost)

    def cost(logits: Sequence[float]) -> float:
        return -likelihood(*(_expit(logit) for logit in logits))

    share = sum(lost) / len(lost)
    starts = [(share / 10, 0.05, 0.5), (share / 30, 0.01, 0.3), _counted_start(lost)]
    climbs = [
        minimize(cost, [_logit(value) for value in start], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6})
        for start in starts
    ]
    best = min(climbs, key=lambda climb: float(climb.fun))
    if not math.isfinite(float(best.fun)):
        return None
    at = [float(logit) for logit in best.x]
    values = [_expit(logit) for logit in at]
    spreads = _spreads(cost, at)
    names = ("good_to_bad", "bad_to_good", "loss_in_bad")
    estimates = {
        name: Estimate(value=value, low=_expit(logit - Z95 * spread), high=_expit(logit + Z95 * spread))
        for name, value, logit, spread in zip(names, values, at, spreads, strict=True)
    }
    model = GilbertElliottLoss(good_to_bad=values[0], bad_to_good=values[1], loss_in_bad=values[2])
    return _candidate("gilbert-elliott", -float(best.fun), 3, len(lost)), model, estimates


def _counted_start(lost: Sequence[bool]) -> tuple[float, float, float]:
    """Where the Gilbert model has its best, as if all but one packet in a thousand were lost in the bad state."""
    steps = Counter(pairwise(lost))
    from_good, from_bad = steps[False, True] + steps[False, False], steps[True, False] + steps[True, True]
    begin, end = steps[False, True] / max(1, from_good), steps[True, False] / max(1, from_bad)
    return min(0.999, max(1e-6, begin)), min(0.999, max(1e-6, end)), 0.999


def _likelihood(lost: Sequence[bool], good_to_bad: float, bad_to_good: float, loss_in_bad: float) -> float:
    return _likelihood_of(lost)(good_to_bad, bad_to_good, loss_in_bad)


def _likelihood_of(lost: Sequence[bool]) -> Callable[[float, float, float], float]:
    """Log-likelihood of the sequence as a function of good_to_bad, bad_to_good and loss_in_bad."""
    import numpy as np

    places = [index for index, gone in enumerate(lost) if gone]
    gaps = Counter(after - before for before, after in pairwise(places))
    distinct = np.array(sorted(gaps), dtype=float)
    weights = np.array([gaps[int(gap)] for gap in distinct], dtype=float)
    head, tail = places[0], len(lost) - 1 - places[-1]

    def likelihood(good_to_bad: float, bad_to_good: float, loss_in_bad: float) -> float:
        bad_share = good_to_bad / (good_to_bad + bad_to_good)
        step = np.array([[1 - good_to_bad, good_to_bad], [bad_to_good, 1 - bad_to_good]])
        # One packet kept, then the state changes. Its two eigenvalues are real, since no entry is negative.
        values, vectors = np.linalg.eig(np.array([[1.0], [1 - loss_in_bad]]) * step)
        try:
            inverse = np.linalg.inv(vectors)
        except np.linalg.LinAlgError:
            return _HOPELESS

        def after_kept(start: Any, counts: Any) -> Any:
            """The states, as rows, after each count of kept packets."""
            return ((start @ vectors) * values ** counts[:, None]) @ inverse

        first = after_kept(np.array([1 - bad_share, bad_share]), np.array([float(head)]))
        chances = np.append(after_kept(step[1], distinct - 1)[:, 1], first[:, 1]) * loss_in_bad
        open_end = after_kept(step[1], np.array([float(tail)])).sum()
        total = np.append(weights, 1.0) @ np.log(np.maximum(chances, _TINY)) + math.log(max(open_end, _TINY))
        return float(total) if math.isfinite(total) else _HOPELESS

    return likelihood


def _spreads(cost: Callable[[Sequence[float]], float], at: Sequence[float]) -> list[float]:
    """Standard errors on the logit scale, from the cost's second derivatives; infinite where it is flat."""
    import numpy as np

    size, step = len(at), 0.02
    hessian = np.zeros((size, size))

    def moved(*shifts: tuple[int, float]) -> float:
        point = list(at)
        for index, shift in shifts:
            point[index] += shift
        return cost(point)

    for i in range(size):
        for j in range(size):
            hessian[i, j] = (
                moved((i, step), (j, step))
                - moved((i, step), (j, -step))
                - moved((i, -step), (j, step))
                + moved((i, -step), (j, -step))
            ) / (4 * step * step)
    try:
        variances = np.diag(np.linalg.inv(hessian))
    except np.linalg.LinAlgError:
        return [math.inf] * size
    return [math.sqrt(variance) if variance > 0 else math.inf for variance in variances]


def _wilson(successes: int, trials: int) -> Estimate:
    """A share and Wilson's 95% interval (Wilson 1927)."""
    if not trials:
        return Estimate(value=0.0, low=0.0, high=1.0)
    share, square = successes / trials, Z95 * Z95
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = Z95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials)) / (1 + square / trials)
    return Estimate(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half))


def _mean_burst(lost: Sequence[bool]) -> float:
    bursts = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    return sum(lost) / bursts if bursts else 0.0


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _expit(logit: float) -> float:
    """Kept a little away from 0 and 1, where no likelihood is defined."""
    if logit == math.inf:
        return 1.0
    if logit == -math.inf:
        return 0.0
    return min(1 - 1e-9, max(1e-9, 1 / (1 + math.exp(-min(50.0, max(-50.0, logit))))))
