"""Columnar batches: from columns to Arrow and back to numpy views, without copying where it can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.records import archive_schema

__all__ = ["concat_batches", "floats", "int8s", "integers", "levels", "make_batch", "symbols", "take", "times"]


def make_batch(topic: str, columns: Mapping[str, Any], n_rows: int) -> pa.RecordBatch:
    """Return a batch with the archive schema of `topic`; columns that are not given are null.

    Parameters
    ----------
    topic
        Topic name.
    columns
        Column name to numpy array, Arrow array or list. Times are int64 UTC ns.
    n_rows
        Number of rows.

    Raises
    ------
    KeyError
        A column is not of the topic.
    ValueError
        A column has another number of rows.

    Examples
    --------
    >>> batch = make_batch("trades", {"instrument_id": ["A"], "ts_recv": [5], "price": [1.5]}, 1)
    >>> batch.num_rows, batch.column("price").to_pylist(), batch.column("size").null_count
    (1, [1.5], 1)
    """
    schema = archive_schema(topic)
    unknown = set(columns) - set(schema.names)
    if unknown:
        raise KeyError(f"expected columns of `{topic}` among {schema.names}, was {sorted(unknown)}")
    arrays = [
        _to_arrow(columns[field.name], field.type) if field.name in columns else pa.nulls(n_rows, field.type)
        for field in schema
    ]
    lengths = {field.name: len(array) for field, array in zip(schema, arrays, strict=True) if len(array) != n_rows}
    if lengths:
        raise ValueError(f"expected {n_rows} rows of `{topic}` in each column, was {lengths}")
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _to_arrow(values: Any, type_: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        if values.type == type_:
            return values
        return values.dictionary_encode().cast(type_) if pa.types.is_dictionary(type_) else values.cast(type_)
    if pa.types.is_dictionary(type_):
        return pa.array(values, type=pa.string()).dictionary_encode().cast(type_)
    if pa.types.is_timestamp(type_):
        return pa.array(values, type=pa.int64()).view(type_)
    return pa.array(values, type=type_)


def times(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    """Return a time column as read-only int64 UTC nanoseconds, shape `(n,)`; it must hold no null."""
    return _view(batch.column(name).view(pa.int64()))


def floats(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.float64]:
    """Return a float column as read-only float64, shape `(n,)`; null is NaN."""
    column = batch.column(name)
    return _view(column.fill_null(float("nan")) if column.null_count else column)


def integers(batch: pa.RecordBatch, name: str, *, missing: int = -1) -> npt.NDArray[np.int64]:
    """Return an integer column as read-only int64, shape `(n,)`; null is `missing`."""
    column = batch.column(name)
    return _view((column.fill_null(missing) if column.null_count else column).cast(pa.int64()))


def int8s(batch: pa.RecordBatch, name: str, *, missing: int = 0) -> npt.NDArray[np.int8]:
    """Return an enumeration column as read-only int8, shape `(n,)`; null is `missing`."""
    column = batch.column(name)
    return _view(column.fill_null(missing) if column.null_count else column)


def symbols(batch: pa.RecordBatch, name: str) -> tuple[npt.NDArray[np.int32], list[str | None]]:
    """Return a symbol column as codes, shape `(n,)`, and the dictionary they index; null is code -1."""
    column = batch.column(name)
    indices = column.indices
    return _view(indices.fill_null(-1) if indices.null_count else indices), column.dictionary.to_pylist()


def levels(batch: pa.RecordBatch, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return a list column as offsets, shape `(n + 1,)`, and flat values, both read-only."""
    column = batch.column(name)
    return _view(column.offsets.cast(pa.int64())), _view(column.values)


def _view(array: pa.Array) -> npt.NDArray[Any]:
    view: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    view.flags.writeable = False
    return view


def take(batch: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Return the rows at these indices, in their order."""
    indices = pa.array(rows)
    # kept bytes, errors and optional symbols are mostly null: nothing is gathered for a column without a value
    columns = [
        pa.nulls(len(indices), column.type) if column.null_count == len(column) else column.take(indices)
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def concat_batches(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return one batch of all rows in order; dictionaries are unified.

    Raises
    ------
    ValueError
        There is no batch.
    """
    if not batches:
        raise ValueError("expected at least one batch, was none")
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    return table.to_batches()[0] if table.num_rows else batches[0]
