"""The keys of a site that say what stands there: its nodes, and whether they are behind NAT."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from harness.config.fields import Document, SiteName, Span, refuse
from harness.model import units
from harness.model.topology import MAX_NODES_OF_A_SITE, Nat

_SECOND_US = 1_000_000


class NatDocument(Document):
    """NAT at a site's edge. Its nodes reach out, and nobody reaches in unasked."""

    kind: Literal["port-preserving", "symmetric"] = Field(
        default="port-preserving",
        description="port-preserving: a node's port looks the same from everywhere, its own if it is free. "
        "symmetric: every destination sees another port.",
    )
    udp_timeout: Span = Field(
        default=30 * _SECOND_US, description="A UDP mapping that only one side has used ends after this silence."
    )
    udp_stream_timeout: Span = Field(
        default=120 * _SECOND_US, description="A UDP mapping that both sides have used ends after this silence."
    )
    tcp_timeout: Span = Field(
        default=7440 * _SECOND_US, description="A TCP mapping ends after this silence, which no FIN tells anyone of."
    )

    @model_validator(mode="after")
    def _whole_seconds(self) -> NatDocument:
        for name in ("udp_timeout", "udp_stream_timeout", "tcp_timeout"):
            if getattr(self, name) % _SECOND_US:
                given = units.format_duration(getattr(self, name))
                raise refuse(f"{name} is {given}; the kernel counts it in whole seconds: write 1 s or more")
        return self

    def to_nat(self) -> Nat:
        """The model's form."""
        return Nat(
            kind=self.kind,
            udp_timeout_s=self.udp_timeout // _SECOND_US,
            udp_stream_timeout_s=self.udp_stream_timeout // _SECOND_US,
            tcp_timeout_s=self.tcp_timeout // _SECOND_US,
        )


def _switched(value: Any) -> Any:
    """``true`` is NAT with all defaults, ``false`` is none."""
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, dict):
        return value
    raise refuse("expected true, or a mapping with kind, udp_timeout, udp_stream_timeout or tcp_timeout")


class _OrBoolean:
    """Says in the schema what ``_switched`` accepts."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, handler(core_schema)]}


NatKey = Annotated[NatDocument | None, BeforeValidator(_switched), _OrBoolean()]


def _different(value: list[str]) -> list[str]:
    twice = [name for number, name in enumerate(value) if name in value[:number]]
    if twice:
        raise refuse(f"{units.quote(twice[0])} is there twice")
    return value


MoreNodes = Annotated[list[SiteName], Field(max_length=MAX_NODES_OF_A_SITE - 1), AfterValidator(_different)]
