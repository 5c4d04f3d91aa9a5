"""``syncer site``"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from syncer.cli.options import HomeOption, JsonOption


def register(app: typer.Typer) -> None:
    sites = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The other sites that this one knows.")
    app.add_typer(sites, name="site")

    @sites.command()
    def add(
        name: Annotated[str, typer.Argument(help="The other site's name.")],
        home: HomeOption,
        address: Annotated[str, typer.Option(help="Its address: IP or IP:PORT (of its control channel).")],
        key: Annotated[str, typer.Option(help="Its public key, as its `syncer init` printed it.")],
        data_port: Annotated[int, typer.Option(min=1, max=65535, help="Its movers' port, UDP and TCP.")] = 7421,
        transport: Annotated[
            str | None, typer.Option(help="Of this link: auto (as measured), udt or tcp.", show_default=False)
        ] = None,
        rate: Annotated[
            str | None, typer.Option(help="Most that is sent to it: auto, or as 50Mbit/s.", show_default=False)
        ] = None,
    ) -> None:
        """Add another site, or change what is known of it. A running engine takes it up at once.

        Example: syncer site add lima --home ~/sync --address 192.0.2.20 --key 'THE KEY THAT INIT PRINTED THERE'
        """
        from syncer.site.setup import add_site, parse_rate, parse_transport

        running = add_site(
            home,
            name,
            address=address,
            key=key,
            data_port=data_port,
            transport=None if transport is None else parse_transport(transport),
            rate_bps=None if rate is None else parse_rate(rate),
        )
        typer.echo(f"Added {name}." + (" The running engine knows it." if running else ""))

    @sites.command("set")
    def set_link(
        name: Annotated[str, typer.Argument(help="The other site's name, or this one's: for all links at once.")],
        home: HomeOption,
        transport: Annotated[
            str | None,
            typer.Option(help="auto (as measured), udt, tcp; default: as this site's.", show_default=False),
        ] = None,
        rate: Annotated[
            str | None,
            typer.Option(
                help="Most that is sent there, headers included: auto (no cap), as 50Mbit/s; default: as this site's.",
                show_default=False,
            ),
        ] = None,
    ) -> None:
        """Pin the transport of a link, or cap its rate. A running engine takes it up at once.

        Example: syncer site set lima --home ~/sync --transport tcp --rate 50Mbit/s
        """
        from syncer.site.setup import set_site

        running = set_site(home, name, transport=transport, rate=rate)
        typer.echo(f"Set {name}." + (" The running engine has taken it up." if running else ""))

    @sites.command("list")
    def list_sites(home: HomeOption, as_json: JsonOption = False) -> None:
        """List the sites that this one knows.

        Example: syncer site list --home ~/sync
        """
        from syncer.site.home import Home

        peers = Home(home).load().sites
        if as_json:
            keys = ("name", "address", "control_port", "data_port", "key", "transport", "rate_bps")
            typer.echo(json.dumps([{key: getattr(peer, key) for key in keys} for peer in peers]))
            return
        for peer in peers:
            typer.echo(f"{peer.name:<20} {peer.address}:{peer.control_port}  data {peer.data_port}  {peer.key}")

    @sites.command()
    def remove(name: Annotated[str, typer.Argument(help="The site's name.")], home: HomeOption) -> None:
        """Forget a site: it is neither admitted nor dialled any more.

        Example: syncer site remove lima --home ~/sync
        """
        from syncer.site.setup import remove_site

        running = remove_site(home, name)
        typer.echo(f"Removed {name}." + (" The running engine has let it go." if running else ""))
