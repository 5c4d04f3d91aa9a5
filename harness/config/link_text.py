"""Some keys of a link, as text or as a document, to the fields of an Impairment that they replace.

For everything that changes part of a link while it runs: options of a command, a timeline's changes, keywords.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from harness.config.explain import validate
from harness.config.link_keys import LinkKeys, to_impairment
from harness.config.problems import did_you_mean
from harness.config.yaml_tree import Plain, YamlTree, read_tree
from harness.errors import InputError
from harness.model.impairment import Impairment
from harness.model.units import quote

NONE_WORDS = ("none", "unlimited", "off")

FIELDS_OF_KEY: Mapping[str, tuple[str, ...]] = {
    "delay": ("delay_us",),
    "jitter": ("jitter_us",),
    "distribution": ("distribution",),
    "delay_correlation": ("delay_correlation",),
    "in_order": ("in_order",),
    "loss": ("loss",),
    "ecn_marks": ("loss_marks",),
    "duplicate": ("duplicate",),
    "corrupt": ("corrupt",),
    "reorder": ("reorder",),
    "slots": ("slots",),
    "rate": ("rate_bps",),
    "framing": ("framing",),
    "buffer": ("buffer_bytes", "buffer_packets"),
    "queue": ("active_queue",),
    "down": ("blocked",),
}
"""The fields of an Impairment that each key of a link sets."""

_NEEDS_A_RATE = ("buffer_bytes", "buffer_packets", "framing", "active_queue")


def parse_impairment_fields(texts: Mapping[str, str], current: Impairment | None = None) -> dict[str, object]:
    """What keys of a link, each with its value as text, set: a subset of Impairment's fields.

    ``{"loss": "{mean: 1%, burst: 8 packets}", "rate": "20 Mbit/s"}``: a value is written as in a topology file, a
    mapping in YAML's flow style; ``none``, ``unlimited`` or ``off`` takes away what the key set. A buffer in time needs
    a rate, from ``texts`` or from ``current``, the link as it is. No rate means no buffer, framing or queue either.
    Raises InputError that names the key, for text that is not accepted and for what cannot go together.
    """
    unknown = [key for key in texts if key not in FIELDS_OF_KEY]
    if unknown:
        accepted = tuple(FIELDS_OF_KEY)
        raise InputError(f"unknown key {quote(unknown[0])}{did_you_mean(unknown[0], accepted)}", hint=_accepted())
    removed = {key for key, text in texts.items() if text.strip().lower() in NONE_WORDS}
    written: dict[str, Plain] = {}
    for key, text in texts.items():
        if key in removed:
            continue
        tree = read_tree(text.encode(), key)
        if tree.problems:
            raise InputError(f"{key}: {tree.problems[0].message}")
        written[key] = tree.value
    keys, problems = validate(LinkKeys, YamlTree("link", value=written))
    if keys is None:
        named = next((key for key in written if validate(LinkKeys, YamlTree("link", value={key: written[key]}))[1]), "")
        raise InputError("; ".join(f"{named}: {problem.message}" for problem in problems[:1]), hint=_accepted())
    return fields_of_keys(keys, current, removed)


def fields_of_keys(
    keys: LinkKeys, current: Impairment | None = None, removed: frozenset[str] | set[str] = frozenset()
) -> dict[str, object]:
    """The fields of an Impairment that these keys set, and those that the ``removed`` keys would set, at their default.

    ``current`` is the link as it is. Raises InputError for a combination that no link can have.
    """
    base = current or Impairment()
    rate = keys.rate if keys.rate is not None else (None if "rate" in removed else base.rate_bps)
    whole = to_impairment(keys.model_copy(update={"rate": rate}), keys.delay or 0)
    given = [key for key in FIELDS_OF_KEY if getattr(keys, key) is not None]
    fields: dict[str, object] = {}
    for key in given:
        fields.update({field: getattr(whole, field) for field in FIELDS_OF_KEY[key]})
    defaults = Impairment()
    for key in removed:
        fields.update({field: getattr(defaults, field) for field in FIELDS_OF_KEY[key]})
    if rate is None:
        for key in ("buffer", "framing", "queue"):
            if key in given and any(fields[field] is not None for field in FIELDS_OF_KEY[key]):
                raise InputError(f"{key} needs a rate: only a bottleneck has a queue")
            if key == "buffer" and keys.buffer is not None:
                raise InputError("buffer needs a rate: only a bottleneck has a queue")
        if "rate" in removed:
            fields.update(dict.fromkeys(_NEEDS_A_RATE))
    try:
        changed = Impairment.model_validate({**dict(base), **fields})
    except ValidationError as error:
        raise InputError(str(error.errors()[0]["msg"])) from None
    if changed.reorder is not None and not changed.delay_us:
        raise InputError("reorder needs a delay: a packet overtakes by skipping it")
    return fields


def _accepted() -> str:
    return f"keys: {', '.join(FIELDS_OF_KEY)}; a value as in a topology file, or none"
