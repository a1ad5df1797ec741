"""The state of trade flow of an instrument, and what all its features share.

An instrument is one row of floats ("numbers") and one of integers ("marks"). What every trade touches lies side by
side at their beginning, so that a trade touches few cache lines; the windows follow. Two arrays also keep kernels fast:
each array that a compiled function takes out of a tuple costs a locked count of references.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from operators.columns import FloatArray, IntArray, MissingArray
from schemas.enums import Missing

__all__ = ["NEVER", "Parameters", "begin", "decay", "put", "skip", "wrapped"]

NEVER: Final = -(2**63)
"""A time that was not yet."""
LARGEST: Final = 1e30
SMALLEST: Final = 1e-30
"""A trade counts if its price and size lie between these: far beyond any market, and no sum of products of them
overflows, so that no trade can spoil a decayed sum for ever."""
DAY_NS: Final = 86400 * 10**9
SECOND_NS: Final = 1e9
LN2: Final = math.log(2.0)

OK: Final = int(Missing.OK)
WARMING_UP: Final = int(Missing.WARMING_UP)
NO_INPUT: Final = int(Missing.NO_INPUT)
DEGENERATE: Final = int(Missing.DEGENERATE)
STALE: Final = int(Missing.STALE)
NOT_FINITE: Final = int(Missing.NOT_FINITE)

(
    BUY_VOLUME, SELL_VOLUME, EFFECTIVE, EFFECTIVE_VOLUME, REALIZED, IMPACT, MATURED_VOLUME,
    N_BUY, N_SELL, N_TRADES, N_BASELINE, BASELINE_VOLUME, DAY_VOLUME,
    BUCKET_BUY, BUCKET_SELL, BUCKET_SIZE, BAR_VOLUME, KYLE_FLOW, RUN_VOLUME, N_SWEEPS, SWEEP_VOLUME,
    MID, LAST_PRICE, BAR_CLOSE, BAR_BEFORE, KYLE_PRICE, RUN_PRICE, RUN_TYPICAL, SWEEP_TYPICAL,
) = range(29)  # fmt: skip
WINDOWS: Final = 29
"""The first columns of an instrument's numbers: sums, and from `MID` on prices and a size that are NaN at first.
Behind them are the windows."""
(
    RECORD_TS, DUE_TS, QUOTE_TS, FIRST_TS, TRADE_TS, SIGNED_TS, EFFECTIVE_TS, MATURED_TS, RUN_TS, SWEEP_TS,
    FIRST_SLOT, LAST_SLOT, KYLE_BUCKET, BAR,
    PRICES_SEEN, BUCKETS_SEEN, CHANGES_SEEN, PAIRS_SEEN, RUN_SIGN, RUN_LEVELS, SWEEP_SIGN,
) = range(21)  # fmt: skip
N_MARKS: Final = 21
"""An instrument's whole numbers: times, `NEVER` at first, and from `PRICES_SEEN` on counts and signs."""


class Parameters(NamedTuple):
    """The numbers of `FlowConfig`, durations in ns, flags 0 or 1; and where each window begins and how long it is."""

    max_quote_age: int
    max_trade_age: int
    half_life: float
    spread_half_life: float
    step: int
    steps: int
    bulk: int
    bucket_size: float
    """0 where it follows the day's volume"""
    bucket_share: float
    volume_half_life: float
    volume_warm_up: int
    bar: int
    kyle_of_trades: int
    kyle_bucket: int
    min_buckets: int
    intensity_half_life: float
    baseline_half_life: float
    sweep_window: int
    sweep_levels: int
    sweep_half_life: float
    n_intervals: int
    n_buckets: int
    n_changes: int
    n_pairs: int
    n_trades: int
    since: int
    """volume bought, volume sold and signed trades since the decision before, for each interval"""
    slots: int
    """four numbers of each step whose trades await the mid after the horizon"""
    buckets: int
    """imbalances of the last volume buckets, then their volumes"""
    changes: int
    """price changes of the last bars"""
    pairs: int
    """price changes of the last time buckets, then their signed volumes"""
    trades: int
    """prices of the last trades"""
    width: int
    """columns of an instrument's numbers"""

    def record(self) -> Any:
        """Return the same as one record, which a compiled function passes on as one pointer."""
        layout = [(name, "f8" if isinstance(value, float) else "i8") for name, value in self._asdict().items()]
        return np.array([tuple(self)], dtype=layout)[0]


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def begin(c: int, numbers: FloatArray, marks: IntArray, p: Parameters) -> None:
    """Make ready the row of an instrument that has its first record."""
    numbers[c, MID:WINDOWS] = np.nan
    numbers[c, p.pairs : p.pairs + p.n_pairs] = np.nan
    marks[c, PRICES_SEEN:] = 0


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def decay(begin: int, end: int, half_life: float) -> float:
    """Return what is left at `end` of a weight of one at `begin`; 0 of one that never was."""
    if begin == NEVER:
        return 0.0
    return float(np.exp2(-float(end - begin) / half_life)) if end > begin else 1.0


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def wrapped(position: int, n: int) -> int:
    """Return a position below `2 n` as one in a ring of `n`; a division would cost ten times as much."""
    return position if position < n else position - n


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def put(value: float, d: int, k: int, values: FloatArray, missing: MissingArray) -> None:
    """Write the value of output `k` at decision `d`, or that it is not finite."""
    if np.isfinite(value):
        values[d, k] = value
    else:
        missing[d, k] = NOT_FINITE


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def skip(reason: int, d: int, k: int, n: int, values: FloatArray, missing: MissingArray) -> None:
    """Write why `n` outputs from `k` on have no value at decision `d`; theirs are NaN already."""
    for j in range(k, k + n):
        missing[d, j] = reason
