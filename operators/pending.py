"""Predictions that await their outcome: bounded, matured by the first close at or after the horizon."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.columns import FloatArray, IntArray

__all__ = ["Matured", "PendingOutcomes"]


@dataclass(frozen=True, slots=True)
class Matured:
    """Predictions whose waiting is over, by time of the prediction, then in alphabetical order.

    Parameters
    ----------
    instruments
        Instrument of each, `m` of them.
    ts
        Time of each prediction, ns, shape `(m,)`.
    records
        What was recorded with each, shape `(m, width)`.
    exit_close
        Close at the horizon, shape `(m,)`; NaN where none came in time.
    """

    instruments: tuple[str, ...]
    ts: IntArray
    records: FloatArray
    exit_close: FloatArray

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(slots=True)
class _Block:
    """Predictions of one time that still wait."""

    ts: int
    instruments: tuple[str, ...]
    records: FloatArray

    def take(self, rows: npt.NDArray[np.intp]) -> _Block:
        return _Block(self.ts, tuple([self.instruments[row] for row in rows.tolist()]), self.records[rows])


class PendingOutcomes:
    """Queue of predictions by time.

    A prediction of time $T$ matures at the first time at or after $T$ + `horizon_ns` at which its instrument has a
    close, and expires without one at the first later time beyond $T$ + `horizon_ns` + `tolerance_ns`.

    Parameters
    ----------
    width
        Numbers recorded with each prediction.
    horizon_ns
        Time to the outcome, ns, at least 1.
    tolerance_ns
        How much later than the horizon a close may come, ns, at least 0.
    max_rows
        Predictions kept. What does not fit is refused whole, the latest first, so that those before still mature.

    Notes
    -----
    Nothing that comes later than a call changes what it returns. About 0.1 microseconds a row.

    Examples
    --------
    >>> pending = PendingOutcomes(1, horizon_ns=10, tolerance_ns=5, max_rows=100)
    >>> pending.add(0, ("A", "B"), np.array([[1.0], [2.0]]))
    True
    >>> over = pending.mature(10, {"A": 7.0})
    >>> over.instruments, over.exit_close.tolist()
    (('A',), [7.0])
    >>> over = pending.mature(16, {"B": 8.0})
    >>> over.instruments, over.exit_close.tolist(), pending.rows
    (('B',), [nan], 0)
    """

    def __init__(self, width: int, *, horizon_ns: int, tolerance_ns: int, max_rows: int) -> None:
        self._width = width
        self._horizon = horizon_ns
        self._tolerance = tolerance_ns
        self._max_rows = max_rows
        self._blocks: deque[_Block] = deque()
        self._rows = 0

    @property
    def rows(self) -> int:
        """Predictions that wait."""
        return self._rows

    def add(self, ts: int, instruments: tuple[str, ...], records: FloatArray) -> bool:
        """Keep the predictions of one time, later than those before; return whether there was room."""
        n = len(instruments)
        if self._rows + n > self._max_rows:
            return False
        if n:
            self._blocks.append(_Block(ts, instruments, records.copy()))
            self._rows += n
        return True

    def mature(self, ts: int, closes: Mapping[str, float]) -> Matured:
        """Return what is over with the closes of a time, each at the place of its prediction's time.

        Parameters
        ----------
        ts
            Time of the closes, later than that of any call before.
        closes
            Instrument to its close, finite and positive.
        """
        over: list[tuple[_Block, FloatArray]] = []
        waiting: list[_Block] = []
        while self._blocks and self._blocks[0].ts + self._horizon <= ts:
            block = self._blocks.popleft()
            late = ts > block.ts + self._horizon + self._tolerance
            exits = np.full(len(block.instruments), np.nan)
            if not late:
                exits[:] = [closes.get(name, np.nan) for name in block.instruments]
            done = np.isfinite(exits) | late
            if done.all():
                over.append((block, exits))
                continue
            waiting.append(block.take(np.flatnonzero(~done)))
            if done.any():
                over.append((block.take(np.flatnonzero(done)), exits[done]))
        self._blocks.extendleft(reversed(waiting))
        matured = self._joined(over)
        self._rows -= len(matured)
        return matured

    def _joined(self, over: list[tuple[_Block, FloatArray]]) -> Matured:
        if not over:
            return Matured((), np.empty(0, dtype=np.int64), np.empty((0, self._width)), np.empty(0))
        return Matured(
            tuple(name for block, _ in over for name in block.instruments),
            np.concatenate([np.full(len(block.instruments), block.ts, dtype=np.int64) for block, _ in over]),
            np.concatenate([block.records for block, _ in over]),
            np.concatenate([exits for _, exits in over]),
        )

    def snapshot(self) -> list[Any]:
        """Return what waits as plain values, copied."""
        return [[block.ts, list(block.instruments), block.records.tobytes()] for block in self._blocks]

    def restore(self, snapshot: list[Any]) -> None:
        """Take over a snapshot of the same width."""
        self._blocks = deque(
            _Block(ts, tuple(names), np.frombuffer(data).reshape(len(names), self._width))
            for ts, names, data in snapshot
        )
        self._rows = sum(len(block.instruments) for block in self._blocks)
