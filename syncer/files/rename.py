"""renameat2(2), which the standard library does not offer: rename without replacing, and exchange."""

from __future__ import annotations

import ctypes
import os

_NOREPLACE = 1
_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


def rename_new(old_directory: int, old: bytes, new_directory: int, new: bytes) -> None:
    """Moves; raises FileExistsError if there is something at the new name."""
    _renameat2(old_directory, old, new_directory, new, _NOREPLACE)


def exchange(first_directory: int, first: bytes, second_directory: int, second: bytes) -> None:
    """Swaps two names in one step; both must be there."""
    _renameat2(first_directory, first, second_directory, second, _EXCHANGE)


def _renameat2(old_directory: int, old: bytes, new_directory: int, new: bytes, flags: int) -> None:
    if _libc.renameat2(old_directory, old, new_directory, new, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old, None, new)
