"""Base of every configuration type: typed, frozen, bounded; an unknown key is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from schemas.features import content_hash
from schemas.time import duration_ns, format_duration, parse_duration

__all__ = ["ComponentConfig", "Duration"]


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, timedelta):
        return value
    raise ValueError(f"expected a duration as text such as `1m`, was {value!r}")


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(lambda value: format_duration(duration_ns(value)), return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d)$", "examples": ["1s", "1m"]}),
]
"""A `timedelta`, written as a number and a unit: `250ms`, `1s`, `5m`, `1h`, `1d`."""


class ComponentConfig(BaseModel):
    """Configuration of one component.

    Examples
    --------
    >>> class Window(ComponentConfig):
    ...     length: Duration
    >>> Window(length="1m").content()
    {'length': '1m'}
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def content(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        return self.model_dump(mode="json")

    def content_hash(self) -> str:
        """Return the hash of the content."""
        return content_hash(self.content())
