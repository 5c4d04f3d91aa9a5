"""The forms in which a document says how a link loses packets."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from harness.config.fields import Document, Packets, Share, refuse
from harness.model.impairment import FourStateLoss, GilbertElliottLoss, IndependentLoss, Loss


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


class MarkovLoss(Document):
    """netem's four-state loss: 1 received, 2 received within a burst, 3 lost within a burst, 4 lost alone. ``pXY`` is
    the chance, at each packet, to go from state X to state Y."""

    p13: Share = Field(description="From received to lost in a burst: how often bursts begin.")
    p31: Share = Field(description="From lost in a burst back to received: how soon bursts end; above 0%.")
    p32: Share = Field(default=0.0, description="From lost to received within a burst; 0% unless stated.")
    p23: Share = Field(default=1.0, description="From received back to lost within a burst; 100% unless stated.")
    p14: Share = Field(default=0.0, description="A packet lost alone, outside bursts; 0% unless stated.")

    @model_validator(mode="after")
    def _possible(self) -> MarkovLoss:
        if self.p13 > 0 and self.p31 == 0:
            raise refuse("p31 is 0%: a burst would never end; accepted: above 0%")
        if self.p32 > 0 and self.p23 == 0:
            raise refuse("p23 is 0%: a burst would never go on; accepted: above 0%")
        for one, other in (("p13", "p14"), ("p31", "p32")):
            if getattr(self, one) + getattr(self, other) > 1:
                raise refuse(f"{one} and {other} leave the same state: together they must not be above 100%")
        return self

    def to_loss(self) -> Loss:
        """The model's form."""
        return FourStateLoss(p13=self.p13, p31=self.p31, p32=self.p32, p23=self.p23, p14=self.p14)


class CorrelatedLoss(Document):
    """netem's own correlated loss. It loses far less than its share; bursts are what it was meant to be."""

    share: Share = Field(description="Chance of each packet, before the correlation takes its effect.")
    correlation: Share = Field(default=0.0, description="How much of each random draw is the one before; 0% is none.")

    def to_loss(self) -> Loss:
        """The model's form."""
        return IndependentLoss(probability=self.share, correlation=self.correlation)


# The tags of the union are no keys of a document, so that a location never confuses the two.
def _loss_form(value: Any) -> str | None:
    if isinstance(value, dict):
        keys = set(value)
        if {"mean", "burst"} & keys:
            return "burst loss"
        if {"p13", "p31", "p32", "p23", "p14"} & keys:
            return "four-state loss"
        return "correlated loss" if {"share", "correlation"} & keys else "two-state loss"
    return "independent loss" if isinstance(value, str | int | float) and not isinstance(value, bool) else None


WrittenLoss = float | BurstLoss | TwoStateLoss | MarkovLoss | CorrelatedLoss

LossText = Annotated[
    Annotated[Share, Tag("independent loss")]
    | Annotated[BurstLoss, Tag("burst loss")]
    | Annotated[TwoStateLoss, Tag("two-state loss")]
    | Annotated[MarkovLoss, Tag("four-state loss")]
    | Annotated[CorrelatedLoss, Tag("correlated loss")],
    Discriminator(
        _loss_form,
        custom_error_type="longhaul",
        custom_error_message="expected a share such as 1%, or {mean: 1%, burst: 8 packets}, or "
        "{good_to_bad: .., bad_to_good: ..}, or {p13: .., p31: ..}, or {share: 1%, correlation: 25%}",
    ),
]


def to_loss(written: WrittenLoss | None) -> Loss | None:
    """The model's form of whatever was written; None for no loss."""
    match written:
        case None:
            return None
        case BurstLoss() | TwoStateLoss() | MarkovLoss() | CorrelatedLoss():
            loss = written.to_loss()
        case share:
            loss = IndependentLoss(probability=share)
    return loss if loss.mean > 0 else None
