"""Rows become Kafka records: once each, in order, in the partition of their instrument."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.publishing_messages import MessageEncoder, partition_of
from dataflows.sources.kafka_arrow import read_rows
from dataflows.sources.kafka_config import KafkaTopic
from schemas.batches import make_batch
from schemas.errors import ConfigError
from schemas.wire import decode

SECOND = 10**9
START = 1_700_000_000 * SECOND
GOOD = b'{"instrument_id":"A","ts_event":7,"price":1.5,"size":2.0,"side":"buy","extra":1} \n'


def trades(instruments, ts=None, **columns) -> pa.RecordBatch:
    """Return trades whose price tells their row."""
    count = len(instruments)
    ts = np.arange(count) + START if ts is None else ts
    known = {"ts_recv": ts, "ts_event": ts, "price": np.arange(count) + 1.0, "size": np.ones(count)}
    return make_batch(
        "trades",
        known | {"instrument_id": instruments, "side": np.ones(count, "i1"), "partition": np.zeros(count, "i4")}
        | {"offset": np.arange(count)} | columns,
        count,
    )  # fmt: skip


def encoder(format_="json", clock="record", partitions=3, **options) -> MessageEncoder:
    return MessageEncoder("trades", KafkaTopic(format=format_, clock=clock), partitions, **options)


def read(value: bytes, *, own_time=True) -> pa.RecordBatch:
    columns, n_rows = read_rows("trades", value, max_rows=10**6, own_time=own_time)
    return make_batch("trades", columns | {"ts_recv": columns.get("ts_recv", np.zeros(n_rows, "i8"))}
                      | {"partition": np.zeros(n_rows, "i4"), "offset": np.arange(n_rows)}, n_rows)  # fmt: skip


def test_json_message_has_its_time_only_with_the_records_own_clock():
    batch = trades(["A", "B"])
    with_time = [msgspec.json.decode(value) for value in encoder().encode(batch).values]
    without = [msgspec.json.decode(value) for value in encoder(clock="header").encode(batch).values]
    assert [message.pop("ts_recv") for message in with_time] == [START, START + 1]
    assert with_time == without


@pytest.mark.parametrize("format_", ["json", "arrow"])
@given(
    names=st.lists(st.sampled_from(["A", "B", "C", "D", "E"]), min_size=1, max_size=60),
    gaps=st.lists(st.integers(0, SECOND), min_size=60, max_size=60),
    per_record=st.integers(1, 20),
    partitions=st.integers(1, 5),
)
def test_every_row_is_published_once_in_order_in_the_partition_of_its_instrument(
    format_, names, gaps, per_record, partitions
):
    ts = START + np.cumsum(gaps)[: len(names)]
    made = encoder(format_, partitions=partitions, rows_per_record=per_record, span_ns=SECOND).encode(trades(names, ts))
    found = [[] for _ in range(partitions)]
    for value, partition in zip(made.values, made.partitions.tolist(), strict=True):
        if format_ == "json":
            message = msgspec.json.decode(value)
            found[partition].append((message["price"], message["instrument_id"], message["ts_recv"]))
            continue
        rows = read(value)
        stamps = rows.column("ts_recv").cast("int64").to_pylist()
        assert rows.num_rows <= per_record
        assert stamps[0] // SECOND == stamps[-1] // SECOND
        found[partition] += zip(
            rows.column("price").to_pylist(), rows.column("instrument_id").to_pylist(), stamps, strict=True
        )
    expected = [[] for _ in range(partitions)]
    for row, name in enumerate(names):
        expected[partition_of(name, partitions)].append((row + 1.0, name, int(ts[row])))
    assert found == expected
    assert int(made.rows.sum()) == len(names)
    assert (np.diff(made.ts) >= 0).all()


def test_key_is_the_instrument_and_of_an_arrow_record_none():
    assert encoder().encode(trades(["A", None, "B"])).keys == [b"A", None, b"B"]
    assert encoder("arrow").encode(trades(["A", "A"])).keys == [None]


@pytest.mark.parametrize("format_", ["json", "arrow"])
def test_bytes_that_cannot_be_decoded_are_published_behind_a_heartbeat_of_their_time(format_):
    raw = [None, b'{"instrument_id":"A","price":"?"}', None]
    made = encoder(format_).encode(trades(["A", None, "A"], raw=raw))
    assert made.values[1:3] == [None, raw[1]]
    assert made.rows.tolist() == [1, 0, 1, 1]
    assert made.ts.tolist() == [START, START + 1, START + 1, START + 2]
    assert set(made.partitions.tolist()) == {partition_of("A", 3)}
    assert made.keys[2] == b"A"
    assert made.raw_rows == 1


@pytest.mark.parametrize("clock", ["broker", "header"])
def test_bytes_with_a_time_of_transport_need_no_heartbeat(clock):
    made = encoder(clock=clock).encode(trades(["A", None], raw=[None, b"{"]))
    assert made.values[1] == b"{"
    assert made.rows.tolist() == [1, 1]


def test_good_bytes_get_their_time_as_last_member():
    (value,) = encoder().encode(trades([None], raw=[GOOD])).values
    assert value == GOOD.rstrip()[:-1] + b',"ts_recv":%d}' % START
    (value,) = encoder().encode(trades([None], raw=[GOOD.rstrip()[:-1] + b',"ts_recv":5}'])).values
    where = np.zeros(1, "i8")
    decoded = decode("trades", [value], where, where.astype("i4"), where, clock="record")
    assert not decoded.errors
    assert decoded.batch.column("ts_recv").cast("int64").to_pylist() == [START]


def test_good_bytes_become_columns_of_an_arrow_record():
    made = encoder("arrow").encode(trades(["A", None], raw=[None, GOOD]))
    (value,) = made.values
    assert read(value).column("price").to_pylist() == [1.0, 1.5]
    assert made.raw_rows == 0


@pytest.mark.parametrize("format_", ["json", "arrow"])
def test_row_that_an_importer_refused_is_published_as_its_bytes_however_good(format_):
    made = encoder(format_).encode(trades([None, None], raw=[GOOD, None], error=["off tick", "no bytes"]))
    assert made.values == [None, GOOD, None, b""]


def test_arrow_record_too_long_for_a_message_is_halved():
    body = ["x" * 100_000] * 20
    count = len(body)
    columns = {"ts_recv": np.arange(count), "ts_event": np.arange(count), "instrument_id": ["A"] * count}
    columns |= {"news_id": list("abcdefghijklmnopqrst"), "source": ["S"] * count, "headline": ["H"] * count}
    batch = make_batch(
        "news", columns | {"body": body, "partition": np.zeros(count, "i4")} | {"offset": [0] * count}, count
    )
    made = MessageEncoder("news", KafkaTopic(format="arrow", clock="record"), 1).encode(batch)
    ids = [
        i
        for value in made.values
        for i in read_rows("news", value, max_rows=99, own_time=True)[0]["news_id"].to_pylist()
    ]
    assert max(map(len, made.values)) < 1_000_000
    assert len(made.values) > 1
    assert ids == list("abcdefghijklmnopqrst")


def test_arrow_record_holds_only_the_symbols_of_its_rows():
    names = [f"I{number:04}" for number in range(2_000)]
    made = encoder("arrow", partitions=1, rows_per_record=1).encode(trades(names))
    assert max(map(len, made.values)) < 4_000


def test_format_unknown_is_refused():
    with pytest.raises(ConfigError, match="expected a format of `trades` among json, arrow"):
        MessageEncoder("trades", KafkaTopic.model_construct(format="parquet", clock="record"), 1)


@pytest.mark.parametrize("rows", [0, 2**20 + 1])
def test_rows_of_a_record_out_of_bounds_are_refused(rows):
    with pytest.raises(ConfigError, match="expected 1 to 1048576 rows"):
        encoder("arrow", rows_per_record=rows)
