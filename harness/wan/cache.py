"""Where what is built once for this host is kept: images, native programs, proven facts."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path


def cache_directory() -> Path:
    """The user's cache directory of this project; not necessarily there."""
    return user_cache_path("longhaul")
