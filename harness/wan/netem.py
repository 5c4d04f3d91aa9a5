"""netem's netlink options, complete enough to set and read everything that a plan uses.

pyroute2's own netem plugin leaves out every attribute whose value is zero (so that old values stay), cannot set a rate,
and knows nothing above attribute 6. This one replaces it in pyroute2's table of qdisc plugins.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pyroute2.netlink import NLA_F_NESTED, nla
from pyroute2.netlink.rtnl import TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import plugins

from harness.plan.shaping import U32_MAX, GilbertElliottSettings, NetemSettings

_NS_PER_TICK = 64


class NetemOptions(nla):  # type: ignore[misc]
    """``struct tc_netem_qopt`` and the attributes after it (linux/pkt_sched.h)."""

    fields = (
        ("latency", "I"),
        ("limit", "I"),
        ("loss", "I"),
        ("gap", "I"),
        ("duplicate", "I"),
        ("jitter", "I"),
    )
    nla_map = (
        ("TCA_NETEM_UNSPEC", "none"),
        ("TCA_NETEM_CORR", "correlation"),
        ("TCA_NETEM_DELAY_DIST", "cdata"),
        ("TCA_NETEM_REORDER", "chance"),
        ("TCA_NETEM_CORRUPT", "chance"),
        ("TCA_NETEM_LOSS", "loss_model"),
        ("TCA_NETEM_RATE", "rate"),
        ("TCA_NETEM_ECN", "uint32"),
        ("TCA_NETEM_RATE64", "uint64"),
        ("TCA_NETEM_PAD", "none"),
        ("TCA_NETEM_LATENCY64", "int64"),
        ("TCA_NETEM_JITTER64", "int64"),
        ("TCA_NETEM_SLOT", "slot"),
        ("TCA_NETEM_SLOT_DIST", "cdata"),
        ("TCA_NETEM_PRNG_SEED", "uint64"),
    )

    class correlation(nla):  # type: ignore[misc]
        fields = (("delay", "I"), ("loss", "I"), ("duplicate", "I"))

    class chance(nla):  # type: ignore[misc]
        fields = (("probability", "I"), ("correlation", "I"))

    class loss_model(nla):  # type: ignore[misc]
        nla_flags = NLA_F_NESTED
        nla_map = (
            ("NETEM_LOSS_UNSPEC", "none"),
            ("NETEM_LOSS_GI", "four_state"),
            ("NETEM_LOSS_GE", "gilbert_elliott"),
        )

        class four_state(nla):  # type: ignore[misc]
            fields = (("p13", "I"), ("p31", "I"), ("p32", "I"), ("p14", "I"), ("p23", "I"))

        class gilbert_elliott(nla):  # type: ignore[misc]
            fields = (("p", "I"), ("r", "I"), ("h", "I"), ("k1", "I"))

    class rate(nla):  # type: ignore[misc]
        fields = (("rate", "I"), ("packet_overhead", "i"), ("cell_size", "I"), ("cell_overhead", "i"))

    class slot(nla):  # type: ignore[misc]
        fields = (
            ("min_delay", "q"),
            ("max_delay", "q"),
            ("max_packets", "i"),
            ("max_bytes", "i"),
            ("dist_delay", "q"),
            ("dist_jitter", "q"),
        )


def encode(settings: NetemSettings, seed: int | None = None) -> dict[str, Any]:
    """The options as pyroute2 takes them, every attribute explicit.

    A loss model is cleared by leaving it out (the kernel then goes back to independent loss); all else needs its zero.
    ``seed`` is for the kernel's packet lottery; linux before 6.6 ignores it silently.
    """
    attributes: list[tuple[str, Any]] = [
        ("TCA_NETEM_LATENCY64", settings.latency_ns),
        ("TCA_NETEM_JITTER64", settings.jitter_ns),
        ("TCA_NETEM_CORR", {"delay": 0, "loss": 0, "duplicate": 0}),
        ("TCA_NETEM_REORDER", {"probability": 0, "correlation": 0}),
        ("TCA_NETEM_CORRUPT", {"probability": 0, "correlation": 0}),
    ]
    if settings.gilbert_elliott is not None:
        model = settings.gilbert_elliott.model_dump()
        attributes.append(("TCA_NETEM_LOSS", {"attrs": [("NETEM_LOSS_GE", model)]}))
    if settings.rate > U32_MAX:
        attributes.append(("TCA_NETEM_RATE64", settings.rate))
    rate = {
        "rate": min(settings.rate, U32_MAX),
        "packet_overhead": settings.overhead,
        "cell_size": 0,
        "cell_overhead": 0,
    }
    attributes += [("TCA_NETEM_RATE", rate), ("TCA_NETEM_ECN", 0)]
    if seed is not None:
        attributes.append(("TCA_NETEM_PRNG_SEED", seed))
    return {
        "latency": _ticks(settings.latency_ns),
        "limit": settings.limit,
        "loss": settings.loss,
        "gap": 0,
        "duplicate": 0,
        "jitter": _ticks(settings.jitter_ns),
        "attrs": attributes,
    }


def decode(options: Any) -> NetemSettings:
    """The settings in a kernel's dump. Raises ValueError when it does something that no plan asks for."""
    rate = options.get_attr("TCA_NETEM_RATE") or {"rate": 0, "packet_overhead": 0}
    model = options.get_attr("TCA_NETEM_LOSS")
    burst = model.get_attr("NETEM_LOSS_GE") if model is not None else None
    settings = NetemSettings(
        limit=options["limit"],
        latency_ns=_time(options, "TCA_NETEM_LATENCY64", "latency"),
        jitter_ns=_time(options, "TCA_NETEM_JITTER64", "jitter"),
        loss=options["loss"],
        gilbert_elliott=None
        if burst is None
        else GilbertElliottSettings(p=burst["p"], r=burst["r"], h=burst["h"], k1=burst["k1"]),
        rate=options.get_attr("TCA_NETEM_RATE64") or rate["rate"],
        overhead=rate["packet_overhead"],
    )
    strange = [name for name, value in _unplanned(options) if value]
    if strange:
        raise ValueError(f"netem also does {', '.join(strange)}, which no plan asks for")
    return settings


def seed_of(options: Any) -> int | None:
    """The seed in a kernel's dump; None when that kernel keeps none."""
    seed = options.get_attr("TCA_NETEM_PRNG_SEED")
    return None if seed is None else int(seed)


def _unplanned(options: Any) -> list[tuple[str, bool]]:
    correlation = options.get_attr("TCA_NETEM_CORR") or {}
    reorder = options.get_attr("TCA_NETEM_REORDER") or {}
    corrupt = options.get_attr("TCA_NETEM_CORRUPT") or {}
    model = options.get_attr("TCA_NETEM_LOSS")
    return [
        ("duplication", bool(options["duplicate"])),
        ("a gap", bool(options["gap"])),
        ("correlation", any(correlation.get(key) for key in ("delay", "loss", "duplicate"))),
        ("reordering", bool(reorder.get("probability"))),
        ("corruption", bool(corrupt.get("probability"))),
        ("ECN marking", bool(options.get_attr("TCA_NETEM_ECN"))),
        ("slots", options.get_attr("TCA_NETEM_SLOT") is not None),
        ("4-state loss", model is not None and model.get_attr("NETEM_LOSS_GI") is not None),
    ]


def _time(options: Any, wide: str, ticks: str) -> int:
    value = options.get_attr(wide)
    return int(value) if value is not None else int(options[ticks]) * _NS_PER_TICK


def _ticks(nanoseconds: int) -> int:
    return min(nanoseconds // _NS_PER_TICK, U32_MAX)


def _parameters(request: dict[str, Any]) -> dict[str, Any]:
    return encode(request["settings"], request.get("seed"))


def _fix_request(request: dict[str, Any]) -> None:
    for key in ("settings", "seed"):
        request.pop(key, None)


def register() -> None:
    """Put this codec in pyroute2's table of qdiscs; idempotent. ``tc(..., kind="netem", settings=NetemSettings)``."""
    plugins["netem"] = SimpleNamespace(
        parent=TC_H_ROOT,
        get_parameters=_parameters,
        options=NetemOptions,
        fix_request=_fix_request,
    )
