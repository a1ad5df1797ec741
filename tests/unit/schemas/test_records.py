"""The input topics: what every record has, and what its batch looks like."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from schemas.records import TOPICS, TRANSPORT, archive_schema, topic

EVERY = pytest.mark.parametrize("name", TOPICS)


def test_topics_stand_in_the_order_that_breaks_ties():
    assert list(TOPICS) == sorted(TOPICS)
    assert len(TOPICS) == 7


@EVERY
def test_topic_has_instrument_and_both_clocks(name):
    assert topic(name).names[:3] == ("instrument_id", "ts_event", "ts_recv")
    assert not any(topic(name).field(field).nullable for field in topic(name).names[:3])


@EVERY
def test_topic_says_what_each_field_is(name):
    assert topic(name).doc.endswith(".")
    assert all(field.doc and field.doc == field.doc.strip() for field in topic(name).fields)


@EVERY
def test_archive_schema_adds_the_transport_and_is_sure_of_nothing_else(name):
    schema = archive_schema(name)
    assert schema.names == [*topic(name).names, *(field.name for field in TRANSPORT)]
    assert {field.name for field in schema if not field.nullable} == {"ts_recv", "partition", "offset"}
    assert schema.metadata == topic(name).arrow.metadata


@EVERY
def test_topic_fixed_width_columns_agree_with_arrow(name):
    dtype = topic(name).dtype
    assert dtype.names is not None
    for column in dtype.names:
        arrow = topic(name).field(column).arrow.type
        expected = {pa.timestamp("ns", tz="UTC"): np.int64, pa.dictionary(pa.int32(), pa.string()): np.int32}
        assert dtype[column] == expected.get(arrow) or pa.from_numpy_dtype(dtype[column]) == arrow


def test_topic_unknown_is_refused():
    with pytest.raises(KeyError, match=r"expected a topic among .* was `ticks`"):
        topic("ticks")


def test_archive_schema_unknown_topic_is_refused():
    with pytest.raises(KeyError, match="was `ticks`"):
        archive_schema("ticks")
