"""The coordinator's process: opens the folder and the index of a home, waits for what is not there yet, and runs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
from pathlib import Path

import structlog

from syncer.errors import DiskFull, RootMissing, StoreError, SyncerError
from syncer.files.root import Root
from syncer.files.watch import Watcher
from syncer.site import logs
from syncer.site.coordinator import Coordinator
from syncer.site.folder import Folder
from syncer.site.home import Config, Home
from syncer.site.status import StatusServer
from syncer.store.index import Index

RETRY_S = 1.0

log = structlog.get_logger("coordinator")


async def _open_root(folder: Path, status: StatusServer) -> Root:
    """Wait for the folder: while it is missing nothing is scanned, applied or announced."""
    while True:
        try:
            return Root(folder).open()
        except RootMissing as error:
            status.problem = error.message
            log.error("waiting for the folder", reason=error.message)
            await asyncio.sleep(RETRY_S)


async def open_index(home: Home, site: str, root: Root, status: StatusServer) -> Index:
    """The index of this folder; a damaged one, or another folder's, is put aside and rebuilt from the folder and the
    peers, under a new epoch."""
    while True:
        try:
            return _open_index_of(root.id, home.index_path, site)
        except StoreError as error:
            log.error("the index is put aside", reason=error.message)
            _put_index_aside(home)
        except DiskFull as error:
            status.problem = error.message
            log.error("waiting for room", reason=error.message)
            await asyncio.sleep(RETRY_S)


def _open_index_of(folder: str, path: Path, site: str) -> Index:
    index = Index(path, site=site)
    try:
        index.bind(folder)
    except BaseException:
        index.close()
        raise
    return index


def _put_index_aside(home: Home) -> None:
    for suffix in ("", "-wal", "-shm"):
        path = Path(f"{home.index_path}{suffix}")
        if path.exists():
            path.replace(f"{home.index_path}.aside{suffix}")


async def serve(home: Home) -> None:
    """Run the coordinator of ``home`` until it is told to stop (returns) or something breaks (raises)."""
    config = home.load()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    status = StatusServer(home, config)
    main_task = asyncio.ensure_future(_serve_folder(home, config, status))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({main_task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        main_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await main_task
    finally:
        await status.close()


async def _serve_folder(home: Home, config: Config, status: StatusServer) -> None:
    root = await _open_root(Path(config.folder), status)
    folder = Folder(root)
    index = await open_index(home, config.site, root, status)
    try:
        folder.recover()
        watcher = Watcher(root)
        watcher.add_tree()
        status.problem = None
        await Coordinator(home, config, index, folder, watcher).run(status)
    except StoreError:
        index.close()
        _put_index_aside(home)
        raise
    finally:
        folder.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m syncer.site.coordinator_process")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args().home)
    logs.configure(home.log / "coordinator.log")
    home.write_pid("coordinator", os.getpid())
    # Nearly all that a coordinator makes is values without cycles: looking for some 700 at a time costs a tenth of it.
    gc.set_threshold(50_000, 20, 20)
    try:
        asyncio.run(serve(home))
    except SyncerError as error:
        log.error("stopped", reason=error.message, hint=error.hint)
        raise SystemExit(error.exit_code) from None
    except Exception:
        log.exception("crashed")
        raise SystemExit(1) from None
    log.info("stopped")


if __name__ == "__main__":
    main()
