"""Traffic control's netlink messages as bytes: what a full mesh of links needs by the ten thousand.

Only what the qdisc tree sends and reads (linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h). A message begins with
its header, whose sequence number the kernel's exchange fills in.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from harness.plan.qdisc_settings import U32_MAX, CodelSettings, TbfSettings
from harness.wan.netem import attribute, attributes, nested

RTM_NEWQDISC, RTM_GETQDISC = 36, 38
RTM_NEWTCLASS = 40
RTM_NEWTFILTER, RTM_DELTFILTER = 44, 45
RTM_NEWLINK, RTM_DELLINK = 16, 17
TC_H_ROOT = 0xFFFFFFFF
ETH_P_ALL = 0x0003
_REQUEST, _CREATE, _EXCLUSIVE, _REPLACE, _ECHO = 0x1, 0x400, 0x200, 0x100, 0x8
_HEADER = struct.Struct("=IHHII")
_TCMSG = struct.Struct("=BBHiIII")
_IFINFOMSG = struct.Struct("=BBHiII")
_BODY = _HEADER.size + _TCMSG.size
_KIND, _OPTIONS, _STATS2, _STAB = 1, 2, 7, 8
_STATS_BASIC, _STATS_QUEUE, _STATS_APP, _STATS_PACKETS64 = 1, 3, 4, 8
_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")
_HTB_PARMS, _HTB_INIT = 1, 2
_RATE_SPEC = struct.Struct("=BBHhHI")
_LINKLAYER_ETHERNET, _LINKLAYER_ATM = 1, 2
_NS_PER_TICK = 64
_HTB_BURST_TICKS = 5_000
"""320 µs at the class's rate: more than a megabyte, so that HTB never holds a packet back."""
_HTB_QUANTUM = 60_000
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_TBF = struct.Struct("=12s12sIII")
_STAB_BASE = 1
_SIZE_SPEC = struct.Struct("=BBhiIIII")
_CODEL = {"target": 1, "limit": 2, "interval": 3, "ecn": 4}
_CODEL_XSTATS = struct.Struct("=IIIIiIII")
_FQ_CODEL_XSTATS = struct.Struct("=IIII")
_FLOW_KEYS, _FLOW_MODE, _FLOW_BASECLASS = 1, 2, 3
_FLOW_MODE_MAP, _FLOW_KEY_IIF = 0, 1 << 5
_FLOWER_CLASSID, _FLOWER_INDEV, _FLOWER_ACT = 1, 2, 3
_ACT_KIND, _ACT_OPTIONS = 1, 2
_GACT_PARMS, _MIRRED_PARMS = 2, 2
_ACT_OK, _ACT_STOLEN = 0, 4
_EGRESS_REDIR = 1
_GACT = struct.Struct("=IIiii")
_MIRRED = struct.Struct("=IIiiiiI")
_IFLA_IFNAME, _IFLA_TXQLEN, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 13, 18, 1
_IFF_UP, _IFF_NOARP = 0x1, 0x80
_FIRST_QUEUE = 1000


class Qdisc(NamedTuple):
    """One qdisc in the kernel's dump. ``options`` and ``statistics`` are the payloads of its attributes."""

    interface: int
    handle: int
    parent: int
    kind: str
    options: bytes
    statistics: bytes


class Statistics(NamedTuple):
    """A qdisc's counters. ``tail_drops`` and ``marks`` are an active queue's; of its ``drops`` they are a part."""

    packets: int
    bytes: int
    drops: int
    overlimits: int
    queue_packets: int
    queue_bytes: int
    tail_drops: int = 0
    marks: int = 0


def set_qdisc(interface: int, handle: int, parent: int, kind: str, options: bytes) -> bytes:
    """Make this qdisc, put it in another's place, or change it, whichever it takes."""
    body = _kind(kind) + attribute(_OPTIONS, options)
    return _tc(RTM_NEWQDISC, _CREATE | _REPLACE, interface, handle, parent, 0, body)


def get_qdisc(interface: int, handle: int) -> bytes:
    """Ask for one qdisc."""
    return _tc(RTM_GETQDISC, _ECHO, interface, handle, 0, 0, b"")


def add_sorter(interface: int, handle: int, default_class: int, size_correction: int) -> bytes:
    """HTB as the root of an interface; what no filter knows goes to the default class. ``size_correction`` bytes are
    added to what every qdisc of the interface takes for a packet's size (only a root can do that)."""
    init = struct.pack("=IIIII", 3, 10, default_class & 0xFFFF, 0, 0)
    sizes = nested(_STAB, attribute(_STAB_BASE, _SIZE_SPEC.pack(0, 0, 0, size_correction, 0, 0, 0, 0)))
    body = _kind("htb") + nested(_OPTIONS, attribute(_HTB_INIT, init)) + sizes
    return _tc(RTM_NEWQDISC, _CREATE | _EXCLUSIVE, interface, handle, TC_H_ROOT, 0, body)


def add_class(interface: int, class_id: int, parent: int, rate: int) -> bytes:
    """One of HTB's classes, which may take ``rate`` bytes per second."""
    return _tc(RTM_NEWTCLASS, _CREATE | _EXCLUSIVE, interface, class_id, parent, 0, _class_body(rate))


@lru_cache(maxsize=8)
def _class_body(rate: int) -> bytes:
    spec = _RATE_SPEC.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, rate)
    parms = spec + spec + struct.pack("=IIIII", _HTB_BURST_TICKS, _HTB_BURST_TICKS, _HTB_QUANTUM, 0, 0)
    return _kind("htb") + nested(_OPTIONS, attribute(_HTB_PARMS, parms))


def sort_by_interface(interface: int, parent: int, priority: int, number: int, first_class: int) -> bytes:
    """A filter that puts a packet into class ``first_class`` plus the number of the interface that it came in by."""
    options = (
        attribute(_FLOW_KEYS, _U32.pack(_FLOW_KEY_IIF))
        + attribute(_FLOW_MODE, _U32.pack(_FLOW_MODE_MAP))
        + attribute(_FLOW_BASECLASS, _U32.pack(first_class))
    )
    return _filter(RTM_NEWTFILTER, interface, parent, priority, number, "flow", options)


def sort_one_interface(
    interface: int, parent: int, priority: int, number: int, came_in_by: str, class_id: int
) -> bytes:
    """A filter that puts what came in by the named interface into a class.

    Its action does nothing but end the mark that an IFB leaves on a packet, for which receivers would hide it from
    captures.
    """
    options = attribute(_FLOWER_INDEV, came_in_by.encode() + b"\0") + attribute(_FLOWER_CLASSID, _U32.pack(class_id))
    gact = attribute(_GACT_PARMS, _GACT.pack(0, 0, _ACT_OK, 0, 0))
    options += nested(_FLOWER_ACT, _action("gact", gact))
    return _filter(RTM_NEWTFILTER, interface, parent, priority, number, "flower", options)


def redirect_one_interface(
    interface: int, parent: int, priority: int, number: int, came_in_by: str, target: int
) -> bytes:
    """A filter that hands what came in by the named interface to interface ``target`` instead."""
    mirred = attribute(_MIRRED_PARMS, _MIRRED.pack(0, 0, _ACT_STOLEN, 0, 0, _EGRESS_REDIR, target))
    options = attribute(_FLOWER_INDEV, came_in_by.encode() + b"\0") + nested(_FLOWER_ACT, _action("mirred", mirred))
    return _filter(RTM_NEWTFILTER, interface, parent, priority, number, "flower", options)


def delete_filter(interface: int, parent: int, priority: int, number: int, kind: str) -> bytes:
    """Take one filter away."""
    return _filter(RTM_DELTFILTER, interface, parent, priority, number, kind, None)


def add_ifb(name: str) -> bytes:
    """An intermediate functional block: gives back what is redirected to it, after its qdisc. It is up at once."""
    body = attribute(_IFLA_IFNAME, name.encode() + b"\0") + attribute(_IFLA_TXQLEN, _U32.pack(_FIRST_QUEUE))
    body += nested(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"ifb\0"))
    header = _IFINFOMSG.pack(0, 0, 0, 0, _IFF_UP | _IFF_NOARP, _IFF_UP | _IFF_NOARP)
    return _message(RTM_NEWLINK, _CREATE | _EXCLUSIVE, header + body)


def delete_link(index: int) -> bytes:
    """Take an interface away."""
    return _message(RTM_DELLINK, 0, _IFINFOMSG.pack(0, 0, 0, index, 0, 0))


def tbf_options(settings: TbfSettings) -> bytes:
    """The payload of TCA_OPTIONS."""
    layer = _LINKLAYER_ATM if settings.atm else _LINKLAYER_ETHERNET
    spec = _RATE_SPEC.pack(0, layer, settings.overhead, 0, 0, min(settings.rate, U32_MAX))
    buffer_ticks = min(settings.burst * 10**9 // settings.rate // _NS_PER_TICK, U32_MAX)
    options = attribute(_TBF_PARMS, _TBF.pack(spec, bytes(12), settings.limit, buffer_ticks, 0))
    if settings.rate > U32_MAX:
        options += attribute(_TBF_RATE64, _U64.pack(settings.rate))
    return options + attribute(_TBF_BURST, _U32.pack(settings.burst))


def read_tbf(qdisc: Qdisc) -> TbfSettings:
    """The settings in a dump, but for the burst, which the kernel gives back as a rounded time: it is 0."""
    found = dict(attributes(qdisc.options, 0))
    spec, _, limit, _, _ = _TBF.unpack(found[_TBF_PARMS])
    _, layer, overhead, _, _, rate = _RATE_SPEC.unpack(spec)
    if _TBF_RATE64 in found:
        rate = _U64.unpack(found[_TBF_RATE64])[0]
    return TbfSettings(rate=rate, burst=0, limit=limit, overhead=overhead, atm=layer & 0xF == _LINKLAYER_ATM)


def codel_options(settings: CodelSettings) -> bytes:
    """The payload of TCA_OPTIONS."""
    values = {
        "target": _codel_time(settings.target_us),
        "limit": settings.limit,
        "interval": _codel_time(settings.interval_us),
        "ecn": int(settings.ecn),
    }
    return b"".join(attribute(_CODEL[name], _U32.pack(value)) for name, value in values.items())


def _codel_time(microseconds: int) -> int:
    """The kernel rounds down to units of 1024 ns, and down to microseconds when it gives them back: what to send so
    that ``microseconds`` come back."""
    units = -(-microseconds * 1000 // 1024)
    return -(-units * 1024 // 1000)


def read_codel(qdisc: Qdisc) -> CodelSettings:
    """The settings in a dump."""
    found = {kind: _U32.unpack_from(data)[0] for kind, data in attributes(qdisc.options, 0) if len(data) >= 4}
    return CodelSettings(
        kind="codel" if qdisc.kind == "codel" else "fq_codel",
        limit=found[_CODEL["limit"]],
        target_us=found[_CODEL["target"]],
        interval_us=found[_CODEL["interval"]],
        ecn=bool(found[_CODEL["ecn"]]),
    )


def read_qdisc(message: bytes) -> Qdisc:
    """One RTM_NEWQDISC of a dump."""
    _, _, _, interface, handle, parent, _ = _TCMSG.unpack_from(message, _HEADER.size)
    kind, options, statistics = "", b"", b""
    for number, data in attributes(message, _BODY):
        if number == _OPTIONS:
            options = data
        elif number == _STATS2:
            statistics = data
        elif number == _KIND:
            kind = data.rstrip(b"\0").decode()
    return Qdisc(interface, handle, parent, kind, options, statistics)


def read_statistics(qdisc: Qdisc) -> Statistics:
    """A qdisc's counters."""
    found = dict(attributes(qdisc.statistics, 0))
    size, packets = struct.unpack_from("=QI", found[_STATS_BASIC])
    if _STATS_PACKETS64 in found:
        packets = _U64.unpack(found[_STATS_PACKETS64])[0]
    queued, backlog, drops, _, overlimits = struct.unpack_from("=IIIII", found[_STATS_QUEUE])
    tail_drops = marks = 0
    own = found.get(_STATS_APP, b"")
    if qdisc.kind == "codel" and len(own) >= _CODEL_XSTATS.size:
        *_, tail_drops, marks, _ = _CODEL_XSTATS.unpack_from(own)
    elif qdisc.kind == "fq_codel" and len(own) >= _FQ_CODEL_XSTATS.size:
        _, _, tail_drops, marks = _FQ_CODEL_XSTATS.unpack_from(own)
    return Statistics(packets, size, drops, overlimits, queued, backlog, tail_drops, marks)


def _action(kind: str, options: bytes) -> bytes:
    return nested(1, attribute(_ACT_KIND, kind.encode() + b"\0") + nested(_ACT_OPTIONS, options))


def _filter(
    what: int, interface: int, parent: int, priority: int, number: int, kind: str, options: bytes | None
) -> bytes:
    info = priority << 16 | ETH_P_ALL << 8
    body = _kind(kind) + (b"" if options is None else nested(_OPTIONS, options))
    flags = _CREATE | _EXCLUSIVE if what == RTM_NEWTFILTER else 0
    return _tc(what, flags, interface, number, parent, info, body)


@lru_cache(maxsize=16)
def _kind(kind: str) -> bytes:
    return attribute(_KIND, kind.encode() + b"\0")


def _tc(what: int, flags: int, interface: int, handle: int, parent: int, info: int, body: bytes) -> bytes:
    return _message(what, flags, _TCMSG.pack(0, 0, 0, interface, handle, parent, info) + body)


def _message(what: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), what, _REQUEST | flags, 0, 0) + body
