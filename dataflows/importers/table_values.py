"""Values of a table's row to values of a topic's fields, one converter per rule, made once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo

from dataflows.importers.checks import END_OF_TIMES
from dataflows.importers.table_map import UNITS_NS, FieldRule, TableMap
from schemas.errors import DataError
from schemas.fields import Field
from schemas.records import TOPICS
from schemas.time import duration_ns, parse_time

__all__ = ["Converter", "converters"]

Row = Mapping[str, Any]
Converter = Callable[[Row, int], Any]
"""Gives a field's value from a row and its number; raises `DataError` where it has none."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER_CHARACTERS: Final = frozenset("0123456789+-.eE")
_INT_MAX: Final = 2**63 - 1


def converters(table: TableMap) -> dict[str, Converter]:
    """Return a converter for each field that has a rule."""
    schema = TOPICS[table.topic]
    return {name: _converter(schema.field(name), rule) for name, rule in table.fields.items()}


def _converter(field: Field, rule: FieldRule) -> Converter:
    convert = _CONVERSIONS[field.kind](field, rule)
    fetch = _fetcher(rule)
    missing = frozenset(rule.missing)

    def value_of(row: Row, number: int) -> Any:
        value = fetch(row, number)
        if value is None or value != value or (isinstance(value, str) and value in missing):
            if field.nullable:
                return None
            raise DataError("missing_field", f"expected a `{field.name}`")
        return convert(value)

    return value_of


def _fetcher(rule: FieldRule) -> Converter:
    if rule.column is not None:
        column = rule.column
        return lambda row, _: row.get(column)
    if rule.digest:
        columns = rule.digest
        return lambda row, _: _digest([row.get(column) for column in columns])
    if rule.row_number:
        return lambda _, number: number
    return lambda *_: rule.value


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _wrong(field: Field, wanted: str) -> DataError:
    return DataError("wrong_type", f"expected `{field.name}` to be {wanted}")


def _decimal(field: Field, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise _wrong(field, "a number")
    text = value.strip() if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
    if not text or not _NUMBER_CHARACTERS.issuperset(text):
        raise _wrong(field, "a number")
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise _wrong(field, "a number") from error


def _float(field: Field, rule: FieldRule) -> Callable[[Any], float]:
    scale = None if rule.scale is None else Decimal(repr(rule.scale))

    def convert(value: Any) -> float:
        number = _decimal(field, value)
        try:
            return float(number if scale is None else number * scale)
        except ArithmeticError as error:
            raise DataError("out_of_range", f"expected `{field.name}` finite") from error

    return convert


def _int(field: Field, _: FieldRule) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        number = _decimal(field, value)
        # The bound comes first: the integer of 1e999999 would fill the memory.
        if not -_INT_MAX <= number <= _INT_MAX:
            raise DataError("out_of_range", f"expected `{field.name}` to fit into 64 bits")
        if number != int(number):
            raise _wrong(field, "a whole number")
        return int(number)

    return convert


def _text(field: Field, rule: FieldRule) -> Callable[[Any], str]:
    replaced = {str(alias): name for name, aliases in rule.values.items() for alias in aliases}

    def convert(value: Any) -> str:
        if isinstance(value, list | tuple) and rule.join is not None:
            if not all(isinstance(item, str) for item in value):
                raise _wrong(field, "a list of texts")
            value = rule.join.join(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _wrong(field, "text")
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _wrong(field, "text in UTF-8") from error
        text = replaced.get(text, text)
        if field.name == "instrument_id" and not text:
            raise DataError("missing_field", f"expected a `{field.name}`")
        return text

    return convert


def _enum(field: Field, rule: FieldRule) -> Callable[[Any], int]:
    members = {member.name.lower(): int(member) for member in field.enum or ()}
    unknown = sorted(set(rule.values) - set(members))
    if unknown:
        raise DataError("wrong_type", f"expected `values` of `{field.name}` among {sorted(members)}, was {unknown}")
    named = dict(members)
    for name, aliases in rule.values.items():
        named |= {_alias(alias): members[name] for alias in aliases}

    def convert(value: Any) -> int:
        found = named.get(_alias(value)) if isinstance(value, str | int) else None
        if found is None:
            raise _wrong(field, f"one of {sorted(members)} or of its `values`")
        return found

    return convert


def _alias(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _levels(field: Field, rule: FieldRule) -> Callable[[Any], list[float]]:
    convert_one = _float(field, rule)

    def convert(value: Any) -> list[float]:
        if isinstance(value, str) and rule.split is not None:
            value = value.split(rule.split)
        if not isinstance(value, list | tuple):
            raise _wrong(field, "a list of numbers")
        return [convert_one(item) for item in value]

    return convert


def _time(field: Field, rule: FieldRule) -> Callable[[Any], int]:
    parse = _time_parser(field, rule)
    shift = 0 if rule.shift is None else duration_ns(rule.shift)

    def convert(value: Any) -> int:
        ts = parse(value) + shift
        if not 0 <= ts < END_OF_TIMES:
            raise DataError("out_of_range", f"expected `{field.name}` from 1970 to 2200")
        return ts

    return convert


def _time_parser(field: Field, rule: FieldRule) -> Callable[[Any], int]:
    if rule.format in UNITS_NS:
        return _unit_parser(field, Decimal(UNITS_NS[rule.format]))
    zone = None if rule.zone is None else ZoneInfo(rule.zone)
    if rule.pattern is None:
        return lambda value: _rfc3339(field, value, zone)
    return _pattern_parser(field, rule, rule.pattern, zone)


def _unit_parser(field: Field, unit: Decimal) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        number = _decimal(field, value)
        # The bound comes first: the integer of 1e999999 would fill the memory.
        if not 0 <= number < END_OF_TIMES:
            raise DataError("out_of_range", f"expected `{field.name}` from 1970 to 2200")
        return round(number * unit)

    return parse


def _rfc3339(field: Field, value: Any, zone: ZoneInfo | None) -> int:
    if not isinstance(value, str):
        raise _wrong(field, "an RFC 3339 time")
    try:
        return parse_time(value)
    except DataError as error:
        if error.reason != "naive_time":
            raise _wrong(field, "an RFC 3339 time") from error
        if zone is None:
            raise DataError("naive_time", f"expected `{field.name}` with its zone") from error
    except (ValueError, OverflowError) as error:
        raise _wrong(field, "an RFC 3339 time") from error
    # The wall-clock time read as UTC keeps all nine decimals; the zone's offset is then taken off.
    naive = datetime.fromisoformat(value)
    return parse_time(f"{value}Z") - _offset_ns(naive, zone)


def _offset_ns(naive: datetime, zone: ZoneInfo) -> int:
    return duration_ns(naive.replace(tzinfo=zone).utcoffset() or timedelta())


def _pattern_parser(field: Field, rule: FieldRule, pattern: str, zone: ZoneInfo | None) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str):
            raise _wrong(field, "text")
        try:
            moment = datetime.strptime(text, pattern)  # noqa: DTZ007
            return _moment_ns(moment, rule, zone)
        except (ValueError, OverflowError) as error:
            raise _wrong(field, f"a time such as `{pattern}`") from error

    return parse


def _moment_ns(moment: datetime, rule: FieldRule, zone: ZoneInfo | None) -> int:
    before = 0
    if rule.time == "end_of_day":
        moment += timedelta(days=1)
        before = 1
    elif rule.time is not None and rule.time != "start_of_day":
        moment = datetime.combine(moment.date(), time.fromisoformat(rule.time))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return duration_ns(moment - _EPOCH) - before


_CONVERSIONS: Final[dict[str, Callable[[Field, FieldRule], Callable[[Any], Any]]]] = {
    "time": _time,
    "float": _float,
    "int": _int,
    "symbol": _text,
    "text": _text,
    "enum": _enum,
    "levels": _levels,
}
