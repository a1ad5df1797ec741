"""Bytewax sink of table rows: gathers, inserts in large batches, and is done with an epoch before it ends.

Each table is a partition, written by one worker. All partitions of a process share one writer. When
Bytewax takes a snapshot at the end of an epoch, everything written so far is in the database, so what
the snapshot of the sources leaves behind is stored. Rows have natural keys: what is written again after
a crash has no effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Protocol

import pyarrow as pa
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from schemas.failure import noted
from schemas.metrics import SNAPSHOT_DURATION
from schemas.tables import TABLES
from schemas.telemetry import record, within

__all__ = ["RowBatch", "RowWriter", "TableSink"]


class RowBatch(Protocol):
    """Rows for one table."""

    @property
    def table(self) -> str:
        """Name of the table."""

    @property
    def batch(self) -> pa.RecordBatch:
        """The rows."""

    @property
    def trace(self) -> str:
        """Context of the trace that computed them, empty where there is none."""


class RowWriter(Protocol):
    """What the sink writes with: `sinks.writer.BufferedWriter`, or an in-memory one."""

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Take rows; the trace that computed them is current (`schemas.telemetry.current_trace`)."""

    def flush(self) -> None:
        """Return when all rows taken are stored."""


class _TablePartition(StatefulSinkPartition[RowBatch, None]):
    def __init__(self, writer: RowWriter, lock: Lock) -> None:
        self._writer = writer
        self._lock = lock
        self._dirty = False

    @noted
    def write_batch(self, values: list[RowBatch]) -> None:
        with self._lock:
            for rows in values:
                with within(rows.trace):
                    self._writer.write(rows.table, rows.batch)
        self._dirty = True

    @noted
    def snapshot(self) -> None:
        """Store what was written: Bytewax is about to forget the input that it came from."""
        if self._dirty:
            began = time.perf_counter()
            with self._lock:
                self._writer.flush()
            self._dirty = False
            record(SNAPSHOT_DURATION, time.perf_counter() - began, "sink")


class TableSink(FixedPartitionedSink[RowBatch, None]):
    """Writes items `(table, rows)` through one writer.

    Parameters
    ----------
    writer
        Makes the writer, when the first partition is built.
    """

    def __init__(self, writer: Callable[[], RowWriter]) -> None:
        self._make_writer = writer
        self._writer: RowWriter | None = None
        self._lock = Lock()

    def list_parts(self) -> list[str]:
        """Return the tables."""
        return sorted(TABLES)

    def part_fn(self, item_key: str) -> int:
        """Return the position of the table."""
        return sorted(TABLES).index(item_key)

    @noted
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _TablePartition:
        """Open the partition of a table."""
        with self._lock:
            if self._writer is None:
                self._writer = self._make_writer()
        return _TablePartition(self._writer, self._lock)
