"""The JSON wire format: one object per record, its members named after the topic's fields.

Everything is generated from `schemas.records`: a decoder that checks types while it parses, an encoder
that writes the canonical form, and the sentence that explains a refused message.

| field | on the wire |
|---|---|
| time | integer nanoseconds since 1970 UTC, or RFC 3339 text with its zone |
| float, int | number |
| symbol, text | text |
| enum | lower-case name |
| levels | array of numbers |

A nullable field may be absent or null. Unknown members are ignored. `ts_recv` is transport: it is read
from the message only for topics that carry their own receive time (`clock="record"`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.batches import make_batch
from schemas.enums import DeadLetterReason
from schemas.errors import DataError
from schemas.fields import Field
from schemas.records import topic as topic_schema
from schemas.time import parse_time

__all__ = ["Clock", "Decoded", "WireError", "decode", "encode", "peek_instrument", "printable"]

Clock = Literal["transport", "record"]
"""Where `ts_recv` comes from: the transport that delivered the record, or the record itself."""

DETAIL_CHARACTERS: Final = 200
"""Longest detail of a refusal: a sentence and a taste of what was found, never the message again."""
_FOUND_CHARACTERS: Final = 60
_INSTRUMENT_CHARACTERS: Final = 256
_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1

_Refusal = tuple[DeadLetterReason, str]
_Int64 = Annotated[int, msgspec.Meta(ge=_INT64_MIN, le=_INT64_MAX)]
_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_TYPES: Final[dict[str, Any]] = {
    "time": _Int64 | str,
    "float": float,
    "int": _Int64,
    "int32": _Int32,
    "bool": bool,
    "symbol": str,
    "text": str,
    "levels": list[float],
    "numbers": list[float],
}
_EXPECTED: Final = {
    "time": "an integer of UTC nanoseconds or an RFC 3339 time",
    "float": "a number",
    "int": "an integer",
    "int32": "an integer",
    "bool": "true or false",
    "symbol": "text",
    "text": "text",
    "levels": "an array of numbers",
    "numbers": "an array of numbers",
}


class WireError(NamedTuple):
    """Why one message was refused."""

    row: int
    """its place in the call"""
    reason: DeadLetterReason
    """why, in a word"""
    detail: str
    """what was expected and what was found"""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The messages of one call as a batch, one row each, in order.

    Parameters
    ----------
    batch
        Archive schema of the topic. The row of a refused message has its bytes in `raw` and nothing
        else but its transport columns.
    errors
        One entry for each refused message, by row.
    """

    batch: pa.RecordBatch
    errors: tuple[WireError, ...]


@dataclass(frozen=True)
class _Codec:
    """What `schemas.records` says about one topic, made ready."""

    fields: tuple[Field, ...]
    decode: Callable[[bytes], Any]
    blank: Any
    row: Callable[..., Any]
    codes: dict[str, dict[str | None, int | None]]
    """enumeration fields: wire name to code"""

    def of_kind(self, kind: str) -> list[str]:
        return [field.name for field in self.fields if field.kind == kind]


@lru_cache(maxsize=64)
def _codec(topic: str, clock: Clock) -> _Codec:
    fields = tuple(field for field in topic_schema(topic).fields if field.name != "ts_recv" or clock == "record")
    required = [(field.name, _wire_type(field)) for field in fields if not field.nullable]
    optional = [(field.name, _wire_type(field) | None, None) for field in fields if field.nullable]
    message = msgspec.defstruct(topic, [*required, *optional], gc=False)
    row = msgspec.defstruct(topic, [(field.name, Any, None) for field in fields], omit_defaults=True, gc=False)
    codes: dict[str, dict[str | None, int | None]] = {
        field.name: {None: None} | dict(_names(field)) for field in fields if field.enum is not None
    }
    blank = message(*[None] * len(required))
    return _Codec(fields, msgspec.json.Decoder(message).decode, blank, row, codes)


def _names(field: Field) -> dict[str, int]:
    return {member.name.lower(): member.value for member in field.enum or ()}


def _wire_type(field: Field) -> Any:
    return Literal[tuple(_names(field))] if field.enum is not None else _TYPES[field.kind]


def decode(
    topic: str,
    payloads: Sequence[bytes | None],
    ts_recv: npt.NDArray[np.int64],
    partition: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
    *,
    clock: Clock = "transport",
    keep_raw: bool = False,
) -> Decoded:
    """Return the messages as columns; a bad one affects only its own row.

    Each message is parsed and type-checked in one pass, then the values are gathered by column.

    Parameters
    ----------
    topic
        Topic name.
    payloads
        Bytes of each message; None is a record without a value.
    ts_recv
        When the transport had each message, int64 UTC ns, shape `(n,)`.
    partition, offset
        Where each message stood, shape `(n,)`.
    clock
        `record` takes `ts_recv` from the message, which then must carry it.
    keep_raw
        Keep the bytes of the good messages too.

    Raises
    ------
    KeyError
        There is no such topic.

    Notes
    -----
    Reasons: `malformed` (not UTF-8, not JSON, which knows no NaN, or not one object), `missing_field`,
    `wrong_type` (an unknown name of an enumeration is one), `naive_time`, `out_of_range` (a number that
    the field's type cannot hold). Values are checked against the field's rules by `operators.decode`.

    Examples
    --------
    >>> where = np.arange(2)
    >>> good = b'{"instrument_id":"A","ts_event":"2024-01-02T14:30:00Z","price":9.5,"size":1,"side":"buy"}'
    >>> decoded = decode("trades", [good, b'{"instrument_id":"A"}'], where + 5, np.zeros(2, "i4"), where)
    >>> decoded.batch.column("price").to_pylist(), decoded.batch.column("side").to_pylist()
    ([9.5, None], [1, None])
    >>> decoded.errors[0].reason.value, decoded.errors[0].detail
    ('missing_field', 'expected a value in `ts_event`, found none')
    """
    codec = _codec(topic, clock)
    rows, errors = _parse(codec, payloads)
    try:
        columns = _columns(codec, rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        _resolve_times(codec, rows, errors)
        columns = _columns(codec, rows)
    if clock == "record":
        columns["ts_recv"] = columns["ts_recv"].fill_null(pa.scalar(0)).to_numpy(zero_copy_only=False).copy()
        columns["ts_recv"][list(errors)] = ts_recv[list(errors)]
    else:
        columns["ts_recv"] = ts_recv
    columns |= {"partition": partition, "offset": offset}
    if keep_raw:
        columns["raw"] = list(payloads)
    elif errors:
        columns["raw"] = [payload if row in errors else None for row, payload in enumerate(payloads)]
    for row in errors:
        if payloads[row] is None:
            columns["raw"][row] = b""
    batch = make_batch(topic, columns, len(payloads))
    return Decoded(batch, tuple(WireError(row, *errors[row]) for row in sorted(errors)))


def _parse(codec: _Codec, payloads: Sequence[bytes | None]) -> tuple[list[Any], dict[int, _Refusal]]:
    rows: list[Any] = []
    errors: dict[int, _Refusal] = {}
    parse: Callable[[Any], Any] = codec.decode
    append = rows.append
    for payload in payloads:
        try:
            append(parse(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
            errors[len(rows)] = _diagnose(codec, payload, error)
            append(codec.blank)
    return rows, errors


def _columns(codec: _Codec, rows: list[Any]) -> dict[str, Any]:
    """Return the fields as columns, times first: text among them is what the caller has to resolve."""
    columns: dict[str, Any] = {
        name: pa.array(map(attrgetter(name), rows), type=pa.int64(), size=len(rows)) for name in codec.of_kind("time")
    }
    for field in codec.fields:
        if field.name in columns:
            continue
        values = map(attrgetter(field.name), rows)
        if field.name in codec.codes:
            codes = codec.codes[field.name]
            columns[field.name] = [codes[value] for value in values]
        else:
            columns[field.name] = list(values)
    return columns


def _resolve_times(codec: _Codec, rows: list[Any], errors: dict[int, _Refusal]) -> None:
    """Replace times that are text by nanoseconds, in place; a row with a bad one becomes blank."""
    for name in codec.of_kind("time"):
        for row, message in enumerate(rows):
            text = getattr(message, name)
            if not isinstance(text, str):
                continue
            try:
                setattr(message, name, _nanoseconds(text))
            except DataError as error:
                errors[row] = (DeadLetterReason(error.reason), printable(f"`{name}`: {error.detail}"))
                rows[row] = codec.blank


def _nanoseconds(text: str) -> int:
    ts = parse_time(text)
    if not _INT64_MIN <= ts <= _INT64_MAX:
        raise DataError(
            DeadLetterReason.OUT_OF_RANGE, f"expected a time between the years 1678 and 2262, found {_show(text)}"
        )
    return ts


def _diagnose(codec: _Codec, payload: bytes | None, error: Exception) -> _Refusal:
    """Return reason and detail of a message that the typed decoder refused."""
    if payload is None or not payload:
        return DeadLetterReason.MALFORMED, "expected a JSON object, found no bytes"
    try:
        message = msgspec.json.decode(payload)
    except UnicodeDecodeError as fault:
        found = fault.object[fault.start]
        return DeadLetterReason.MALFORMED, f"expected UTF-8 text, found byte 0x{found:02x} inside a string"
    except RecursionError:
        return DeadLetterReason.MALFORMED, "expected a flat JSON object, found one nested too deeply"
    except msgspec.ValidationError:
        return DeadLetterReason.OUT_OF_RANGE, printable(f"expected numbers that a float can hold, found: {error}")
    except msgspec.DecodeError as fault:
        return DeadLetterReason.MALFORMED, printable(f"expected a JSON object, found {len(payload)} bytes: {fault}")
    if not isinstance(message, dict):
        return DeadLetterReason.MALFORMED, f"expected a JSON object, found {_show(message)}"
    for field in codec.fields:
        fault_of_field = _field_fault(field, message.get(field.name))
        if fault_of_field is not None:
            reason, expected, found_text = fault_of_field
            return reason, printable(f"expected {expected} in `{field.name}`, found {found_text}")
    return DeadLetterReason.WRONG_TYPE, printable(f"expected the topic's fields, found: {error}")


def _field_fault(field: Field, value: Any) -> tuple[DeadLetterReason, str, str] | None:
    """Return reason, what was expected and what was found, or None where the value fits the field."""
    if value is None:
        return None if field.nullable else (DeadLetterReason.MISSING_FIELD, "a value", "none")
    try:
        msgspec.convert(value, _wire_type(field))
    except msgspec.ValidationError:
        if field.kind in ("time", "int", "int32") and isinstance(value, int) and not isinstance(value, bool):
            bits = 32 if field.kind == "int32" else 64
            return DeadLetterReason.OUT_OF_RANGE, f"a {bits}-bit integer", _show(value)
        expected = f"one of {', '.join(_names(field))}" if field.enum is not None else _EXPECTED[field.kind]
        return DeadLetterReason.WRONG_TYPE, expected, _show(value)
    return None


def _show(value: Any) -> str:
    return printable(msgspec.json.encode(value).decode(), _FOUND_CHARACTERS)


def encode(topic: str, batch: pa.RecordBatch, *, clock: Clock = "transport") -> list[bytes]:
    """Return the canonical message of each row: fields in schema order, no spaces, nulls left out.

    Floats are written in the shortest form that reads back the same, times as integer nanoseconds. The
    transport columns, `ts_recv` among them, are not part of the message.

    Parameters
    ----------
    topic
        Topic name.
    batch
        Rows with the topic's columns.
    clock
        `record` writes `ts_recv` too, for a topic that carries its own receive time.

    Notes
    -----
    `decode` of the result gives the same rows, if they are valid. JSON has no NaN and no infinity: they
    are written as null. A code that its enumeration lacks is written as the number, which no decoder takes.

    Examples
    --------
    >>> columns = {"instrument_id": ["A"], "ts_event": [7], "ts_recv": [9], "price": [0.1], "size": [2.0], "side": [-1]}
    >>> encode("trades", make_batch("trades", columns, 1))
    [b'{"instrument_id":"A","ts_event":7,"price":0.1,"size":2.0,"side":"sell"}']
    """
    codec = _codec(topic, clock)
    write = msgspec.json.Encoder().encode
    return [write(row) for row in map(codec.row, *(_wire_values(field, batch) for field in codec.fields))]


def _wire_values(field: Field, batch: pa.RecordBatch) -> list[Any]:
    column = batch.column(field.name)
    if field.kind == "time":
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    if field.enum is None:
        return values
    names = {code: name for name, code in _names(field).items()}
    return [names.get(value, value) for value in values]


class _Peek(msgspec.Struct, gc=False):
    instrument_id: str


_peek: Final = msgspec.json.Decoder(_Peek).decode


def peek_instrument(payload: bytes) -> str | None:
    """Return the instrument that a refused message names, or None where that cannot be read.

    Examples
    --------
    >>> peek_instrument(b'{"instrument_id":"A","price":"?"}'), peek_instrument(b"{")
    ('A', None)
    """
    try:
        instrument_id = _peek(payload).instrument_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return instrument_id if 0 < len(instrument_id) <= _INSTRUMENT_CHARACTERS else None


def printable(text: str, limit: int = DETAIL_CHARACTERS) -> str:
    r"""Return the text on one line and bounded: what cannot be printed is escaped, the rest is cut off.

    Examples
    --------
    >>> printable("a\nb\x1b[31m"), printable("abcdef", limit=4)
    ('a\\nb\\x1b[31m', 'abc…')
    """
    head = text[: limit + 1]
    if not head.isprintable():
        head = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode() for character in head
        )
    return head if len(head) <= limit else head[: limit - 1] + "…"
