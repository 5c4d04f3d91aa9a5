"""``python -m syncer.movers.udt --name mover-udt --coordinator ipc:///path/movers.ipc``"""

from __future__ import annotations

from syncer.movers.process import MoverProcess
from syncer.movers.program import configure_log, parser_for
from syncer.movers.udt.transport import DEFAULT_MSS, UdtTransport


def main() -> None:
    parser = parser_for("udt")
    parser.add_argument(
        "--mss", type=int, default=DEFAULT_MSS, help="largest IP packet; 1300 to 1400 on mobile links and tunnels"
    )
    arguments = parser.parse_args()
    configure_log()
    MoverProcess(arguments.name, arguments.coordinator, UdtTransport(arguments.mss)).run()


if __name__ == "__main__":
    main()
