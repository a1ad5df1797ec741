"""What the keys of a configuration type are: default, type and bounds in words, meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import AwareDatetime, SecretStr
from pydantic.fields import FieldInfo

from schemas.config import ComponentConfig
from schemas.time import duration_ns, format_duration

__all__ = ["Key", "defaults", "every_key", "is_section", "is_table", "key_of", "section_type", "toml"]

_SIZES: Final = ("min_length", "max_length")
_SYMBOLS: Final = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_TYPES: Final[dict[Any, str]] = {
    int: "whole number",
    float: "number",
    str: "name",
    timedelta: "duration",
    bool: "true or false",
    SecretStr: "secret",
    NoneType: "not set",
    AwareDatetime: "a time with its zone",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a configuration.

    Parameters
    ----------
    name
        Name; of a key in a section within, its path with dots.
    default
        Default as plain JSON; None where there is none.
    bounds
        Type and bounds, in words.
    meaning
        What it is.
    """

    name: str
    default: Any
    bounds: str
    meaning: str

    @property
    def written(self) -> str:
        """The default as a configuration file has it, `not set` where the key has none."""
        return "not set" if self.default is None else toml(self.default)


def every_key(config: type[ComponentConfig], prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a configuration type in order, those of sections within by their path.

    Examples
    --------
    >>> from operators.text.config import NewsConfig
    >>> [(key.name, key.written, key.bounds) for key in every_key(NewsConfig)][2]
    ('story.similarity', '0.5', 'number, ≥ 0.05, ≤ 1')
    """
    values = defaults(config)
    for name, field in config.model_fields.items():
        inner = section_type(field)
        if inner is None:
            yield key_of(f"{prefix}{name}", field, values[name])
        else:
            yield from every_key(inner, f"{prefix}{name}.")


def key_of(name: str, field: FieldInfo, default: Any) -> Key:
    """Return what a field is as a key."""
    return Key(name, default, _bounds(field), field.description or "")


def defaults(config: type[ComponentConfig]) -> dict[str, Any]:
    """Return the default of each key as a configuration has it; None of one that is required."""
    required = {name for name, field in config.model_fields.items() if field.is_required()}
    known = config.model_construct().content()
    return {name: None if name in required else known[name] for name in config.model_fields}


def section_type(field: FieldInfo) -> type[ComponentConfig] | None:
    """Return the type of a key that is a section, which may be absent; None of any other key."""
    annotation: Any = field.annotation
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        annotation = kinds[0] if len(kinds) == 1 else annotation
    return annotation if is_section(annotation) else None


def is_section(annotation: Any) -> TypeGuard[type[ComponentConfig]]:
    """Return whether a type is that of a section."""
    return isinstance(annotation, type) and issubclass(annotation, ComponentConfig)


def is_table(field: FieldInfo) -> bool:
    """Return whether a key is a table of sections, by name."""
    return get_origin(field.annotation) is dict and is_section(get_args(field.annotation)[1])


def toml(value: Any) -> str:
    """Return a plain JSON value as a configuration file has it.

    Examples
    --------
    >>> toml(["1m", True])
    '["1m", true]'
    """
    if isinstance(value, str):
        return '"0s"' if value == format_duration(0) else f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {toml(item)}' for name, item in value.items())}}}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bounds(field: FieldInfo) -> str:
    """Return type and bounds in words; a duration without bounds of its own is not negative (`ShardConfig`)."""
    limits = {name: getattr(item, name) for item in field.metadata for name in _SYMBOLS if hasattr(item, name)}
    sizes = [getattr(item, name) for item in field.metadata for name in _SIZES if hasattr(item, name)]
    if field.annotation is timedelta and not limits:
        limits = {"ge": timedelta(0)}
    kind = _kind(field.annotation)
    if kind.startswith("list") and len(sizes) == 2:
        return f"{kind}, {sizes[0]} to {sizes[1]} of them"
    return ", ".join([kind, *(f"{_SYMBOLS[name]} {_limit(of)}" for name, of in limits.items())])


def _kind(annotation: Any) -> str:
    """Return a type in words."""
    origin, items = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(items[0])
    if origin is Literal:
        return " or ".join(f"`{item}`" for item in items)
    if origin in (Union, UnionType):
        return " or ".join(_kind(item) for item in items)
    if origin is dict:
        return "a section each" if is_section(items[1]) else f"table, each a {_kind(items[1])}"
    if origin is not None:
        return f"list, each a {_kind(items[0])}"
    return _TYPES[annotation]


def _limit(limit: timedelta | float) -> str:
    if isinstance(limit, timedelta):
        return format_duration(duration_ns(limit)) if limit else "0s"
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"
