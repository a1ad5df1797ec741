"""What is measured of rows that reached their destination."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.metrics import SINK_ERRORS, SINK_INSERT_DURATION, SINK_INSERTS, SINK_LATENCY, SINK_ROWS
from schemas.telemetry import add, record

__all__ = ["ages", "measure_insert", "row_times"]

IntArray = npt.NDArray[np.int64]

_SAMPLE: Final = 16
"""Rows of an insert whose latency is measured: 50 us, beside at least 7 ms of the insert."""
_HISTORY_NS: Final = 86_400 * 10**9
"""Age from which a row is of history: what a replay of last month computes has no latency."""


def measure_insert(table: str, rows: pa.Table, seconds: float) -> None:
    """Emit what an insert that succeeded took.

    Parameters
    ----------
    table
        Name of the table.
    rows
        The rows.
    seconds
        How long it took.
    """
    add(SINK_ROWS, rows.num_rows, table)
    add(SINK_INSERTS, 1, table)
    add(SINK_ERRORS, 0, table)
    record(SINK_INSERT_DURATION, seconds, table)
    for latency in ages(row_times(rows, _SAMPLE)):
        record(SINK_LATENCY, latency, table)


def row_times(rows: pa.Table | pa.RecordBatch, most: int) -> IntArray:
    """Return `ts`, else `ts_recv`, of some rows, spread evenly; none where there are no rows or no such column.

    Parameters
    ----------
    rows
        Rows of an output table.
    most
        How many, at most.

    Returns
    -------
    IntArray
        int64 UTC nanoseconds.
    """
    name = next((name for name in ("ts", "ts_recv") if name in rows.schema.names), None)
    if name is None or not rows.num_rows:
        return np.empty(0, dtype=np.int64)
    picked = np.unique(np.linspace(0, rows.num_rows - 1, most).astype(np.int64))
    times: IntArray = np.asarray(rows.column(name).take(pa.array(picked)).cast(pa.int64()))
    return times


def ages(times: IntArray, clock: Callable[[], int] = time.time_ns) -> list[float]:
    """Return how long ago times are, in seconds, without those of history.

    Parameters
    ----------
    times
        UTC nanoseconds.
    clock
        Tells UTC nanoseconds.

    Examples
    --------
    >>> ages(np.array([1, 86_400, 86_401]) * 10**9, clock=lambda: 86_402 * 10**9)
    [2.0, 1.0]
    """
    passed = clock() - times
    recent: list[float] = (passed[passed <= _HISTORY_NS] / 1e9).tolist()
    return recent
