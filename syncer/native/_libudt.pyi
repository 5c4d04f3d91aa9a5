from typing_extensions import Buffer

UDT_MSS: int
UDT_SNDSYN: int
UDT_RCVSYN: int
UDT_CC: int
UDT_FC: int
UDT_SNDBUF: int
UDT_RCVBUF: int
UDT_LINGER: int
UDP_SNDBUF: int
UDP_RCVBUF: int
UDT_MAXMSG: int
UDT_MSGTTL: int
UDT_RENDEZVOUS: int
UDT_SNDTIMEO: int
UDT_RCVTIMEO: int
UDT_REUSEADDR: int
UDT_MAXBW: int
UDT_STATE: int
UDT_EVENT: int
UDT_SNDDATA: int
UDT_RCVDATA: int
UDT_EPOLL_IN: int
UDT_EPOLL_OUT: int
UDT_EPOLL_ERR: int
INIT: int
OPENED: int
LISTENING: int
CONNECTING: int
CONNECTED: int
BROKEN: int
CLOSING: int
CLOSED: int
NONEXIST: int
SUCCESS: int
ECONNSETUP: int
ENOSERVER: int
ECONNREJ: int
ESOCKFAIL: int
ECONNFAIL: int
ECONNLOST: int
ENOCONN: int
ERESOURCE: int
EINVOP: int
EBOUNDSOCK: int
ECONNSOCK: int
EINVPARAM: int
EINVSOCK: int
EUNBOUNDSOCK: int
ENOLISTEN: int
ESTREAMILL: int
EDGRAMILL: int
EDUPLISTEN: int
ELARGEMSG: int
EINVPOLLID: int
EASYNCSND: int
EASYNCRCV: int
ETIMEOUT: int
EPEERERR: int

class UDTException(Exception):
    code: int

class TRACEINFO:
    msTimeStamp: int
    pktSentTotal: int
    pktRecvTotal: int
    pktSndLossTotal: int
    pktRcvLossTotal: int
    pktRetransTotal: int
    pktSentACKTotal: int
    pktRecvACKTotal: int
    pktSentNAKTotal: int
    pktRecvNAKTotal: int
    usSndDurationTotal: int
    pktSent: int
    pktRecv: int
    pktSndLoss: int
    pktRcvLoss: int
    pktRetrans: int
    pktSentACK: int
    pktRecvACK: int
    pktSentNAK: int
    pktRecvNAK: int
    mbpsSendRate: float
    mbpsRecvRate: float
    usSndDuration: int
    usPktSndPeriod: float
    pktFlowWindow: int
    pktCongestionWindow: int
    pktFlightSize: int
    msRTT: float
    mbpsBandwidth: float
    byteAvailSndBuf: int
    byteAvailRcvBuf: int

class Socket:
    def __init__(self, family: int = ..., type: int = ...) -> None: ...
    @property
    def id(self) -> int: ...
    @property
    def family(self) -> int: ...
    @property
    def type(self) -> int: ...
    @property
    def state(self) -> int: ...
    def bind(self, host: str, port: int) -> None: ...
    def bind_descriptor(self, descriptor: int) -> None: ...
    def listen(self, backlog: int = 64) -> None: ...
    def accept(self) -> tuple[Socket, tuple[str, int]]: ...
    def connect(self, host: str, port: int) -> None: ...
    def close(self) -> None: ...
    def send(self, data: Buffer) -> int: ...
    def send_all(self, data: Buffer) -> None: ...
    def recv(self, size: int) -> bytes: ...
    def recv_into(self, buffer: Buffer, size: int = 0) -> int: ...
    def recv_full(self, buffer: Buffer, size: int) -> int: ...
    def sendmsg(self, data: Buffer, lifetime_ms: int = -1, in_order: bool = False) -> int: ...
    def recvmsg(self, size: int) -> bytes: ...
    def sendfile(self, path: str, offset: int, size: int, block: int = 364000) -> int: ...
    def recvfile(self, path: str, offset: int, size: int, block: int = 7280000) -> int: ...
    def setsockopt(self, option: int, value: int | bool) -> None: ...
    def getsockopt(self, option: int) -> int | bool: ...
    def use_fixed_rate(self, rate_bps: float) -> None: ...
    def use_native_control(self) -> None: ...
    def perfmon(self, clear: bool = True) -> TRACEINFO: ...
    def getsockname(self) -> tuple[str, int]: ...
    def getpeername(self) -> tuple[str, int]: ...

class Epoll:
    def __init__(self) -> None: ...
    def add(self, socket: Socket, events: int) -> None: ...
    def add_descriptor(self, descriptor: int, events: int) -> None: ...
    def remove(self, socket: Socket) -> None: ...
    def remove_descriptor(self, descriptor: int) -> None: ...
    def wait(self, timeout_ms: int) -> tuple[set[int], set[int], set[int], set[int]]: ...

def startup() -> int: ...
def cleanup() -> int: ...
