"""Keywords on the system under test: its life, waiting for it, and how fast it was."""

from __future__ import annotations

import time
from datetime import timedelta

from robot.api import logger
from robot.api.deco import library

from harness.checkers.timing import convergence_lags, last_write_s
from harness.errors import SutError
from harness.model.tree import path_text
from harness.robotlib.context import SITE_CONVERTER, SiteName, context, seconds, suite_keyword
from harness.run.agent_client import raw_path


@library(scope="GLOBAL", auto_keywords=False, converters=SITE_CONVERTER)
class SyncLibrary:
    """Starts and stops the system under test, and waits until its sites agree."""

    @suite_keyword
    def start_system_under_test(self) -> None:
        """Starts it at every site with a fresh folder; returns when all sites are connected."""
        context.session.start_sut()

    @suite_keyword
    def stop_system_under_test(self) -> None:
        """Collects its logs and stops it at every site."""
        context.session.stop_sut()

    @suite_keyword
    def wait_until_all_sites_agree(self, timeout: timedelta) -> None:
        """Waits until the system says that all sites agree and their trees are the same; fails after ``timeout``."""
        session = context.session
        session.wait_until_in_sync(seconds(timeout))
        lags = convergence_lags(session.recorder.since(session.test_mark))
        if lags:
            session.measurements["convergence lag s"] = round(lags[-1].lag_s, 2)

    @suite_keyword
    def copy_real_tree(self, site: SiteName, timeout: timedelta) -> None:
        """Copies the run's real directory into the folder at ``site`` and waits until it stands at every other site.

        Reports files per second and goodput until the last site had all of it.
        """
        session = context.session
        path = session.workload.new_directory("real")
        tree = session.unpack_real_tree(site, path)
        elapsed = self._arrival(site, path, tree.files, tree.bytes, timeout)
        session.measurements["tree"] = tree.source
        session.measurements["tree files"] = tree.files
        session.measurements["tree files/s"] = round(tree.files / elapsed, 1)
        session.measurements["tree goodput Mbit/s"] = round(tree.bytes * 8 / elapsed / 1e6, 1)

    @suite_keyword
    def wait_until_file_arrives_everywhere(self, site: SiteName, file: tuple[str, int], timeout: timedelta) -> None:
        """Waits until the file that ``site`` wrote stands complete at every other site; reports its goodput."""
        path, size = file
        elapsed = self._arrival(site, path, 1, size, timeout)
        session = context.session
        session.measurements["file bytes"] = size
        session.measurements["file goodput Mbit/s"] = round(size * 8 / elapsed / 1e6, 1)

    def _arrival(self, site: str, path: str, files: int, size: int, timeout: timedelta) -> float:
        """Seconds from the end of the writing until the slowest site had all. Raises SutError at the deadline."""
        session = context.session
        deadline = time.monotonic() + seconds(timeout)
        # Not from now on: a fault may have come between the writing and this wait.
        written_s = last_write_s(session.recorder.since(session.test_mark), site, path_text(raw_path(path)))
        began_s = session.recorder.now() if written_s is None else written_s
        arrived: dict[str, float] = {}

        def wait(other: str) -> None:
            left = max(0.0, deadline - time.monotonic())
            if session.await_tree(other, path, files, size, left):
                arrived[other] = session.recorder.now() - began_s

        session.everywhere(lambda other: None if other == site else wait(other))
        late = [other for other in session.others(site) if other not in arrived]
        if late:
            raise SutError(f"{path} is not complete at {', '.join(late)} after {seconds(timeout):.0f} s")
        for other, elapsed in arrived.items():
            logger.info(f"{path} was complete at {other} after {elapsed:.2f} s")
            session.measurements[f"arrival at {other} s"] = round(elapsed, 2)
        return max(max(arrived.values()), 1e-3)
