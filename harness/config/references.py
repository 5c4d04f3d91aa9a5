"""Whether the names in a topology file fit together.

Works on the plain tree, so that files with other mistakes are checked too, and all are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.problems import Problem, did_you_mean
from harness.config.timeline_events import check_timeline
from harness.config.yaml_tree import Path, Plain, YamlTree
from harness.model.units import quote

_MOST_PAIRS_NAMED = 6


def check_references(tree: YamlTree) -> list[Problem]:
    """Links and events of sites that do not exist, links from a site to itself, pairs linked twice or not at all."""
    sites = _mapping(tree.get(("sites",)))
    names = list(sites)
    problems = [*_empty_values(tree, tree.value, ())]
    linked: dict[tuple[str, str], Path] = {}
    complete = True
    for index, link in enumerate(_sequence(tree.get(("links",)))):
        ends = list(_ends(_mapping(link), ("links", index)))
        unknown = [(path, name) for path, name in ends if name not in sites]
        problems += [tree.problem(path, _unknown_site(name, names)) for path, name in unknown]
        complete &= len(ends) == 2 and not unknown
        if len(ends) != 2 or unknown:
            continue
        (_, source), (second, destination) = ends
        if source == destination:
            problems.append(tree.problem(second, f"a link from {quote(source)} to itself"))
            complete = False
            continue
        pairs = [(source, destination)]
        if "between" in _mapping(link):
            pairs.append((destination, source))
        for pair in pairs:
            if pair in linked:
                first = tree.problem(linked[pair], "")
                problems.append(
                    tree.problem(
                        ("links", index), f"the link {pair[0]}>{pair[1]} is already described on line {first.line}"
                    )
                )
                break
        linked.update(dict.fromkeys((pair for pair in pairs if pair not in linked), ("links", index)))
    problems += check_timeline(tree)
    if complete and names:
        problems += _missing_pairs(tree, names, linked)
    return problems


def _missing_pairs(tree: YamlTree, names: list[str], linked: dict[tuple[str, str], Path]) -> list[Problem]:
    defaults = _mapping(tree.get(("defaults",)))
    if "rtt" in defaults or "delay" in defaults:
        return []
    missing = [f"{a}>{b}" for a in names for b in names if a != b and (a, b) not in linked]
    if not missing:
        return []
    named = ", ".join(missing[:_MOST_PAIRS_NAMED])
    more = f" and {len(missing) - _MOST_PAIRS_NAMED} more" if len(missing) > _MOST_PAIRS_NAMED else ""
    message = f"no link for {named}{more}; add them to links, or state rtt in defaults to cover all pairs left out"
    return [tree.problem(("links",), message, at_key=True)]


def _empty_values(tree: YamlTree, value: Plain, path: Path) -> Iterator[Problem]:
    if value is None and path and not (path == ("defaults",) or (len(path) == 2 and path[0] == "sites")):
        yield tree.problem(path, f"{quote(str(path[-1]))} has no value; write one or leave the key out")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _empty_values(tree, inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _empty_values(tree, inner, (*path, index))


def _ends(link: dict[str, Plain], path: Path) -> Iterator[tuple[Path, str]]:
    """The sites that a link names, as far as they are text."""
    between = _sequence(link.get("between"))
    if between:
        yield from (((*path, "between", index), name) for index, name in enumerate(between) if isinstance(name, str))
        return
    for key in ("from", "to"):
        name = link.get(key)
        if isinstance(name, str):
            yield (*path, key), name


def _unknown_site(name: str, names: list[str]) -> str:
    return f"there is no site {quote(name)}; sites: {', '.join(names) or 'none'}{did_you_mean(name, names)}"


def _mapping(value: Plain) -> dict[str, Plain]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Plain) -> list[Plain]:
    return value if isinstance(value, list) else []
