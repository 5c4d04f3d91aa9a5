"""What a node has of its own on disk: directories, identity, keys, and the configuration of its sshd."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.model.base import Value
from harness.nodes.commands import SYSTEM_PATH
from harness.nodes.node_clock import install_clock
from harness.nodes.ssh_access import sshd_config, write_key
from harness.plan.addressing import LabPlan, NodePlan, SitePlan

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
IDENTITY_FILES = ("passwd", "shadow", "hosts", "hostname")
"""Files below /etc that a node has of its own."""


class NodeLayout(Value):
    """Where a node's files are, the same path on the host and on the node."""

    root: Path

    @property
    def data(self) -> Path:
        """HOME of its sessions."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """Its logs; also its /var/log."""
        return self.root / "log"

    @property
    def etc(self) -> Path:
        """Its keys and identity files."""
        return self.root / "etc"

    @property
    def tmp(self) -> Path:
        """Its /tmp."""
        return self.root / "tmp"

    @property
    def run(self) -> Path:
        """Its /run."""
        return self.root / "run"


def write_node_files(
    node: NodePlan, layout: NodeLayout, *, client_key: str, accounts: Accounts, hosts: str, with_clock: bool
) -> str:
    """Write a node's directories and files; return its public host key. ``hosts`` is its /etc/hosts."""
    for directory, mode in (
        (layout.root, 0o755),
        (layout.data, 0o755),
        (layout.log, 0o755),
        (layout.etc, 0o755),
        (layout.tmp, 0o1777),
        (layout.run, 0o755),
    ):
        directory.mkdir(parents=True)
        directory.chmod(mode)
    # Where sshd notes interactive logins; it complains on the user's terminal when there is none.
    (layout.log / "lastlog").touch()
    for name, content in (*accounts.files(layout), ("hosts", hosts), ("hostname", node.name + "\n")):
        path = layout.etc / name
        path.write_text(content)
        path.chmod(0o600 if name == "shadow" else 0o644)
    public = write_key(layout.etc / "host_key")
    authorized = layout.etc / "authorized_keys"
    authorized.write_text(client_key + "\n")
    authorized.chmod(0o600)
    config = sshd_config(
        address=str(node.management_address),
        host_key=layout.etc / "host_key",
        authorized_keys=authorized,
        environment={
            "PATH": session_path(),
            "LANG": "C.UTF-8",
            "LONGHAUL_SITE": node.site,
            "LONGHAUL_NODE": node.name,
            **(install_clock(layout.etc) if with_clock else {}),
        },
    )
    (layout.etc / "sshd_config").write_text(config)
    return public


def session_path() -> str:
    """PATH of every command on a node: this Python's programs (``syncer`` is one) before the system's."""
    return f"{Path(sys.prefix) / 'bin'}:{SYSTEM_PATH}"


class Accounts(Value):
    """The host's accounts but for root, which on a node lives in the data directory and may log in by key."""

    passwd: str
    shadow: str

    def files(self, layout: NodeLayout) -> tuple[tuple[str, str], ...]:
        """Names below /etc and contents, with root's own line."""
        # Without PAM, sshd takes "!" for a locked account and refuses its keys too.
        return (
            ("passwd", f"root:x:0:0:root:{layout.data}:/bin/bash\n{self.passwd}"),
            ("shadow", f"root:*:19000:0:99999:7:::\n{self.shadow}"),
        )


def host_accounts() -> Accounts:
    """As this host has them now."""
    return Accounts(passwd=_without_root(Path("/etc/passwd")), shadow=_without_root(Path("/etc/shadow")))


def _without_root(path: Path) -> str:
    return "".join(f"{line}\n" for line in path.read_text().splitlines() if not line.startswith("root:"))


def hosts_file(plan: LabPlan, viewer: SitePlan) -> str:
    """Every node by name, with both its addresses, as they are seen from one site."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for site in plan.sites:
        for node in site.nodes:
            lines.append(f"{node.address if site is viewer else node.public_address} {node.name}")
            if node.address6 is not None:
                lines.append(f"{node.address6} {node.name}")
    return "\n".join(lines) + "\n"


def paths_that_nodes_need(root: Path) -> list[Path]:
    """What must stay visible on a node although it may lie below /tmp or /run of the host."""
    paths = {
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(os.path.realpath(sys.executable)).parent,
        _PACKAGE_ROOT,
        root,
    }
    return sorted(path for path in paths if path.is_dir() or path == root)
