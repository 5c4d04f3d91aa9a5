"""Putting a site behind an access line while a lab runs: the line's profile in series with each of the site's links."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.compose import losses_in_series
from harness.config.link_keys import LinkKeys, to_loss
from harness.config.profile_file import load_profile
from harness.config.shipped import shipped_dir
from harness.errors import InputError
from harness.model.impairment import Impairment

LinkEnds = tuple[str, str]


def behind_access(site: str, profile: str, links: Mapping[LinkEnds, Impairment]) -> dict[LinkEnds, Impairment]:
    """The new impairment of every link from and to ``site``. Raises InputError for an unknown profile."""
    document = load_profile(profile, beside=shipped_dir("topologies") / "profile")
    changed = {}
    for (source, destination), impairment in links.items():
        if source == site:
            changed[source, destination] = in_series(impairment, document.uplink)
        elif destination == site:
            changed[source, destination] = in_series(impairment, document.downlink)
    return changed


def in_series(link: Impairment, line: LinkKeys) -> Impairment:
    """A link with one more line in its path: delays and jitters add, losses combine as independent stages, the slower
    one is the bottleneck. Raises InputError for bursts in both."""
    lost = to_loss(line.loss)
    loss = losses_in_series(lost, link.loss)
    if loss is None and (lost or link.loss):
        raise InputError("an access line that loses bursts cannot be put before a link that does as well")
    rate_bps, buffer_bytes = link.rate_bps, link.buffer_bytes
    if line.rate is not None and (rate_bps is None or line.rate < rate_bps):
        rate_bps = line.rate
        buffer_bytes = None
        if line.buffer is not None:
            in_time = -(-(line.buffer.time_us or 0) * line.rate // 8_000_000)
            buffer_bytes = line.buffer.size_bytes or max(in_time, 1)
    return link.model_copy(
        update={
            "delay_us": link.delay_us + (line.delay or 0),
            "jitter_us": link.jitter_us + (line.jitter or 0),
            "loss": loss,
            "rate_bps": rate_bps,
            "buffer_bytes": buffer_bytes,
        }
    )
