"""Keywords that break the system under test, at a moment that is known by a condition and not by a clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api import SkipExecution, logger
from robot.api.deco import library

from harness.errors import FidelityError, SutError
from harness.model.timeline import Descriptors, Kill, Pause, Reboot, Target
from harness.model.topology import Site
from harness.plan.timeline import nodes_with_clock
from harness.robotlib.context import SITE_CONVERTER, SiteName, context, seconds, suite_keyword


@library(scope="GLOBAL", auto_keywords=False, converters=SITE_CONVERTER)
class FaultLibrary:
    """Faults of nodes. Its keywords return a fault's name for ``Undo Fault``; a test's teardown undoes the rest."""

    @suite_keyword
    def folder_usage(self, site: SiteName) -> int:
        """Bytes that the folder takes on disk, temporary files included: what a transfer makes grow."""
        return context.session.usage(site)

    @suite_keyword
    def wait_until_transfer_is_under_way(
        self, site: SiteName, usage_before: int, file: tuple[str, int], timeout: timedelta
    ) -> None:
        """Waits until a tenth of the file has arrived at ``site`` but not all of it.

        Fails when nothing arrives; the test is INVALID when the transfer was over before it could be seen under way.
        """
        session = context.session
        path, size = file
        if not session.await_usage(site, usage_before + size // 10, seconds(timeout)):
            raise SutError(f"no tenth of {path} arrived at {site} within {seconds(timeout):.0f} s")
        if session.await_tree(site, path, 1, size, 0.0):
            raise FidelityError(f"{path} was complete at {site} before the fault: make it larger or the link slower")

    @suite_keyword
    def nothing_should_arrive(self, site: SiteName, usage_before: int, within: timedelta) -> None:
        """Makes the test INVALID when the folder at ``site`` grows: then the fault did not keep anything from it."""
        if context.session.await_usage(site, usage_before + 1, seconds(within)):
            raise FidelityError(f"something arrived at {site} although the fault was in force")

    @suite_keyword
    def kill_process(self, site: SiteName, role: str) -> None:
        """Sends SIGKILL to every process of that role at the site."""
        context.session.faults.begin(Kill(node=site, target=Target(role=role)))
        logger.info(f"killed {role} at {site}")

    @suite_keyword
    def pause_process(self, site: SiteName, role: str | None = None) -> str:
        """Stops the processes of that role at the site, or everything there; returns the fault for ``Undo Fault``."""
        return context.session.faults.begin(Pause(node=site, target=Target(role=role)))

    @suite_keyword
    def shut_node_down(self, site: SiteName) -> str:
        """Ends every process of the site's node at once and takes it off the WAN. ``Undo Fault`` boots it again, and
        starts the system under test as a service manager would."""
        return context.session.faults.begin(Reboot(node=site))

    @suite_keyword
    def fill_disk(self, site: SiteName, free: str | None = None) -> str:
        """Fills the disk of the site's node, up to ``free``; skips the test where the topology gives it no ``disk``."""
        if self._site(site).disk_bytes is None:
            raise SkipExecution(f"{site} has no disk of its own in the topology {context.session.topology.name}")
        keys = {} if free is None else {"free": free}
        return context.session.faults.begin_keys(do="disk-full", node=str(site), **keys)

    @suite_keyword
    def slow_disk(self, site: SiteName, rate: str) -> str:
        """Throttles what the site's node reads and writes, each, to a rate such as ``8 Mbit/s``."""
        return context.session.faults.begin_keys(do="disk-slow", node=str(site), rate=rate)

    @suite_keyword
    def skew_clock(self, site: SiteName, gains: str) -> str:
        """Lets the clock of the site's node gain (``0.5%``) or lose (``-0.5%``) time; else as ``Jump Clock``."""
        self._needs_clock(site)
        return context.session.faults.begin_keys(do="clock-skew", node=str(site), gains=gains)

    @suite_keyword
    def jump_clock(self, site: SiteName, offset: str) -> str:
        """Lets the clock of the site's node jump by ``3600 s`` or ``-3600 s``; skips the test where the topology has no
        ``clock: adjustable`` there."""
        self._needs_clock(site)
        return context.session.faults.begin_keys(do="clock-jump", node=str(site), offset=offset)

    @suite_keyword
    def corrupt_file(self, site: SiteName, path: str, bytes: int = 1) -> str:
        """Flips a bit in some bytes of one file below the node's data directory, its times and size kept."""
        keys = {"path": path, "bytes": bytes, "seed": context.session.seed}
        return context.session.faults.begin_keys(do="corrupt-file", node=str(site), **keys)

    @suite_keyword
    def exhaust_descriptors(self, site: SiteName, role: str, spare: int = 0) -> str:
        """Lets the processes of that role open ``spare`` more files and no more."""
        return context.session.faults.begin(Descriptors(node=site, target=Target(role=role), spare=spare))

    @suite_keyword
    def begin_fault(self, do: str, **keys: Any) -> str:
        """Any event of a timeline, by its keys as in a topology file: ``Begin Fault    pause    node=tokyo``."""
        return context.session.faults.begin_keys(do=do, **keys)

    @suite_keyword
    def undo_fault(self, *faults: str) -> None:
        """Undoes faults and verifies it."""
        for fault in faults:
            context.session.faults.end(fault)

    @suite_keyword
    def heal_everything(self) -> None:
        """Undoes all that the suite has done to links and nodes, and verifies it; every test's teardown does."""
        context.session.wan.restore()

    @suite_keyword
    def revive_system_under_test(self) -> None:
        """Starts the system again at every site where it does not run, as a service manager would."""
        for site in context.session.revive_sut():
            logger.info(f"started again at {site}")

    def _site(self, name: str) -> Site:
        return next(site for site in context.session.topology.sites if site.name == name)

    def _needs_clock(self, site: SiteName) -> None:
        if site not in nodes_with_clock(context.session.topology):
            raise SkipExecution(f"the clock of {site} cannot be moved in the topology {context.session.topology.name}")
