"""Bytewax sink of table rows: gathers, inserts in large batches, and is done with an epoch before it ends.

Each table is a partition, written by one worker. All partitions of a process share one writer. When
Bytewax takes a snapshot at the end of an epoch, everything written so far is in the database, or is the
state of the sink in that snapshot: what the snapshot of the sources leaves behind cannot be lost. A live
run keeps what waits for an insert in the snapshot, for waiting for the insert would hold up every signal
behind it. Rows have natural keys: what is written again after a crash has no effect.
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

    def restore(self, table: str, rows: pa.Table) -> None:
        """Take rows that `secure` gave before a crash; what then was confirmed is not repeated."""

    def secure(self, table: str, most: int) -> pa.Table | None:
        """Return the rows of a table that are not stored yet; store all first where there are more than `most`."""

    def flush(self) -> None:
        """Return when all rows taken are stored."""


class _TablePartition(StatefulSinkPartition[RowBatch, bytes | None]):
    def __init__(self, table: str, writer: RowWriter, lock: Lock, most: Callable[[], int]) -> None:
        self._table = table
        self._writer = writer
        self._lock = lock
        self._most = most
        self._dirty = False

    def restore(self, state: bytes) -> None:
        """Take over what a snapshot kept."""
        with pa.ipc.open_stream(state) as reader, self._lock:
            self._writer.restore(self._table, reader.read_all())
        self._dirty = True

    @noted
    def write_batch(self, values: list[RowBatch]) -> None:
        with self._lock:
            for rows in values:
                with within(rows.trace):
                    self._writer.write(rows.table, rows.batch)
        self._dirty = True

    @noted
    def snapshot(self) -> bytes | None:
        """Store what was written, or return it: Bytewax is about to forget the input that it came from."""
        if not self._dirty:
            return None
        began = time.perf_counter()
        with self._lock:
            rows = self._secure()
        # what is returned now may be stored without another row: the next snapshot asks again
        self._dirty = rows is not None
        record(SNAPSHOT_DURATION, time.perf_counter() - began, "sink")
        return _to_bytes(rows) if rows is not None else None

    def _secure(self) -> pa.Table | None:
        most = self._most()
        if most:
            return self._writer.secure(self._table, most)
        self._writer.flush()
        return None


class TableSink(FixedPartitionedSink[RowBatch, bytes | None]):
    """Writes items `(table, rows)` through one writer.

    Parameters
    ----------
    writer
        Makes the writer, when the first partition is built.
    most
        Returns how many rows of a table a snapshot may keep instead of waiting until they are stored.
    """

    def __init__(self, writer: Callable[[], RowWriter], most: Callable[[], int] = lambda: 0) -> None:
        self._make_writer = writer
        self._most = most
        self._writer: RowWriter | None = None
        self._lock = Lock()

    def list_parts(self) -> list[str]:
        """Return the tables."""
        return sorted(TABLES)

    def part_fn(self, item_key: str) -> int:
        """Return the position of the table."""
        return sorted(TABLES).index(item_key)

    @noted
    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> _TablePartition:
        """Open the partition of a table, and write what a snapshot kept for it."""
        with self._lock:
            if self._writer is None:
                self._writer = self._make_writer()
        part = _TablePartition(for_part, self._writer, self._lock, self._most)
        if resume_state is not None:
            part.restore(resume_state)
        return part


def _to_bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())
