"""Laws of admission: every row is somewhere, alone it fares the same, and what is accepted keeps the rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.decode import DecodeLimits, validate
from schemas.batches import make_batch
from schemas.fields import Field
from schemas.records import TOPICS

_LIMITS = DecodeLimits(max_ahead="1us", max_text_bytes=8, max_symbol_bytes=3, max_levels=3)
_FLOATS = st.sampled_from([1.0, 2.0, 0.5, 0.0, -1.0, float("nan"), float("inf"), 1e-320])
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "time": st.sampled_from([0, 5, 100, 2000, -1, 2**63 - 1]),
    "int": st.integers(-2, 5),
    "float": _FLOATS,
    "enum": st.sampled_from([0, 1, -1, 5, -128]),
    "symbol": st.sampled_from(["A", "B", "", "TOOLONG"]),
    "text": st.sampled_from(["", "text", "longer than that"]),
    "levels": st.lists(st.sampled_from([1.0, 2.0, 3.0, 0.0, float("nan")]), max_size=4),
    "bytes": st.sampled_from([b"", b"{}", b'{"instrument_id":"A"}', b"\xff"]),
}


def _column(data: st.DataObject, field: Field, n_rows: int) -> list[Any]:
    values = st.one_of(*[_VALUES[field.kind]] * 4, st.none())
    return data.draw(st.lists(values, min_size=n_rows, max_size=n_rows))


def _batch(topic: str, data: st.DataObject) -> pa.RecordBatch:
    n_rows = data.draw(st.integers(0, 6))
    columns: dict[str, Any] = {field.name: _column(data, field, n_rows) for field in TOPICS[topic].fields}
    columns["ts_recv"] = np.arange(n_rows) + 100
    columns["partition"] = np.zeros(n_rows, dtype=np.int32)
    columns["offset"] = np.arange(n_rows)
    columns["raw"] = data.draw(st.lists(st.none() | _VALUES["bytes"], min_size=n_rows, max_size=n_rows))
    columns["error"] = data.draw(st.lists(st.none() | st.none() | st.just("bad"), min_size=n_rows, max_size=n_rows))
    return make_batch(topic, columns, n_rows)


@pytest.mark.parametrize("topic", TOPICS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_validate_of_any_batch_loses_no_row_and_judges_each_as_alone(topic: str, data: st.DataObject) -> None:
    batch = _batch(topic, data)
    together = validate(topic, batch, _LIMITS)
    accepted = together.accepted.column("offset").to_pylist()
    rejected = together.rejected.column("offset").to_pylist()
    assert accepted == sorted(accepted)
    assert rejected == sorted(rejected)
    assert sorted(accepted + rejected) == list(range(batch.num_rows))
    alone = [validate(topic, batch.slice(row, 1), _LIMITS) for row in range(batch.num_rows)]
    assert repr([row for one in alone for row in one.accepted.to_pylist()]) == repr(together.accepted.to_pylist())
    assert [row for one in alone for row in one.rejected.to_pylist()] == together.rejected.to_pylist()


@pytest.mark.parametrize("topic", TOPICS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_validate_accepts_only_what_the_fields_allow(topic: str, data: st.DataObject) -> None:
    for row in validate(topic, _batch(topic, data), _LIMITS).accepted.to_pylist():
        for field in TOPICS[topic].fields:
            value = row[field.name]
            if value is None:
                assert field.nullable
            elif field.kind == "float":
                assert np.isfinite(value)
                assert value > 0 or not field.positive
                assert value >= 0 or not field.non_negative
            elif field.enum is not None:
                assert value in set(field.enum)
            elif field.kind == "levels":
                assert np.isfinite(value).all()
            elif field.kind in ("symbol", "text"):
                assert len(value.encode()) <= (_LIMITS.max_symbol_bytes if field.kind == "symbol" else 8)


@pytest.mark.parametrize("topic", TOPICS)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_validate_of_what_was_accepted_accepts_it_again(topic: str, data: st.DataObject) -> None:
    accepted = validate(topic, _batch(topic, data), _LIMITS).accepted
    again = validate(topic, accepted, _LIMITS)
    assert again.rejected.num_rows == 0
    assert repr(again.accepted.to_pylist()) == repr(accepted.to_pylist())
