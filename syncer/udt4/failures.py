"""UDT4's one exception with its codes, made of the errors of our sockets."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from syncer.udt import errors
from syncer.udt4 import constants

Direction = Literal["send", "receive", "set-up"]


class UDTException(Exception):
    """``args`` are the code and the message; ``error[0]`` is the code as well."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code

    def __getitem__(self, index: int) -> object:
        return self.args[index]

    def __str__(self) -> str:
        return f"{self.args[1]} ({self.code})"


_CODES: tuple[tuple[type[errors.UdtError], int], ...] = (
    (errors.NotConnected, constants.ENOCONN),
    (errors.Closed, constants.EINVSOCK),
    (errors.TimedOut, constants.ETIMEOUT),
    (errors.MessageTooLarge, constants.ELARGEMSG),
    (errors.AddressInUse, constants.EDUPLISTEN),
    (errors.ConnectionLost, constants.ECONNLOST),
    (errors.Misuse, constants.EINVOP),
)


def code_of(error: errors.UdtError, direction: Direction) -> int:
    if isinstance(error, errors.WouldBlock):
        return constants.EASYNCSND if direction == "send" else constants.EASYNCRCV
    if isinstance(error, errors.ConnectionRefused):
        # The listener itself said no, or there is none.
        return constants.ECONNREJ if error.errno == errno.ECONNABORTED else constants.ENOSERVER
    if direction == "set-up" and isinstance(error, errors.TimedOut):
        return constants.ENOSERVER
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return constants.ESOCKFAIL if direction == "set-up" else constants.ECONNFAIL


@contextmanager
def translated(direction: Direction) -> Iterator[None]:
    try:
        yield
    except errors.UdtError as error:
        raise UDTException(code_of(error, direction), error.strerror or str(error)) from error
