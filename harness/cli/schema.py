"""``longhaul schema``: print the JSON Schema of a file's form."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from harness.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("schema")(schema)


def schema(
    kind: Annotated[
        Literal["topology", "profile", "run"], typer.Argument(help="Which form: topology, profile, or run (run.json).")
    ] = "topology",
) -> int:
    """Print the JSON Schema of topology files, of profiles, or of run.json.

    Examples:

        longhaul schema > topology.schema.json

        longhaul schema run | jq .properties.verdict
    """
    from harness.config.json_schema import profile_schema, topology_schema
    from harness.report.run_json import run_schema

    print({"topology": topology_schema, "profile": profile_schema, "run": run_schema}[kind](), end="")
    return ExitCode.PASSED
