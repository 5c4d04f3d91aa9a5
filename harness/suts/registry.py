"""The systems under test by name. A new adapter is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.errors import InputError
from harness.suts.port import Sut
from harness.suts.syncer_sut import SyncerSut
from harness.suts.syncthing_sut import SyncthingSut

FACTORIES: Mapping[str, Callable[[], Sut]] = {SyncerSut.name: SyncerSut, SyncthingSut.name: SyncthingSut}


def create_sut(name: str) -> Sut:
    """A fresh adapter. Raises InputError that lists the names there are."""
    try:
        factory = FACTORIES[name]
    except KeyError:
        known = ", ".join(sorted(FACTORIES))
        raise InputError(f"no system under test is called {name!r}", hint=f"accepted: {known}") from None
    return factory()
