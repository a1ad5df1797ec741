"""Bringing rows to the columns and types of a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import StorageError
from schemas.fields import Field, Schema
from schemas.tables import FEATURES
from sinks.conform import conform, feature_names

POINT = Schema(
    "point",
    "One point.",
    (
        Field("run_id", "symbol", "the run"),
        Field("x", "float", "metres", nullable=True),
        Field("y", "float", "metres"),
        Field("n", "int", "number"),
    ),
    key=("run_id",),
)
NAN = float("nan")


def _points(**columns: object) -> pa.Table:
    return pa.table({"run_id": ["r"], "x": [1.0], "y": [2.0], "n": [3]} | columns)


def test_columns_are_put_in_order_and_cast() -> None:
    found = conform(POINT, _points().select(["n", "y", "x", "run_id"]))
    assert found.schema == POINT.arrow
    assert found.to_pylist() == [{"run_id": "r", "x": 1.0, "y": 2.0, "n": 3}]


def test_nan_becomes_null_only_where_null_is_allowed() -> None:
    found = conform(POINT, _points(x=[NAN], y=[NAN]))
    assert found.column("x").null_count == 1
    assert np.isnan(found.column("y").to_pylist()[0])


def test_symbols_in_several_dictionaries_become_one() -> None:
    parts = [_points(run_id=pa.array([name]).dictionary_encode()) for name in ("a", "b", "a")]
    found = conform(POINT, pa.concat_tables(parts))
    assert found.column("run_id").to_pylist() == ["a", "b", "a"]
    assert len({tuple(chunk.dictionary.to_pylist()) for chunk in found.column("run_id").chunks}) == 1


def test_record_batch_without_run_gets_it() -> None:
    batch = _points().drop_columns(["run_id"]).to_batches()[0]
    assert conform(POINT, batch, "r7").column("run_id").to_pylist() == ["r7"]
    with pytest.raises(StorageError, match=r"missing \['run_id'\]"):
        conform(POINT, batch)


def test_given_run_never_replaces_the_one_in_the_rows() -> None:
    assert conform(POINT, _points(), "other").column("run_id").to_pylist() == ["r"]


def test_no_rows_are_conformed_too() -> None:
    assert conform(POINT, _points().slice(0, 0)).num_rows == 0
    assert conform(FEATURES, FEATURES.empty()).num_rows == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"n": [1.5]}, "table `point`, column `n`: expected int64, found double"),
        ({"n": [None]}, "column `n`: expected a value in each row, found 1 nulls"),
        ({"x": [1]}, None),
        ({"x": ["far"]}, "column `x`: expected double, found string"),
    ],
)
def test_column_of_another_type_is_cast_exactly_or_refused(columns: dict[str, object], message: str | None) -> None:
    if message is None:
        assert conform(POINT, _points(**columns)).column("x").to_pylist() == [1.0]
    else:
        with pytest.raises(StorageError, match=message):
            conform(POINT, _points(**columns))


def test_feature_column_that_is_no_float_is_refused() -> None:
    table = pa.Table.from_batches([FEATURES.empty()]).append_column("rsi", pa.array([], pa.string()))
    assert feature_names(table) == ("rsi",)
    with pytest.raises(StorageError, match="table `features`, column `rsi`: expected float64, found string"):
        conform(FEATURES, table)


def test_column_twice_is_refused() -> None:
    table = _points().append_column("x", pa.array([1.0]))
    with pytest.raises(StorageError, match="expected the columns"):
        conform(POINT, table)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20), st.integers(0, 20))
def test_values_are_kept_bit_by_bit_however_chunked(values: list[float], cut: int) -> None:
    n_rows = len(values)
    table = pa.table({"run_id": ["r"] * n_rows, "x": values, "y": values, "n": [0] * n_rows})
    found = conform(POINT, pa.concat_tables([table.slice(0, cut), table.slice(cut)]))
    kept = np.array(found.column("y").to_pylist(), dtype=np.float64)
    assert kept.tobytes() == np.array(values, dtype=np.float64).tobytes()
    assert found.column("x").to_pylist() == [None if np.isnan(value) else value for value in values]


def test_input_is_left_as_it_is() -> None:
    table = _points(x=[NAN])
    conform(POINT, table)
    assert table.column("x").null_count == 0
