"""What the kernel must do to a directed link: an impairment as qdiscs on the core's egress port. Pure.

On the port towards the destination, HTB only sorts packets into one class per source site, by source address. In each
class two netem stages follow one another, because one qdisc cannot size its queue apart from what is in flight:

    htb 1:  ── class 1:(16+i)  source site i ── propagation  delay, jitter, loss; a limit that is never reached
            │                                   └── bottleneck  rate; limit = the drop-tail buffer
            ├── class 1:2  default: dropped, so that a packet without a shaped link never passes unimpaired
            └── class 1:3  the core's own ICMP (source: its gateway address) passes unshaped

netem hands a packet to its child when the packet's time has come, so the bottleneck sees packets as they arrive at the
far end of the path. A core takes some time of its own to forward a packet; that much is taken off the delay.
Jitter keeps the order of packets: netem with any rate never lets one overtake another, so that a
rate far above every link is set on the propagation stage. Rates count IP bytes: the Ethernet header is taken off.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from pydantic import Field

from harness.model.base import Value
from harness.model.impairment import GilbertElliottLoss, Impairment, IndependentLoss, Loss

U32_MAX = 2**32 - 1
ROOT_HANDLE = 0x0001_0000
DEFAULT_CLASS = 0x0001_0002
ROUTER_CLASS = 0x0001_0003
FIRST_LINK_MINOR = 16
CLASS_RATE_BPS = 32_000_000_000
"""Far above what any core carries; below 2**32 bytes/s, above which HTB needs another attribute."""
NEVER_REACHED = 2**30
ORDER_KEEPING_RATE = 12_500_000_000
"""Bytes per second; adds 0.12 µs to a full packet."""
MAX_CORE_DELAY_US = 999
ETHERNET_HEADER = 14
DEFAULT_BUFFER_S = 0.1
MINIMUM_BUFFER_PACKETS = 10
_PROPAGATION_MAJOR = 0x0100
_BOTTLENECK_MAJOR = 0x0200
_DECIMALS = 9
"""Probabilities are kept by the kernel in units of 2**-32: nine decimals survive the way there and back."""


class GilbertElliottSettings(Value):
    """netem's four parameters in units of 1/(2**32-1): p, r, h = 1 - loss in bad, k1 = loss in good."""

    p: int = Field(ge=0, le=U32_MAX)
    r: int = Field(ge=0, le=U32_MAX)
    h: int = Field(ge=0, le=U32_MAX)
    k1: int = Field(ge=0, le=U32_MAX)


class NetemSettings(Value):
    """Every option that the plan uses of one netem qdisc; each is always sent, so that nothing of before remains.

    Times in nanoseconds, ``loss`` in units of 1/(2**32-1), ``rate`` in bytes per second (0: unlimited), ``limit`` and
    ``overhead`` in packets and bytes.
    """

    limit: int = Field(ge=1, le=U32_MAX)
    latency_ns: int = Field(default=0, ge=0)
    jitter_ns: int = Field(default=0, ge=0)
    loss: int = Field(default=0, ge=0, le=U32_MAX)
    gilbert_elliott: GilbertElliottSettings | None = None
    rate: int = Field(default=0, ge=0)
    overhead: int = 0


class LinkShape(Value):
    """The two stages of one directed link."""

    propagation: NetemSettings
    bottleneck: NetemSettings


class LinkHandles(Value):
    """Where a directed link is on the destination's port; ``index`` is the source site's."""

    index: int = Field(ge=0)

    @property
    def class_id(self) -> int:
        """The HTB class."""
        return ROOT_HANDLE + FIRST_LINK_MINOR + self.index

    @property
    def propagation(self) -> int:
        """Handle of the delay and loss stage."""
        return (_PROPAGATION_MAJOR + self.index) << 16

    @property
    def bottleneck(self) -> int:
        """Handle of the rate and buffer stage."""
        return (_BOTTLENECK_MAJOR + self.index) << 16

    @property
    def bottleneck_parent(self) -> int:
        """The only class of the propagation stage."""
        return self.propagation + 1


BLOCKED = Impairment(blocked=True)
"""How every link starts: closed until it is shaped."""


def shape_link(impairment: Impairment, mtu: int, core_delay_us: int = 0) -> LinkShape:
    """The two stages that make ``impairment`` on a path with this MTU.

    ``core_delay_us`` is what the core itself adds to every packet's delay, MAX_CORE_DELAY_US at most.

    Raises ValueError for a buffer without a rate.
    """
    if impairment.buffer_bytes is not None and impairment.rate_bps is None:
        raise ValueError("a buffer needs a rate: without one no queue ever builds")
    jitter_ns = impairment.jitter_us * 1000
    loss, burst = _loss_settings(impairment)
    propagation = NetemSettings(
        limit=NEVER_REACHED,
        latency_ns=_latency_ns(impairment.delay_us, core_delay_us),
        jitter_ns=jitter_ns,
        loss=loss,
        gilbert_elliott=burst,
        rate=ORDER_KEEPING_RATE if jitter_ns else 0,
    )
    if impairment.rate_bps is None:
        return LinkShape(propagation=propagation, bottleneck=NetemSettings(limit=NEVER_REACHED))
    bottleneck = NetemSettings(
        # One more than the buffer: netem counts the packet that is being sent.
        limit=1 + buffer_packets(impairment, mtu),
        rate=max(1, impairment.rate_bps // 8),
        overhead=-ETHERNET_HEADER,
    )
    return LinkShape(propagation=propagation, bottleneck=bottleneck)


def buffer_packets(impairment: Impairment, mtu: int) -> int:
    """Depth of the bottleneck's queue in packets. No buffer given: 100 ms at the rate, but 10 packets at least."""
    assert impairment.rate_bps is not None
    if impairment.buffer_bytes is not None:
        return max(1, impairment.buffer_bytes // mtu)
    return max(MINIMUM_BUFFER_PACKETS, int(impairment.rate_bps * DEFAULT_BUFFER_S / 8) // mtu)


def read_link(shape: LinkShape, mtu: int, core_delay_us: int = 0) -> Impairment:
    """The impairment that these two stages make: the inverse of ``shape_link``."""
    propagation, bottleneck = shape.propagation, shape.bottleneck
    blocked = propagation.loss == U32_MAX and propagation.gilbert_elliott is None
    return Impairment(
        delay_us=_delay_us(propagation.latency_ns, core_delay_us),
        jitter_us=propagation.jitter_ns // 1000,
        loss=None if blocked else _loss(propagation),
        rate_bps=bottleneck.rate * 8 or None,
        buffer_bytes=(bottleneck.limit - 1) * mtu if bottleneck.rate else None,
        blocked=blocked,
    )


def realised(impairment: Impairment, mtu: int) -> Impairment:
    """What the kernel can keep of ``impairment``: whole bytes per second, a buffer in whole packets, loss that is
    certain as ``blocked``. ``WanCore.read_back`` returns this."""
    return read_link(shape_link(impairment, mtu), mtu)


def source_match(network: IPv4Network) -> str:
    """u32's key for packets from ``network``: value/mask at the offset of the source address."""
    return f"{int(network.network_address):#010x}/{int(network.netmask):#010x}+12"


def router_match(gateway: IPv4Address) -> str:
    """u32's key for packets that the core itself sends on the port with this address."""
    return source_match(IPv4Network((gateway, 32)))


def _latency_ns(delay_us: int, core_delay_us: int) -> int:
    """A delay that is shorter than the core's own is sent as that many nanoseconds: next to none, yet readable."""
    if delay_us > core_delay_us:
        return (delay_us - core_delay_us) * 1000
    return delay_us


def _delay_us(latency_ns: int, core_delay_us: int) -> int:
    if latency_ns <= MAX_CORE_DELAY_US:
        return latency_ns
    return latency_ns // 1000 + core_delay_us


def _loss_settings(impairment: Impairment) -> tuple[int, GilbertElliottSettings | None]:
    loss = impairment.loss
    if impairment.blocked:
        return U32_MAX, None
    if loss is None:
        return 0, None
    if isinstance(loss, IndependentLoss):
        return _to_u32(loss.probability), None
    return 0, GilbertElliottSettings(
        p=_to_u32(loss.good_to_bad),
        r=_to_u32(loss.bad_to_good),
        h=_to_u32(1 - loss.loss_in_bad),
        k1=_to_u32(loss.loss_in_good),
    )


def _loss(settings: NetemSettings) -> Loss | None:
    burst = settings.gilbert_elliott
    if burst is None:
        return IndependentLoss(probability=_from_u32(settings.loss)) if settings.loss else None
    return GilbertElliottLoss(
        good_to_bad=_from_u32(burst.p),
        bad_to_good=_from_u32(burst.r),
        loss_in_bad=_from_u32(U32_MAX - burst.h),
        loss_in_good=_from_u32(burst.k1),
    )


def _to_u32(probability: float) -> int:
    return round(probability * U32_MAX)


def _from_u32(value: int) -> float:
    return round(value / U32_MAX, _DECIMALS)
