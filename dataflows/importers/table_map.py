"""The column map of a table: which column is which field, in what unit, zone, vocabulary and scale."""

from __future__ import annotations

import tomllib
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, ValidationError, model_validator

from schemas.config import ComponentConfig, Duration
from schemas.errors import ConfigError
from schemas.records import TOPICS

__all__ = ["DATE_FORMATS", "UNITS_NS", "FieldRule", "TableMap", "load_map"]

UNITS_NS: Final = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
DATE_FORMATS: Final = {"yyyymmdd": "%Y%m%d", "yyyy-mm-dd": "%Y-%m-%d"}
_CLOCK: Final = ("%H", "%I", "%c", "%X", "%T")
"""Directives of a pattern that say a time of day."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"expected a zone such as `America/New_York`, was `{name}`") from error
    return name


def _time_of_day(text: str) -> str:
    if text not in ("start_of_day", "end_of_day"):
        try:
            parsed = time.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"expected `start_of_day`, `end_of_day` or `HH:MM:SS`, was `{text}`") from error
        if parsed.tzinfo is not None:
            raise ValueError(f"expected a time without an offset, was `{text}`; name the `zone`")
    return text


class FieldRule(ComponentConfig):
    """How one field of the topic is made. One of `column`, `value`, `digest` and `row_number` is given.

    Parameters
    ----------
    column
        Column or key that holds it.
    value
        Constant.
    digest
        Columns whose content names the row: the first 16 hexadecimal digits of their SHA-256.
    row_number
        The number of the row in the file, from 1.
    format
        Of a time: a unit since 1970 (`ns`, `us`, `ms`, `s`), `rfc3339`, `yyyymmdd`, `yyyy-mm-dd`, or a
        pattern of `strptime`.
    zone
        Zone of a time that does not name its own.
    time
        Time of day of a date: `start_of_day`, `end_of_day` (its last nanosecond) or `HH:MM:SS`.
    shift
        Duration to add to a time; negative to make it earlier.
    values
        Member of an enumeration, in lower case, to the texts that mean it; or any text to those that it replaces.
    scale
        Number to multiply by; decimal text is scaled exactly, then rounded once.
    join
        Text to put between the elements of a list.
    split
        Text that stands between the elements of a list.
    missing
        Texts that mean that there is no value.
    """

    column: str | None = None
    value: str | int | float | bool | None = None
    digest: tuple[str, ...] = ()
    row_number: bool = False
    format: str | None = None
    zone: Annotated[str, AfterValidator(_zone)] | None = None
    time: Annotated[str, AfterValidator(_time_of_day)] | None = None
    shift: Duration | None = None
    values: dict[str, tuple[str | int | bool, ...]] = Field(default_factory=dict)
    scale: Annotated[float, Field(gt=0)] | None = None
    join: str | None = None
    split: Annotated[str, Field(min_length=1)] | None = None
    missing: tuple[str, ...] = ("",)

    @property
    def is_date(self) -> bool:
        """Whether the format says no time of day."""
        pattern = self.pattern
        return pattern is not None and not any(directive in pattern for directive in _CLOCK)

    @property
    def pattern(self) -> str | None:
        """The pattern of `strptime`, if the format is one."""
        if self.format is None:
            return None
        return DATE_FORMATS.get(self.format, self.format if "%" in self.format else None)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = [self.column is not None, self.value is not None, bool(self.digest), self.row_number]
        if sum(sources) != 1:
            raise ValueError("expected one of `column`, `value`, `digest` and `row_number`")
        if self.format is None:
            return self
        if self.format not in UNITS_NS and self.format != "rfc3339" and self.pattern is None:
            raise ValueError(
                f"expected a `format` among {[*UNITS_NS, 'rfc3339', *DATE_FORMATS]} or a pattern with `%`, "
                f"was `{self.format}`"
            )
        if self.is_date != (self.time is not None):
            raise ValueError("expected `time` with a format of a date, and only there: when on that day was it known")
        if self.pattern is not None and self.zone is None and "%z" not in self.pattern:
            raise ValueError("expected a `zone`, for the format names none")
        return self


class TableMap(ComponentConfig):
    """What a table's columns mean.

    Parameters
    ----------
    topic
        Topic of the rows.
    format
        `csv`, `jsonl` or `parquet`; the file's suffix says it by default.
    columns
        Names of a CSV file's columns, where it has no header line.
    delimiter
        Character between the columns of a CSV file.
    order
        `time` sorts the rows by `ts_recv`, in memory; `file` takes them as they stand, in blocks, and
        raises a time that goes back.
    fields
        Field of the topic to its rule. `ts_recv` is `ts_event` where no rule says otherwise.
    """

    topic: str
    format: Literal["csv", "jsonl", "parquet"] | None = None
    columns: tuple[str, ...] = ()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    order: Literal["time", "file"] = "time"
    fields: dict[str, FieldRule]

    @model_validator(mode="after")
    def _fits_topic(self) -> Self:
        if self.topic not in TOPICS:
            raise ValueError(f"expected a `topic` among {sorted(TOPICS)}, was `{self.topic}`")
        schema = TOPICS[self.topic]
        unknown = sorted(set(self.fields) - set(schema.names))
        if unknown:
            raise ValueError(f"expected `fields` of `{self.topic}` among {list(schema.names)}, was {unknown}")
        needed = {field.name for field in schema.fields if not field.nullable} - {"ts_recv"}
        absent = sorted(needed - set(self.fields))
        if absent:
            raise ValueError(f"expected a rule for each needed field of `{self.topic}`, none was given for {absent}")
        for name, rule in self.fields.items():
            _check_rule(name, schema.field(name).kind, rule)
        return self


def _check_rule(name: str, kind: str, rule: FieldRule) -> None:
    """Refuse a rule whose keys say nothing for a field of this kind."""
    if kind == "time" and rule.format is None:
        raise ValueError(f"fields.{name}: expected a `format`, for the field is a time")
    allowed = {
        "format": kind == "time",
        "zone": kind == "time",
        "time": kind == "time",
        "shift": kind == "time",
        "scale": kind in ("float", "levels"),
        "values": kind in ("enum", "symbol", "text"),
        "join": kind in ("symbol", "text"),
        "split": kind == "levels",
    }
    for key, fits in allowed.items():
        if not fits and getattr(rule, key):
            raise ValueError(f"fields.{name}: expected no `{key}`, for the field is of kind {kind}")


def load_map(path: Path) -> TableMap:
    """Read a column map.

    Raises
    ------
    ConfigError
        The file is not TOML, or a key or value is wrong; the message names every such key.
    """
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return TableMap.model_validate(content)
    except OSError as error:
        raise ConfigError(f"expected a column map in `{path}`, found {error.strerror}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected TOML in `{path}`, found a fault: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"`{'.'.join(map(str, fault['loc'])) or 'map'}`: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"expected a column map in `{path}`, found {faults}; see docs/importing.md") from error
