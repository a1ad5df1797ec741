r"""Reports of earnings per instrument: what is announced, what was reported, and the price around it.

Everything here is compiled: records, trades and decisions are walked once, in order of time.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from operators.columns import FloatArray, IntArray, MissingArray
from schemas.enums import Missing

__all__ = ["N_FEATURES", "Parameters", "Reports", "walk"]

(
    SURPRISE, SURPRISE_YIELD, SURPRISE_MEAN, REVISION, DAYS_UNTIL, SESSIONS_UNTIL, DAYS_SINCE, WINDOW, PROXIMITY,
    PRE_DRIFT, DRIFT,
) = range(11)  # fmt: skip
N_FEATURES: Final = 11
NEVER: Final = -(2**63)
_DAY_NS: Final = 86_400e9
_OK: Final = int(Missing.OK)
_NO_INPUT: Final = int(Missing.NO_INPUT)
_DEGENERATE: Final = int(Missing.DEGENERATE)
_STALE: Final = int(Missing.STALE)
_NOT_FINITE: Final = int(Missing.NOT_FINITE)


class Parameters(NamedTuple):
    """Parameters of the kernels, times in ns."""

    window: int
    min_estimate: float
    max_age: int
    max_overdue: int


class Reports(NamedTuple):
    """State of the instruments that have reports; `K` announced reports, `R` surprises."""

    key: IntArray
    """id of each announced report, shape `(n, K)`, as are all up to `base`"""
    used: MissingArray
    due: IntArray
    happened: MissingArray
    """whether the report was due; it then waits for its figures"""
    first_estimate: FloatArray
    estimate: FloatArray
    base: FloatArray
    """price at the start of the window"""
    past_key: IntArray
    """id of each report with figures, a ring, shape `(n, R)`, as are all up to `past_missing`"""
    past_estimate: FloatArray
    past_price: FloatArray
    surprise: FloatArray
    """shape `(n, R, 2)`: over the estimate, over the price"""
    past_missing: MissingArray
    """shape `(n, R, 2)`"""
    n_past: IntArray
    """reports with figures so far, shape `(n,)`, as are the rest"""
    ts_figures: IntArray
    """when the last figures arrived"""
    ts_report: IntArray
    """when the last report was"""
    report_price: FloatArray
    """price at that time"""
    last_ts: IntArray
    wake: IntArray
    """from when on a price may have to be kept"""
    dropped: IntArray
    """reports for which there was no room"""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _settle(r: int, now: int, price: float, s: Any, p: Any) -> None:
    """Let what was due by now happen, and keep the price where a window or a report has begun since it last changed."""
    for j in range(s.key.shape[1]):
        if s.used[r, j] and not s.happened[r, j] and s.due[r, j] - p.window <= now and np.isnan(s.base[r, j]):
            s.base[r, j] = price
    for _ in range(s.key.shape[1]):
        first = -1
        for j in range(s.key.shape[1]):
            is_due = s.used[r, j] and not s.happened[r, j] and s.due[r, j] <= now
            if is_due and (first < 0 or s.due[r, j] < s.due[r, first]):
                first = j
        if first < 0:
            break
        s.happened[r, first] = 1
        _report(r, s.due[r, first], np.nan, s)
    if s.ts_report[r] != NEVER and np.isnan(s.report_price[r]):
        s.report_price[r] = price


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _plan(r: int, s: Any, p: Any) -> None:
    """Say when the next report is due, or its window begins; at once where a price is still awaited."""
    wake = 2**63 - 1
    for j in range(s.key.shape[1]):
        if s.used[r, j] and not s.happened[r, j]:
            wake = min(wake, s.due[r, j] - p.window if np.isnan(s.base[r, j]) else s.due[r, j])
    s.wake[r] = NEVER if s.ts_report[r] != NEVER and np.isnan(s.report_price[r]) else wake


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _report(r: int, ts: int, price: float, s: Any) -> None:
    if ts >= s.ts_report[r]:
        s.ts_report[r] = ts
        s.report_price[r] = price


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _slot_for(r: int, key: int, due: int, now: int, s: Any, p: Any) -> int:
    """Return where a report is kept, or a fresh place for it, or -1 where there is no room."""
    free, oldest, farthest = -1, -1, -1
    for j in range(s.key.shape[1]):
        if s.used[r, j] and s.key[r, j] == key:
            return j
        if s.used[r, j] and s.happened[r, j] and now - s.due[r, j] > p.max_overdue:
            s.used[r, j] = 0
        if not s.used[r, j]:
            free = j if free < 0 else free
        elif s.happened[r, j]:
            oldest = j if oldest < 0 or s.due[r, j] < s.due[r, oldest] else oldest
        else:
            farthest = j if farthest < 0 or s.due[r, j] > s.due[r, farthest] else farthest
    if free < 0:
        s.dropped[r] += 1
        free = oldest
        if free < 0 and due < s.due[r, farthest]:
            free = farthest
    if free >= 0:
        s.key[r, free] = key
        s.used[r, free] = 1
        s.happened[r, free] = 0
        s.due[r, free] = due
        s.first_estimate[r, free] = np.nan
        s.estimate[r, free] = np.nan
        s.base[r, free] = np.nan
    return free


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _ratio(difference: float, by: float, floor: float, r: int, at: int, column: int, s: Any) -> None:
    """Keep one surprise, or why there is none."""
    s.surprise[r, at, column] = np.nan
    if np.isnan(difference) or np.isnan(by):
        s.past_missing[r, at, column] = _NO_INPUT
    elif abs(by) < floor:
        s.past_missing[r, at, column] = _DEGENERATE
    elif not np.isfinite(difference / abs(by)):
        s.past_missing[r, at, column] = _NOT_FINITE
    else:
        s.past_missing[r, at, column] = _OK
        s.surprise[r, at, column] = difference / abs(by)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _figures(r: int, at: int, actual: float, s: Any, p: Any) -> None:
    difference = actual - s.past_estimate[r, at]
    _ratio(difference, s.past_estimate[r, at], p.min_estimate, r, at, 0, s)
    _ratio(difference, s.past_price[r, at], 0.0, r, at, 1, s)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _restated(r: int, key: int, actual: float, s: Any, p: Any) -> bool:
    """Correct the figures of a report that has some; return whether it is one of the last."""
    for at in range(min(s.n_past[r], s.past_key.shape[1])):
        if s.past_key[r, at] == key:
            if np.isfinite(actual):
                _figures(r, at, actual, s, p)
            return True
    return False


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _take_record(i: int, r: int, price: float, records: Any, s: Any, p: Any) -> None:
    _, ts, keys, dues, estimates, actuals = records
    now, key, due, estimate, actual = ts[i], keys[i], dues[i], estimates[i], actuals[i]
    _settle(r, now, price, s, p)
    s.last_ts[r] = now
    if _restated(r, key, actual, s, p):
        return
    has_figures = np.isfinite(actual)
    j = _slot_for(r, key, due, now, s, p)
    if j >= 0:
        if due != s.due[r, j]:
            s.due[r, j] = due
            s.happened[r, j] = s.happened[r, j] and due <= now
            s.base[r, j] = np.nan if due - p.window > now else s.base[r, j]
        if np.isfinite(estimate) and (not has_figures or np.isnan(s.estimate[r, j])):
            s.estimate[r, j] = estimate
            if np.isnan(s.first_estimate[r, j]):
                s.first_estimate[r, j] = estimate
    if not has_figures:
        return
    if j < 0 or not s.happened[r, j]:
        _report(r, min(due, now), price, s)
    at = s.n_past[r] % s.past_key.shape[1]
    s.past_key[r, at] = key
    s.past_estimate[r, at] = s.estimate[r, j] if j >= 0 else (estimate if np.isfinite(estimate) else np.nan)
    s.past_price[r, at] = price
    _figures(r, at, actual, s, p)
    s.n_past[r] += 1
    s.ts_figures[r] = now
    if j >= 0:
        s.used[r, j] = 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _past_features(r: int, now: int, s: Any, p: Any, values: Any, missing: Any) -> None:
    n, size = s.n_past[r], s.past_key.shape[1]
    if n == 0:
        return
    if now - s.ts_figures[r] > p.max_age:
        missing[SURPRISE] = missing[SURPRISE_YIELD] = missing[SURPRISE_MEAN] = _STALE
        return
    last = (n - 1) % size
    for column in range(2):
        missing[SURPRISE + column] = s.past_missing[r, last, column]
        values[SURPRISE + column] = s.surprise[r, last, column]
    total, count = 0.0, 0
    for back in range(min(n, size) - 1, -1, -1):
        at = (n - 1 - back) % size
        if s.past_missing[r, at, 0] == _OK:
            total += s.surprise[r, at, 0]
            count += 1
    if count == 0:
        missing[SURPRISE_MEAN] = missing[SURPRISE]
    elif not np.isfinite(total):
        missing[SURPRISE_MEAN] = _NOT_FINITE
    else:
        missing[SURPRISE_MEAN] = _OK
        values[SURPRISE_MEAN] = total / count


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _drift(price: float, base: float, at: int, values: Any, missing: Any) -> None:
    if np.isnan(base) or np.isnan(price):
        missing[at] = _NO_INPUT
    else:
        missing[at] = _OK
        values[at] = np.log(price) - np.log(base)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _next_features(
    r: int, j: int, now: int, price: float, closes: Any, s: Any, p: Any, values: Any, missing: Any
) -> None:
    first, due = s.first_estimate[r, j], s.due[r, j]
    if not np.isnan(first):
        change = (s.estimate[r, j] - first) / abs(first) if abs(first) >= p.min_estimate else np.nan
        missing[REVISION] = _DEGENERATE if abs(first) < p.min_estimate else _NOT_FINITE
        if np.isfinite(change):
            missing[REVISION] = _OK
            values[REVISION] = change
    left = float(due - now)
    values[DAYS_UNTIL] = left / _DAY_NS
    values[WINDOW] = 1.0 if due - p.window <= now else 0.0
    values[PROXIMITY] = max(0.0, 1.0 - left / p.window)
    missing[DAYS_UNTIL] = missing[WINDOW] = missing[PROXIMITY] = _OK
    if closes[0] <= now and due < closes[-1]:
        passed = np.searchsorted(closes, due, side="right") - np.searchsorted(closes, now, side="right")
        values[SESSIONS_UNTIL] = float(passed)
        missing[SESSIONS_UNTIL] = _OK
    if values[WINDOW] == 1.0:
        _drift(price, s.base[r, j], PRE_DRIFT, values, missing)
    else:
        missing[PRE_DRIFT] = _DEGENERATE


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _decide(r: int, now: int, price: float, closes: Any, s: Any, p: Any, values: Any, missing: Any) -> None:
    if now >= s.wake[r]:
        _settle(r, now, price, s, p)
        _plan(r, s, p)
    _past_features(r, now, s, p, values, missing)
    following = -1
    for j in range(s.key.shape[1]):
        is_ahead = s.used[r, j] and not s.happened[r, j]
        if is_ahead and (following < 0 or s.due[r, j] < s.due[r, following]):
            following = j
    if following >= 0:
        _next_features(r, following, now, price, closes, s, p, values, missing)
    if s.ts_report[r] != NEVER:
        since = now - s.ts_report[r]
        values[DAYS_SINCE] = float(since) / _DAY_NS
        missing[DAYS_SINCE] = _OK
        if since > p.max_age:
            missing[DRIFT] = _STALE
        else:
            _drift(price, s.report_price[r], DRIFT, values, missing)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def walk(
    records: Any,
    trades: Any,
    decisions: Any,
    rows: Any,
    price: Any,
    closes: Any,
    s: Any,
    p: Any,
    values: Any,
    missing: Any,
) -> int:
    """Take records and trades, and fill the features at each decision, all by time.

    Of one moment a decision comes first, then records, then trades. Returns the first decision at or before a record
    of its instrument that was taken before, or -1.

    Parameters
    ----------
    records
        Code, arrival, id, when due, estimate and actual of each record; NaN where there is none.
    trades
        Code, arrival and price of each trade.
    decisions
        Code and time of each decision.
    rows
        Row of each instrument in `s`, -1 without; shape `(codes,)`.
    price
        Last price of each instrument, shape `(codes,)`; written.
    closes
        Closes of sessions.
    s, p
        State and parameters.
    values, missing
        Filled, shape `(m, N_FEATURES)`.
    """
    n_records, n_trades, n_decisions = len(records[0]), len(trades[0]), len(decisions[0])
    i, t = 0, 0
    for d in range(n_decisions + 1):
        end = decisions[1][d] if d < n_decisions else 2**63 - 1
        while i < n_records or t < n_trades:
            is_record = i < n_records and (t >= n_trades or records[1][i] <= trades[1][t])
            if (records[1][i] if is_record else trades[1][t]) >= end:
                break
            if is_record:
                c = records[0][i]
                _take_record(i, rows[c], price[c], records, s, p)
                _plan(rows[c], s, p)
                i += 1
                continue
            c = trades[0][t]
            if trades[2][t] > 0.0 and np.isfinite(trades[2][t]):
                if rows[c] >= 0 and trades[1][t] >= s.wake[rows[c]]:
                    _settle(rows[c], trades[1][t], price[c], s, p)
                    _plan(rows[c], s, p)
                price[c] = trades[2][t]
            t += 1
        if d == n_decisions:
            break
        r = rows[decisions[0][d]]
        if r >= 0:
            if s.last_ts[r] >= end:
                return d
            _decide(r, end, price[decisions[0][d]], closes, s, p, values[d], missing[d])
    return -1
