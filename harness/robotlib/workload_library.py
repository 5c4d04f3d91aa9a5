"""Keywords that write at sites: seeded, so that a run's seed gives the same operations again."""

from __future__ import annotations

from robot.api.deco import library

from harness.robotlib.context import SITE_CONVERTER, SiteName, context, suite_keyword
from harness.run.workload import Operation, created_files


@library(scope="GLOBAL", auto_keywords=False, converters=SITE_CONVERTER)
class WorkloadLibrary:
    """Creates, changes, renames and removes files at sites. Lists of files are paths relative to the folder."""

    @suite_keyword
    def create_files(self, site: SiteName, count: int | None = None) -> list[str]:
        """Makes a new directory with files of mixed sizes and modes; returns the files."""
        session = context.session
        workload = session.workload
        plan = workload.create_files(workload.new_directory("files"), count or session.options.files)
        session.operate({site: plan})
        return created_files(plan)

    @suite_keyword
    def create_files_at_all_sites(self, count: int | None = None) -> list[str]:
        """Every site makes a directory of its own with files, all at the same time; returns all files."""
        session = context.session
        workload = session.workload
        number = count or session.options.files
        plans = {site: workload.create_files(workload.new_directory(site), number) for site in session.sites}
        session.operate(plans)
        return [path for plan in plans.values() for path in created_files(plan)]

    @suite_keyword
    def create_same_file_at_all_sites(self) -> str:
        """Every site makes a file of the same name with content of its own, at the same time; returns the name."""
        session = context.session
        workload = session.workload
        path = workload.new_directory("same") + ".txt"
        session.operate({site: [workload.create_file(path, 5_000)] for site in session.sites})
        return path

    @suite_keyword
    def create_oddly_named_files(self, site: SiteName) -> None:
        """Names with spaces, newlines, quotes, control characters, bytes that are not UTF-8, and very long ones."""
        workload = context.session.workload
        context.session.operate({site: workload.odd_names(workload.new_directory("odd"))})

    @suite_keyword
    def create_special_entries(self, site: SiteName) -> None:
        """Empty directories, symbolic links (also dangling) and files of every mode."""
        workload = context.session.workload
        context.session.operate({site: workload.special_entries(workload.new_directory("special"))})

    @suite_keyword
    def change_files(self, site: SiteName, files: list[str]) -> None:
        """Overwrites each file in place."""
        context.session.operate({site: context.session.workload.rewrite(files, "change")})

    @suite_keyword
    def append_to_files(self, site: SiteName, files: list[str]) -> None:
        """Adds bytes at the end of each file."""
        context.session.operate({site: context.session.workload.rewrite(files, "append")})

    @suite_keyword
    def save_files(self, site: SiteName, files: list[str]) -> None:
        """Replaces each file as an editor does: a new one beside it, renamed over it."""
        context.session.operate({site: context.session.workload.rewrite(files, "save")})

    @suite_keyword
    def change_files_at_all_sites(self, files: list[str]) -> None:
        """Every site overwrites the same files at the same time, each with content of its own."""
        session = context.session
        session.operate({site: session.workload.rewrite(files, "change") for site in session.sites})

    @suite_keyword
    def delete_files(self, site: SiteName, files: list[str]) -> None:
        """Removes each file."""
        context.session.operate({site: _each("delete", files)})

    @suite_keyword
    def delete_directory_of(self, site: SiteName, files: list[str]) -> None:
        """Removes the directory in which the files are, with all that is in it."""
        context.session.operate({site: [{"do": "delete", "path": _top(files)}]})

    @suite_keyword
    def rename_files(self, site: SiteName, files: list[str]) -> list[str]:
        """Gives each file a new name; returns the new names."""
        renamed = {path: f"{path}.renamed" for path in files}
        context.session.operate({site: [{"do": "rename", "path": path, "to": to} for path, to in renamed.items()]})
        return list(renamed.values())

    @suite_keyword
    def rename_directory_of(self, site: SiteName, files: list[str]) -> None:
        """Renames the directory in which the files are."""
        top = _top(files)
        context.session.operate({site: [{"do": "rename", "path": top, "to": f"{top}-renamed"}]})

    @suite_keyword
    def delete_at_one_site_while_others_change(self, site: SiteName, files: list[str]) -> None:
        """One site removes the files while every other site overwrites them."""
        session = context.session
        plans = {other: session.workload.rewrite(files, "change") for other in session.others(site)}
        session.operate({**plans, site: _each("delete", files)})

    @suite_keyword
    def run_mixed_operations_at_all_sites(self, files: list[str], count: int | None = None) -> None:
        """Every site carries out random operations on the same files at the same time."""
        session = context.session
        session.operate(session.workload.mixed(session.sites, files, count or session.options.operations))

    @suite_keyword
    def create_large_file(self, site: SiteName, size: int | None = None) -> tuple[str, int]:
        """Makes one file of ``size`` bytes (the run's large file by default); returns its path and size."""
        session = context.session
        length = size or session.options.large_file_bytes
        path = session.workload.new_directory("large") + ".bin"
        session.operate({site: [session.workload.create_file(path, length)]})
        return path, length


def _each(do: str, files: list[str]) -> list[Operation]:
    return [{"do": do, "path": path} for path in files]


def _top(files: list[str]) -> str:
    return files[0].partition("/")[0]
