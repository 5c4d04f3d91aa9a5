"""A fit as a profile file that ``longhaul validate`` accepts, with the numbers that speak for and against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.model.impairment import GilbertElliottLoss, IndependentLoss
from harness.model.units import brief_duration, brief_number, brief_share, format_duration, format_share
from harness.plan.fit import DirectionFit, PathFit
from harness.plan.fit_delay import quantiles
from harness.plan.fit_loss import LossFit

QUANTILES = 1001
_DIGITS = 4


def write_profile(fit: PathFit, file: Path, delays_us: Sequence[Sequence[float]]) -> tuple[Path, ...]:
    """Write ``file``, and beside it the delays of each direction whose shape has no name; all files written.

    ``delays_us`` are the measured delays up and down. Raises OSError.
    """
    written = []
    names: list[str | None] = []
    for name, direction, delays in zip(("up", "down"), (fit.uplink, fit.downlink), delays_us, strict=True):
        names.append(None)
        if direction.delay is not None and direction.delay.shape == "samples" and direction.jitter_us:
            samples = file.with_name(f"{file.stem}-{name}.delays")
            samples.write_text("".join(f"{delay:.1f}\n" for delay in quantiles(delays, QUANTILES)))
            names[-1] = samples.name
            written.append(samples)
    file.write_text(profile_text(fit, file.stem, names))
    return (file, *written)


def profile_text(fit: PathFit, name: str, sample_files: Sequence[str | None] = (None, None)) -> str:
    """The profile in YAML. ``sample_files``: where the delays of each direction stand that have no named shape."""
    directions = (fit.uplink, fit.downlink)
    lines = [
        f"# Fitted by longhaul fit to: {fit.source}",
        "version: 1",
        f"name: {name}",
        f"source: {_quoted(source_note(fit))}",
    ]
    for key, direction, file in zip(("uplink", "downlink"), directions, sample_files, strict=True):
        lines.append(f"{key}: {{{', '.join(_keys(direction, file))}}}")
    return "\n".join(lines) + "\n"


def source_note(fit: PathFit) -> str:
    """Where the numbers are from and how well they fit, in a few sentences."""
    told = [f"Fitted to {fit.source}."]
    for name, direction in (("Uplink", fit.uplink), ("Downlink", fit.downlink)):
        parts = [*_delay_words(direction), *_loss_words(direction.loss)]
        if parts:
            told.append(f"{name}: {'; '.join(parts)}.")
    if fit.from_round_trips:
        told.append("Round trips alone were seen: all that varies and gets lost stands in the uplink.")
    if fit.mirrored:
        told.append("One direction alone was seen: the downlink is taken to be like the uplink.")
    return " ".join(told)


def _delay_words(direction: DirectionFit) -> list[str]:
    delay = direction.delay
    if delay is None:
        return []
    if delay.shape == "none":
        return [f"delay steady in {delay.samples} samples"]
    verdict = "within" if delay.good else "above"
    return [
        f"delay {delay.shape}, median {brief_duration(delay.median_us)}, 99% below {brief_duration(delay.p99_us)}",
        f"KS distance {brief_number(delay.distance)}, {verdict} the critical {brief_number(delay.critical)}",
        f"{delay.samples} samples",
    ]


def _loss_words(loss: LossFit | None) -> list[str]:
    if loss is None:
        return []
    if not loss.lost:
        return [f"none of {loss.packets} lost (below {brief_share(loss.mean.high)})"]
    bounds = ", ".join(
        f"{name} {brief_share(one.low)} to {brief_share(one.high)}" for name, one in loss.estimates.items()
    )
    rivals = ", ".join(f"{one.kind} {one.bic:.0f}" for one in loss.candidates)
    return [f"{loss.lost} of {loss.packets} lost, {loss.kind} by BIC ({rivals}), 95% intervals {bounds}"]


def _keys(direction: DirectionFit, sample_file: str | None) -> list[str]:
    keys = [f"delay: {format_duration(direction.delay_us)}"]
    # A link refuses a jitter above its delay, and netem would cut it at zero.
    jitter_us = min(direction.jitter_us, direction.delay_us)
    if jitter_us and direction.delay is not None:
        keys.append(f"jitter: {format_duration(jitter_us)}")
        shape = direction.delay.shape
        if sample_file is not None:
            keys.append(f"distribution: {{samples: {sample_file}}}")
        elif shape not in ("uniform", "samples"):
            keys.append(f"distribution: {shape}")
    loss = None if direction.loss is None else direction.loss.model
    match loss:
        case IndependentLoss():
            keys.append(f"loss: {_share(loss.probability)}")
        case GilbertElliottLoss():
            parts = [f"good_to_bad: {_share(loss.good_to_bad)}", f"bad_to_good: {_share(loss.bad_to_good)}"]
            parts += [f"loss_in_bad: {_share(loss.loss_in_bad)}"] if loss.loss_in_bad < 1 else []
            keys.append(f"loss: {{{', '.join(parts)}}}")
    if direction.reordered:
        keys.append(f"reorder: {_share(direction.reordered)}")
    if direction.duplicated:
        keys.append(f"duplicate: {_share(direction.duplicated)}")
    return keys


def _share(share: float) -> str:
    return format_share(float(f"{share:.{_DIGITS}g}"))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
