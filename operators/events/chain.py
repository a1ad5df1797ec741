"""The contracts of each instrument: found by id, brought up to date, and forgotten after their expiry.

Everything here is compiled. A chain is a row of the state: its contracts stand in order of their first records, and a
hash table with open addressing finds them by id.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from operators.columns import CodeArray, FloatArray, Int8Array, IntArray, MissingArray

__all__ = ["Chains", "Parameters", "Records", "find_contract", "keep_contract", "table_size"]

_EMPTY: Final = -1


class Parameters(NamedTuple):
    """Parameters of the kernels, times in ns."""

    maturity: int
    far_maturity: int
    tolerance: float
    band: float
    max_age: int
    min_sessions: int
    decay: float
    """weight of the last session's volume in its average"""
    min_volume_sessions: int


class Records(NamedTuple):
    """Records of contracts in order of arrival, each of shape `(n,)`; NaN where a number is missing."""

    row: CodeArray
    """row of the instrument's chain"""
    ts: IntArray
    session: IntArray
    """from 1 on"""
    key: IntArray
    expiry: IntArray
    strike: FloatArray
    right: Int8Array
    volatility: FloatArray
    delta: FloatArray
    volume: FloatArray
    open_interest: FloatArray
    spot: FloatArray


class Chains(NamedTuple):
    """State of the instruments that have options; `S` contracts, `H` places, `W` sessions, `I` intervals.

    Few arrays of several columns, because each array of a kernel's argument costs compile time in every kernel.
    """

    ids: IntArray
    """of each contract `KEY` to `SESSION`, shape `(n, S, 5)`"""
    numbers: FloatArray
    """of each contract `STRIKE` to `INTEREST_BEFORE`, shape `(n, S, 6)`"""
    place: CodeArray
    """position of a contract by the hash of its id, shape `(n, H)`"""
    counts: IntArray
    """of each chain `N_CONTRACTS` to `IS_STALE`, shape `(n, 7)`"""
    levels: FloatArray
    """of each chain `SPOT` and `MEAN_VOLUME`, shape `(n, 2)`"""
    history: FloatArray
    """volatility at the end of each session, a ring, shape `(n, W)`"""
    summary: FloatArray
    """features as of the last record"""
    summary_missing: MissingArray
    flow: FloatArray
    """`PUT_FLOW` to `N_FLOWS` since the decision before, shape `(n, I, 3)`"""


KEY, EXPIRY, RIGHT, VOLATILITY_TS, SESSION = range(5)
"""id, expiry, right, when its volatility was said, and session of its volume (0 before there is one)"""
STRIKE, VOLATILITY, DELTA, VOLUME, INTEREST, INTEREST_BEFORE = range(6)
"""the last is the open interest as the session before left it"""
N_CONTRACTS, LAST_TS, PRESENT, N_SESSIONS, N_VOLUMES, DROPPED, IS_STALE = range(7)
"""contracts, time and session of the last record (0 before the first), sessions with a volatility and with a volume,
records without room, whether a record came after the summary was made"""
SPOT, MEAN_VOLUME = range(2)
PUT_FLOW, CALL_FLOW, N_FLOWS = range(3)
"""contracts traded, and records"""


def table_size(max_contracts: int) -> int:
    """Return places of the hash table: a power of two, at most half of them taken.

    Examples
    --------
    >>> table_size(5)
    16
    """
    return 1 << (2 * max_contracts - 1).bit_length()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def find_contract(r: int, key: int, s: Any) -> Any:
    """Return position of a contract, -1 where it is unknown, and the place in the hash table where it is or belongs."""
    mask = s.place.shape[1] - 1
    at = (key ^ (key >> 32)) & mask
    while s.place[r, at] != _EMPTY:
        if s.ids[r, s.place[r, at], KEY] == key:
            return s.place[r, at], at
        at = (at + 1) & mask
    return -1, at


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _move(r: int, j: int, to: int, s: Any) -> None:
    for column in range(s.ids.shape[2]):
        s.ids[r, to, column] = s.ids[r, j, column]
    for column in range(s.numbers.shape[2]):
        s.numbers[r, to, column] = s.numbers[r, j, column]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _evict_expired(r: int, now: int, s: Any) -> None:
    """Forget expired contracts, keep the order of the others, and make the hash table anew."""
    kept = 0
    for j in range(s.counts[r, N_CONTRACTS]):
        if s.ids[r, j, EXPIRY] > now:
            if kept < j:
                _move(r, j, kept, s)
            kept += 1
    if kept == s.counts[r, N_CONTRACTS]:
        return
    s.counts[r, N_CONTRACTS] = kept
    for at in range(s.place.shape[1]):
        s.place[r, at] = _EMPTY
    for j in range(kept):
        _, at = find_contract(r, s.ids[r, j, KEY], s)
        s.place[r, at] = j


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _admit(r: int, i: int, records: Any, s: Any) -> Any:
    """Return a fresh position for a contract, or -1 where there is no room."""
    if s.counts[r, N_CONTRACTS] == s.ids.shape[1]:
        _evict_expired(r, records.ts[i], s)
    if s.counts[r, N_CONTRACTS] == s.ids.shape[1]:
        s.counts[r, DROPPED] += 1
        return -1
    _, at = find_contract(r, records.key[i], s)
    j = s.counts[r, N_CONTRACTS]
    s.counts[r, N_CONTRACTS] = j + 1
    s.place[r, at] = j
    s.ids[r, j, KEY] = records.key[i]
    s.numbers[r, j, VOLATILITY] = s.numbers[r, j, DELTA] = s.numbers[r, j, VOLUME] = np.nan
    s.numbers[r, j, INTEREST] = s.numbers[r, j, INTEREST_BEFORE] = np.nan
    s.ids[r, j, VOLATILITY_TS] = s.ids[r, j, SESSION] = 0
    return j


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _take_volume(r: int, j: int, i: int, records: Any, s: Any) -> None:
    """Keep the session's volume so far; add to the flows what it grew by."""
    volume, before = records.volume[i], s.numbers[r, j, VOLUME]
    if np.isnan(volume):
        return
    grown = volume
    if np.isnan(before):
        grown = 0.0  # what was traded before the first record was not watched
    elif s.ids[r, j, SESSION] == records.session[i] and volume >= before:
        grown = volume - before
    for interval in range(s.flow.shape[1]):
        if records.right[i] > 0:
            s.flow[r, interval, CALL_FLOW] += grown
        else:
            s.flow[r, interval, PUT_FLOW] += grown
    s.numbers[r, j, VOLUME] = volume
    s.ids[r, j, SESSION] = records.session[i]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _find_or_admit(r: int, i: int, records: Any, s: Any) -> Any:
    """Return the position of a record's contract, or -1 where it is not kept: expired, without room or content."""
    if records.expiry[i] <= records.ts[i]:
        return -1
    j, _ = find_contract(r, records.key[i], s)
    says_something = records.volume[i] > 0.0 or records.open_interest[i] > 0.0 or not np.isnan(records.volatility[i])
    if j < 0 and says_something:
        j = _admit(r, i, records, s)
    return j


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def keep_contract(r: int, i: int, records: Any, s: Any) -> None:
    """Bring a chain, and a contract of it, up to date by record `i`."""
    s.counts[r, LAST_TS] = records.ts[i]
    s.counts[r, IS_STALE] = 1
    for interval in range(s.flow.shape[1]):
        s.flow[r, interval, N_FLOWS] += 1.0
    if not np.isnan(records.spot[i]):
        s.levels[r, SPOT] = records.spot[i]
    j = _find_or_admit(r, i, records, s)
    if j < 0:
        return
    s.ids[r, j, EXPIRY] = records.expiry[i]
    s.ids[r, j, RIGHT] = records.right[i]
    s.numbers[r, j, STRIKE] = records.strike[i]
    _take_volume(r, j, i, records, s)
    if not np.isnan(records.open_interest[i]):
        s.numbers[r, j, INTEREST] = records.open_interest[i]
    if not np.isnan(records.volatility[i]):
        s.numbers[r, j, VOLATILITY] = records.volatility[i]
        s.numbers[r, j, DELTA] = records.delta[i]
        s.ids[r, j, VOLATILITY_TS] = records.ts[i]
