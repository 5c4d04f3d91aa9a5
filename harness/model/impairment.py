"""What a directed link does to packets. Times in microseconds, rates in bits per second, sizes in bytes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.model.base import Value

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class IndependentLoss(Value):
    """Each packet is lost with the same probability, whatever happened to the others."""

    kind: Literal["independent"] = "independent"
    probability: Probability

    @property
    def mean(self) -> float:
        """Long-run share of packets lost, 0 to 1."""
        return self.probability

    @property
    def correlation(self) -> float:
        """Lag-one correlation of the loss process (0: independent)."""
        return 0.0


class GilbertElliottLoss(Value):
    """Two-state burst loss (Gilbert 1960, Elliott 1963); probabilities are per packet.

    The mean burst length in the bad state is ``1 / bad_to_good`` packets.
    """

    kind: Literal["gilbert-elliott"] = "gilbert-elliott"
    good_to_bad: Probability
    bad_to_good: Probability
    loss_in_bad: Probability = 1.0
    loss_in_good: Probability = 0.0

    @property
    def bad_share(self) -> float:
        """Stationary probability of the bad state."""
        total = self.good_to_bad + self.bad_to_good
        return self.good_to_bad / total if total else 0.0

    @property
    def mean(self) -> float:
        """Long-run share of packets lost, 0 to 1."""
        return self.bad_share * self.loss_in_bad + (1 - self.bad_share) * self.loss_in_good

    @property
    def correlation(self) -> float:
        """Lag-one correlation of the state process, ``1 - p - r``."""
        return 1.0 - self.good_to_bad - self.bad_to_good


Loss = Annotated[IndependentLoss | GilbertElliottLoss, Field(discriminator="kind")]


class Impairment(Value):
    """Everything that one directed link does to packets; the default does nothing.

    ``delay_us`` is one way. ``rate_bps`` None is unlimited. ``buffer_bytes`` is the bottleneck's drop-tail queue,
    apart from what is in flight; it needs a rate. ``blocked`` is a black hole: every packet is dropped.
    """

    delay_us: int = Field(default=0, ge=0)
    jitter_us: int = Field(default=0, ge=0)
    loss: Loss | None = None
    rate_bps: int | None = Field(default=None, gt=0)
    buffer_bytes: int | None = Field(default=None, gt=0)
    blocked: bool = False

    @property
    def mean_loss(self) -> float:
        """Long-run share of packets lost, 0 to 1."""
        if self.blocked:
            return 1.0
        return self.loss.mean if self.loss is not None else 0.0
