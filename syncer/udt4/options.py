"""UDT4's socket options, kept as they were given and made into our settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from syncer.udt.settings import Control, UdtSettings
from syncer.udt4 import constants as c
from syncer.udt4.failures import UDTException

OptionValue = int | bool | str | tuple[int, int]

_DEFAULTS: dict[int, OptionValue] = {
    c.UDT_MSS: 1500,
    c.UDT_SNDSYN: True,
    c.UDT_RCVSYN: True,
    c.UDT_CC: "bbr",
    c.UDT_FC: 25_600,
    c.UDT_SNDBUF: 12_058_624,
    c.UDT_RCVBUF: 12_058_624,
    c.UDT_LINGER: 180,
    c.UDP_SNDBUF: 4 * 1024 * 1024,
    c.UDP_RCVBUF: 16 * 1024 * 1024,
    c.UDT_RENDEZVOUS: False,
    c.UDT_SNDTIMEO: -1,
    c.UDT_RCVTIMEO: -1,
    c.UDT_REUSEADDR: True,
    c.UDT_MAXBW: -1,
}
ANY_TIME = {c.UDT_SNDSYN, c.UDT_RCVSYN, c.UDT_LINGER, c.UDT_SNDTIMEO, c.UDT_RCVTIMEO, c.UDT_MAXBW}
"""These count at once; the others before the socket connects or listens."""

READ_ONLY = {c.UDT_STATE, c.UDT_EVENT, c.UDT_SNDDATA, c.UDT_RCVDATA}
_PACKET_OVERHEAD = 14
_HEADERS = 44


@dataclass
class Options:
    values: dict[int, OptionValue] = field(default_factory=lambda: dict(_DEFAULTS))

    def set(self, option: int, value: OptionValue) -> None:
        """Raises UDTException for an option that can't be set, or a value out of range."""
        if option not in self.values:
            raise UDTException(c.EINVPARAM, f"option {option} cannot be set")
        if option == c.UDT_LINGER and isinstance(value, tuple):
            value = value[1] if value[0] else 0
        if option == c.UDT_CC:
            if value not in get_args(Control):
                raise UDTException(c.EINVPARAM, f"UDT_CC is one of {', '.join(get_args(Control))}")
        elif isinstance(value, str) or not isinstance(value, int):
            raise UDTException(c.EINVPARAM, f"option {option} is a number")
        self.values[option] = value

    def get(self, option: int) -> OptionValue:
        if option not in self.values:
            raise UDTException(c.EINVPARAM, f"option {option} is unknown")
        return self.values[option]

    def number(self, option: int) -> int:
        value = self.values[option]
        assert isinstance(value, int)
        return value

    def timeout_s(self, syn: int, timeout: int) -> float | None:
        """Of calls in one direction, from the options of that direction."""
        if not self.values[syn]:
            return 0.0
        limit_ms = self.number(timeout)
        return None if limit_ms < 0 else max(limit_ms / 1000, 1e-6)

    @property
    def ceiling_bps(self) -> float:
        """UDT4 counts bytes a second of packets as large as the MSS."""
        limit, mss = self.number(c.UDT_MAXBW), self.number(c.UDT_MSS)
        return 0.0 if limit <= 0 else limit * 8 * (mss + _PACKET_OVERHEAD) / mss

    def settings(self) -> UdtSettings:
        mss = self.number(c.UDT_MSS)
        control = self.values[c.UDT_CC]
        assert control in get_args(Control)
        rate = self.ceiling_bps if control == "fixed" else 0.0
        return UdtSettings(
            mss=mss,
            control=control,  # type: ignore[arg-type]
            rate_bps=rate,
            ceiling_bps=self.ceiling_bps,
            send_buffer_bytes=self.number(c.UDT_SNDBUF),
            receive_buffer_bytes=min(
                self.number(c.UDT_RCVBUF), max(self.number(c.UDT_FC) * (mss - _HEADERS), _HEADERS)
            ),
            udp_send_buffer_bytes=self.number(c.UDP_SNDBUF),
            udp_receive_buffer_bytes=self.number(c.UDP_RCVBUF),
            rendezvous=bool(self.values[c.UDT_RENDEZVOUS]),
            reuse_address=bool(self.values[c.UDT_REUSEADDR]),
        )
