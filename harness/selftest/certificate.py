"""Labs measured for their own sake: each topology is built, its WAN is certified, and the lab is taken down.

Usage, in a guest: ``python -m harness.selftest.certificate WAN RESULT.json SEED DEPTH TOPOLOGY...``. Exit status 4
when a link is not as asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from harness.config.shipped import find_topology
from harness.config.topology_file import load_topology
from harness.errors import ExitCode
from harness.lab.lab import Lab
from harness.model.base import Value
from harness.model.measurement import Certificate, Depth
from harness.model.verdict import Verdict

Wan = Literal["auto", "netns", "vm"]


class LabCertificate(Value):
    """What was measured on the links of one lab, and where its core ran."""

    topology: str
    placement: str
    kernel: str
    seed: int
    certificate: Certificate


class Certificates(Value):
    """One for each topology."""

    labs: tuple[LabCertificate, ...]

    @property
    def valid(self) -> bool:
        """Whether no lab is other than asked; there must be one. What a busy machine leaves undecided is told."""
        return bool(self.labs) and all(lab.certificate.verdict is not Verdict.INVALID for lab in self.labs)


def certify(
    topologies: Sequence[str], wan: Wan, seed: int, depth: Depth, progress: Callable[[str], None]
) -> Certificates:
    """Build, measure and take down a lab for each topology (a file or a shipped name).

    Raises InputError for an unknown topology, LabError when a lab breaks.
    """
    models = {name: load_topology(find_topology(name)) for name in topologies}
    labs = []
    for name, model in models.items():
        progress(f"building {name}")
        lab = Lab.up(model, wan=wan, seed=seed, progress=progress)
        try:
            certificate = lab.measure(progress=progress, calibrate=depth)
            labs.append(
                LabCertificate(
                    topology=name,
                    placement=lab.core.placement,
                    kernel=lab.core.kernel_release,
                    seed=seed,
                    certificate=certificate,
                )
            )
        finally:
            lab.down()
    return Certificates(labs=tuple(labs))


def main() -> int:
    """See the module."""
    wan, result, seed, depth, *topologies = sys.argv[1:]
    if wan not in get_args(Wan) or depth not in get_args(Depth):
        raise ValueError(f"no such placement or depth: {wan}, {depth}")
    said = partial(print, flush=True)
    found = certify(topologies, wan, int(seed), depth, said)  # type: ignore[arg-type]
    Path(result).write_text(found.model_dump_json(indent=2))
    for lab in found.labs:
        for link in lab.certificate.links:
            undecided = f"undecided: {', '.join(link.undecided)}" if link.undecided else ""
            print(" ".join(filter(None, (f"{lab.topology} {link.name}: {link.verdict_word}", link.reason, undecided))))
    return ExitCode.PASSED if found.valid else ExitCode.INVALID


if __name__ == "__main__":
    sys.exit(main())
