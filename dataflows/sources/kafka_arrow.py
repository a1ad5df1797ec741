"""Arrow IPC streams as Kafka records: the columns of a topic, many rows in one record.

A stream is taken from a stranger: it is validated in full before a value of it is read, its types must be those of
the topic's columns, and its rows are bounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from schemas.enums import DeadLetterReason
from schemas.errors import DataError
from schemas.fields import Field
from schemas.records import topic as topic_schema
from schemas.time import END_OF_TIME

__all__ = ["open_stream", "read_columns", "read_rows"]


def read_rows(topic: str, value: bytes, *, max_rows: int, own_time: bool) -> tuple[dict[str, Any], int]:
    """Return the columns of an Arrow IPC stream and the number of its rows.

    Parameters
    ----------
    topic
        Topic that the rows belong to.
    value
        The stream.
    max_rows
        Most rows.
    own_time
        Whether the rows carry `ts_recv`, which then must be there and never null. It comes back as int64 ns; without,
        a column of that name is ignored.

    Raises
    ------
    DataError
        The bytes are no valid stream, a column is missing, or one has another type.

    Notes
    -----
    A symbol may be plain text or a dictionary, a time a UTC timestamp of ns or an int64. Every other column has the
    type that `schemas.records.archive_schema` states. Unknown columns are ignored, nullable ones may be absent.

    Examples
    --------
    >>> rows = pa.record_batch({"instrument_id": ["A"], "ts_event": [7], "price": [9.5], "size": [1.0],
    ...                         "side": pa.array([1], pa.int8())})
    >>> sink = pa.BufferOutputStream()
    >>> with pa.ipc.new_stream(sink, rows.schema) as writer:
    ...     writer.write_batch(rows)
    >>> columns, n_rows = read_rows("trades", bytes(sink.getvalue()), max_rows=10, own_time=False)
    >>> columns["price"].to_pylist(), n_rows
    ([9.5], 1)
    """
    table = open_stream(value, max_rows)
    return read_columns(topic, table, own_time=own_time), table.num_rows


def read_columns(topic: str, tables: pa.Table | list[pa.Table], *, own_time: bool) -> dict[str, Any]:
    """Return the topic's columns of a valid table, or of several that have one schema, their rows one after the other.

    Raises
    ------
    DataError
        A column is missing or has another type, or a time is missing or before 1970.
    pyarrow.ArrowException
        Several tables cannot be one.
    """
    fields = topic_schema(topic).fields
    table = _joined(tables, {field.name for field in fields}) if isinstance(tables, list) else tables
    columns: dict[str, Any] = {}
    for field in fields:
        if field.name == "ts_recv" and not own_time:
            continue
        found = table.schema.get_all_field_indices(field.name)
        if len(found) == 1:
            columns[field.name] = _column(field, table.column(found[0]))
        elif found or not field.nullable:
            raise DataError(
                DeadLetterReason.MISSING_FIELD, f"expected one column `{field.name}`, found {len(found) or 'none'}"
            )
    if own_time:
        columns["ts_recv"] = _times(columns["ts_recv"])
    return columns


def _joined(tables: list[pa.Table], names: set[str]) -> pa.Table:
    """Return the rows of all tables; of columns that nobody reads, nothing is asked."""
    wanted = [index for index, name in enumerate(tables[0].schema.names) if name in names]
    if len(wanted) < len(tables[0].schema.names):
        tables = [table.select(wanted) for table in tables]
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def open_stream(value: bytes, max_rows: int) -> pa.Table:
    """Return the rows of an Arrow IPC stream, valid in full.

    Raises
    ------
    DataError
        The bytes are no valid stream, or it has more than `max_rows` rows.
    """
    batches: list[pa.RecordBatch] = []
    try:
        with pa.ipc.open_stream(value) as reader:
            for batch in reader:
                batches.append(batch)
                if sum(part.num_rows for part in batches) > max_rows:
                    raise DataError(
                        DeadLetterReason.OUT_OF_RANGE, f"expected at most {max_rows} rows in a record, found more"
                    )
            table = pa.Table.from_batches(batches, schema=reader.schema)
        table.validate(full=True)
    except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
        raise DataError(
            DeadLetterReason.MALFORMED, f"expected an Arrow IPC stream, found {len(value)} bytes: {error}"
        ) from error
    return table


def _column(field: Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    wanted = field.arrow.type
    allowed = [wanted]
    if field.kind == "symbol":
        allowed.append(pa.string())
    elif field.kind == "time":
        allowed.append(pa.int64())
    if not any(_same(column.type, type_) for type_ in allowed):
        names = " or ".join(map(str, allowed))
        raise DataError(
            DeadLetterReason.WRONG_TYPE, f"expected type {names} of column `{field.name}`, found {column.type}"
        )
    return column.cast(wanted) if field.kind == "symbol" else column


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Compare types; how wide the indices of a dictionary are, and what list items are called, does not matter."""
    if pa.types.is_dictionary(found) and pa.types.is_dictionary(wanted):
        return bool(found.value_type == wanted.value_type)
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return bool(found.value_type == wanted.value_type)
    return bool(found == wanted)


def _times(column: pa.ChunkedArray) -> Any:
    if column.null_count:
        raise DataError(
            DeadLetterReason.MISSING_FIELD, f"expected `ts_recv` in every row, found {column.null_count} rows without"
        )
    values = column.cast(pa.int64()).to_numpy()
    outside = values[(values < 0) | (values == END_OF_TIME)]
    if outside.size:
        raise DataError(
            DeadLetterReason.OUT_OF_RANGE, f"expected `ts_recv` since 1970, found {outside[0]} ns; check the unit"
        )
    return np.ascontiguousarray(values, dtype=np.int64)
