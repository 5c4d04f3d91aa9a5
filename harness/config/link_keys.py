"""The keys that say what a link does to packets, shared by links, defaults and profiles."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from harness.config.fields import BufferText, Delay, Document, Packets, Rate, Share, refuse
from harness.model.impairment import GilbertElliottLoss, IndependentLoss, Loss


class BurstLoss(Document):
    """Burst loss by its mean and its burst length. In a burst every packet is lost."""

    mean: Share = Field(description="Long-run share of packets lost.")
    burst: Packets = Field(description="Mean number of packets lost in a row.")

    @model_validator(mode="after")
    def _possible(self) -> BurstLoss:
        if self.mean >= 1 or self.mean / (1 - self.mean) > self.burst:
            raise refuse("this mean needs longer bursts: the mean must not be above burst / (burst + 1)")
        return self

    def to_loss(self) -> Loss:
        """The Gilbert model with this mean and this burst length."""
        leave = 1 / self.burst
        return GilbertElliottLoss(good_to_bad=self.mean * leave / (1 - self.mean), bad_to_good=leave)


class TwoStateLoss(Document):
    """Burst loss as the two-state model of Gilbert and Elliott; shares are per packet."""

    good_to_bad: Share = Field(description="Chance, at each packet, to go from the good state to the bad one.")
    bad_to_good: Share = Field(
        description="Chance, at each packet, to go back; a bad spell lasts 1 / this, in packets."
    )
    loss_in_bad: Share = Field(default=1.0, description="Share lost in the bad state; 100% unless stated.")
    loss_in_good: Share = Field(default=0.0, description="Share lost in the good state; 0% unless stated.")

    @model_validator(mode="after")
    def _ergodic(self) -> TwoStateLoss:
        if self.good_to_bad > 0 and self.bad_to_good == 0:
            raise refuse("bad_to_good is 0%: the link would never recover; accepted: above 0%")
        return self

    def to_loss(self) -> Loss:
        """The model's form."""
        return GilbertElliottLoss(
            good_to_bad=self.good_to_bad,
            bad_to_good=self.bad_to_good,
            loss_in_bad=self.loss_in_bad,
            loss_in_good=self.loss_in_good,
        )


# The tags of the union are no keys of a document, so that a location never confuses the two.
def _loss_form(value: Any) -> str | None:
    if isinstance(value, dict):
        return "burst loss" if {"mean", "burst"} & set(value) else "two-state loss"
    return "independent loss" if isinstance(value, str | int | float) and not isinstance(value, bool) else None


LossText = Annotated[
    Annotated[Share, Tag("independent loss")]
    | Annotated[BurstLoss, Tag("burst loss")]
    | Annotated[TwoStateLoss, Tag("two-state loss")],
    Discriminator(
        _loss_form,
        custom_error_type="longhaul",
        custom_error_message="expected a share such as 1%, or {mean: 1%, burst: 8 packets}, or "
        "{good_to_bad: .., bad_to_good: ..}",
    ),
]


def to_loss(written: float | BurstLoss | TwoStateLoss | None) -> Loss | None:
    """The model's form of whatever was written; None for no loss."""
    match written:
        case None:
            return None
        case BurstLoss() | TwoStateLoss():
            loss = written.to_loss()
        case share:
            loss = IndependentLoss(probability=share)
    return loss if loss.mean > 0 else None


class LinkKeys(Document):
    """What one direction does to packets. Every key is optional where it is used."""

    delay: Delay | None = Field(default=None, description="One-way propagation delay of each direction (us, ms, s).")
    jitter: Delay | None = Field(
        default=None,
        description="Each packet's delay varies by up to this much either way (us, ms, s); packets stay in order. "
        "At most the delay.",
    )
    loss: LossText | None = Field(
        default=None,
        description="Packets lost in each direction, apart from those that a full buffer drops: a share (1%), "
        "burst loss as {mean, burst}, or the two-state model's own numbers.",
    )
    rate: Rate | None = Field(
        default=None,
        description="Bottleneck rate of each direction (kbit/s, Mbit/s, Gbit/s), counted in IP bytes. "
        "Unlimited when nothing states one.",
    )
    buffer: BufferText | None = Field(
        default=None,
        description="The bottleneck's drop-tail queue in each direction, apart from what is in flight: a size (250 kB) "
        "or a time at the link's rate (200 ms). Needs a rate, and holds at least one packet of the MTU. "
        "Default with a rate: the bandwidth-delay product of the link's RTT, at least 64 KiB.",
    )
