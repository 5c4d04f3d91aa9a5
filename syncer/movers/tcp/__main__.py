"""``python -m syncer.movers.tcp --name mover-tcp --coordinator ipc:///path/movers.ipc``"""

from __future__ import annotations

from syncer.movers.process import MoverProcess
from syncer.movers.program import configure_log, parser_for
from syncer.movers.tcp.transport import TcpTransport


def main() -> None:
    arguments = parser_for("tcp").parse_args()
    configure_log()
    MoverProcess(arguments.name, arguments.coordinator, TcpTransport()).run()


if __name__ == "__main__":
    main()
