"""Putting a site behind an access line while a lab runs: the line's profile in series with each of the site's links."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.link_keys import LinkKeys, to_impairment
from harness.config.profile_file import load_profile
from harness.config.series import NotInSeries
from harness.config.series import in_series as impairments_in_series
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
    """A link with one more line in its path (harness.config.series). Raises InputError for what no link can do."""
    try:
        return impairments_in_series(to_impairment(line, line.delay or 0), link)
    except NotInSeries as clash:
        raise InputError(f"the access line cannot be put before this link: {clash}") from clash
