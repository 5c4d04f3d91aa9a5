"""Accepts connections and gives each to the session that it claims; strangers are shown out, few at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from syncer.errors import TransportError, WireError
from syncer.movers.session import Session, read_preamble
from syncer.movers.transport import Connection, Listener

MAX_UNIDENTIFIED = 16
"""Connections that have not said yet which session they claim; more are closed at once."""

log = structlog.get_logger("mover")


class Doorkeeper:
    """``find`` gives the session of a number, or None. It is called from threads of the doorkeeper."""

    def __init__(self, listener: Listener, find: Callable[[int], Session | None]) -> None:
        self._listener = listener
        self._find = find
        self._free = threading.Semaphore(MAX_UNIDENTIFIED)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="accept", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def is_there(self) -> bool:
        """False once the listener broke: nobody is let in any more."""
        return self._thread.is_alive()

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
            except TransportError as error:
                if not self._closed:
                    log.warning("the listener broke", reason=error.message)
                return
            if self._free.acquire(blocking=False):
                threading.Thread(target=self._identify, args=(connection,), name="identify", daemon=True).start()
            else:
                connection.close()

    def _identify(self, connection: Connection) -> None:
        try:
            number, salt = read_preamble(connection)
            session = self._find(number)
            if session is None or not session.adopt(connection, salt):
                log.info("closed a connection that claims no open session")
                connection.close()
        except (TransportError, WireError) as error:
            log.info("closed a connection", reason=error.message)
            connection.close()
        finally:
            self._free.release()
