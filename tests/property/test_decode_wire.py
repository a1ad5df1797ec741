"""Laws of the wire format: the canonical message reads back the same, and no bytes break the call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batches import make_batch
from schemas.fields import Field
from schemas.records import TOPICS
from schemas.wire import decode, encode

_INTEGERS = st.integers(-(2**63), 2**63 - 1)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "time": _INTEGERS,
    "int": _INTEGERS,
    "float": _FLOATS,
    "symbol": _TEXTS,
    "text": _TEXTS,
    "levels": st.lists(_FLOATS, max_size=4),
}


def _value(field: Field) -> st.SearchStrategy[Any]:
    values = _VALUES[field.kind] if field.enum is None else st.sampled_from([member.value for member in field.enum])
    return st.none() | values if field.nullable else values


@pytest.mark.parametrize("topic", TOPICS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_decode_of_encode_is_the_same_batch(topic: str, data: st.DataObject) -> None:
    n_rows = data.draw(st.integers(0, 5))
    columns = {
        field.name: data.draw(st.lists(_value(field), min_size=n_rows, max_size=n_rows))
        for field in TOPICS[topic].fields
    }
    at = np.arange(n_rows)
    batch = make_batch(topic, columns | {"partition": at.astype(np.int32), "offset": at}, n_rows)
    messages = encode(topic, batch, clock="record")
    decoded = decode(topic, messages, at, at.astype(np.int32), at, clock="record")
    assert decoded.errors == ()
    assert decoded.batch.schema.equals(batch.schema)
    assert repr(decoded.batch.to_pydict()) == repr(batch.to_pydict())
    assert encode(topic, decoded.batch, clock="record") == messages


_GOOD = b'{"instrument_id":"A","ts_event":7,"price":9.5,"size":1,"side":"buy"}'


@st.composite
def _payload(draw: st.DrawFn) -> bytes:
    """Return arbitrary bytes, or a good message with a stretch of it replaced by others."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=40))
    start = draw(st.integers(0, len(_GOOD)))
    stop = draw(st.integers(start, min(len(_GOOD), start + 4)))
    return _GOOD[:start] + draw(st.binary(max_size=3)) + _GOOD[stop:]


@given(payloads=st.lists(st.just(_GOOD) | _payload(), max_size=8))
@settings(max_examples=150, deadline=None)
def test_decode_of_any_bytes_gives_each_message_what_it_gives_alone(payloads: list[bytes]) -> None:
    at = np.arange(len(payloads))
    together = decode("trades", payloads, at, at.astype(np.int32), at)
    assert together.batch.num_rows == len(payloads)
    refused = {error.row: error for error in together.errors}
    for row, payload in enumerate(payloads):
        one = slice(row, row + 1)
        alone = decode("trades", [payload], at[one], at[one].astype(np.int32), at[one])
        assert alone.batch.to_pylist() == together.batch.slice(row, 1).to_pylist()
        assert [error[1:] for error in alone.errors] == ([refused[row][1:]] if row in refused else [])
