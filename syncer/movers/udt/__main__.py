"""``python -m syncer.movers.udt --name mover-udt --coordinator ipc:///path/movers.ipc``"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TextIO, cast

import structlog

from syncer.log_sink import LogSink
from syncer.movers.process import MoverProcess
from syncer.movers.udt.transport import DEFAULT_MSS, UdtTransport


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m syncer.movers.udt", description=__doc__)
    parser.add_argument("--name", default="mover-udt", help="identity towards the coordinator")
    parser.add_argument("--coordinator", required=True, help="ZeroMQ endpoint of the coordinator's mover socket")
    parser.add_argument(
        "--mss", type=int, default=DEFAULT_MSS, help="largest IP packet; 1300 to 1400 on mobile links and tunnels"
    )
    arguments = parser.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", LogSink(sys.stderr.fileno()))),
    )
    MoverProcess(arguments.name, arguments.coordinator, UdtTransport(arguments.mss)).run()
    sys.stdout.flush()
    sys.stderr.flush()
    # libudt's threads may still be in use by sockets that are closing: there is nothing left to tidy for them.
    os._exit(0)


if __name__ == "__main__":
    main()
