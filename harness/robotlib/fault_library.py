"""Keywords that break the system under test, at a moment that is known by a condition and not by a clock."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import library

from harness.errors import FidelityError, InputError, SutError
from harness.robotlib.context import SITE_CONVERTER, SiteName, context, seconds, suite_keyword


@library(scope="GLOBAL", auto_keywords=False, converters=SITE_CONVERTER)
class FaultLibrary:
    """Kills processes of the system under test by role."""

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
    def kill_process(self, site: SiteName, role: str) -> None:
        """Sends SIGKILL to every process of that role at the site."""
        session = context.session
        processes = session.sut.processes(site)
        victims = [process for process in processes if process.role == role]
        if not victims:
            roles = ", ".join(sorted({process.role for process in processes}))
            raise InputError(f"{session.sut.name} has no process {role!r} at {site}", hint=f"it has: {roles}")
        for victim in victims:
            killed = session.nodes[site].remote.signal(victim.pid, "KILL")
            session.recorder.record("fault", "kill", site=site, data={"role": role, "pid": victim.pid, "hit": killed})
            if not killed:
                raise FidelityError(f"{role} at {site} had ended by itself before it could be killed")
            logger.info(f"killed {role} ({victim.pid}) at {site}")

    @suite_keyword
    def revive_system_under_test(self) -> None:
        """Starts the system again at every site where it does not run, as a service manager would."""
        session = context.session
        for site, revived in session.everywhere(session.sut.revive).items():
            if revived:
                session.recorder.record("sut", "revived", site=site)
                logger.info(f"started again at {site}")
