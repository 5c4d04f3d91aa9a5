"""rsync over ssh, lftp over sftp with parts, and uftp to one receiver, as Debian ships them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import ClassVar

from harness.model.bench import Transport, WorkloadKind
from harness.nodes.port import Node, RemoteProcess
from harness.suts.peers.file_tool import FileTool, SshTool
from harness.suts.peers.port import Ends, Job
from harness.suts.peers.staging import SSH_PORT, ssh_argv

PARTS = 8
"""Connections that lftp opens side by side."""

UFTP_SHARE = 0.95
"""Of the link's rate, which uftp has to be told: it sends at that whatever happens."""

_UFTP_BUFFER = 4 << 20


class Rsync(SshTool):
    """Whole files, no compression."""

    name = "rsync"
    title = "rsync over ssh"
    programs: tuple[str, ...] = ("rsync", "ssh")
    leftovers: ClassVar[Sequence[str]] = ("[r]sync --server",)

    def argv(self, ends: Ends, job: Job, content: str, place: str) -> list[str]:
        """See FileTool."""
        source = f"{content}/" if job.workload.kind == "small" else content
        remote = shlex.join(ssh_argv(ends.source.data_dir))
        target = f"root@{ends.destination.wan_address}:{place}/"
        return ["rsync", "-a", "--whole-file", "--no-compress", "-e", remote, source, target]


class Lftp(SshTool):
    """Pulls from the destination's side, which is how it splits one file into parts."""

    name = "lftp"
    title = f"lftp, {PARTS} parts over sftp"
    programs: tuple[str, ...] = ("lftp", "ssh")
    leftovers: ClassVar[Sequence[str]] = ("[r]oot@internal-sftp",)
    pulls: ClassVar[bool] = True

    def argv(self, ends: Ends, job: Job, content: str, place: str) -> list[str]:
        """See FileTool."""
        home = ends.destination.data_dir
        # lftp asks for a password on a terminal unless its URL has one, which a key makes idle.
        connect = f"set sftp:connect-program {shlex.quote(shlex.join([*ssh_argv(home), '-a', '-x']))}"
        settings = "set sftp:auto-confirm yes; set net:max-retries 2; set cmd:fail-exit yes; set cmd:interactive no"
        opened = f"open -u root,none -p {SSH_PORT} sftp://{ends.source.wan_address}"
        if job.workload.kind == "small":
            fetch = f"mirror --parallel={PARTS} --no-perms {shlex.quote(content)} {shlex.quote(place)}"
        else:
            fetch = f"pget -n {PARTS} -O {shlex.quote(place)} {shlex.quote(content)}"
        return ["lftp", "--norc", "-c", f"{connect}; {settings}; {opened}; {fetch}"]


class Uftp(FileTool):
    """UDP at a fixed rate to one receiver: without encryption, and without any congestion control."""

    name = "uftp"
    title = f"uftp at {UFTP_SHARE:.0%} of the rate"
    transport: Transport = "udp"
    workloads: frozenset[WorkloadKind] = frozenset({"large", "small"})
    programs: tuple[str, ...] = ("uftp", "uftpd")

    def before(self, ends: Ends, job: Job, place: str) -> RemoteProcess:
        """See FileTool."""
        there = ends.destination
        argv = ["uftpd", "-d", "-p", str(job.port), "-I", there.wan_address, "-D", place, "-B", str(_UFTP_BUFFER)]
        return there.remote.start(f"uftpd-{job.name}", argv)

    def argv(self, ends: Ends, job: Job, content: str, place: str) -> list[str]:
        """See FileTool."""
        rate_kbps = max(1, int(job.rate_bps * UFTP_SHARE / 1000))
        return [
            *("uftp", "-R", str(rate_kbps), "-p", str(job.port), "-I", ends.source.wan_address),
            *("-M", ends.destination.wan_address, "-B", str(_UFTP_BUFFER), "-m", "10", "-N", "100"),
            content,
        ]

    def version(self, node: Node) -> str:
        """See Peer: it only says so as it starts."""
        said = node.remote.run(["dpkg-query", "-W", "-f", "uftp ${Version}", "uftp"], check=False)
        return said.stdout.strip() or "unknown"
