"""The end that waits to be called. One measurement at a time: two would share the machine and spoil each other."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from syncer.errors import InputError, SyncerError, TransportError
from syncer.udt.perf import messages
from syncer.udt.perf.flows import STALLED_S, Sending, receive_all
from syncer.udt.perf.implementations import checked
from syncer.udt.perf.messages import Arrival, Departure, Opening, Ready, Refusal, Request
from syncer.udt.perf.port import PATIENCE_S, Address, Implementation, Settings, Stream

OPENING_S = 10.0
_LONGEST_TRANSFER_S = 24 * 3600.0

Outcome = tuple[Address, Request, Arrival, Departure]


class Server:
    """Serves from the moment it is made. ``concluded`` hears of each measurement, ``failed`` of what went wrong."""

    def __init__(
        self,
        implementation: Implementation,
        address: Address,
        settings: Settings,
        concluded: Callable[[Outcome], None],
        failed: Callable[[Address, str], None],
    ) -> None:
        self._implementation = implementation
        self._settings = checked(implementation, settings)
        self._concluded = concluded
        self._failed = failed
        self._busy = threading.Lock()
        self._session = b""
        self._arrived: queue.Queue[tuple[int, Stream]] = queue.Queue()
        self._closing = False
        self._listener = implementation.listen(address, self._settings)
        self._acceptor = threading.Thread(target=self._accept, name="acceptor", daemon=True)
        self._acceptor.start()

    @property
    def address(self) -> Address:
        return self._listener.address

    def close(self) -> None:
        self._closing = True
        self._listener.close()
        self._acceptor.join()

    def _accept(self) -> None:
        while not self._closing:
            try:
                stream, peer = self._listener.accept()
            except TransportError as error:
                if not self._closing:
                    self._failed(self.address, f"cannot accept: {error.message}")
                return
            threading.Thread(target=self._welcome, args=(stream, peer), name=f"peer {peer}", daemon=True).start()

    def _welcome(self, stream: Stream, peer: Address) -> None:
        try:
            opening = messages.receive_opening(stream, time.monotonic() + OPENING_S)
            if opening.kind == messages.CONTROL:
                self._control(stream, peer, opening)
            elif opening.session == self._session:
                self._arrived.put((opening.flow, stream))
            else:
                raise TransportError("a data connection of no measurement that runs")
        except SyncerError as error:
            self._failed(peer, error.message)
            stream.abort()
        except BaseException:
            # The caller must not wait for an answer that will not come.
            stream.abort()
            raise

    def _control(self, control: Stream, peer: Address, opening: Opening) -> None:
        request = messages.expect(control, Request, time.monotonic() + OPENING_S)
        if not self._busy.acquire(blocking=False):
            messages.send(control, Refusal("another measurement is running"))
            control.close()
            return
        streams: list[Stream] = []
        try:
            self._session = opening.session
            self._arrived = queue.Queue()
            self._prepare(control, request)
            streams.extend(self._collect(control, request))
            outcome = peer, request, *self._measure(control, request, streams)
        finally:
            self._session = b""
            for stream in streams:
                stream.abort()
            self._busy.release()
        control.close()
        self._concluded(outcome)

    def _prepare(self, control: Stream, request: Request) -> None:
        try:
            settings = self._settings
            if request.reverse:
                wished = Settings(request.control, request.rate_bps, settings.mss, settings.buffer_bytes)
                settings = checked(self._implementation, wished)
            self._listener.configure(settings)
        except InputError as error:
            messages.send(control, Refusal(error.message))
            control.close()
            raise
        messages.send(control, Ready(self._implementation.name, settings.control or ""))

    def _collect(self, control: Stream, request: Request) -> list[Stream]:
        arrived: dict[int, Stream] = {}
        deadline = time.monotonic() + OPENING_S
        try:
            while len(arrived) < request.connections:
                try:
                    flow, stream = self._arrived.get(timeout=PATIENCE_S)
                except queue.Empty:
                    # Nothing is due there: this only notices a caller that went away.
                    control.receive_into(bytearray(1))
                else:
                    arrived[flow] = stream
                if time.monotonic() > deadline:
                    raise TransportError(f"only {len(arrived)} of {request.connections} data connections came")
        except TransportError:
            for stream in arrived.values():
                stream.abort()
            raise
        return [arrived[flow] for flow in sorted(arrived)]

    def _measure(self, control: Stream, request: Request, streams: list[Stream]) -> tuple[Arrival, Departure]:
        if not request.reverse:
            arrival = receive_all(streams, request)
            messages.send(control, arrival)
            return arrival, messages.expect(control, Departure, time.monotonic() + OPENING_S)
        sending = Sending(streams, request)
        try:
            patience = (_LONGEST_TRANSFER_S if request.seconds is None else request.seconds) + 2 * STALLED_S
            arrival = messages.expect(control, Arrival, time.monotonic() + patience)
        finally:
            departure = sending.stop()
        messages.send(control, departure)
        # The caller closes first: closing here could overtake what was just sent.
        with contextlib.suppress(TransportError):
            messages.read_exactly(control, 1, time.monotonic() + OPENING_S)
        return arrival, departure
