"""Rows of output tables as Kafka messages: key, value and headers.

The value is JSON as `schemas.wire` writes it: one object, its members named after the table's fields in
their order, times as integer UTC nanoseconds, enumerations by their lower-case name, nulls left out. Maps
are objects, bytes are base64. How a row came about (`Field.provenance`) is no part of it. A dead letter is
not JSON: its value is the refused record's own bytes.

| header | value |
|---|---|
| `id` | 32 hexadecimal digits over table and natural key, the run included |
| `run_id` | run that wrote the row |
| `table` | table of the row |
| `schema_version` | version of the table's schema |
| `traceparent` | W3C context of the trace that computed the row, where there is one |

What is written again after a crash has the same `id`, by which a consumer drops it. (A row of `runs` or
`run_counts` is written again with other values: of those the last one counts.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from schemas.fields import Field, Schema
from schemas.tables import DEAD_LETTERS, DRIFT_EVENTS, TABLES
from sinks.conform import conform

__all__ = ["RowMessage", "row_messages"]

_ID_DIGITS: Final = 32
_KEYS: Final = {DEAD_LETTERS.name: ("topic", "partition", "offset"), DRIFT_EVENTS.name: ("model", "stream")}
"""Columns that make the key of a record, where that is not the instrument."""
_LETTER_HEADERS: Final = ("topic", "partition", "offset", "reason", "detail", "ts_recv", "instrument_id")
"""Columns of a dead letter that become headers; one without a value has none."""


class RowMessage(NamedTuple):
    """One row, ready to be published."""

    key: bytes | None
    """the row's instrument, a dead letter's `topic/partition/offset` or a drift's `model/stream`; None where a table
    has none of them"""
    value: bytes
    """JSON, or a dead letter's bytes"""
    headers: list[tuple[str, bytes]]
    """names with their text in UTF-8"""


def row_messages(table: str, rows: pa.RecordBatch, run_id: str) -> Iterator[RowMessage]:
    """Yield the message of each row, in order.

    Parameters
    ----------
    table
        Name of the table.
    rows
        Its columns in any order; `run_id` may be left out.
    run_id
        Run of the rows, where they do not say it.

    Raises
    ------
    KeyError
        There is no such table.
    StorageError
        The rows are not as the table expects them.

    Examples
    --------
    >>> rows = pa.RecordBatch.from_pylist([{"kind": "read", "subject": "trades", "reason": "", "count": 3}])
    >>> (message,) = row_messages("run_counts", rows, "r1")
    >>> message.value
    b'{"run_id":"r1","kind":"read","subject":"trades","reason":"","count":3}'
    >>> dict(message.headers)["id"]
    b'b6c07ab79284a54808578ad19d2ce367'
    """
    schema = TABLES[table]
    stored = conform(schema, rows, run_id)
    left_out = {field.name for field in schema.provenance}
    names = [name for name in stored.schema.names if name not in left_out]
    columns = {name: _plain(schema, name, stored.column(name)) for name in names}
    make = _dead_letter if schema.name == DEAD_LETTERS.name else _json
    for values in zip(*columns.values(), strict=True):
        yield make(schema, dict(zip(columns, values, strict=True)))


def _plain(schema: Schema, name: str, column: pa.ChunkedArray) -> list[Any]:
    """Return a column as the wire has its values."""
    field: Field | None = next((field for field in schema.fields if field.name == name), None)
    if field is not None and field.kind == "time":
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    if field is not None and field.enum is not None:
        names = {member.value: member.name.lower() for member in field.enum}
        return [names.get(value) for value in values]
    if field is not None and field.kind == "map":
        return [dict(value) for value in values]
    return values


def _json(schema: Schema, row: dict[str, Any]) -> RowMessage:
    value = msgspec.json.encode({name: value for name, value in row.items() if value is not None})
    return RowMessage(_key(schema, row), value, _headers(schema, row))


def _dead_letter(schema: Schema, row: dict[str, Any]) -> RowMessage:
    headers = _headers(schema, row)
    headers += [(name, str(row[name]).encode()) for name in _LETTER_HEADERS if row[name] is not None]
    return RowMessage(_key(schema, row), row["payload"], headers)


def _key(schema: Schema, row: dict[str, Any]) -> bytes | None:
    parts = [row.get(name) for name in _KEYS.get(schema.name, ("instrument_id",))]
    return None if None in parts else "/".join(map(str, parts)).encode()


def _headers(schema: Schema, row: dict[str, Any]) -> list[tuple[str, bytes]]:
    identity = msgspec.json.encode([schema.name, *(row[name] for name in schema.key)])
    return [
        ("id", hashlib.sha256(identity).hexdigest()[:_ID_DIGITS].encode()),
        ("run_id", row["run_id"].encode()),
        ("table", schema.name.encode()),
        ("schema_version", str(schema.version).encode()),
    ]
