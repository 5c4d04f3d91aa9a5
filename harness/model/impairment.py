"""What a directed link does to packets. Times in microseconds, rates in bits per second, sizes in bytes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.model.base import Value

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class IndependentLoss(Value):
    """Each packet is lost with the same probability.

    ``correlation`` is netem's own: each draw keeps that share of the one before. It collapses at small probabilities,
    so that the linter refuses it; it is here because netem has it.
    """

    kind: Literal["independent"] = "independent"
    probability: Probability
    correlation: Probability = 0.0

    @property
    def mean(self) -> float:
        """Long-run share of packets lost, 0 to 1."""
        return self.probability

    @property
    def memory(self) -> float:
        """Lag-one correlation of the loss process (0: independent)."""
        return self.correlation

    @property
    def mean_burst(self) -> float:
        """Mean number of packets lost in a row."""
        return 1 / (1 - self.probability) if self.probability < 1 else float("inf")


class GilbertElliottLoss(Value):
    """Two-state burst loss (Gilbert 1960, Elliott 1963); probabilities are per packet.

    The mean spell in the bad state is ``1 / bad_to_good`` packets.
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
    def memory(self) -> float:
        """Lag-one correlation of the state process, ``1 - p - r``."""
        return 1.0 - self.good_to_bad - self.bad_to_good

    @property
    def mean_burst(self) -> float:
        """Mean number of packets lost in a row: P(lost) / P(lost, then not lost)."""
        bad, good = self.bad_share * self.loss_in_bad, (1 - self.bad_share) * self.loss_in_good
        kept_after_bad = self.bad_to_good * (1 - self.loss_in_good) + (1 - self.bad_to_good) * (1 - self.loss_in_bad)
        kept_after_good = self.good_to_bad * (1 - self.loss_in_bad) + (1 - self.good_to_bad) * (1 - self.loss_in_good)
        ends = bad * kept_after_bad + good * kept_after_good
        return self.mean / ends if ends else (float("inf") if self.mean else 1.0)


class FourStateLoss(Value):
    """netem's four-state Markov loss (Salsano, Ludovici, Ordine 2012): 1 good, 2 good within a burst, 3 lost in a
    burst, 4 lost alone. ``pXY`` is the chance, at each packet, to go from state X to state Y; from 4 it is always 1."""

    kind: Literal["four-state"] = "four-state"
    p13: Probability
    p31: Probability
    p32: Probability = 0.0
    p23: Probability = 1.0
    p14: Probability = 0.0

    @property
    def state_shares(self) -> tuple[float, float, float, float]:
        """Stationary probabilities of the states 1 to 4."""
        if not self.p13:
            alone = self.p14 / (1 + self.p14)
            return 1 - alone, 0.0, 0.0, alone
        if not self.p31:
            # Once in a burst for ever in a burst.
            total = self.p23 + self.p32
            return 0.0, self.p32 / total if total else 0.0, self.p23 / total if total else 1.0, 0.0
        one, three, four = 1.0, self.p13 / self.p31, self.p14
        two = three * self.p32 / self.p23 if self.p23 else 0.0
        total = one + two + three + four
        return one / total, two / total, three / total, four / total

    @property
    def mean(self) -> float:
        """Long-run share of packets lost, 0 to 1."""
        return self.state_shares[2] + self.state_shares[3]

    @property
    def memory(self) -> float:
        """An upper bound of the loss process's lag-one correlation."""
        return max(0.0, 1.0 - self.p13 - self.p31 - self.p32)

    @property
    def mean_burst(self) -> float:
        """Mean number of packets lost in a row."""
        ends = self.state_shares[2] * (self.p31 + self.p32) + self.state_shares[3]
        return self.mean / ends if ends else (float("inf") if self.mean else 1.0)


Loss = Annotated[IndependentLoss | GilbertElliottLoss | FourStateLoss, Field(discriminator="kind")]


class DelayDistribution(Value):
    """The shape of the delay's variation, in units of the jitter around the delay.

    ``custom`` is given by its ``quantiles`` at equally spaced probabilities from 0 to 1, ascending; at least two.
    """

    kind: Literal["uniform", "normal", "pareto", "paretonormal", "custom"] = "uniform"
    quantiles: tuple[float, ...] = ()


UNIFORM = DelayDistribution()


class Chance(Value):
    """Something that happens to a share of all packets; ``correlation`` as in IndependentLoss."""

    share: Probability
    correlation: Probability = 0.0


class Reordering(Value):
    """A share of the packets skips the delay, so that it overtakes: the candidates are every ``gap``-th packet."""

    share: Probability
    correlation: Probability = 0.0
    gap: int = Field(default=1, ge=1)


class Slots(Value):
    """The link opens only from time to time, as a shared medium does, and lets a bundle of packets through.

    The time between openings is uniform from ``min_delay_us`` to ``max_delay_us``, or around ``delay_us`` with
    ``jitter_us`` of ``distribution`` when that is set. At most ``packets`` and ``bytes`` in each opening (0: no limit).
    """

    min_delay_us: int = Field(default=0, ge=0)
    max_delay_us: int = Field(default=0, ge=0)
    packets: int = Field(default=0, ge=0)
    bytes: int = Field(default=0, ge=0)
    delay_us: int = Field(default=0, ge=0)
    jitter_us: int = Field(default=0, ge=0)
    distribution: DelayDistribution | None = None


class Framing(Value):
    """What the link layer adds to each IP packet before it counts against the rate, in bytes (DSL, ATM cells)."""

    overhead: int = Field(default=0, ge=-1500, le=1500)
    cell: int = Field(default=0, ge=0)
    cell_overhead: int = 0


class ActiveQueue(Value):
    """A queue that manages its own length (RFC 8289, RFC 8290) instead of dropping at its tail only."""

    discipline: Literal["codel", "fq-codel"]
    target_us: int = Field(default=5_000, gt=0)
    interval_us: int = Field(default=100_000, gt=0)
    ecn: bool = False


class Impairment(Value):
    """Everything that one directed link does to packets; the default does nothing.

    ``delay_us`` is one way, and varies by ``jitter_us``: half width of a uniform distribution, standard deviation of
    any other. Packets stay ``in_order`` however much it varies, unless that is off. ``rate_bps`` None is unlimited. The
    bottleneck's buffer, apart from what is in flight, is ``buffer_bytes`` or ``buffer_packets`` (not both) and needs a
    rate; it drops at its tail unless ``active_queue`` is set. ``loss_marks``: packets of ECN-capable transports are
    marked where others are lost. ``blocked`` is a black hole: every packet is dropped.
    """

    delay_us: int = Field(default=0, ge=0)
    jitter_us: int = Field(default=0, ge=0)
    distribution: DelayDistribution = UNIFORM
    delay_correlation: Probability = 0.0
    in_order: bool = True
    loss: Loss | None = None
    loss_marks: bool = False
    duplicate: Chance | None = None
    corrupt: Chance | None = None
    reorder: Reordering | None = None
    slots: Slots | None = None
    rate_bps: int | None = Field(default=None, gt=0)
    framing: Framing | None = None
    buffer_bytes: int | None = Field(default=None, gt=0)
    buffer_packets: int | None = Field(default=None, gt=0)
    active_queue: ActiveQueue | None = None
    blocked: bool = False

    @property
    def mean_loss(self) -> float:
        """Long-run share of packets lost, 0 to 1."""
        if self.blocked:
            return 1.0
        return self.loss.mean if self.loss is not None else 0.0
