"""The one base class of the model: frozen, strict about unknown keys, JSON in and out."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value; equality is by content, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
