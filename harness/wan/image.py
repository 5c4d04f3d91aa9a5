"""The micro-VM's image: a stock Debian kernel, the few modules that a WAN core needs, and one static program.

Built once from the distribution's own packages and kept in the user's cache directory, under a name that is a hash of
everything that goes in. Refuses to know any package mirror: mmdebstrap uses its default, then this host's apt sources.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CoreError
from harness.wan.cache import cache_directory
from harness.wan.native_program import COMPILER, PACKAGES, compiled, source_of

SUITE = "trixie"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
AGENT = "guest/agent.c"
MODULES = (
    "virtio_net",
    "veth",
    "macvlan",
    "sch_htb",
    "sch_netem",
    "sch_tbf",
    "sch_codel",
    "sch_fq_codel",
    "cls_u32",
    "cls_flow",
    "cls_flower",
    "cls_matchall",
    "act_mirred",
    "act_gact",
    "ifb",
)
MODULE_PARAMETERS = {"ifb.ko": " numifbs=0"}
NEEDED_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "depmod": "kmod",
    "modprobe": "kmod",
    COMPILER: PACKAGES,
}
RECIPE_VERSION = 4
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BUILD_DEADLINE_S = 600

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ImagePaths:
    """What QEMU boots: ``kernel`` for ``-kernel``, ``initramfs`` for ``-initrd``; ``release``: its ``uname -r``."""

    kernel: Path
    initramfs: Path
    release: str
    key: str

    @property
    def directory(self) -> Path:
        """Where the image's files are."""
        return self.kernel.parent


def find_image() -> ImagePaths | None:
    """The built image of the present recipe; None when it has to be built."""
    return _load(cache_directory() / "wan-core" / _recipe_key())


def ensure_image(progress: Progress | None = None, *, rebuild: bool = False) -> ImagePaths:
    """The image, built when it is missing (or on ``rebuild``). Safe to call from several processes at a time.

    ``progress`` gets one line for each step. Raises CoreError when a program is missing or no mirror can be reached.
    """
    tell = progress or _silent
    found = find_image()
    if found is not None and not rebuild:
        return found
    key = _recipe_key()
    parent = cache_directory() / "wan-core"
    parent.mkdir(parents=True, exist_ok=True)
    with build_lock(parent / f"{key}.lock", tell):
        found = _load(parent / key)
        if found is not None and not rebuild:
            return found
        require_programs()
        with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=parent) as scratch:
            _build(Path(scratch), tell)
            if rebuild:
                shutil.rmtree(parent / key, ignore_errors=True)
            (Path(scratch) / "image").rename(parent / key)
    built = _load(parent / key)
    if built is None:
        raise CoreError(f"the image in {parent / key} vanished while it was built")
    return built


def _silent(_: str) -> None:
    return


def _load(directory: Path) -> ImagePaths | None:
    release = directory / "release"
    if not release.is_file():
        return None
    return ImagePaths(directory / "kernel", directory / "initramfs.cpio", release.read_text().strip(), directory.name)


def _recipe_key() -> str:
    recipe = hashlib.sha256(source_of(AGENT))
    recipe.update(repr((RECIPE_VERSION, SUITE, KERNEL_PACKAGE, MODULES, MODULE_PARAMETERS)).encode())
    return recipe.hexdigest()[:16]


def require_programs() -> None:
    """Raise CoreError when this host lacks what builds an image."""
    missing = sorted({package for name, package in NEEDED_PROGRAMS.items() if shutil.which(name) is None})
    if missing:
        packages = " ".join(missing)
        raise CoreError(f"building the WAN core's image needs: {packages}", hint=f"apt-get install {packages}")


@contextmanager
def build_lock(path: Path, tell: Progress) -> Iterator[None]:
    """Alone with a build: another of the same waits until this one is done."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another build of the same image")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(scratch: Path, tell: Progress) -> None:
    image, tree = scratch / "image", scratch / "tree"
    image.mkdir()
    tree.mkdir()
    tell(f"fetching {KERNEL_PACKAGE} of Debian {SUITE}")
    extract_kernel(tree, KERNEL_PACKAGE)
    release = next((tree / "usr/lib/modules").iterdir()).name
    tell(f"unpacking linux {release}")
    (image / "kernel").write_bytes(fastest_kernel((tree / f"boot/vmlinuz-{release}").read_bytes()))
    tell("compiling the guest's agent")
    agent = compiled(AGENT).read_bytes()
    tell("packing the initial file system")
    (image / "initramfs.cpio").write_bytes(initial_file_system(agent, modules_of(tree, release, MODULES)))
    # Written last: an image without it is not used.
    (image / "release").write_text(f"{release}\n")


def extract_kernel(tree: Path, package: str) -> None:
    """Unpack a kernel package of ``SUITE`` into ``tree``, without running its scripts. Raises CoreError."""
    command = ["mmdebstrap", "--variant=extract", f"--include={package}", "--format=tar", SUITE, "-"]
    failed = ""
    for sources in ([], _host_mirror()):
        if sources is None:
            continue
        with tempfile.TemporaryFile() as archive:
            done = subprocess.run(
                [*command, *sources],
                stdin=subprocess.DEVNULL,
                stdout=archive,
                stderr=subprocess.PIPE,
                timeout=_BUILD_DEADLINE_S,
            )
            if done.returncode == 0:
                archive.seek(0)
                unpack = ["tar", "-xf", "-", "-C", str(tree), "--wildcards", "./boot/*", "./usr/lib/modules/*"]
                subprocess.run(unpack, stdin=archive, check=True, timeout=_BUILD_DEADLINE_S)
                return
        failed = done.stderr.decode(errors="replace").strip()
    tail = "\n".join(failed.splitlines()[-5:])
    raise CoreError(
        f"could not fetch {package} of Debian {SUITE} with mmdebstrap:\n{tail}",
        hint="check that this machine reaches a Debian mirror (apt-get update), then try again",
    )


def _host_mirror() -> list[str] | None:
    """The mirror that this host's apt uses for Debian's main archive; None when it cannot be told."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    for line in listed.stdout.splitlines():
        site, _, rest = line.partition(" ")
        if rest.endswith(" main") and "-security" not in rest and "-updates" not in rest:
            return [site]
    return None


def fastest_kernel(bzimage: bytes) -> bytes:
    """The ELF file inside a zstd bzImage: it boots by PVH, and the emulated CPU need not unpack it at every boot.

    Without the zstd program, or with another compression, the bzImage itself: it boots too, half a second slower.
    """
    setup_sectors = bzimage[0x1F1] or 4
    payload_offset, payload_length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + payload_offset
    payload = bzimage[start : start + payload_length]
    if not payload.startswith(_ZSTD_MAGIC) or shutil.which("zstd") is None:
        return bzimage
    # The last four bytes are the unpacked size, which zstd would take for garbage.
    done = subprocess.run(["zstd", "-dc"], input=payload[:-4], capture_output=True, check=True, timeout=60)
    return done.stdout


def modules_of(tree: Path, release: str, wanted: Iterable[str]) -> dict[str, bytes]:
    """Name to content of every module wanted, each after those that it depends on."""
    base = ["-b", str(tree / "usr"), release]
    subprocess.run(["depmod", *base], check=True, capture_output=True, timeout=60)
    found: dict[str, bytes] = {}
    for module in wanted:
        shown = subprocess.run(
            ["modprobe", "-d", str(tree / "usr"), "-S", release, "--show-depends", module],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        for line in shown.stdout.splitlines():
            kind, _, rest = line.partition(" ")
            path = Path(rest.split()[0]) if rest else Path()
            if kind == "insmod":
                packed = path.read_bytes()
                found[path.name.removesuffix(".xz")] = lzma.decompress(packed) if path.suffix == ".xz" else packed
    return found


def initial_file_system(init: bytes, modules: dict[str, bytes]) -> bytes:
    """A cpio archive with ``init`` as /init, and the modules with /modules/order, the paths to load them by."""
    archive = bytearray()
    archive += _cpio_entry("dev", stat.S_IFDIR | 0o755)
    archive += _cpio_entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive += _cpio_entry("modules", stat.S_IFDIR | 0o755)
    for name, content in modules.items():
        archive += _cpio_entry(f"modules/{name}", stat.S_IFREG | 0o644, content)
    order = "".join(f"/modules/{name}{MODULE_PARAMETERS.get(name, '')}\n" for name in modules).encode()
    archive += _cpio_entry("modules/order", stat.S_IFREG | 0o644, order)
    archive += _cpio_entry("init", stat.S_IFREG | 0o755, init)
    archive += _cpio_entry("TRAILER!!!", 0)
    return bytes(archive)


def _cpio_entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One entry of a cpio archive in the kernel's "newc" format."""
    path = os.fsencode(name) + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4)
