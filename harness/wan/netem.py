"""netem's options as bytes, every one of them (linux/pkt_sched.h), and back.

pyroute2's own netem plugin leaves out every attribute whose value is zero (so that old values stay), cannot set a rate,
and knows nothing above attribute 6. ``register`` replaces it in pyroute2's table of qdisc plugins by this codec; the
qdisc tree puts the same bytes into messages of its own.

What the kernel keeps when an attribute is left out, and what is done about it:

- everything but the loss model and the seed: it is always sent, zeros too;
- the tables of the delay and of the slots, which no change takes away and no dump shows. A link whose delay is uniform
  again gets a uniform table, a link with slots always gets a table. Which table the delay has stands in the correlation
  of a reordering that does not happen (gap 0), which is sent together with a table only, and so stays as long as that
  table does; with reordering the table is always sent, and named in the overhead of cells that are not used.
- ``doubled`` stands in the probability of that reordering.

``cell_overhead`` without ``cell_size`` has no effect, nor has a reordering without a gap: netem_enqueue and
packet_time_ns in net/sched/sch_netem.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

from pyroute2.netlink import nla_base_string
from pyroute2.netlink.rtnl import TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import plugins

from harness.plan.qdisc_settings import (
    U32_MAX,
    FourStateSettings,
    GilbertElliottSettings,
    NetemSettings,
    SlotSettings,
)

CORR, DELAY_DIST, REORDER, CORRUPT, LOSS, RATE, ECN, RATE64 = range(1, 9)
LATENCY64, JITTER64, SLOT, SLOT_DIST, PRNG_SEED = range(10, 15)
_LOSS_GI, _LOSS_GE = 1, 2
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_NS_PER_TICK = 64
_INT_MAX = 2**31 - 1

_QOPT = struct.Struct("=IIIIII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_S64 = struct.Struct("=q")
_PAIR = struct.Struct("=II")
_TRIPLE = struct.Struct("=III")
_RATE_SPEC = struct.Struct("=IiIi")
_GE = struct.Struct("=IIII")
_GI = struct.Struct("=IIIII")
_SLOT = struct.Struct("=qqiiqq")


class Tables(NamedTuple):
    """The tables to send with a change: 16-bit integers, at most 16,384; None: leave what is there."""

    delay: bytes | None = None
    slot: bytes | None = None


NO_TABLES = Tables()


def encode(settings: NetemSettings, seed: int | None = None, tables: Tables = NO_TABLES) -> bytes:
    """The payload of TCA_OPTIONS. ``seed`` is for the packet lottery; linux before 6.6 ignores it silently.

    ``distribution`` and ``doubled`` are noted in the kernel together with ``tables.delay`` only.
    """
    parts = [_fixed(settings)]
    if settings.gap:
        parts.append(attribute(REORDER, _PAIR.pack(settings.reorder, settings.reorder_correlation)))
    elif tables.delay is not None:
        parts.append(attribute(REORDER, _PAIR.pack(settings.doubled, settings.distribution)))
    if tables.delay is not None:
        parts.append(attribute(DELAY_DIST, tables.delay))
    if tables.slot is not None:
        parts.append(attribute(SLOT_DIST, tables.slot))
    if seed is not None:
        parts.append(attribute(PRNG_SEED, _U64.pack(seed)))
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _fixed(settings: NetemSettings) -> bytes:
    """All but what names or is a table, and the seed."""
    parts = [
        _QOPT.pack(
            _ticks(settings.latency_ns),
            settings.limit,
            settings.loss,
            settings.gap,
            settings.duplicate,
            _ticks(settings.jitter_ns),
        ),
        attribute(LATENCY64, _S64.pack(settings.latency_ns)),
        attribute(JITTER64, _S64.pack(settings.jitter_ns)),
        attribute(
            CORR, _TRIPLE.pack(settings.delay_correlation, settings.loss_correlation, settings.duplicate_correlation)
        ),
        attribute(CORRUPT, _PAIR.pack(settings.corrupt, settings.corrupt_correlation)),
    ]
    if settings.four_state is not None:
        parts.append(nested(LOSS, attribute(_LOSS_GI, _GI.pack(*settings.four_state))))
    elif settings.gilbert_elliott is not None:
        parts.append(nested(LOSS, attribute(_LOSS_GE, _GE.pack(*settings.gilbert_elliott))))
    if settings.rate > U32_MAX:
        parts.append(attribute(RATE64, _U64.pack(settings.rate)))
    parts += [
        attribute(
            RATE,
            _RATE_SPEC.pack(
                min(settings.rate, U32_MAX), settings.overhead, settings.cell_size, _signed(_spare_overhead(settings))
            ),
        ),
        attribute(ECN, _U32.pack(settings.ecn)),
        attribute(SLOT, _SLOT.pack(*(settings.slot or SlotSettings()))),
    ]
    return b"".join(parts)


def _spare_overhead(settings: NetemSettings) -> int:
    if settings.cell_size or not settings.gap:
        return settings.cell_overhead
    return settings.distribution


def decode(options: bytes) -> tuple[NetemSettings, int | None]:
    """The settings in a kernel's dump, and the seed (None: that kernel keeps none)."""
    # The seed is the last attribute, and differs between qdiscs that are alike in all else.
    if options[-12:-8] == _SEED_HEADER:
        return _decoded(options[:-12]), _U64.unpack(options[-8:])[0]
    return _decoded(options), None


_SEED_HEADER = _ATTRIBUTE.pack(12, PRNG_SEED)


@lru_cache(maxsize=4096)
def _decoded(options: bytes) -> NetemSettings:
    latency, limit, loss, gap, duplicate, jitter = _QOPT.unpack_from(options)
    found = dict(attributes(options, _QOPT.size))
    correlations = _TRIPLE.unpack(found[CORR]) if CORR in found else (0, 0, 0)
    corrupt = _PAIR.unpack(found[CORRUPT]) if CORRUPT in found else (0, 0)
    reorder = _PAIR.unpack(found[REORDER]) if REORDER in found else (0, 0)
    rate, overhead, cell_size, cell_overhead = _RATE_SPEC.unpack(found[RATE]) if RATE in found else (0, 0, 0, 0)
    if RATE64 in found:
        rate = _U64.unpack(found[RATE64])[0]
    models = dict(attributes(found.get(LOSS, b""), 0))
    jitter_ns = _S64.unpack(found[JITTER64])[0] if JITTER64 in found else jitter * _NS_PER_TICK
    spare = 0 if cell_size else cell_overhead & U32_MAX
    return NetemSettings(
        limit=limit,
        latency_ns=_S64.unpack(found[LATENCY64])[0] if LATENCY64 in found else latency * _NS_PER_TICK,
        jitter_ns=jitter_ns,
        delay_correlation=correlations[0],
        distribution=spare if gap else reorder[1],
        loss=loss,
        loss_correlation=correlations[1],
        gilbert_elliott=GilbertElliottSettings(*_GE.unpack(models[_LOSS_GE])) if _LOSS_GE in models else None,
        four_state=FourStateSettings(*_GI.unpack(models[_LOSS_GI])) if _LOSS_GI in models else None,
        ecn=bool(_U32.unpack(found[ECN])[0]) if ECN in found else False,
        duplicate=duplicate,
        duplicate_correlation=correlations[2],
        corrupt=corrupt[0],
        corrupt_correlation=corrupt[1],
        reorder=reorder[0] if gap else 0,
        reorder_correlation=reorder[1] if gap else 0,
        gap=gap,
        rate=rate,
        overhead=overhead,
        cell_size=cell_size,
        cell_overhead=cell_overhead if cell_size or not gap else 0,
        slot=_slot(found.get(SLOT)),
        doubled=not gap and bool(reorder[0]),
    )


def _slot(data: bytes | None) -> SlotSettings | None:
    if data is None:
        return None
    slot = SlotSettings(*_SLOT.unpack(data))
    return slot if slot != SlotSettings() else None


def attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each netlink attribute from ``offset`` on."""
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, payload: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, payload)


def _ticks(nanoseconds: int) -> int:
    return min(nanoseconds // _NS_PER_TICK, U32_MAX)


def _signed(value: int) -> int:
    return value - (1 << 32) if value > _INT_MAX else value


class NetemOptions(nla_base_string):  # type: ignore[misc]
    """TCA_OPTIONS of netem in pyroute2's messages: the bytes that ``encode`` gives and ``decode`` takes."""

    __slots__ = ()


def _parameters(request: dict[str, Any]) -> bytes:
    return encode(request["settings"], request.get("seed"), request.get("tables", NO_TABLES))


def _fix_request(request: dict[str, Any]) -> None:
    for key in ("settings", "seed", "tables"):
        request.pop(key, None)


def register() -> None:
    """Put this codec in pyroute2's table of qdiscs; idempotent. ``tc(..., kind="netem", settings=NetemSettings)``."""
    plugins["netem"] = SimpleNamespace(
        parent=TC_H_ROOT,
        get_parameters=_parameters,
        options=NetemOptions,
        fix_request=_fix_request,
    )
