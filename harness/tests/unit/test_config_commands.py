"""``validate``, ``graph`` and ``schema`` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import build_app
from harness.config.shipped import shipped_dir
from harness.errors import InputError

TOPOLOGIES = shipped_dir("topologies")


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(build_app(), list(arguments), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return int(result.return_value or 0), result.stdout, result.stderr


def test_validate_accepts_the_shipped_files() -> None:
    code, out, err = call("validate", "four-sites", str(TOPOLOGIES / "four-sites-mobile.yaml"))
    assert (code, err) == (0, "")
    assert "ok four-sites: 4 sites, 12 links\n" in out


def test_validate_accepts_profiles_too() -> None:
    code, out, _ = call("validate", str(TOPOLOGIES / "profiles" / "lte.yaml"))
    assert (code, out.endswith("lte.yaml: profile lte\n")) == (0, True)


def test_validate_names_every_problem_and_exits_with_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nname: [red]\nsites: {a: , b: }\nlinks:\n  - {between: [a, c], rtt: 5}\n")
    code, out, err = call("validate", str(bad))
    assert (code, out) == (2, "")
    assert [line.removeprefix(str(bad)).split(": ")[0] for line in err.splitlines()] == [":2:7", ":5:19", ":5:28"]


def test_validate_speaks_json(tmp_path: Path) -> None:
    code, out, _ = call("validate", "--json", "four-sites", "no-such-file.yaml", str(tmp_path))
    findings = json.loads(out)
    assert (code, findings["valid"]) == (2, False)
    assert [file["valid"] for file in findings["files"]] == [True, False, False]
    assert findings["files"][0]["topology"]["sites"] == ["virginia", "ireland", "tokyo", "sydney"]
    assert "no-such-file" in findings["files"][1]["problems"][0]["message"]


def test_graph_writes_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "x.svg"
    code, _, _ = call("graph", "four-sites", "-o", str(picture))
    assert code == 0
    assert "309.6 ms RTT" in picture.read_text()


@pytest.mark.parametrize(
    ("kind", "file"), [("topology", "topology.schema.json"), ("profile", "profiles/profile.schema.json")]
)
def test_schema_prints_what_is_shipped(kind: str, file: str) -> None:
    assert call("schema", kind)[1] == (TOPOLOGIES / file).read_text()


SHALLOW = """\
version: 1
name: shallow
sites: {a: , b: }
links:
  - {between: [a, b], rtt: 300 ms, rate: 100 Mbit/s, buffer: 15 kB}
"""


def test_validate_warns_with_a_place_and_strict_makes_it_an_error(tmp_path: Path) -> None:
    file = tmp_path / "shallow.yaml"
    file.write_text(SHALLOW)
    code, out, err = call("validate", str(file))
    assert (code, out.startswith("ok")) == (0, True)
    assert err.startswith(f"{file}:5:62: warning: link a>b, buffer: ")
    code, out, _ = call("validate", "--strict", str(file))
    assert (code, out) == (2, "")


def test_validate_gives_findings_as_json(tmp_path: Path) -> None:
    file = tmp_path / "shallow.yaml"
    file.write_text(SHALLOW)
    _, out, _ = call("validate", "--json", str(file))
    [finding] = json.loads(out)["files"][0]["lint"]
    assert (finding["rule"], finding["severity"], finding["line"]) == ("buffer-below-bdp", "warning", 5)
    assert finding["instead"].startswith("buffer: ")


def test_a_lab_is_not_built_from_what_the_linter_refuses(tmp_path: Path) -> None:
    file = tmp_path / "shallow.yaml"
    file.write_text(SHALLOW)
    for command in (["up", str(file), "--wan", "vm", "--strict"], ["run", "smoke", "-t", str(file), "--strict"]):
        with pytest.raises(InputError, match=r"(?s)refuses this topology.*:5:62: warning: .*\[buffer-below-bdp\]"):
            call(*command)
