"""The self-test in a guest, as the host sees it: an order, a machine, and a record of what became of each part."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from harness.errors import CoreError, ExitCode, InputError
from harness.model.base import Value
from harness.model.measurement import Depth
from harness.selftest.certificate import Certificates
from harness.selftest.guest import RESULTS, Accelerator, Event, GuestProgram, require_root, run_guest
from harness.selftest.guest_image import ensure_guest_image
from harness.selftest.parts import (
    OF_A_CHECKOUT,
    GuestOrder,
    PartName,
    PartOutcome,
    merged_exit_code,
    order_part,
)
from harness.wan.image import ensure_image
from harness.wan.machine import choose_accelerator, known_kvm

ORDER = "order.json"
_CHECKOUT = Path(__file__).resolve().parents[2]
_HIDDEN = (Path("/run"), Path("/dev"), Path("/proc"), Path("/sys"), Path("/var/lib/longhaul"), RESULTS)
"""What the guest has of its own in these places: nothing of the host's is seen below them."""

_PASSED_ON = ("HOME", "LANG", "XDG_CACHE_HOME")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Tell = Callable[[Event], None]


class GuestRecord(Value):
    """A self-test in a guest. ``results`` is the directory on the host with the logs of every part."""

    kernel: str
    accelerator: Accelerator
    results: str
    parts: tuple[PartOutcome, ...]
    certificates: Certificates | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The worst of all parts."""
        return merged_exit_code(self.parts)


def run_in_guest(
    parts: Sequence[PartName],
    results: Path,
    *,
    topologies: Sequence[str],
    seed: int,
    depth: Depth,
    deadline_s: float,
    on_event: Tell,
    progress: Callable[[str], None],
) -> GuestRecord:
    """Run the parts in a guest whose kernel has netem, with the WAN core in a namespace of it.

    ``results`` is made, or is empty. ``on_event`` is given the events of harness.selftest.inside. Raises CoreError when
    the guest cannot be built or dies, InputError for parts that an installed package does not have.
    """
    require_root(os.geteuid())
    _require_visible()
    _require_checkout(parts)
    results.mkdir(parents=True, exist_ok=True)
    image = ensure_guest_image(progress)
    accelerator = _accelerator(progress)
    orders = tuple(
        order_part(name, sys.executable, str(RESULTS), topologies=topologies, seed=seed, depth=depth) for name in parts
    )
    environment = {"PATH": f"{Path(sys.executable).parent}:{_PATH}", "PYTHONUNBUFFERED": "1"}
    environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    order = GuestOrder(environment=environment, results=str(RESULTS), parts=orders)
    (results / ORDER).write_text(order.model_dump_json(indent=2))
    outcomes: list[PartOutcome] = []
    kernel: dict[str, str] = {}

    def heard(event: Event) -> None:
        if event["event"] == "kernel":
            kernel.update(release=event["release"], lacks=event["lacks"])
        if event["event"] == "end":
            outcomes.append(PartOutcome.model_validate(event["outcome"]))
        on_event(event)

    progress(f"booting linux {image.release} ({'KVM' if accelerator == 'kvm' else 'emulated'})")
    program = (sys.executable, "-m", "harness.selftest.inside", f"{RESULTS}/{ORDER}")
    status = run_guest(
        image, GuestProgram(program, _CHECKOUT, results), accelerator, deadline_s=deadline_s, on_event=heard
    )
    if status != 0 or len(outcomes) < len(parts):
        why = kernel.get("lacks") or f"it ended with exit status {status} after {len(outcomes)} of {len(parts)} parts"
        raise CoreError(f"the guest did not run its parts: {why}", hint=f"its output is in {results}")
    return GuestRecord(
        kernel=kernel["release"],
        accelerator=accelerator,
        results=str(results),
        parts=tuple(outcomes),
        certificates=_certificates(results / "certificate.json"),
    )


def _accelerator(progress: Callable[[str], None]) -> Accelerator:
    proven = known_kvm()
    if proven is None:
        return choose_accelerator(ensure_image(progress))
    return "kvm" if proven else "tcg"


def _certificates(path: Path) -> Certificates | None:
    return Certificates.model_validate_json(path.read_text()) if path.exists() else None


def _require_visible() -> None:
    """The guest sees this program where the host has it, but for the places that it has of its own."""
    for path in (Path(sys.prefix), Path(sys.base_prefix), _CHECKOUT):
        if any(path.is_relative_to(place) for place in _HIDDEN):
            raise InputError(f"a guest does not see {path}", hint="install outside of /run and /mnt")


def _require_checkout(parts: Sequence[PartName]) -> None:
    missing = [name for name in parts if name in OF_A_CHECKOUT and not (_CHECKOUT / "harness/tests").is_dir()]
    if missing:
        raise InputError(
            f"this is an installed package, without tests: no {', '.join(missing)}",
            hint="clone the project, or choose --only certificate,smoke",
        )
    if any(name in OF_A_CHECKOUT for name in parts) and find_spec("pytest") is None:
        raise InputError("the tests need pytest, which is not installed", hint="pip install -e '.[dev]'")
