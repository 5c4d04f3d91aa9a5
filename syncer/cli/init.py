"""``syncer init``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from syncer.cli.options import HomeOption, JsonOption, RateOption, TransportOption


def register(app: typer.Typer) -> None:
    @app.command()
    def init(
        home: HomeOption,
        site: Annotated[str, typer.Option("--site", "--name", help="This site's name, unique among the sites.")],
        folder: Annotated[Path, typer.Option(help="The directory to keep in sync; made if it is missing.")],
        address: Annotated[str, typer.Option(help="This host's IP address, as the other sites reach it.")],
        control_port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the control channel.")] = 7420,
        data_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the movers, UDP and TCP.")] = 7421,
        rate: RateOption = "auto",
        transport: TransportOption = "auto",
        as_json: JsonOption = False,
    ) -> None:
        """Make a site: its home, its keys and its folder.

        Example: syncer init --home ~/sync --site oslo --folder /data --address 192.0.2.10
        """
        from syncer.site.setup import initialise, parse_rate, parse_transport

        config = initialise(
            home,
            site=site,
            folder=folder,
            address=address,
            control_port=control_port,
            data_port=data_port,
            rate_bps=parse_rate(rate),
            transport=parse_transport(transport),
        )
        if as_json:
            keys = ("site", "public_key", "address", "control_port", "data_port", "folder")
            typer.echo(json.dumps({key: getattr(config, key) for key in keys}))
            return
        typer.echo(f"Made site {config.site} in {home}. Its folder is {config.folder}.")
        typer.echo("On each other site run:")
        typer.echo(f"  syncer site add {config.site} --address {config.address}:{config.control_port}", nl=False)
        typer.echo(f" --data-port {config.data_port} --key '{config.public_key}'")
