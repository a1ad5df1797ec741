"""Records behind the clock of their source are told of once for each topic."""

from __future__ import annotations

import logging

import pyarrow as pa
import pytest

from sinks.memory import MemoryWriter
from sinks.order_warning import OrderWarning


class Writer(MemoryWriter):
    def close(self) -> None:
        self.closed = True


def counts(*rows: tuple[str, str, int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"kind": kind, "subject": subject, "reason": "", "count": count} for kind, subject, count in rows]
    )


def test_topic_is_warned_of_once_with_its_remedy(caplog: pytest.LogCaptureFixture):
    writer = Writer()
    watch = OrderWarning(writer, {"trades": "set the clocks", "news": "sort them"})
    with caplog.at_level(logging.WARNING):
        watch.write("run_counts", counts(("read", "trades", 5), ("order_violation", "news", 0)))
        assert not caplog.records
        watch.write("run_counts", counts(("order_violation", "trades", 3), ("order_violation", "books", 1)))
        watch.write("run_counts", counts(("order_violation", "trades", 4), ("order_violation", "news", 1)))
    assert [record.getMessage() for record in caplog.records] == [
        "topic `trades`: expected records no older than the clock of their partition, found 3 since the run began; "
        "they were raised to it, and a replay of them can differ: set the clocks",
        "topic `news`: expected records no older than the clock of their partition, found 1 since the run began; "
        "they were raised to it, and a replay of them can differ: sort them",
    ]


def test_every_row_is_handed_on():
    writer = Writer()
    watch = OrderWarning(writer, {"trades": "set the clocks"})
    watch.write("run_counts", counts(("order_violation", "trades", 3)))
    watch.flush()
    watch.close()
    assert (len(writer.rows("run_counts")), writer.closed) == (1, True)
