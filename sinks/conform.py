"""Brings batches to exactly the columns and types that a table stores, or says what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import StorageError
from schemas.fields import Field, Schema
from schemas.tables import FEATURES

__all__ = ["conform", "feature_names"]


def feature_names(table: pa.Table | pa.RecordBatch) -> tuple[str, ...]:
    """Return the columns of feature rows that are features, in order."""
    return tuple(name for name in table.schema.names if name not in FEATURES.names)


def conform(schema: Schema, rows: pa.Table | pa.RecordBatch, run_id: str | None = None) -> pa.Table:
    """Return rows as the table stores them.

    A NaN in a column that allows null becomes null; a NaN elsewhere stays. Rows of `features` may have
    any more float columns, one for each feature. Provenance that is absent or null is stored as empty text.

    Parameters
    ----------
    schema
        Schema of the table.
    rows
        The rows; order of columns does not matter.
    run_id
        Run of the rows, where they have no `run_id` column.

    Raises
    ------
    StorageError
        A column is missing, unknown or of another type, a null stands where none is allowed, or an
        enumeration holds a number that it does not define.
    """
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    if run_id is not None and "run_id" not in table.schema.names:
        table = table.append_column("run_id", _constant(run_id, table.num_rows))
    table = _with_provenance(schema, table)
    extra = feature_names(table) if schema.name == FEATURES.name else ()
    _check_names(schema, table, extra)
    columns = [_column(schema, field, table) for field in schema.fields]
    columns += [_feature(schema, name, table) for name in extra]
    stored = pa.schema([*(field.arrow for field in schema.fields), *(pa.field(name, pa.float64()) for name in extra)])
    return pa.Table.from_arrays(columns, schema=stored).unify_dictionaries()


def _constant(text: str, n_rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, dtype=np.int32)), pa.array([text]))


def _with_provenance(schema: Schema, table: pa.Table) -> pa.Table:
    for field in schema.provenance:
        position = table.schema.get_field_index(field.name)
        if position < 0:
            empty = pa.repeat(pa.scalar("", field.arrow.type), table.num_rows)
            table = table.append_column(field.arrow, empty)
        elif table.column(position).null_count:
            table = table.set_column(position, field.arrow, pc.fill_null(table.column(position), ""))
    return table


def _check_names(schema: Schema, table: pa.Table, extra: Sequence[str]) -> None:
    found = table.schema.names
    missing = [name for name in schema.names if name not in found]
    unknown = [name for name in found if name not in schema.names and name not in extra]
    if missing or unknown or len(set(found)) != len(found):
        raise StorageError(
            f"table `{schema.name}`: expected the columns {', '.join(schema.names)}, found "
            f"{', '.join(found)} (missing {missing}, unknown {unknown})"
        )


def _column(schema: Schema, field: Field, table: pa.Table) -> pa.ChunkedArray:
    column = table.column(field.name)
    if column.type != field.arrow.type:
        column = _cast(schema, field, column)
    if field.kind == "float" and field.nullable:
        return _nan_to_null(column)
    if column.null_count and not field.nullable:
        raise StorageError(
            f"table `{schema.name}`, column `{field.name}`: expected a value in each row, "
            f"found {column.null_count} nulls"
        )
    if field.enum is not None:
        _check_enum(schema, field, column)
    return column


def _cast(schema: Schema, field: Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        if field.kind == "symbol":
            plain = column.cast(pa.string())
            return plain.dictionary_encode().cast(field.arrow.type)
        return column.cast(field.arrow.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise StorageError(
            f"table `{schema.name}`, column `{field.name}`: expected {field.arrow.type}, found {column.type} ({error})"
        ) from error


def _check_enum(schema: Schema, field: Field, column: pa.ChunkedArray) -> None:
    known = [member.value for member in field.enum or ()]
    found = set(pc.unique(column).to_pylist()) - {None, *known}
    if found:
        raise StorageError(
            f"table `{schema.name}`, column `{field.name}`: expected one of {known}, found {sorted(found)}"
        )


def _feature(schema: Schema, name: str, table: pa.Table) -> pa.ChunkedArray:
    column = table.column(name)
    if column.type != pa.float64():
        raise StorageError(f"table `{schema.name}`, column `{name}`: expected float64, found {column.type}")
    return _nan_to_null(column)


def _nan_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    chunks = []
    for chunk in column.chunks:
        values = chunk.to_numpy(zero_copy_only=False)
        chunks.append(pa.array(values, from_pandas=True) if np.isnan(values).any() else chunk)
    return pa.chunked_array(chunks, type=pa.float64())
