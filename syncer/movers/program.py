"""What the movers' programs have in common: their arguments, their log, and how they end."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TextIO, cast

import structlog

from syncer.log_sink import LogSink


def parser_for(transport: str) -> argparse.ArgumentParser:
    """The arguments that every mover takes."""
    parser = argparse.ArgumentParser(
        prog=f"python -m syncer.movers.{transport}",
        description=f"Carries blocks over {transport.upper()} for a coordinator. Started by: syncer run",
    )
    parser.add_argument("--name", default=f"mover-{transport}", help="identity towards the coordinator")
    parser.add_argument("--coordinator", required=True, help="ZeroMQ endpoint of the coordinator's mover socket")
    return parser


def configure_log() -> None:
    """Lines to stderr, which the supervisor keeps."""
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
