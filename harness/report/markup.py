"""Text that is safe inside XML and SVG."""

from __future__ import annotations

import re
from html import escape

# What XML 1.0 cannot hold even as a character reference.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def possible(text: str) -> str:
    """The text with each character that XML cannot hold replaced by U+FFFD."""
    return _IMPOSSIBLE.sub("\ufffd", text)


def xml(text: str) -> str:
    """Escaped for element content and attributes."""
    return escape(possible(text), quote=True)
