"""Generators of traces: each makes a link that moves, the same one for the same seed, and says where its numbers come
from. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from harness.model.trace import Course, Trace
from harness.plan.cellular import Radio, journey
from harness.plan.prng import Prng
from harness.plan.trace_columns import CourseBuilder

Make = Callable[[Prng, int], tuple[Course, Course]]

_LIGHT_KM_PER_MS = 299.792


@dataclass(frozen=True)
class Generator:
    """One kind of link. ``source`` goes into each trace; ``duration_us`` is the default, ``shortest_us`` the least."""

    name: str
    title: str
    description: str
    source: str
    duration_us: int
    make: Make
    shortest_us: int = 1_000_000


def generate(generator: Generator, *, seed: int, duration_us: int | None = None, name: str | None = None) -> Trace:
    """A trace of a kind. Raises ValueError for a duration below its shortest."""
    length = generator.duration_us if duration_us is None else duration_us
    if length < generator.shortest_us:
        raise ValueError(f"{generator.name} needs at least {generator.shortest_us / 1e6:g} s")
    down, up = generator.make(Prng(seed, generator.name), length)
    return Trace(
        name=name or generator.name,
        title=generator.title,
        description=generator.description,
        source_note=generator.source,
        recipe=f"longhaul trace generate {generator.name} --seed {seed} --duration {length / 1e6:g}s",
        duration_us=length,
        down=down,
        up=up,
    )


_LTE = Radio(
    down_hz=15e6,
    up_hz=15e6,
    best_db=22.0,
    edge_db=2.0,
    down_share=0.35,
    up_share=0.3,
    share_sigma=0.7,
    speed_mps=14.0,
    cell_m=700.0,
    delay_ms=28.0,
    repeat_ms=8.0,
    jitter_ms=3.0,
    handover_ms=(30.0, 80.0),
    failure=0.2,
    failure_s=(0.6, 1.7),
    down_buffer=1_500_000,
    up_buffer=500_000,
)
_FIVE_G = Radio(
    down_hz=70e6,
    up_hz=20e6,
    best_db=24.0,
    edge_db=0.0,
    down_share=0.7,
    up_share=0.7,
    share_sigma=0.4,
    speed_mps=14.0,
    cell_m=400.0,
    delay_ms=14.0,
    repeat_ms=4.0,
    jitter_ms=2.0,
    handover_ms=(50.0, 150.0),
    failure=0.12,
    failure_s=(0.3, 1.2),
    down_buffer=4_000_000,
    up_buffer=1_000_000,
)
_THREE_G = Radio(
    down_hz=5e6,
    up_hz=5e6,
    best_db=14.0,
    edge_db=-2.0,
    down_share=0.35,
    up_share=0.28,
    share_sigma=0.7,
    speed_mps=14.0,
    cell_m=1_200.0,
    delay_ms=90.0,
    repeat_ms=20.0,
    jitter_ms=15.0,
    handover_ms=(100.0, 400.0),
    failure=0.35,
    failure_s=(1.0, 5.5),
    down_buffer=400_000,
    up_buffer=200_000,
    down_most=1.6,
    up_most=0.6,
)
_TRAIN = Radio(
    down_hz=15e6,
    up_hz=15e6,
    best_db=20.0,
    edge_db=-4.0,
    down_share=0.3,
    up_share=0.3,
    share_sigma=0.6,
    speed_mps=55.0,
    cell_m=2_000.0,
    delay_ms=32.0,
    repeat_ms=8.0,
    jitter_ms=5.0,
    handover_ms=(50.0, 250.0),
    failure=0.25,
    failure_s=(0.8, 3.0),
    down_buffer=1_500_000,
    up_buffer=500_000,
    dead_every_m=4_000.0,
    dead_m=(700.0, 0.8),
    dead_most_m=5_000.0,
)

SLOT_US = 15_000_000
"""Starlink assigns a satellite to each terminal anew in slots of 15 s."""


def _leo(prng: Prng, duration_us: int) -> tuple[Course, Course]:
    """Slots of 15 s, each with a satellite of its own: a delay by its elevation, a rate, and losses as it begins."""
    step_us = 100_000
    down, up = CourseBuilder(step_us, 2_000_000), CourseBuilder(step_us, 400_000)
    slots, within, edges = prng.stream("slots"), prng.stream("within"), prng.stream("handovers")
    phase_us = int(slots.uniform(0, SLOT_US / step_us)) * step_us
    slot = -1
    elevation = drift = down_rate = up_rate = queue_ms = 0.0
    blind_until = lossy_until = -1
    worst = 0.0
    for at_us in range(0, max(step_us, duration_us), step_us):
        if (at_us + phase_us) // SLOT_US != slot:
            slot = (at_us + phase_us) // SLOT_US
            elevation = math.radians(25.0 + 60.0 * slots.uniform() ** 1.5)
            drift = math.radians(slots.uniform(-11.0, 11.0)) / (SLOT_US / step_us)
            down_rate, up_rate = slots.lognormal(150e6, 0.35), slots.lognormal(14e6, 0.3)
            queue_ms = slots.uniform(6.0, 18.0)
            begins = at_us > 0
            blind_until = at_us + int(edges.uniform(0.0, 3.0)) * step_us if begins and edges.uniform() < 0.35 else -1
            lossy_until = at_us + int(edges.uniform(2.0, 12.0)) * step_us if begins and edges.uniform() < 0.5 else -1
            worst = edges.uniform(0.01, 0.2)
        elevation = min(max(elevation + drift, math.radians(25.0)), math.radians(90.0))
        # Up to the satellite and down to a gateway that sees it about as high.
        path_ms = 2.0 * _slant_km(elevation) / _LIGHT_KM_PER_MS
        delay_ms = path_ms + queue_ms + abs(within.normal(0.0, 0.8))
        swing = math.exp(within.normal(0.0, 0.12))
        loss = 0.002 + (worst if at_us < lossy_until else 0.0)
        blind = at_us < blind_until
        down.add(min(down_rate * swing, 330e6), delay_ms, 2.5, loss, blocked=blind)
        up.add(min(up_rate * swing, 40e6), delay_ms, 3.5, loss, blocked=blind)
    return down.course(), up.course()


def _slant_km(elevation: float) -> float:
    """Distance to a satellite 550 km up, by the law of cosines."""
    earth, orbit = 6_371.0, 6_371.0 + 550.0
    return math.sqrt(orbit**2 - (earth * math.cos(elevation)) ** 2) - earth * math.sin(elevation)


_ACM = ((0.0, 1.0), (2.0, 0.8), (4.5, 0.55), (7.0, 0.35), (9.5, 0.18), (12.0, 0.08))
"""Rain's attenuation in dB from which a more robust modulation and coding is taken, and the share of the rate that is
then left; from 15 dB on the link is lost."""


def _geo(prng: Prng, duration_us: int) -> tuple[Course, Course]:
    """A constant path with its rate in steps, as showers pass."""
    step_us = 500_000
    down, up = CourseBuilder(step_us, 3_000_000), CourseBuilder(step_us, 400_000)
    showers, access = prng.stream("showers"), prng.stream("access")
    next_s = showers.exponential(150.0)
    begin_s, length_s, depth_db = 0.0, 1.0, 0.0
    for at_us in range(0, max(step_us, duration_us), step_us):
        at_s = at_us / 1e6
        if at_s >= next_s:
            begin_s, length_s, depth_db = at_s, showers.lognormal(70.0, 0.5), min(18.0, showers.lognormal(6.0, 0.6))
            next_s = at_s + length_s + showers.exponential(150.0)
        phase = (at_s - begin_s) / length_s
        rain_db = depth_db * math.sin(math.pi * phase) if 0.0 <= phase <= 1.0 else 0.0
        share = next(share for limit, share in reversed(_ACM) if rain_db >= limit)
        # Reservations of the return channel come in frames, so what goes up waits longer, and not always as long.
        wait_ms = round(access.uniform(0.0, 8.0))
        down.add(25e6 * share, 290.0, 3.0, blocked=rain_db >= 15.0)
        up.add(3e6 * share, 305.0 + wait_ms, 12.0, blocked=rain_db >= 15.0)
    return down.course(), up.course()


_BUSY = ((0, 0.25), (3, 0.05), (6, 0.1), (9, 0.3), (13, 0.4), (17, 0.6), (19, 0.9), (21, 1.0), (23, 0.75), (24, 0.25))
"""How busy the segment is by the hour of the day, 0 to 1."""


def _broadband(prng: Prng, duration_us: int) -> tuple[Course, Course]:
    """A cable segment that its subscribers share, over a day; the evening is its peak."""
    step_us = 10_000_000
    down, up = CourseBuilder(step_us, 1_000_000), CourseBuilder(step_us, 250_000)
    others, spikes = prng.stream("others"), prng.stream("spikes")
    mood = others.normal()
    for at_us in range(0, max(step_us, duration_us), step_us):
        busy = _busy(at_us / 3_600e6)
        mood = 0.9 * mood + others.normal(0.0, math.sqrt(1 - 0.81))
        crowded = busy * min(1.0, max(0.0, 0.62 + 0.25 * mood))
        spike = spikes.exponential(12.0) * crowded if spikes.uniform() < 0.3 * busy else 0.0
        delay_ms = 10.0 + 22.0 * crowded**3 + spike
        loss = 0.004 * max(0.0, crowded - 0.6) / 0.4
        down.add(50e6 * (1.0 - 0.7 * crowded**2), delay_ms, 1.0 + 6.0 * crowded, loss)
        up.add(10e6 * (1.0 - 0.45 * crowded**2), delay_ms, 1.0 + 4.0 * crowded, loss)
    return down.course(), up.course()


def _busy(hour: float) -> float:
    hour %= 24
    for (begin, low), (end, high) in pairwise(_BUSY):
        if begin <= hour <= end:
            return low + (high - low) * (hour - begin) / (end - begin)
    return _BUSY[0][1]


def _driving(radio: Radio) -> Make:
    return lambda prng, duration_us: journey(radio, prng, duration_us)


_CELLULAR = (
    "Model: harness/plan/cellular.py (shadowing after Gudmundson 1991; rate by the truncated Shannon bound of "
    "3GPP TR 36.942). "
)

GENERATORS: Mapping[str, Generator] = {
    generator.name: generator
    for generator in (
        Generator(
            "lte-driving",
            "LTE while driving",
            "A car in a town at 50 km/h: fading, cells that others share, a handover every 50 s, some of which fail.",
            _CELLULAR + "Set to the range of public traces of driving (T-Mobile LTE: mean 12.8 Mbit/s, best second "
            "59.6, longest gap 1.1 s down; AT&T 5.2, 15.5, 1.5 s): Winstein et al., NSDI 2013. Interruption of a "
            "handover 30 to 80 ms; delay from Chrome's Fast 4G (60 ms RTT); buffers of seconds: own choice.",
            300_000_000,
            _driving(_LTE),
        ),
        Generator(
            "5g-driving",
            "5G while driving",
            "A car in a town at 50 km/h on 5G in the middle bands: fast, with deeper dips and more handovers than LTE.",
            _CELLULAR + "Set to Ookla's medians of a large US network (203 Mbit/s down in 2023; 166 down and 21 up in "
            "2021), lower on the move. Interruption of a handover 50 to 150 ms; cells of 400 m, delay and buffers: own "
            "choice.",
            300_000_000,
            _driving(_FIVE_G),
        ),
        Generator(
            "3g-driving",
            "3G while driving",
            "A car on UMTS: slow, far away, with gaps of seconds.",
            _CELLULAR + "Set to the range of a public trace (T-Mobile UMTS: mean 2.0 Mbit/s down, 0.95 up, best second "
            "7.1 and 1.5, longest gap 5.8 s): Winstein et al., NSDI 2013. Delay from Augmented Traffic Control's 3G "
            "(90 to 100 ms each way); buffers: own choice.",
            300_000_000,
            _driving(_THREE_G),
        ),
        Generator(
            "leo-satellite",
            "Low-orbit satellite",
            "A dish that is given another satellite every 15 s: each time delay and rate jump, and some packets are "
            "lost.",
            "Slots of 15 s and bent-pipe delays for 550 km at 25 degrees of elevation and more: G. Huston, APNIC. RTT "
            "of 33 to 50 ms in the median, 20 ms at least; 100 to 200 Mbit/s down, at times above 300: SpaceX 2024 and "
            "Michel et al., IMC 2022. Losses that come with handovers: Kassem et al., IMC 2022. Shares and "
            "distributions: own choice.",
            300_000_000,
            _leo,
            shortest_us=SLOT_US,
        ),
        Generator(
            "geo-satellite",
            "Geostationary satellite",
            "A terminal below a satellite 35,786 km up, as showers pass: the rate falls in steps, and at worst the "
            "link is lost.",
            "RTT around 600 ms, 477 of them by light alone: G. Huston, APNIC 2022. Some tens of Mbit/s down, a few up. "
            "Adaptive coding in steps over 12 dB, showers of a minute: own choice (real ones last longer).",
            600_000_000,
            _geo,
        ),
        Generator(
            "broadband-day",
            "Congested broadband over a day",
            "A cable segment from midnight to midnight, crowded in the evening: less rate, more delay, some loss.",
            "Peak from 19 to 23 h: FCC, Measuring Broadband America. There most lines keep 80% and more of their rate; "
            "this one is among the worse, as congested segments are. Idle RTT 20 ms. The curve of the day, its depth "
            "and buffers: own choice. Play it with --speed, or from an hour on with --offset.",
            86_400_000_000,
            _broadband,
            shortest_us=10_000_000,
        ),
        Generator(
            "train-tunnels",
            "Train with tunnels",
            "A train at 200 km/h on LTE: large cells, a handover every 40 s, and nothing at all in the tunnels.",
            _CELLULAR
            + "Trains meet many blackouts, which the route decides more than the speed does (Mobile Broadband "
            "Performance Measured from High-Speed Regional Trains, VTC 2011). A tunnel every 4 km on average, 700 m in "
            "the median: own choice, a mountain line.",
            300_000_000,
            _driving(_TRAIN),
        ),
    )
}
"""By name."""
