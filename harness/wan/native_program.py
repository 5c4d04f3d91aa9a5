"""Small C programs of this package, compiled when they are first needed and kept under a hash of their source.

Linked statically, so that a program runs as it is in any root file system: a node's, a container's, the guest's.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

from harness.errors import CoreError
from harness.wan.cache import cache_directory

COMPILER = "gcc"
PACKAGES = "gcc libc6-dev"
_FLAGS = ("-static", "-O2", "-s", "-std=gnu11", "-Wall", "-pthread")
_LIBRARIES = ("-lm",)
_DEADLINE_S = 120


def source_of(source: str) -> bytes:
    """The text of a program of this package; ``source`` is its path below harness/wan, such as ``guest/agent.c``."""
    return resources.files("harness.wan").joinpath(source).read_bytes()


def compiled(source: str) -> Path:
    """The executable made from ``source`` (as in ``source_of``). Safe to call from several processes at a time.

    Raises CoreError when there is no compiler, or with its words when it refuses.
    """
    text = source_of(source)
    recipe = hashlib.sha256(text)
    recipe.update(repr((COMPILER, _FLAGS, _LIBRARIES, platform.machine())).encode())
    program = cache_directory() / "native" / f"{Path(source).stem}-{recipe.hexdigest()[:16]}"
    if not program.exists():
        _compile(source, text, program)
    return program


def _compile(source: str, text: bytes, program: Path) -> None:
    if shutil.which(COMPILER) is None:
        raise CoreError(f"{source} needs a C compiler, and {COMPILER} is missing", hint=f"apt-get install {PACKAGES}")
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=program.parent) as scratch:
        copy, made = Path(scratch) / Path(source).name, Path(scratch) / "program"
        copy.write_bytes(text)
        done = subprocess.run(
            [COMPILER, *_FLAGS, "-o", str(made), str(copy), *_LIBRARIES],
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
        )
        if done.returncode != 0:
            raise CoreError(f"{source} does not compile:\n{done.stderr.strip()}", hint=f"apt-get install {PACKAGES}")
        # Nodes may run it as another user.
        made.chmod(0o755)
        made.replace(program)
