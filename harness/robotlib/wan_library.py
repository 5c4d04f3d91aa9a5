"""Keywords on the WAN. Every change is undone by ``Restore The WAN``, which each test's teardown runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from robot.api import logger
from robot.api.deco import library

from harness.config.timeline_events import event_of_keys
from harness.errors import FidelityError, InputError
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss
from harness.model.timeline import Partition
from harness.model.units import parse_rate, parse_share
from harness.robotlib.context import SITE_CONVERTER, SiteName, context, converted_site, seconds, suite_keyword

OTHERS = "others"


@library(scope="GLOBAL", auto_keywords=False, converters=SITE_CONVERTER)
class WanLibrary:
    """Changes what links do to packets while the lab runs. Quantities are written as in topology files."""

    @suite_keyword
    def set_delay_on_all_links(self, delay: timedelta, jitter: timedelta = timedelta()) -> None:
        """One-way delay and jitter of every link."""
        delay_us, jitter_us = _microseconds(delay), _microseconds(jitter)
        self._edit(f"delay {delay_us / 1000:g} ms", lambda link: {"delay_us": delay_us, "jitter_us": jitter_us})

    @suite_keyword
    def set_loss_on_all_links(self, loss: str) -> None:
        """Independent loss such as ``1%`` on every link, each way."""
        share = _parsed(parse_share, loss)
        self._edit(f"loss {loss}", lambda link: {"loss": IndependentLoss(probability=share)})

    @suite_keyword
    def set_burst_loss_on_all_links(self, loss: str, burst_packets: float) -> None:
        """Burst loss on every link: the long-run share lost, and the mean length of a burst in packets."""
        share = _parsed(parse_share, loss)
        back = 1 / burst_packets
        model = GilbertElliottLoss(good_to_bad=back * share / (1 - share), bad_to_good=back)
        self._edit(f"burst loss {loss}, {burst_packets:g} packets", lambda link: {"loss": model})

    @suite_keyword
    def set_rate_on_all_links(self, rate: str) -> None:
        """The bottleneck of every link, such as ``2 Mbit/s``, with a buffer of one round trip (64 KiB at least)."""
        rate_bps = _parsed(parse_rate, rate)

        def edit(link: Impairment) -> dict[str, object]:
            return {"rate_bps": rate_bps, "buffer_bytes": max(2 * link.delay_us * rate_bps // 8_000_000, 64 << 10)}

        self._edit(f"rate {rate}", edit)

    @suite_keyword
    def put_site_behind(self, site: SiteName, profile: str) -> None:
        """Puts a site behind an access line such as ``lte``; nothing when the topology has it behind one already."""
        session = context.session
        access = next(known.access for known in session.topology.sites if known.name == site)
        if access is not None:
            logger.info(f"{site} is behind {access} in this topology")
            return
        session.wan.put_behind(site, profile)

    @suite_keyword
    def cut_site_off(self, site: SiteName) -> None:
        """Makes every link from and to the site a black hole."""
        context.session.wan.cut_off(site)

    @suite_keyword
    def rejoin_site(self, site: SiteName) -> None:
        """Undoes ``Cut Site Off``."""
        context.session.wan.rejoin(site)

    @suite_keyword
    def cut_all_sites_off(self) -> None:
        """Makes every link a black hole: what sites write now, they write without knowing of each other."""
        for site in context.session.sites:
            context.session.wan.cut_off(site)

    @suite_keyword
    def rejoin_all_sites(self) -> None:
        """Undoes ``Cut All Sites Off``."""
        for site in context.session.sites:
            context.session.wan.rejoin(site)

    @suite_keyword
    def schedule_outage(self, site: SiteName, after: timedelta, duration: timedelta) -> None:
        """Cuts a site off some time from now, for a while, as a handover does; the test goes on meanwhile."""
        context.session.wan.schedule_outage(site, seconds(after), seconds(duration))

    @suite_keyword
    def wait_until_outages_are_over(self) -> None:
        """Waits for the end of what ``Schedule Outage`` scheduled: its own duration is the deadline."""
        context.session.wan.finish_outages()

    @suite_keyword
    def partition_sites(self, *groups: str) -> str:
        """Parts groups of sites from each other, each with its sites joined by commas; a site in none keeps its links.
        ``others`` is the group of all sites that no group names. Returns the fault for ``Undo Fault``."""
        return context.session.faults.begin(Partition(groups=_groups(groups)))

    @suite_keyword
    def one_way_partition(self, *groups: str) -> str:
        """The same, but only packets from an earlier group to a later one are lost."""
        return context.session.faults.begin(Partition(groups=_groups(groups), one_way=True))

    @suite_keyword
    def change_link(self, source: SiteName, destination: SiteName, **keys: str) -> str:
        """Lays other settings over both directions of a link, as in a topology file: ``loss=5%    rate=1 Mbit/s``."""
        return context.session.faults.begin_keys(do="change", between=[str(source), str(destination)], **keys)

    @suite_keyword
    def ramp_link(self, source: SiteName, destination: SiteName, over: str, **keys: str) -> None:
        """Moves both directions of a link to these settings in a straight line, while the test goes on."""
        ends = [str(source), str(destination)]
        event = event_of_keys({"do": "ramp", "between": ends, "over": over, **keys}, context.session.topology)
        context.session.wan.schedule(event)

    @suite_keyword
    def flap_link(self, source: SiteName, destination: SiteName, down: str, up: str, flaps: int) -> None:
        """Takes both directions of a link down and up again, so often, while the test goes on."""
        ends = [str(source), str(destination)]
        keys = {"do": "flap", "between": ends, "down": down, "up": up, "flaps": flaps}
        context.session.wan.schedule(event_of_keys(keys, context.session.topology))

    @suite_keyword
    def flap_site(self, site: SiteName, down: str, up: str, flaps: int) -> None:
        """Takes all links of a site down and up again, so often, while the test goes on."""
        keys = {"do": "flap", "site": str(site), "down": down, "up": up, "flaps": flaps}
        context.session.wan.schedule(event_of_keys(keys, context.session.topology))

    @suite_keyword
    def play_trace(self, trace: str, subscriber: SiteName, other: SiteName) -> str:
        """Lets a link follow a trace, again and again, up from the subscriber. Returns the fault for ``Undo Fault``."""
        ends = [str(subscriber), str(other)]
        return context.session.faults.begin_keys(do="play", between=ends, trace=trace)

    @suite_keyword
    def outage_should_have_hit_the_transfer(self, site: SiteName) -> None:
        """Makes the test INVALID when the core dropped nothing on the links from the site while it was cut off."""
        dropped = context.session.wan.dropped_in_outage(site)
        context.session.measurements["packets dropped in the outage"] = dropped
        if not dropped:
            raise FidelityError(f"the links from {site} dropped no packet in the outage: it did not meet the transfer")

    @suite_keyword
    def loss_should_have_touched_the_traffic(self) -> None:
        """Makes the test INVALID when the WAN core dropped nothing by loss during it."""
        session = context.session
        lost = session.lost_packets()
        session.measurements["packets lost"] = lost
        if not lost:
            raise FidelityError("the WAN core lost no packet: the impairment never touched the traffic")

    @suite_keyword
    def restore_the_wan(self) -> None:
        """Every link as the topology says."""
        context.session.wan.restore()

    def _edit(self, reason: str, edit: Callable[[Impairment], dict[str, object]]) -> None:
        context.session.wan.edit_all(lambda link: link.model_copy(update=edit(link)), reason)


def _groups(written: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    if OTHERS not in written:
        return tuple(_group(group) for group in written)
    named = {site for group in written if group != OTHERS for site in _group(group)}
    others = tuple(site for site in context.session.sites if site not in named)
    return tuple(others if group == OTHERS else _group(group) for group in written)


def _group(written: str) -> tuple[str, ...]:
    return tuple(converted_site(site.strip()) for site in written.split(","))


def _parsed(parse: Callable[[str], float], text: str) -> float:
    try:
        return parse(text)
    except ValueError as error:
        raise InputError(str(error)) from None


def _microseconds(duration: timedelta) -> int:
    return round(duration / timedelta(microseconds=1))
