"""Trades to bars: windows over event time that close when the arrival clock has passed their end plus a grace.

Whether a trade is late depends on its own two times and nothing else, so the bars are the same however
the trades are cut into calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from operators.columns import BarColumns, CodeArray, FloatArray, Int8Array, IntArray, frozen
from operators.state import ArrayState, Column
from schemas.enums import Side
from schemas.errors import ConfigError, InvariantError
from schemas.time import END_OF_TIME

__all__ = ["BarState", "BarUpdate"]

_NONE: Final = -(2**63)
"""Start of an empty slot."""
_TIME_LIMIT: Final = 2**62
"""Arrival times lie within 146 years of the epoch, so that a sum with any duration cannot overflow."""
_MAX_DURATION: Final = 366 * 86400 * 10**9
"""Longest interval, grace or lead: a year."""
_MAX_SLOTS: Final = 4096
"""Open bars of one instrument and interval; 100 bytes each. An hour of lead over bars of one second fits."""

_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _NOTIONAL, _BUY, _COUNT, _VOLUME_C, _NOTIONAL_C, _BUY_C = range(11)
_N_SUMS: Final = 11
_N_OUT: Final = 8
"""The first columns of the sums are those of a bar (the count is exact to 2**53); the rest are the compensations."""
_CURRENT, _SLOT, _FIRST = range(3)
"""Where an instrument is in an interval: start of the bar last written, its slot, and a lower bound of open starts.
Side by side, so that a trade touches few cache lines."""

_FAULTS: Final = {
    1: "expected a code that `ensure` has made room for",
    2: "expected `ts_event` at most `max_ahead` after `ts_recv`",
    3: "expected `ts_recv` not to decrease, nor to lie before the last frontier, whose bars are closed",
    4: "expected `ts_recv` before the frontier",
    5: f"expected `ts_recv` within {_TIME_LIMIT} ns of the epoch",
}


@dataclass(frozen=True, slots=True)
class BarUpdate:
    """What one call gave.

    Parameters
    ----------
    bars
        Bars that closed, by decision time, then interval in configured order, then code.
    late_row
        Rows of the call that missed a bar, shape `(m,)`, in order; once for each bar that they missed.
    late_interval
        Position in the configured intervals of the bar that was missed, shape `(m,)`.
    """

    bars: BarColumns
    late_row: IntArray
    late_interval: Int8Array


class BarState:
    r"""Open bars of every instrument and interval.

    A bar covers $[s, s + I)$ of event time, $s$ a multiple of the interval $I$ from the epoch. Its decision
    time is $s + I + g$ with the grace $g$. A trade is in the bar of its `ts_event` if `ts_recv` is before
    that decision time, and late for it otherwise; it may be late for a short bar and in time for a long one.

    Volume, notional and buy volume are sums in arrival order with Kahan's compensation: within two units in the
    last place of the exact sum however many trades there are, and equal to the last bit to the compensated group-by
    sum of pandas (which takes plain sums where rows are already sorted by group).

    Parameters
    ----------
    intervals_ns
        Lengths of the bars, distinct, ns.
    grace_ns
        Time that a bar waits after its end for trades under way, ns. Longer loses fewer trades and decides later.
    max_ahead_ns
        Furthest that `ts_event` may lie after `ts_recv`, ns.

    Raises
    ------
    ConfigError
        An interval is not positive or repeated, a duration is negative or above a year, or more than
        4096 bars of one interval could be open at once.

    Notes
    -----
    A window without a trade gives no bar. Prices and sizes are finite and positive: decoding has refused
    others. `vwap` is NaN where volume or notional overflowed. With lead $a$, at most
    $\lfloor (g + a) / I \rfloor + 2$ bars of an interval are open at once: that is the size of the ring, and a slot
    that is needed again always holds a bar whose decision time has passed.
    Cost: about 10 ns for each trade and interval.

    Examples
    --------
    >>> state = BarState((1_000,), grace_ns=100, max_ahead_ns=0)
    >>> state.ensure(1)
    >>> update = state.update(
    ...     np.zeros(3, np.int32), np.array([10, 900, 950]), np.array([10, 950, 1_150]),
    ...     np.array([5.0, 6.0, 7.0]), np.array([1.0, 3.0, 1.0]), np.ones(3, np.int8), 1_200,
    ... )
    >>> update.bars.ts.tolist(), update.bars.close.tolist(), update.bars.vwap.tolist(), update.late_row.tolist()
    ([1100], [6.0], [5.75], [2])

    References
    ----------
    Kahan, W. (1965). Further remarks on reducing truncation errors. Communications of the ACM 8(1), 40.
    """

    def __init__(self, intervals_ns: tuple[int, ...], grace_ns: int, max_ahead_ns: int) -> None:
        _check_durations(intervals_ns, grace_ns, max_ahead_ns)
        rings = [(grace_ns + max_ahead_ns) // interval + 2 for interval in intervals_ns]
        if max(rings) > _MAX_SLOTS:
            raise ConfigError(
                f"expected at most {_MAX_SLOTS} bars of an interval open at once, found {max(rings)}; "
                "use a longer interval, or a shorter grace or lead"
            )
        self.intervals_ns = intervals_ns
        self.grace_ns = grace_ns
        self.max_ahead_ns = max_ahead_ns
        self._intervals = np.array(intervals_ns, dtype=np.int64)
        self._offset = np.cumsum([0, *rings], dtype=np.int64)
        self._frontier = _NONE
        n, slots = len(intervals_ns), sum(rings)
        self._state = ArrayState(
            {
                "start": Column("i8", fill=_NONE, shape=(slots,)),
                "sums": Column("f8", shape=(slots, _N_SUMS)),
                "place": Column("i8", fill=_NONE, shape=(n, 3)),
            },
            version=1,
        )
        self._refresh()

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return self._state.nbytes

    @property
    def open_bars(self) -> int:
        """Bars that are open now."""
        return self._n_open

    def ensure(self, n: int) -> None:
        """Have room for codes below `n`."""
        self._state.ensure(n)

    def has_open(self, codes: CodeArray) -> npt.NDArray[np.bool_]:
        """Return which of these instruments have an open bar; `reset` would lose it."""
        return np.asarray((self._state["start"][codes] != _NONE).any(axis=1))

    def reset(self, codes: CodeArray) -> None:
        """Forget these instruments, with their open bars."""
        codes = np.unique(codes)
        self._n_open -= int((self._state["start"][codes] != _NONE).sum())
        self._state.reset(codes)

    def snapshot(self, n_rows: int) -> dict[str, Any]:
        """Return the first rows as plain values, copied."""
        return {"layout": self._layout(), "frontier": self._frontier, "state": self._state.snapshot(n_rows)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        ConfigError
            The snapshot is of other intervals, grace or lead.
        VersionError
            It was written by another version.
        """
        if list(snapshot["layout"]) != self._layout():
            raise ConfigError(
                f"expected open bars with [intervals, grace, lead] = {self._layout()}, found {snapshot['layout']}; "
                "resume with the configuration that wrote the snapshot, or start a new run"
            )
        self._state.restore(snapshot["state"])
        self._frontier = int(snapshot["frontier"])
        self._refresh()

    def update(
        self,
        code: CodeArray,
        ts_event: IntArray,
        ts_recv: IntArray,
        price: FloatArray,
        size: FloatArray,
        side: Int8Array,
        frontier: int,
    ) -> BarUpdate:
        """Take the next trades, then close every bar whose decision time the frontier has reached.

        Parameters
        ----------
        code
            Instrument codes, shape `(n,)`.
        ts_event, ts_recv
            Event and arrival times, shape `(n,)`, ns; arrival times do not decrease.
        price, size
            Shape `(n,)`, finite and positive.
        side
            `Side` of the aggressor, shape `(n,)`.
        frontier
            Every trade with `ts_recv` before it has been given; `END_OF_TIME` closes all bars.

        Raises
        ------
        InvariantError
            A row breaks one of these rules; nothing was changed.
        """
        times = frozen(code), frozen(ts_event), frozen(ts_recv)
        self._check(times, frontier)
        n = len(code) * len(self._intervals)
        state = self._state
        ring = state["start"], state["sums"], state["place"]
        keys = np.empty((n + self._n_open, 3), dtype=np.int64)
        sums = np.empty((n + self._n_open, _N_OUT))
        late = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int8)
        n_out = n_late = 0
        if n:
            n_out, n_late, opened = _fold(
                *times, frozen(price), frozen(size), frozen(side), self._intervals, self._offset, self.grace_ns,
                *ring, self._next, keys, sums, *late,
            )  # fmt: skip
            self._n_open += opened
        self._frontier = max(self._frontier, frontier)
        limits = max(frontier, -_TIME_LIMIT) - self._intervals - self.grace_ns
        if (self._next <= limits).any():
            n_out = _close(limits, self._offset, *ring, self._next, keys, sums, n_out)
        self._n_open -= n_out
        return BarUpdate(self._columns(keys[:n_out], sums[:n_out]), late[0][:n_late].copy(), late[1][:n_late].copy())

    def close(self, frontier: int) -> BarColumns:
        """Close every bar whose decision time the frontier has reached, when there are no trades to take."""
        none: IntArray = np.empty(0, dtype=np.int64)
        empty = np.empty(0)
        return self.update(none.astype(np.int32), none, none, empty, empty, none.astype(np.int8), frontier).bars

    def _layout(self) -> list[Any]:
        return [list(self.intervals_ns), self.grace_ns, self.max_ahead_ns]

    def _refresh(self) -> None:
        """Derive what the arrays imply: the number of open bars, and each interval's earliest start (a lower bound)."""
        self._n_open = int((self._state["start"] != _NONE).sum())
        first = self._state["place"][:, :, _FIRST]
        self._next = np.where(first == _NONE, END_OF_TIME, first).min(axis=0)

    def _check(self, times: tuple[CodeArray, IntArray, IntArray], frontier: int) -> None:
        row, fault = _first_fault(*times, self._state.rows, self.max_ahead_ns, self._frontier, frontier)
        if fault:
            code, event, recv = (int(column[row]) for column in times)
            raise InvariantError(
                f"{_FAULTS[fault]}, found row {row} with code {code}, ts_event {event}, ts_recv {recv} at frontier "
                f"{frontier} (before: {self._frontier}); decoding and alignment must keep these rules"
            )

    def _columns(self, keys: IntArray, sums: FloatArray) -> BarColumns:
        interval = self._intervals[keys[:, 1]]
        ts_end = keys[:, 2] + interval
        order = np.lexsort((keys[:, 0], keys[:, 1], ts_end))
        keys, sums, interval, ts_end = keys[order], sums[order], interval[order], ts_end[order]
        named = [np.ascontiguousarray(column) for column in sums.T]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            vwap = named[_NOTIONAL] / named[_VOLUME]
        vwap[~np.isfinite(vwap)] = np.nan
        return BarColumns(
            code=keys[:, 0].astype(np.int32),
            interval_ns=interval,
            ts_start=np.ascontiguousarray(keys[:, 2]),
            ts_end=ts_end,
            ts=ts_end + self.grace_ns,
            open=named[_OPEN],
            high=named[_HIGH],
            low=named[_LOW],
            close=named[_CLOSE],
            volume=named[_VOLUME],
            notional=named[_NOTIONAL],
            vwap=vwap,
            trade_count=named[_COUNT].astype(np.int64),
            buy_volume=named[_BUY],
        )


def _check_durations(intervals_ns: tuple[int, ...], grace_ns: int, max_ahead_ns: int) -> None:
    if not intervals_ns or len(set(intervals_ns)) != len(intervals_ns) or not 0 < len(intervals_ns) <= 127:
        raise ConfigError(f"expected 1 to 127 distinct bar intervals, found {intervals_ns}; name each once")
    if min(intervals_ns) <= 0 or max(intervals_ns) > _MAX_DURATION:
        raise ConfigError(f"expected bar intervals in (0, {_MAX_DURATION}] ns, found {intervals_ns}; correct them")
    if not (0 <= grace_ns <= _MAX_DURATION and 0 <= max_ahead_ns <= _MAX_DURATION):
        raise ConfigError(
            f"expected grace and lead in [0, {_MAX_DURATION}] ns, found {grace_ns} and {max_ahead_ns}; correct them"
        )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _first_fault(
    code: CodeArray, ts_event: IntArray, ts_recv: IntArray, rows: int, max_ahead: int, last: int, frontier: int
) -> tuple[int, int]:
    for i in range(len(code)):
        recv = ts_recv[i]
        if code[i] < 0 or code[i] >= rows:
            return i, 1
        if recv > _TIME_LIMIT or recv < -_TIME_LIMIT:
            return i, 5
        if ts_event[i] > recv + max_ahead:
            return i, 2
        if recv < last:
            return i, 3
        if recv >= frontier:
            return i, 4
        last = recv
    return 0, 0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _fold(
    code: CodeArray, ts_event: IntArray, ts_recv: IntArray, price: FloatArray, size: FloatArray, side: Int8Array,
    intervals: IntArray, offset: IntArray, grace: int,
    start: IntArray, sums: FloatArray, place: IntArray, next_start: IntArray,
    keys: IntArray, out: FloatArray, late_row: IntArray, late_interval: Int8Array,
) -> tuple[int, int, int]:  # fmt: skip
    """Add each trade to its bars; return how many bars were emitted, late entries written, and bars opened."""
    n_out = n_late = opened = 0
    for i in range(len(code)):
        c = code[i]
        event = ts_event[i]
        limit = ts_recv[i] - grace
        for j in range(len(intervals)):
            interval = intervals[j]
            begin = place[c, j, _CURRENT]
            k = place[c, j, _SLOT]
            if event < begin or event >= begin + interval:
                # an end at or before `event + interval` is too old whatever the alignment: no overflow far in the past
                begin = (event // interval) * interval if event + interval > limit else _NONE
                k = offset[j] + (begin // interval) % (offset[j + 1] - offset[j])
            if begin + interval <= limit:
                late_row[n_late] = i
                late_interval[n_late] = j
                n_late += 1
                continue
            place[c, j, _CURRENT] = begin
            place[c, j, _SLOT] = k
            if start[c, k] != begin:
                if start[c, k] != _NONE:
                    _emit(c, j, start[c, k], sums[c, k], keys, out, n_out)
                    n_out += 1
                start[c, k] = begin
                _open_bar(sums[c, k], price[i])
                if place[c, j, _FIRST] == _NONE or begin < place[c, j, _FIRST]:
                    place[c, j, _FIRST] = begin
                next_start[j] = min(next_start[j], begin)
                opened += 1
            _add(sums[c, k], price[i], size[i], side[i])
    return n_out, n_late, opened


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _close(
    limits: IntArray, offset: IntArray, start: IntArray, sums: FloatArray, place: IntArray,
    next_start: IntArray, keys: IntArray, out: FloatArray, n_out: int,
) -> int:  # fmt: skip
    """Emit every bar that starts at or before its interval's limit; return how many were emitted in all."""
    next_start[:] = END_OF_TIME
    for c in range(len(start)):
        for j in range(len(limits)):
            if place[c, j, _FIRST] == _NONE:
                continue
            if place[c, j, _FIRST] <= limits[j]:
                earliest = END_OF_TIME
                for k in range(offset[j], offset[j + 1]):
                    if start[c, k] == _NONE:
                        continue
                    if start[c, k] <= limits[j]:
                        _emit(c, j, start[c, k], sums[c, k], keys, out, n_out)
                        n_out += 1
                        start[c, k] = _NONE
                    else:
                        earliest = min(earliest, start[c, k])
                place[c, j, _FIRST] = earliest if earliest != END_OF_TIME else _NONE
                next_start[j] = min(next_start[j], earliest)
            else:
                next_start[j] = min(next_start[j], place[c, j, _FIRST])
    return n_out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _emit(c: int, j: int, begin: int, bar: FloatArray, keys: IntArray, out: FloatArray, position: int) -> None:
    keys[position, 0] = c
    keys[position, 1] = j
    keys[position, 2] = begin
    for field in range(_N_OUT):
        out[position, field] = bar[field]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _open_bar(bar: FloatArray, price: float) -> None:
    bar[_OPEN] = price
    bar[_HIGH] = price
    bar[_LOW] = price
    bar[_VOLUME:] = 0.0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add(bar: FloatArray, price: float, size: float, side: int) -> None:
    bar[_HIGH] = max(bar[_HIGH], price)
    bar[_LOW] = min(bar[_LOW], price)
    bar[_CLOSE] = price
    bar[_COUNT] += 1.0
    _accumulate(bar, _VOLUME, _VOLUME_C, size)
    _accumulate(bar, _NOTIONAL, _NOTIONAL_C, price * size)
    if side == Side.BUY:
        _accumulate(bar, _BUY, _BUY_C, size)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _accumulate(bar: FloatArray, total: int, compensation: int, value: float) -> None:
    """Add with Kahan's compensation; a total that overflowed stays infinite instead of turning into NaN."""
    y = value - bar[compensation]
    t = bar[total] + y
    c = t - bar[total] - y
    bar[compensation] = c if np.isfinite(c) else 0.0
    bar[total] = t
