"""Keywords that judge: from the history and the trees, with the pure checkers."""

from __future__ import annotations

from robot.api.deco import library

from harness.checkers.finding import summary
from harness.errors import SutError
from harness.model.tree import path_text
from harness.robotlib.context import SITE_CONVERTER, SiteName, context, suite_keyword
from harness.run.agent_client import raw_path


@library(scope="GLOBAL", auto_keywords=False, converters=SITE_CONVERTER)
class CheckerLibrary:
    """Compares trees and audits that nothing was lost."""

    @suite_keyword
    def nothing_should_be_lost(self) -> None:
        """Compares the trees of all sites and audits every version written since the folder was new.

        Fails when trees differ, when a version that nobody knowingly replaced is gone, when something stands that
        nobody wrote or that had been replaced, or when a conflict copy has no conflict.
        """
        findings = context.session.audit()
        if findings:
            raise SutError(f"{len(findings)} findings\n{summary(findings)}")

    @suite_keyword
    def files_should_exist(self, site: SiteName, files: list[str]) -> None:
        """Each file stands at the site."""
        tree = context.session.trees()[site]
        missing = [path_text(raw_path(path)) for path in files if raw_path(path) not in tree]
        if missing:
            raise SutError(f"missing at {site}: {', '.join(missing[:10])}")

    @suite_keyword
    def files_should_be_gone(self, site: SiteName, files: list[str]) -> None:
        """None of the files stands at the site."""
        tree = context.session.trees()[site]
        left = [path_text(raw_path(path)) for path in files if raw_path(path) in tree]
        if left:
            raise SutError(f"still at {site}: {', '.join(left[:10])}")

    @suite_keyword
    def every_site_should_hold_versions(self, file: str, count: int | None = None) -> None:
        """The file and its conflict copies are ``count`` versions at every site; by default as many as sites."""
        session = context.session
        expected = count or len(session.sites)
        path = raw_path(file)
        for site, tree in session.trees().items():
            found = [name for name in tree if path in (name, session.sut.conflict_original(name))]
            if len(found) != expected:
                names = ", ".join(path_text(name) for name in sorted(found))
                raise SutError(f"{len(found)} versions of {file} at {site} instead of {expected}: {names}")
