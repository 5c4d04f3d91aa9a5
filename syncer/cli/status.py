"""``syncer status``"""

from __future__ import annotations

import json
from typing import Any

import typer

from syncer.cli.options import HomeOption, JsonOption

TIMEOUT_S = 5.0


def register(app: typer.Typer) -> None:
    @app.command()
    def status(home: HomeOption, as_json: JsonOption = False) -> None:
        """Show what the running engine knows: its folder, its peers and its processes.

        Example: syncer status --home ~/sync --json
        """
        from syncer.site.home import Home
        from syncer.site.status import ask

        place = Home(home)
        place.load()
        answer = ask(place, {"ask": "status"}, timeout_s=TIMEOUT_S)
        if as_json:
            typer.echo(json.dumps(answer))
            return
        typer.echo(f"site {answer['site']}: {answer['state']}, {'in sync' if answer['in_sync'] else 'not in sync'}")
        if answer["alert"]:
            typer.echo(f"  ALERT: {answer['alert']}")
        typer.echo(
            f"  {answer['entries']} entries, {answer['bytes']} bytes, {answer['needs']} to get,"
            f" {answer['conflicts']} conflict copies"
        )
        for peer in answer["peers"]:
            for line in _peer_lines(peer):
                typer.echo(line)
        typer.echo("  processes: " + ", ".join(f"{row['role']} {row['pid']}" for row in answer["processes"]))


def _peer_lines(peer: dict[str, Any]) -> list[str]:
    state = "connected" if peer["connected"] else "not connected"
    session, link = peer["session"], peer["link"]
    now = ""
    if session and link and "rtt_us" in session:
        now = (
            f", RTT {session['rtt_us'] / 1000:.1f} ms, sends {link['sending_bps'] / 1e6:.1f} and receives"
            f" {link['receiving_bps'] / 1e6:.1f} Mbit/s"
        )
    lines = [f"  {peer['site']}: {state}, {'in sync' if peer['in_sync'] else 'not in sync'}{now}"]
    if link is None or not link["transport"]:
        return lines if link is None or not peer["connected"] else [*lines, f"    no session: {link['reason']}"]
    control = f" ({session['congestion_control']})" if now and session["congestion_control"] else ""
    cap = f", at most {link['rate_cap_bps'] / 1e6:g} Mbit/s" if link["rate_cap_bps"] else ""
    lines.append(f"    over {link['transport']}{control}{cap}: {link['reason']}")
    for row in link["measured"]:
        way = "to it" if row["direction"] == "there" else "from it"
        loss = f", loss {row['loss']:.2%}" if row["loss"] is not None else ""
        lines.append(
            f"      {row['transport']} {way}: {row['goodput_bps'] / 1e6:.1f} Mbit/s under load, RTT"
            f" {row['rtt_us'] / 1000:.1f} ms{loss}; {row['age_s']:.0f} s ago"
        )
    return lines
