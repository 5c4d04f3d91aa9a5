"""netem set through this codec and through ``tc``: the same bytes in the kernel, attribute by attribute and at random.

``tc`` runs here, and a shim keeps the message that it sends; the message's options go to the core's kernel as they are.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.model.impairment import DelayDistribution
from harness.plan.delay_distribution import fingerprint, table_of
from harness.plan.qdisc_settings import (
    FourStateSettings,
    GilbertElliottSettings,
    NetemSettings,
    SlotSettings,
)
from harness.tests.wan_bench import Notes, make_plan, nodes, placement, pool
from harness.wan.kernel import Kernel
from harness.wan.netem import Tables, attributes, decode, encode
from harness.wan.placement import place_core
from harness.wan.tc_messages import TC_H_ROOT, get_qdisc, read_qdisc, set_qdisc

pytestmark = [pytest.mark.root, pytest.mark.vm]

__all__ = ["placement", "pool"]

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
    int kept = open(getenv("SENT"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    for (size_t i = 0; i < message->msg_iovlen; i++)
        if (write(kept, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len) < 0) _exit(9);
    close(kept);
    return real(fd, message, flags);
}
"""
HANDLE = 0x0001_0000
RTM_NEWQDISC = 36
TCA_OPTIONS = 2


@dataclass
class Trial:
    """An interface of the core's kernel that nothing else uses, and a way to know what ``tc`` sends."""

    kernel: Kernel
    interface: int
    sent_by_tc: Callable[[str], bytes]

    def held_after(self, options: bytes) -> bytes:
        """What a fresh qdisc holds after these options, but for a seed that the kernel drew itself."""
        self.kernel.transact([delete_root(self.interface)] if self._there() else [])
        self.kernel.transact([set_qdisc(self.interface, HANDLE, TC_H_ROOT, "netem", options)])
        return self.held()

    def held(self) -> bytes:
        (answer,) = self.kernel.transact([get_qdisc(self.interface, HANDLE)])
        options = read_qdisc(answer).options
        return options[:-12] if options[-12:-8] == struct.pack("=HH", 12, 14) else options

    def _there(self) -> bool:
        return any(read_qdisc(message)[:2] == (self.interface, HANDLE) for message in self.kernel.dump_qdiscs())


def delete_root(interface: int) -> bytes:
    return struct.pack("=IHHIIBBHiIII", 36, 37, 1, 0, 0, 0, 0, 0, interface, HANDLE, TC_H_ROOT, 0)


@pytest.fixture(scope="module")
def trial(placement: str, pool: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    if shutil.which("gcc") is None or shutil.which("tc") is None:
        pytest.skip("needs gcc and tc")
    scratch = tmp_path_factory.mktemp("shim")
    (scratch / "shim.c").write_text(SHIM)
    shim = scratch / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, scratch / "shim.c", "-ldl"], check=True)

    plan, notes = make_plan("ctrf", 10, 2), Notes()

    def sent_by_tc(line: str) -> bytes:
        kept = scratch / "sent"
        kept.unlink(missing_ok=True)
        environment = {**os.environ, "LD_PRELOAD": str(shim), "SENT": str(kept)}
        # This host's kernel may know no netem: only what tc sends counts.
        command = ["tc", "-n", plan.sites[0].netns, "qdisc", "replace", "dev", "lo", "root", "handle", "1:", "netem"]
        done = subprocess.run([*command, *line.split()], env=environment, capture_output=True, text=True)
        for message in split(kept.read_bytes()):
            if struct.unpack_from("=H", message, 4)[0] == RTM_NEWQDISC:
                return dict(attributes(message, 36))[TCA_OPTIONS]
        raise AssertionError(f"tc sent no qdisc for {line}: {done.stderr}")

    with nodes(plan) as netns:
        core = place_core(placement, 2, notes, tmp_path_factory.mktemp("core"), 11)  # type: ignore[arg-type]
        try:
            core.attach(plan, netns)
            kernel = core._kernel  # type: ignore[attr-defined]
            with kernel.batch() as batch:
                batch.link("add", ifname="trial0", kind="veth", peer="trial1")
            try:
                yield Trial(kernel, kernel.links()["trial0"]["index"], sent_by_tc)
            finally:
                with kernel.batch() as batch:
                    batch.link("del", ifname="trial0")
        finally:
            core.detach()


def split(data: bytes) -> Iterator[bytes]:
    while len(data) >= 16:
        length = struct.unpack_from("=I", data)[0]
        yield data[:length]
        data = data[(length + 3) & ~3 :]


def share(per_mille: int) -> int:
    return round(per_mille / 1000 * (2**32 - 1))


def percent(per_mille: int) -> str:
    return f"{per_mille / 10}%"


Part = tuple[str, dict[str, object]]
PER_MILLE = st.integers(1, 999)


def _delay(delay: int, jitter: int, correlation: int) -> Part:
    line = f"delay {delay}us {jitter}us {percent(correlation)}"
    fields = {"latency_ns": delay * 1000, "jitter_ns": jitter * 1000, "delay_correlation": share(correlation)}
    return line, fields


def _loss(chance: int, correlation: int) -> Part:
    fields = {"loss": share(chance), "loss_correlation": share(correlation)}
    return f"loss random {percent(chance)} {percent(correlation)}", fields


def _gemodel(p: int, r: int, h: int, k: int) -> Part:
    model = GilbertElliottSettings(share(p), share(r), 2**32 - 1 - share(h), share(k))
    return f"loss gemodel {' '.join(map(percent, (p, r, h, k)))}", {"gilbert_elliott": model}


def _state(p13: int, p31: int, p32: int, p23: int, p14: int) -> Part:
    model = FourStateSettings(p13=share(p13), p31=share(p31), p32=share(p32), p23=share(p23), p14=share(p14))
    return f"loss state {' '.join(map(percent, (p13, p31, p32, p23, p14)))}", {"four_state": model}


def _rate(kilobytes: int, overhead: int, cell: int, cell_overhead: int) -> Part:
    fields = {"rate": kilobytes * 1000, "overhead": overhead, "cell_size": cell, "cell_overhead": cell_overhead}
    return f"rate {kilobytes * 8}kbit {overhead} {cell} {cell_overhead}", fields


def _slot(low: int, more: int, packets: int, size: int) -> Part:
    slot = SlotSettings(min_delay_ns=low * 1000, max_delay_ns=(low + more) * 1000, packets=packets, bytes=size)
    return f"slot {low}us {low + more}us packets {packets} bytes {size}", {"slot": slot}


def _chance(word: str, chance: int, correlation: int) -> Part:
    return f"{word} {percent(chance)} {percent(correlation)}", {
        word: share(chance),
        f"{word}_correlation": share(correlation),
    }


def _reorder(chance: int, correlation: int, gap: int) -> Part:
    fields = {"reorder": share(chance), "reorder_correlation": share(correlation), "gap": gap}
    return f"reorder {percent(chance)} {percent(correlation)} gap {gap}", fields


# tc rounds to ticks of 64 ns, of which 8 µs are a whole number.
EIGHTS = st.integers(1, 250_000).map(lambda number: 8 * number)
DELAYS = st.builds(_delay, EIGHTS, EIGHTS, PER_MILLE)
PARTS = {
    "loss": st.one_of(
        st.builds(_loss, PER_MILLE, PER_MILLE),
        st.builds(_gemodel, PER_MILLE, PER_MILLE, PER_MILLE, PER_MILLE),
        st.builds(_state, PER_MILLE, PER_MILLE, PER_MILLE, PER_MILLE, PER_MILLE),
    ),
    "ecn": st.just(("ecn", {"ecn": True})),
    "duplicate": st.builds(lambda chance: (f"duplicate {percent(chance)}", {"duplicate": share(chance)}), PER_MILLE),
    "corrupt": st.builds(_chance, st.just("corrupt"), PER_MILLE, PER_MILLE),
    "reorder": st.builds(_reorder, PER_MILLE, PER_MILLE, st.integers(1, 1000)),
    "rate": st.builds(
        _rate, st.integers(1, 20_000_000), st.integers(-40, 40), st.integers(1, 200), st.integers(-10, 10)
    ),
    "slot": st.builds(_slot, st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 1000), st.integers(1, 10**6)),
}


@st.composite
def everything(draw: st.DrawFn, only: str = "") -> tuple[str, NetemSettings]:
    """A line for tc, and the settings that it means; ``only`` one part, or any of them together."""
    limit = draw(st.integers(1, 2**30))
    parts = [("limit " + str(limit), {"limit": limit})]
    chosen = [only] if only else [name for name in PARTS if draw(st.booleans())]
    # tc refuses reordering without a delay, and marks without a loss.
    if only in ("delay", "reorder") or (not only and draw(st.booleans())) or "reorder" in chosen:
        parts.append(draw(DELAYS))
    if "ecn" in chosen and "loss" not in chosen:
        chosen.insert(0, "loss")
    parts += [draw(PARTS[name]) for name in chosen if name != "delay"]
    fields: dict[str, object] = {}
    for _, part in parts:
        fields.update(part)
    return " ".join(line for line, _ in parts), NetemSettings(**fields)  # type: ignore[arg-type]


BOUNDED = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("only", ["delay", *PARTS])
def test_each_attribute_is_the_same_bytes_by_tc_and_by_this_codec(trial: Trial, only: str) -> None:
    @BOUNDED
    @given(everything(only))
    def same(case: tuple[str, NetemSettings]) -> None:
        compare(trial, *case)

    same()


@settings(parent=BOUNDED, max_examples=20)
@given(case=everything())
def test_combinations_are_the_same_bytes_by_tc_and_by_this_codec(trial: Trial, case: tuple[str, NetemSettings]) -> None:
    compare(trial, *case)


def test_a_correlation_of_duplicates_is_the_same_by_tc(trial: Trial) -> None:
    """tc sends it together with another correlation only."""
    line, fields = _delay(8000, 800, 250)
    twice, more = _chance("duplicate", 100, 300)
    compare(trial, f"limit 7 {line} {twice}", NetemSettings(limit=7, **fields, **more))  # type: ignore[arg-type]


def compare(trial: Trial, line: str, wanted: NetemSettings) -> None:
    by_tc = trial.held_after(trial.sent_by_tc(line))
    by_codec = trial.held_after(encode(wanted))
    assert by_codec == by_tc, line
    assert decode(by_tc)[0] == wanted, line


@BOUNDED
@given(first=everything(), second=everything())
def test_a_change_leaves_nothing_of_what_was_before(
    trial: Trial, first: tuple[str, NetemSettings], second: tuple[str, NetemSettings]
) -> None:
    """But for the reordering's numbers, which say what table there is as long as nothing is reordered."""
    table = Tables(delay=table_of(DelayDistribution()))
    fresh = trial.held_after(encode(second[1], tables=table))
    trial.held_after(encode(first[1]))
    trial.kernel.transact([set_qdisc(trial.interface, HANDLE, TC_H_ROOT, "netem", encode(second[1], tables=table))])
    assert trial.held() == fresh


def test_a_table_and_its_name_stay_together(trial: Trial) -> None:
    """The kernel does not tell which table it has: its name must be there as long as the table is."""
    shape = DelayDistribution(kind="pareto")
    jitter = NetemSettings(limit=9, latency_ns=10**7, jitter_ns=10**6)
    named = jitter._replace(distribution=fingerprint(shape))
    held = trial.held_after(encode(named, tables=Tables(delay=table_of(shape))))
    assert decode(held)[0] == named
    change = set_qdisc(trial.interface, HANDLE, TC_H_ROOT, "netem", encode(jitter._replace(latency_ns=5)))
    trial.kernel.transact([change])
    assert decode(trial.held())[0] == named._replace(latency_ns=5)


def test_a_seed_is_kept_where_the_kernel_knows_seeds(trial: Trial) -> None:
    trial.held_after(encode(NetemSettings(limit=5), seed=123456789))
    (answer,) = trial.kernel.transact([get_qdisc(trial.interface, HANDLE)])
    release = tuple(int(part) for part in trial.kernel.release.split(".")[:2])
    assert decode(read_qdisc(answer).options)[1] == (123456789 if release >= (6, 6) else None)


def test_tables_of_files_reach_the_kernel_as_tc_sends_them(trial: Trial, tmp_path: Path) -> None:
    """tc's own normal table, cut and scaled alike, is what our formula gives, to a hundredth of the jitter."""
    options = trial.sent_by_tc("delay 10ms 1ms distribution normal")
    theirs = dict(attributes(options, 24))[2]
    count = len(theirs) // 2
    ours = struct.unpack("=4096h", table_of(DelayDistribution(kind="normal")))
    for position, entry in enumerate(struct.unpack(f"={count}h", theirs)):
        if 0.01 < position / count < 0.99:
            assert abs(entry - ours[position * 4096 // count]) < 82
