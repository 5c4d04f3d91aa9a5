"""Our UDT under the names of pyudt4 (``udt4.pyudt``), whose C API is Python 2's, so that its users can move.

    from syncer.udt4 import pyudt
    sock = pyudt.UdtSocket()
    sock.connect(("198.18.0.2", 4032))

| pyudt4 0.5.1                                  | here                                                                |
|-----------------------------------------------|---------------------------------------------------------------------|
| UdtSocket(family, type, protocol)             | the same; protocol is ignored; family AF_INET6 works                |
| bind((host, port))                            | the same, and bind(udp_socket), which takes that over (detached)    |
| accept() -> (UdtSocket, host)                 | (UdtSocket, (host, port)), as Python's own sockets                  |
| connect, connect_ex, listen, close, dup       | the same; close lingers as UDT_LINGER says (180 s)                  |
| fileno()                                      | a number of this process, no descriptor of the system               |
| getpeername, getsockname, getsockstate        | the same                                                            |
| send(data, padding), write                    | the same; data is bytes-like                                        |
| sendall = send                                | sends all                                                           |
| sendmsg(data, padding, ttl, inorder), sendto  | the same, and ttl and inorder work (they were not passed on)        |
| recv, read, recvmsg, recvfrom                 | the same, with bytes; recv_into as well                             |
| sendfile(fd), recvfile(fd)                    | sendfile(path, offset, size), recvfile(path, offset, size)          |
| the end of a stream: UDTException ECONNLOST   | the same; `syncer.udt` tells an end from a break                    |
| setsockopt(option, value), getsockopt         | the same; UDT_LINGER: seconds, or (on, seconds)                     |
| UDT_CC: a factory of congestion controls      | a name: bbr (the default), fixed, native, background                |
| UDT_MAXBW                                     | also on a live connection; with UDT_CC fixed the rate itself        |
| UDT_FC, UDT_RCVBUF                            | the smaller of them is the receive buffer; any order                |
| UDT_MAXMSG, UDT_MSGTTL                        | not there: sendmsg has ttl                                          |
| setblocking, settimeout, gettimeout           | the same, milliseconds; gettimeout works (it raised)                |
| perfmon(clear) -> TRACEINFO, dump_perfmon     | the same fields; pktRcvLoss: holes that are open                    |
| UDTException: err[0] is the code              | the same, also err.code and err.args[0]                             |
| Epoll.wait(do_uread, do_uwrite, wait, ...)    | the same: four sets, of the objects that were added                 |
| shutdown: prints a warning                    | shutdown(SHUT_WR) announces the end, and reading goes on            |
| makefile: does nothing                        | not there                                                           |
| the functions of udt4 on a raw UDTSOCKET      | not there: they are UdtSocket's methods                             |

A socket that the garbage collector finds open is closed without lingering.
"""

from syncer.udt4.constants import *  # noqa: F403
from syncer.udt4.failures import UDTException
from syncer.udt4.pyudt import Epoll, UdtSocket, cleanup, startup
from syncer.udt4.trace import TRACEINFO, dump_perfmon

__all__ = ["TRACEINFO", "Epoll", "UDTException", "UdtSocket", "cleanup", "dump_perfmon", "startup"]


def pyudt4_version() -> tuple[int, int]:
    """Of the names."""
    return 0, 5
