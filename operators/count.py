"""Add up counters of a run. The totals are part of the recovered state, so a resumed run counts each record once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.arrival import Counts, Rows
from schemas.enums import CountKind
from schemas.failure import noted
from schemas.metrics import (
    MODEL_OUTCOMES,
    MODEL_UNANSWERED,
    ORDER_VIOLATIONS,
    RECORDS_DEAD_LETTERED,
    RECORDS_DECODED,
    RECORDS_LATE,
    RECORDS_READ,
)
from schemas.tables import RUN_COUNTS
from schemas.telemetry import add, is_measuring

__all__ = ["METRICS", "CountState", "count", "count_rows"]

_INTERVAL_S: Final = 5.0
"""Time between two rows of a counter that grows."""
_MEASURED_S: Final = 0.25
"""Time between two emissions of metrics: no reader looks more often, and batches can come by the thousand."""
METRICS: Final = {
    CountKind.READ.value: RECORDS_READ,
    CountKind.DECODED.value: RECORDS_DECODED,
    CountKind.DEAD_LETTERED.value: RECORDS_DEAD_LETTERED,
    CountKind.LATE.value: RECORDS_LATE,
    CountKind.ORDER_VIOLATION.value: ORDER_VIOLATIONS,
    CountKind.UNANSWERED.value: MODEL_UNANSWERED,
    CountKind.OUTCOME.value: MODEL_OUTCOMES,
}
"""The metric of each kind of counter; rows written are measured where they are written."""


class CountState:
    """Totals by kind, subject and reason.

    Examples
    --------
    >>> state = CountState()
    >>> state.update({("read", "trades", ""): 3})
    >>> state.update({("read", "trades", ""): 4})
    >>> state.totals
    {('read', 'trades', ''): 7}
    """

    def __init__(self) -> None:
        self._totals: Counter[tuple[str, str, str]] = Counter()

    def update(self, increments: Counts) -> None:
        """Add increments."""
        self._totals.update(increments)

    @property
    def totals(self) -> Counts:
        """Totals so far, sorted."""
        return dict(sorted(self._totals.items()))

    def snapshot(self) -> list[tuple[str, str, str, int]]:
        """Return the totals as plain values."""
        return [(*key, total) for key, total in self.totals.items()]

    def restore(self, snapshot: list[tuple[str, str, str, int]]) -> None:
        """Take over a snapshot."""
        self._totals = Counter({(kind, subject, reason): total for kind, subject, reason, total in snapshot})


def count_rows(totals: Counts) -> pa.RecordBatch:
    """Return totals as rows of `run_counts`, without `run_id`."""
    names = [field.name for field in RUN_COUNTS.computed]
    columns: list[list[str] | list[int]] = [[key[position] for key in totals] for position in range(3)]
    columns.append(list(totals.values()))
    fields = [RUN_COUNTS.arrow.field(name) for name in names]
    arrays = [
        pa.array(values).dictionary_encode().cast(field.type)
        if pa.types.is_dictionary(field.type)
        else pa.array(values)
        for values, field in zip(columns, fields, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


class _CountLogic(StatefulBatchLogic[Counts, Rows, list[tuple[str, str, str, int]]]):
    def __init__(self, resume: list[tuple[str, str, str, int]] | None) -> None:
        self._state = CountState()
        if resume is not None:
            self._state.restore(resume)
        self._unmeasured: Counter[tuple[str, str, str]] = Counter()
        self._measured = 0.0
        self._due = time.monotonic() + _INTERVAL_S

    @noted
    def on_batch(self, values: list[Counts]) -> tuple[Iterable[Rows], bool]:
        for increments in values:
            self._state.update(increments)
            self._unmeasured.update(increments)
        self._measure(_MEASURED_S)
        # when totals are given changes nothing: they only grow, and the larger of two stays
        if (now := time.monotonic()) < self._due:
            return [], StatefulBatchLogic.RETAIN
        self._due = now + _INTERVAL_S
        return self.on_eof()

    def on_eof(self) -> tuple[Iterable[Rows], bool]:
        self._measure(0.0)
        return [Rows(RUN_COUNTS.name, count_rows(self._state.totals))], StatefulBatchLogic.RETAIN

    def snapshot(self) -> list[tuple[str, str, str, int]]:
        self._measure(0.0)
        return self._state.snapshot()

    def _measure(self, least: float) -> None:
        """Emit what was added as metrics, unless that was done less than so many seconds ago.

        After a crash the metrics count again what is computed again; the totals do not.
        """
        now = time.perf_counter()
        if now - self._measured < least:
            return
        self._measured = now
        if is_measuring():
            for (kind, subject, reason), number in self._unmeasured.items():
                metric = METRICS[kind]
                add(metric, number, *(subject, reason)[: len(metric.attributes)])
        self._unmeasured.clear()


@operator
def count(step_id: str, up: KeyedStream[Counts]) -> KeyedStream[Rows]:
    """Add up increments and give the totals as rows of `run_counts`: every few seconds, and when the input ends.

    Totals only grow, and of two rows of one counter the larger stays, so when they are given does not matter.

    Parameters
    ----------
    step_id
        Unique id.
    up
        Increments under one key.
    """
    return op.stateful_batch("totals", up, _CountLogic)
