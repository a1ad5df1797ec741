"""Columns to Arrow and back to views, without a copy where it can be, and never writable."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from schemas.batches import (
    concat_batches,
    floats,
    int8s,
    integers,
    levels,
    make_batch,
    symbols,
    take,
    times,
)
from schemas.records import TOPICS, archive_schema


def trades(n: int = 3, **columns):
    base = {"instrument_id": ["A", None, "B"][:n], "ts_recv": list(range(n)), "price": [1.5, None, 2.5][:n]}
    return make_batch("trades", base | columns, n)


@pytest.mark.parametrize("topic", TOPICS)
def test_batch_of_nothing_has_the_schema_of_its_topic(topic):
    assert make_batch(topic, {}, 0).schema.equals(archive_schema(topic), check_metadata=True)


def test_batch_columns_that_are_not_given_are_null():
    batch = trades()
    assert batch.column("size").null_count == 3
    assert batch.column("raw").null_count == 3


def test_batch_unknown_column_is_refused():
    with pytest.raises(KeyError, match=r"expected columns of `trades` among .* was \['pricee'\]"):
        make_batch("trades", {"pricee": [1.0]}, 1)


def test_batch_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"expected 2 rows of `trades` in each column, was ."):
        make_batch("trades", {"ts_recv": [1, 2], "price": [1.0]}, 2)


@pytest.mark.parametrize(
    "names",
    [
        ["A", "B", "A"],
        np.array(["A", "B", "A"]),
        pa.array(["A", "B", "A"]),
        pa.array(["A", "B", "A"]).dictionary_encode(),
        pa.chunked_array([["A"], ["B", "A"]]),
    ],
)
def test_batch_symbols_of_any_origin_are_the_same(names):
    assert trades(instrument_id=names).column("instrument_id").to_pylist() == ["A", "B", "A"]


def test_views_hold_the_values_and_name_the_missing():
    batch = trades(trade_id=[7, None, 9], side=[1, None, -1], ts_event=[4, 5, 6])
    assert times(batch, "ts_event").tolist() == [4, 5, 6]
    np.testing.assert_array_equal(floats(batch, "price"), [1.5, np.nan, 2.5])
    assert integers(batch, "trade_id").tolist() == [7, -1, 9]
    assert integers(batch, "trade_id", missing=0).tolist() == [7, 0, 9]
    assert int8s(batch, "side").tolist() == [1, 0, -1]
    codes, names = symbols(batch, "instrument_id")
    assert [names[code] if code >= 0 else None for code in codes] == ["A", None, "B"]


def test_views_have_the_type_that_kernels_are_compiled_for_and_cannot_be_written():
    batch = trades(trade_id=[7, None, 9], side=[1, 0, -1], ts_event=[4, 5, 6])
    found = {
        "f8": floats(batch, "price"), "i8": integers(batch, "trade_id"), "i1": int8s(batch, "side"),
        "i4": symbols(batch, "instrument_id")[0],
    }  # fmt: skip
    for dtype, view in (*found.items(), ("i8", times(batch, "ts_event"))):
        assert view.dtype == np.dtype(dtype)
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1


def test_levels_of_a_slice_are_those_of_its_rows():
    batch = make_batch("books", {"ts_recv": [1, 2, 3], "bid_prices": [[9.0], [8.0, 7.0], []]}, 3).slice(1)
    offsets, values = levels(batch, "bid_prices")
    assert [values[a:b].tolist() for a, b in pairwise(offsets)] == [[8.0, 7.0], []]
    assert not offsets.flags.writeable
    assert not values.flags.writeable


def test_views_of_a_slice_are_those_of_its_rows():
    batch = trades(ts_event=[4, 5, 6]).slice(2)
    assert (times(batch, "ts_event").tolist(), floats(batch, "price").tolist()) == ([6], [2.5])


def test_take_keeps_the_order_that_is_asked_for():
    assert times(take(trades(), np.array([2, 0, 2])), "ts_recv").tolist() == [2, 0, 2]


def test_concat_unifies_dictionaries():
    found = concat_batches([trades(), trades(instrument_id=["B", "C", "A"]), trades(0)])
    assert found.column("instrument_id").to_pylist() == ["A", None, "B", "B", "C", "A"]
    assert found.schema == archive_schema("trades")


def test_concat_of_one_is_that_one():
    batch = trades()
    assert concat_batches([batch]) is batch


def test_concat_of_empty_ones_is_empty():
    assert concat_batches([trades(0), trades(0)]).num_rows == 0


def test_concat_of_none_is_refused():
    with pytest.raises(ValueError, match="expected at least one batch, was none"):
        concat_batches([])
