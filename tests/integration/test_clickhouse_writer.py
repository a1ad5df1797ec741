"""Buffered writing, in the foreground and in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pyarrow as pa
import pytest

from schemas.errors import StorageError
from sinks.store import Store
from sinks.writer import BufferedWriter

Rows = Callable[..., pa.Table]
LONG = timedelta(hours=1)
NAN = float("nan")


def _count(store: Store, table: str = "bars") -> int:
    return int(store.connection.rows(f"SELECT count() FROM {table}")[0][0])


@pytest.mark.parametrize("background", [False, True])
def test_rows_are_stored_after_flush_in_few_inserts(store: Store, bar_rows: Rows, background: bool) -> None:
    with BufferedWriter(store, max_rows=100, max_age=LONG, background=background) as writer:
        for first in range(0, 250, 10):
            for batch in bar_rows(10, first=first).to_batches():
                writer.write("bars", batch)
        writer.flush()
        assert _count(store) == 250
        assert writer.written == {"bars": 250}
        assert writer.inserts == 3


def test_small_batches_wait_until_they_are_old(store: Store, bar_rows: Rows) -> None:
    now = [0.0]
    with BufferedWriter(store, max_age=timedelta(seconds=5), background=False, clock=lambda: now[0]) as writer:
        writer.write("bars", bar_rows(10))
        now[0] = 4.9
        writer.write("bars", bar_rows(10, first=10))
        assert _count(store) == 0
        now[0] = 5.0
        writer.write("signals", bar_rows(0))
        assert _count(store) == 20


@pytest.mark.parametrize("background", [False, True])
def test_rows_that_a_snapshot_keeps_are_those_not_stored(store: Store, bar_rows: Rows, background: bool) -> None:
    with BufferedWriter(store, max_rows=20, max_age=LONG, background=background) as writer:
        writer.write("bars", bar_rows(20))
        writer.flush()
        writer.write("bars", bar_rows(7, first=20))
        kept = bar_rows(7, first=20)
        found = writer.secure("bars", 10)
        # the thread may have stored them by now
        assert (found is not None and found.num_rows == 7) or _count(store) == 27
        assert writer.secure("signals", 10) is None
        writer.flush()
        assert _count(store) == 27
        assert writer.secure("bars", 10) is None
        writer.write("bars", bar_rows(9, first=100))
        assert writer.secure("bars", 6) is None
        assert _count(store) == 36
        writer.restore("bars", kept)
        writer.flush()
        assert store.connection.rows("SELECT count() FROM bars FINAL")[0][0] == 36


def test_rows_that_a_snapshot_keeps_are_stored_without_another_write(store: Store, bar_rows: Rows) -> None:
    with BufferedWriter(store, max_age=LONG) as writer:
        writer.write("bars", bar_rows(5))
        writer.secure("bars", 10)
        deadline = time.monotonic() + 30
        while _count(store) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _count(store) == 5


def test_failed_insert_is_told_where_nothing_more_is_written(store: Store, bar_rows: Rows) -> None:
    told = threading.Event()
    writer = BufferedWriter(store, max_rows=1, max_age=LONG, on_error=told.set)
    writer.write("bars", bar_rows(1).drop_columns(["open"]))
    assert told.wait(30)
    writer.close()


def test_leaving_by_an_error_writes_nothing_more(store: Store, bar_rows: Rows) -> None:
    def crash() -> None:
        with BufferedWriter(store, max_age=LONG) as writer:
            writer.write("bars", bar_rows(10))
            raise RuntimeError("operator failed")

    with pytest.raises(RuntimeError, match="operator failed"):
        crash()
    assert _count(store) == 0
    assert [thread.name for thread in threading.enumerate() if thread.name == "signalbox-writer"] == []


@pytest.mark.parametrize("background", [False, True])
def test_failed_insert_is_raised_and_ends_writing(store: Store, bar_rows: Rows, background: bool) -> None:
    writer = BufferedWriter(store, max_rows=10, max_age=LONG, background=background)
    bad = bar_rows(10).set_column(6, "open", pa.array([None] * 10, pa.float64()))
    with pytest.raises(StorageError, match="column `open`"):  # noqa: PT012 -- in the background the next call raises
        writer.write("bars", bad)
        writer.flush()
    with pytest.raises(StorageError, match="nothing more is written: table `bars`"):
        writer.write("bars", bar_rows(10))
    with pytest.raises(StorageError, match="nothing more is written"):
        writer.flush()
    writer.close()
    assert _count(store) == 0


def test_background_error_never_blocks_a_full_queue(store: Store, bar_rows: Rows) -> None:
    writer = BufferedWriter(store, max_rows=1, max_age=LONG)
    bad = bar_rows(1).drop_columns(["open"])
    with pytest.raises(StorageError, match="missing"):  # noqa: PT012 -- which call raises is a race
        for _ in range(100):
            writer.write("bars", bad)
    writer.close()


def test_closed_writer_refuses_rows(store: Store, bar_rows: Rows) -> None:
    writer = BufferedWriter(store)
    writer.close()
    writer.close()
    with pytest.raises(StorageError, match="expected an open writer, found it closed"):
        writer.write("bars", bar_rows(1))


def test_unknown_table_is_refused_at_once(store: Store, bar_rows: Rows) -> None:
    with BufferedWriter(store) as writer, pytest.raises(StorageError, match="found `candles`"):
        writer.write("candles", bar_rows(1))


def test_run_id_and_differing_feature_columns_meet_in_one_insert(store: Store, feature_rows: Rows) -> None:
    store.ensure_feature_columns(["a", "b"])
    with BufferedWriter(store, run_id="r9", max_age=LONG) as writer:
        first = feature_rows({"a": [1.0, NAN, 3.0]}).drop_columns(["run_id"])
        second = feature_rows({"b": [5.0]}).drop_columns(["run_id"])
        writer.write("features", first)
        interval = second.schema.get_field_index("interval_ns")
        writer.write("features", second.set_column(interval, "interval_ns", pa.array([2 * 10**9])))
        writer.flush()
        assert writer.inserts == 1
    found = store.connection.rows("SELECT run_id, a, b FROM features ORDER BY interval_ns, ts")
    assert found == [("r9", 1.0, None), ("r9", None, None), ("r9", 3.0, None), ("r9", None, 5.0)]


def test_max_rows_below_one_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="expected `max_rows` of at least 1, was 0"):
        BufferedWriter(store, max_rows=0)
