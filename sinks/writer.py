"""Gathers small batches into large inserts, within bounds, and inserts while the caller computes."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import pyarrow as pa

from schemas.errors import StorageError
from schemas.metrics import SINK_ERRORS, SINK_QUEUE
from schemas.tables import TABLES
from schemas.telemetry import MAX_LINKS, add, current_trace, distinct, is_measuring, observe, stage, trace_id
from sinks.measures import measure_insert
from sinks.store import Store

__all__ = ["BufferedWriter"]

_QUEUE_ROWS: Final = 3
"""Rows that the thread has to store, in multiples of `max_rows`, beyond which the caller waits: one insert at work and
two waiting absorb the variation of an insert's time, and small ones of many tables keep nobody waiting."""


@dataclass(slots=True)
class _Buffer:
    """Batches of one table that wait to be inserted."""

    batches: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    since: float = 0.0
    traces: list[str] = field(default_factory=list)


class BufferedWriter:
    """Writes rows to a store in few, large inserts.

    A table's rows are inserted when there are `max_rows`, or when the oldest has waited `max_age` and
    something is written. `flush` returns when everything written is stored, or raises. Leaving the
    context flushes, unless an error unwinds it.

    In the background, inserts run on one thread, and the caller waits only while that has a multiple of `max_rows`
    rows to store.
    The engine releases the interpreter lock: beside inserts of 25 features a Python loop kept 87 % of
    its rate, and the inserts 91 % of theirs, on two free cores. Where no core is free there is nothing
    to gain. An error of an insert is raised by the next call, and by every one after it: nothing more
    is written.

    Parameters
    ----------
    store
        The open database.
    run_id
        Run of the rows, for batches without a `run_id` column.
    max_rows
        Rows of a table that make an insert.
    max_age
        How long rows may wait for more.
    background
        Whether inserts run on a thread of their own.
    clock
        Seconds that never go back.
    on_error
        Called on the thread when an insert failed there: where nothing is written any more, no call would raise it.

    Attributes
    ----------
    written
        Rows stored, by table; a row that was stored before counts again.
    inserts
        Inserts made.
    """

    def __init__(
        self,
        store: Store,
        *,
        run_id: str | None = None,
        max_rows: int = 100_000,
        max_age: timedelta = timedelta(seconds=1),
        background: bool = True,
        clock: Callable[[], float] = time.monotonic,
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"expected `max_rows` of at least 1, was {max_rows}")
        self._store = store
        self._run_id = run_id
        self._max_rows = max_rows
        self._max_age = max_age.total_seconds()
        self._clock = clock
        self._on_error = on_error
        self._buffers: dict[str, _Buffer] = {}
        self._queue: queue.SimpleQueue[tuple[str, _Buffer] | None] = queue.SimpleQueue()
        self._given: dict[str, deque[_Buffer]] = {}
        self._given_rows = 0
        self._progress = threading.Condition()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self.written: dict[str, int] = {}
        self.inserts = 0
        # one is counted by who writes, the other by who inserts, so that neither needs a lock
        self._taken = self._stored = 0
        observe(SINK_QUEUE, lambda: [(self._taken - self._stored, ())])
        if background:
            self._thread = threading.Thread(target=self._work, name="signalbox-writer", daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def write(self, table: str, rows: pa.RecordBatch | pa.Table) -> None:
        """Take rows; insert what is due. The id of the current trace is stored with rows that have room for it.

        Raises
        ------
        StorageError
            The rows are not as the table expects them, or an insert failed.
        """
        self._check()
        if table not in TABLES:
            raise StorageError(f"expected a table among {', '.join(TABLES)}, found `{table}`")
        if rows.num_rows:
            buffer = self._buffers.setdefault(table, _Buffer())
            if not buffer.batches:
                buffer.since = self._clock()
            trace = current_trace()
            buffer.batches.append(_traced(table, rows, trace))
            buffer.rows += rows.num_rows
            if trace and len(buffer.traces) <= MAX_LINKS:
                buffer.traces = distinct([*buffer.traces, trace], MAX_LINKS + 1)
            self._taken += rows.num_rows
        self._submit_due()

    def restore(self, table: str, rows: pa.Table) -> None:
        """Take rows that `secure` gave before a crash."""
        self.write(table, rows)

    def secure(self, table: str, most: int) -> pa.Table | None:
        """Return the rows of a table that are not stored yet, for a snapshot to keep them; see to it that they will be.

        Where there are more than `most`, everything is stored first and there are none.

        Raises
        ------
        StorageError
            An insert failed.
        """
        self._check()
        # their insert begins now: whether anything is written again is not known
        if table in self._buffers:
            self._submit(table)
        with self._progress:
            waiting = [*self._given.get(table, ())]
        if sum(buffer.rows for buffer in waiting) > most:
            self.flush()
            return None
        batches = [batch for buffer in waiting for batch in buffer.batches]
        if not batches:
            return None
        return pa.concat_tables(batches, promote_options="default").unify_dictionaries().combine_chunks()

    def flush(self) -> None:
        """Insert everything that was written and wait until it is stored.

        Raises
        ------
        StorageError
            An insert failed.
        """
        self._check()
        for table in list(self._buffers):
            self._submit(table)
        self._await(0)
        self._check()

    def close(self) -> None:
        """Stop the thread without writing what waits in the buffers; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._buffers.clear()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        self._stored = self._taken

    def _check(self) -> None:
        if self._error is not None:
            raise StorageError(f"an insert failed, nothing more is written: {self._error}") from self._error
        if self._closed:
            raise StorageError("expected an open writer, found it closed")

    def _submit_due(self) -> None:
        now = self._clock()
        for table, buffer in list(self._buffers.items()):
            if buffer.rows >= self._max_rows or now - buffer.since >= self._max_age:
                self._submit(table)

    def _submit(self, table: str) -> None:
        buffer = self._buffers.pop(table)
        if self._thread is None:
            try:
                self._insert(table, buffer)
            except BaseException as error:
                self._error = error
                raise
        else:
            self._await(_QUEUE_ROWS * self._max_rows - 1)
            with self._progress:
                self._given.setdefault(table, deque()).append(buffer)
                self._given_rows += buffer.rows
            self._queue.put((table, buffer))

    def _await(self, rows: int) -> None:
        """Return when the thread has at most so many rows to store, or has failed."""
        with self._progress:
            self._progress.wait_for(lambda: self._given_rows <= rows or self._error is not None)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            table, buffer = item
            try:
                if self._error is None:
                    self._insert(table, buffer)
            except BaseException as error:
                self._error = error
                self._on_error()
            finally:
                with self._progress:
                    self._given[table].popleft()
                    self._given_rows -= buffer.rows
                    self._progress.notify_all()

    def _insert(self, table: str, buffer: _Buffer) -> None:
        rows = pa.concat_tables(buffer.batches, promote_options="default")
        began = time.perf_counter()
        # of one of the traces that the rows come of, and linked to the others
        parent, *links = buffer.traces or [""]
        facts = {"db.system.name": "clickhouse", "db.operation.name": "INSERT", "db.collection.name": table}
        try:
            with stage("insert", table, parent=parent, links=links, attributes=facts) as span:
                span.set("signalbox.rows", rows.num_rows)
                stored = self._store.insert(table, rows, run_id=self._run_id)
        except BaseException:
            add(SINK_ERRORS, 1, table)
            raise
        self._stored += rows.num_rows
        if is_measuring():
            measure_insert(table, rows, time.perf_counter() - began)
        self.written[table] = self.written.get(table, 0) + stored
        self.inserts += 1


def _traced(table: str, rows: pa.RecordBatch | pa.Table, trace: str) -> pa.Table:
    """Return rows with the id of their trace, where they have one and the table has a column for it."""
    whole = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    found = trace_id(trace)
    if found and "trace_id" in TABLES[table].names:
        return whole.append_column("trace_id", pa.repeat(pa.scalar(found), whole.num_rows))
    return whole
