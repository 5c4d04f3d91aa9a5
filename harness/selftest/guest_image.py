"""What the guest of a self-test boots: a stock Debian kernel with all its modules, and one static program.

The guest's root is this host's own file system, exported read-only; only the kernel has to be fetched. It is the
distribution's general kernel, the one that most users run: the smaller one for clouds lacks 9p.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CoreError
from harness.wan.cache import cache_directory
from harness.wan.image import (
    SUITE,
    Progress,
    build_lock,
    extract_kernel,
    fastest_kernel,
    initial_file_system,
    modules_of,
    require_programs,
)
from harness.wan.native_program import compiled, source_of

KERNEL_PACKAGE = "linux-image-amd64"
FIRST_PROCESS = "guest/full_root.c"
BOOT_MODULES = ("9p", "9pnet_virtio", "overlay")
_RECIPE_VERSION = 1


@dataclass(frozen=True)
class GuestImage:
    """``kernel`` is for QEMU's ``-kernel``, ``initramfs`` for ``-initrd``; ``release``: its ``uname -r``."""

    directory: Path
    release: str

    @property
    def kernel(self) -> Path:
        """The kernel's image."""
        return self.directory / "kernel"

    @property
    def initramfs(self) -> Path:
        """The initial file system."""
        return self.directory / "initramfs.cpio"

    @property
    def modules(self) -> Path:
        """What the guest mounts on /lib/modules."""
        return self.directory / "modules"


def ensure_guest_image(progress: Progress) -> GuestImage:
    """The image, built when it is missing. Safe to call from several processes at a time. Raises CoreError."""
    parent = cache_directory() / "selftest"
    directory = parent / _recipe_key()
    found = _load(directory)
    if found is not None:
        return found
    parent.mkdir(parents=True, exist_ok=True)
    with build_lock(parent / f"{directory.name}.lock", progress):
        found = _load(directory)
        if found is not None:
            return found
        require_programs()
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=parent) as scratch:
            _build(Path(scratch), progress)
            shutil.rmtree(directory, ignore_errors=True)
            (Path(scratch) / "image").rename(directory)
    built = _load(directory)
    if built is None:
        raise CoreError(f"the image in {directory} vanished while it was built")
    return built


def _load(directory: Path) -> GuestImage | None:
    try:
        return GuestImage(directory, (directory / "release").read_text().strip())
    except FileNotFoundError:
        return None


def _recipe_key() -> str:
    recipe = hashlib.sha256(source_of(FIRST_PROCESS))
    recipe.update(repr((_RECIPE_VERSION, SUITE, KERNEL_PACKAGE, BOOT_MODULES)).encode())
    return recipe.hexdigest()[:16]


def _build(scratch: Path, progress: Progress) -> None:
    image, tree = scratch / "image", scratch / "tree"
    image.mkdir()
    tree.mkdir()
    progress(f"fetching {KERNEL_PACKAGE} of Debian {SUITE}")
    extract_kernel(tree, KERNEL_PACKAGE)
    release = next((tree / "usr/lib/modules").iterdir()).name
    progress(f"unpacking linux {release}")
    (image / "kernel").write_bytes(fastest_kernel((tree / f"boot/vmlinuz-{release}").read_bytes()))
    boot_modules = modules_of(tree, release, BOOT_MODULES)
    first = compiled(FIRST_PROCESS).read_bytes()
    (image / "initramfs.cpio").write_bytes(initial_file_system(first, boot_modules))
    subprocess.run(["mv", str(tree / "usr/lib/modules"), str(image / "modules")], check=True)
    # Written last: an image without it is not used.
    (image / "release").write_text(f"{release}\n")
