r"""What a chain says as of its last record: volatility at constant maturity, skew, slope, and ratios of volumes.

At the money, the volatility of an expiry is interpolated in $k = \ln(K / S)$ between the nearest strikes on both sides
of the spot, each the mean of its contracts. Between the expiries $\tau_1 \le m < \tau_2$ around a maturity $m$ total
variance is linear in time:

$$ \sigma(m)^2\, m = \sigma_1^2 \tau_1 + (\sigma_2^2 \tau_2 - \sigma_1^2 \tau_1) \frac{m - \tau_1}{\tau_2 - \tau_1} $$

References
----------
Gatheral, J. (2006). The Volatility Surface. Wiley: total variance in time.
Xing, Y., Zhang, X. and Zhao, R. (2010). What does the individual option volatility smirk tell us about future equity
returns? Journal of Financial and Quantitative Analysis 45(3).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from operators.events.chain import (
    DELTA,
    EXPIRY,
    INTEREST,
    INTEREST_BEFORE,
    IS_STALE,
    LAST_TS,
    MEAN_VOLUME,
    N_CONTRACTS,
    N_SESSIONS,
    N_VOLUMES,
    PRESENT,
    RIGHT,
    SESSION,
    SPOT,
    STRIKE,
    VOLATILITY,
    VOLATILITY_TS,
    VOLUME,
)
from schemas.enums import Missing

__all__ = ["N_SUMMARY", "end_session", "summarise"]

(
    ATM, RANK, PERCENTILE, SKEW, TERM_SLOPE, PUT_CALL_VOLUME, PUT_CALL_INTEREST, VOLUME_TO_INTEREST, UNUSUAL,
    VOLUME_RATIO, INTEREST_CHANGE,
) = range(11)  # fmt: skip
N_SUMMARY: Final = 11
_MAX_EXPIRIES: Final = 64
"""Expiries looked at, in order of their first contracts; 8 kB of scratch. Listed names have some 20."""
_SKEW_DELTA: Final = 0.25
_OK: Final = int(Missing.OK)
_WARMING_UP: Final = int(Missing.WARMING_UP)
_NO_INPUT: Final = int(Missing.NO_INPUT)
_DEGENERATE: Final = int(Missing.DEGENERATE)
_NOT_FINITE: Final = int(Missing.NOT_FINITE)
_BELOW, _ABOVE = 0, 1
_K, _SUM, _COUNT = 0, 1, 2
_PUT, _CALL = 0, 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_strike(k: float, volatility: float, side: Any, sign: float) -> None:
    """Keep the strike nearest to the spot on one side (`sign * k >= 0`), with the volatilities of its contracts."""
    if side[_COUNT] == 0.0 or sign * k < sign * side[_K]:
        side[_K] = k
        side[_SUM] = 0.0
        side[_COUNT] = 0.0
    if k == side[_K]:
        side[_SUM] += volatility
        side[_COUNT] += 1.0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_delta(delta: float, volatility: float, wing: Any) -> None:
    """Keep absolute delta and volatility of the contracts that enclose the delta of the skew most narrowly."""
    if delta <= _SKEW_DELTA and not delta <= wing[_BELOW, 0]:
        wing[_BELOW, 0] = delta
        wing[_BELOW, 1] = volatility
    if delta >= _SKEW_DELTA and not delta >= wing[_ABOVE, 0]:
        wing[_ABOVE, 0] = delta
        wing[_ABOVE, 1] = volatility


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _between(x: float, x1: float, y1: float, x2: float, y2: float) -> float:
    """Return the value at `x` of the line through two points; NaN where one is missing."""
    if np.isnan(x1) or np.isnan(x2):
        return np.nan
    return y1 if x1 == x2 else y1 + (y2 - y1) * ((x - x1) / (x2 - x1))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _collect(r: int, s: Any, p: Any, expiries: Any, sides: Any, wings: Any) -> int:
    """Sort the fresh volatilities of a chain by expiry; return the number of expiries."""
    now, n = s.counts[r, LAST_TS], 0
    for j in range(s.counts[r, N_CONTRACTS]):
        volatility = s.numbers[r, j, VOLATILITY]
        k = np.log(s.numbers[r, j, STRIKE]) - np.log(s.levels[r, SPOT])
        if (
            np.isnan(volatility)
            or s.ids[r, j, EXPIRY] <= now
            or now - s.ids[r, j, VOLATILITY_TS] > p.max_age
            or np.isnan(k)
        ):
            continue
        e = 0
        while e < n and expiries[e] != s.ids[r, j, EXPIRY]:
            e += 1
        if e == _MAX_EXPIRIES:
            continue
        if e == n:
            expiries[e] = s.ids[r, j, EXPIRY]
            n += 1
        if -p.band <= k <= 0.0:
            _add_strike(k, volatility, sides[e, _BELOW], -1.0)
        if 0.0 <= k <= p.band:
            _add_strike(k, volatility, sides[e, _ABOVE], 1.0)
        delta = s.numbers[r, j, DELTA]
        if s.ids[r, j, RIGHT] > 0 and 0.0 < delta < 1.0:
            _add_delta(delta, volatility, wings[e, _CALL])
        elif s.ids[r, j, RIGHT] <= 0 and -1.0 < delta < 0.0:
            _add_delta(-delta, volatility, wings[e, _PUT])
    return n


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _at_the_money(side: Any) -> Any:
    below, above = side[_BELOW], side[_ABOVE]
    if below[_COUNT] == 0.0 or above[_COUNT] == 0.0:
        return np.nan
    low, high = below[_SUM] / below[_COUNT], above[_SUM] / above[_COUNT]
    return _between(0.0, below[_K], low, above[_K], high)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _wing(wing: Any) -> Any:
    return _between(_SKEW_DELTA, wing[_BELOW, 0], wing[_BELOW, 1], wing[_ABOVE, 0], wing[_ABOVE, 1])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _at_maturity(maturity: float, tolerance: float, left: Any, values: Any, n: int, in_total: bool) -> Any:
    """Return a quantity at a maturity, given it at `n` expiries; NaN where there is none.

    It is linear in time, or with `in_total` its product with the time left is. Without an expiry on one side it is
    that of the nearest on the other, if it is near enough.
    """
    low, high = -1, -1
    for e in range(n):
        if np.isnan(values[e]):
            continue
        if left[e] <= maturity and (low < 0 or left[e] > left[low]):
            low = e
        if left[e] >= maturity and (high < 0 or left[e] < left[high]):
            high = e
    if low >= 0 and high >= 0:
        if in_total:
            total = _between(maturity, left[low], values[low] * left[low], left[high], values[high] * left[high])
            return total / maturity
        return _between(maturity, left[low], values[low], left[high], values[high])
    nearest = max(low, high)
    if nearest >= 0 and abs(left[nearest] - maturity) <= tolerance * maturity:
        return values[nearest]
    return np.nan


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _volatilities(r: int, s: Any, p: Any, values: Any, missing: Any) -> None:
    """Fill volatility at the money, slope and skew."""
    expiries = np.empty(_MAX_EXPIRIES, dtype=np.int64)
    sides = np.zeros((_MAX_EXPIRIES, 2, 3))
    wings = np.full((_MAX_EXPIRIES, 2, 2, 2), np.nan)
    n = _collect(r, s, p, expiries, sides, wings)
    if n == 0:
        return
    left, variance, skew = np.empty(n), np.empty(n), np.empty(n)
    for e in range(n):
        left[e] = float(expiries[e] - s.counts[r, LAST_TS])
        variance[e] = _at_the_money(sides[e]) ** 2
        skew[e] = _wing(wings[e, _PUT]) - _wing(wings[e, _CALL])
    near, far = float(p.maturity), float(p.far_maturity)
    at_near = np.sqrt(_at_maturity(near, p.tolerance, left, variance, n, True))
    at_far = np.sqrt(_at_maturity(far, p.tolerance, left, variance, n, True))
    values[ATM] = at_near
    values[TERM_SLOPE] = at_far - at_near
    values[SKEW] = _at_maturity(near, p.tolerance, left, skew, n, False)
    for column in (ATM, TERM_SLOPE, SKEW):
        missing[column] = _OK if np.isfinite(values[column]) else _DEGENERATE


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _rank(r: int, s: Any, p: Any, values: Any, missing: Any) -> None:
    """Fill rank and percentile of the volatility among the ends of past sessions."""
    missing[RANK] = missing[PERCENTILE] = missing[ATM]
    if missing[ATM] != _OK:
        return
    n = min(s.counts[r, N_SESSIONS], s.history.shape[1])
    if n < p.min_sessions:
        missing[RANK] = missing[PERCENTILE] = _WARMING_UP
        return
    now = values[ATM]
    low, high, below = now, now, 0
    for j in range(n):
        low, high = min(low, s.history[r, j]), max(high, s.history[r, j])
        below += s.history[r, j] < now
    values[PERCENTILE] = below / n
    missing[PERCENTILE] = _OK
    missing[RANK] = _DEGENERATE
    if high > low:
        values[RANK] = (now - low) / (high - low)
        missing[RANK] = _OK


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _ratio(up: float, down: float, known: int, at: int, values: Any, missing: Any) -> None:
    if known == 0:
        missing[at] = _NO_INPUT
    elif down <= 0.0:
        missing[at] = _DEGENERATE
    elif not np.isfinite(up / down):
        missing[at] = _NOT_FINITE
    else:
        values[at] = up / down
        missing[at] = _OK


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _session_volume(r: int, s: Any) -> tuple[float, int]:
    """Return the volume of the chain's session so far, and of how many contracts it is."""
    total, n = 0.0, 0
    for j in range(s.counts[r, N_CONTRACTS]):
        if s.ids[r, j, SESSION] == s.counts[r, PRESENT]:
            total += s.numbers[r, j, VOLUME]
            n += 1
    return total, n


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _volumes(r: int, s: Any, p: Any, values: Any, missing: Any) -> None:
    """Fill the ratios of volumes and of open interest, over contracts that have not expired."""
    volume, interest, count = np.zeros(2), np.zeros(2), np.zeros(2, dtype=np.int64)
    unusual, before, after, n_before = 0.0, 0.0, 0.0, 0
    for j in range(s.counts[r, N_CONTRACTS]):
        if s.ids[r, j, EXPIRY] <= s.counts[r, LAST_TS]:
            continue
        side = _CALL if s.ids[r, j, RIGHT] > 0 else _PUT
        open_interest = s.numbers[r, j, INTEREST]
        if s.ids[r, j, SESSION] == s.counts[r, PRESENT]:
            volume[side] += s.numbers[r, j, VOLUME]
            count[0] += 1
            if s.numbers[r, j, VOLUME] > open_interest:
                unusual += s.numbers[r, j, VOLUME]
        if not np.isnan(open_interest):
            interest[side] += open_interest
            count[1] += 1
            if not np.isnan(s.numbers[r, j, INTEREST_BEFORE]):
                before += s.numbers[r, j, INTEREST_BEFORE]
                after += open_interest
                n_before += 1
    total, total_interest = volume[_PUT] + volume[_CALL], interest[_PUT] + interest[_CALL]
    _ratio(volume[_PUT], volume[_CALL], count[0], PUT_CALL_VOLUME, values, missing)
    _ratio(interest[_PUT], interest[_CALL], count[1], PUT_CALL_INTEREST, values, missing)
    _ratio(total, total_interest, min(count[0], count[1]), VOLUME_TO_INTEREST, values, missing)
    _ratio(unusual, total, min(count[0], count[1]), UNUSUAL, values, missing)
    _ratio(after - before, before, n_before, INTEREST_CHANGE, values, missing)
    _ratio(_session_volume(r, s)[0], s.levels[r, MEAN_VOLUME], count[0], VOLUME_RATIO, values, missing)
    if s.counts[r, N_VOLUMES] < p.min_volume_sessions and missing[VOLUME_RATIO] != _NO_INPUT:
        values[VOLUME_RATIO] = np.nan
        missing[VOLUME_RATIO] = _WARMING_UP


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def summarise(r: int, s: Any, p: Any) -> None:
    """Bring the summary of a chain up to date."""
    if not s.counts[r, IS_STALE]:
        return
    values, missing = s.summary[r], s.summary_missing[r]
    for column in range(N_SUMMARY):
        values[column] = np.nan
        missing[column] = _NO_INPUT
    _volatilities(r, s, p, values, missing)
    _rank(r, s, p, values, missing)
    _volumes(r, s, p, values, missing)
    s.counts[r, IS_STALE] = 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def end_session(r: int, session: int, s: Any, p: Any) -> None:
    """Keep what the session before ended with, given an up-to-date summary, and begin the next one."""
    if s.counts[r, PRESENT] > 0:
        if s.summary_missing[r, ATM] == _OK:
            s.history[r, s.counts[r, N_SESSIONS] % s.history.shape[1]] = s.summary[r, ATM]
            s.counts[r, N_SESSIONS] += 1
        total, n = _session_volume(r, s)
        if n > 0:
            before = s.levels[r, MEAN_VOLUME]
            s.levels[r, MEAN_VOLUME] = total if s.counts[r, N_VOLUMES] == 0 else before + p.decay * (total - before)
            s.counts[r, N_VOLUMES] += 1
        for j in range(s.counts[r, N_CONTRACTS]):
            s.numbers[r, j, INTEREST_BEFORE] = s.numbers[r, j, INTEREST]
    s.counts[r, PRESENT] = session
