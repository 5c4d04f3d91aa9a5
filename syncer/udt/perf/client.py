"""The end that calls a server and asks for one measurement."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator

from syncer.udt.perf import messages
from syncer.udt.perf.flows import STALLED_S, Sending, receive_all
from syncer.udt.perf.messages import CONTROL, DATA, SESSION_BYTES, Arrival, Departure, Opening, Ready, Request
from syncer.udt.perf.port import Address, Implementation, Settings, Stream

ANSWER_S = 10.0
_LONGEST_TRANSFER_S = 24 * 3600.0


def measure(
    implementation: Implementation,
    address: Address,
    request: Request,
    settings: Settings,
    ready: Callable[[Ready], None],
) -> tuple[Ready, Arrival, Departure]:
    """``ready`` hears what the server is before data flows. Raises ``NoServer`` and ``TransportError``."""
    session = secrets.token_bytes(SESSION_BYTES)
    # The control connection is idle while data flows: it needs no pace of its own.
    with _connected(implementation, address, settings) as control:
        messages.send_opening(control, Opening(CONTROL, session, 0))
        messages.send(control, request)
        server = messages.expect(control, Ready, time.monotonic() + ANSWER_S)
        ready(server)
        with contextlib.ExitStack() as stack:
            streams = []
            for flow in range(request.connections):
                streams.append(stack.enter_context(_connected(implementation, address, settings)))
                messages.send_opening(streams[-1], Opening(DATA, session, flow))
            arrival, departure = (_receive if request.reverse else _send)(control, request, streams)
        return server, arrival, departure


@contextlib.contextmanager
def _connected(implementation: Implementation, address: Address, settings: Settings) -> Iterator[Stream]:
    stream = implementation.connect(address, settings)
    try:
        yield stream
        stream.close()
    finally:
        stream.abort()


def _send(control: Stream, request: Request, streams: list[Stream]) -> tuple[Arrival, Departure]:
    sending = Sending(streams, request)
    patience = (_LONGEST_TRANSFER_S if request.seconds is None else request.seconds) + 2 * STALLED_S
    try:
        arrival = messages.expect(control, Arrival, time.monotonic() + patience)
    finally:
        departure = sending.stop()
    messages.send(control, departure)
    return arrival, departure


def _receive(control: Stream, request: Request, streams: list[Stream]) -> tuple[Arrival, Departure]:
    arrival = receive_all(streams, request)
    messages.send(control, arrival)
    return arrival, messages.expect(control, Departure, time.monotonic() + ANSWER_S)
