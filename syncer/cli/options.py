"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="SYNCER_HOME", help="The site's home directory.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RateOption = Annotated[
    str, typer.Option("--rate", help="Most that is sent to each site, headers included: auto (no cap), or as 50Mbit/s.")
]
TransportOption = Annotated[str, typer.Option("--transport", help="auto (as measured), udt or tcp.")]
