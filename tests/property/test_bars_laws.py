"""Bars: laws that hold for any trades, and a pandas group-by as oracle."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.bars import BarState, BarUpdate
from operators.columns import BarColumns
from schemas.time import END_OF_TIME

_INTERVALS = (10, 37, 100)
_N_CODES = 3
_GRACE, _AHEAD = 13, 21
_FIRST_GROUP = -(2**40)
_LAW = settings(deadline=None, max_examples=60)


@dataclass(frozen=True)
class Trades:
    """Columns of trades in arrival order."""

    code: npt.NDArray[np.int32]
    ts_event: npt.NDArray[np.int64]
    ts_recv: npt.NDArray[np.int64]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    side: npt.NDArray[np.int8]

    def rows(self, rows: Any) -> Trades:
        return Trades(*(column[rows] for column in vars(self).values()))


@st.composite
def _trades(draw: st.DrawFn) -> Trades:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 300))
    recv = np.cumsum(rng.choice([0, 0, 1, 3, 8, 60, 400], n)) - draw(st.integers(-500, 500))
    lag = rng.choice(np.array([0, 1, 5, 20, 60, 150, -_AHEAD, -4]), n)
    scale = draw(st.sampled_from([1.0, 1e-9, 1e303]))
    columns = Trades(
        rng.integers(0, _N_CODES, n).astype(np.int32),
        (recv - lag).astype(np.int64),
        recv.astype(np.int64),
        rng.random(n) * scale + scale / 7,
        10.0 ** rng.uniform(-8, 8, n),
        rng.integers(-1, 2, n).astype(np.int8),
    )
    for column in vars(columns).values():
        column.flags.writeable = False
    return columns


def _state() -> BarState:
    state = BarState(_INTERVALS, _GRACE, _AHEAD)
    state.ensure(_N_CODES)
    return state


def _feed(state: BarState, trades: Trades, frontier: int) -> BarUpdate:
    return state.update(*vars(trades).values(), frontier)


def _frame(parts: list[BarColumns]) -> pd.DataFrame:
    names = list(BarColumns.__dataclass_fields__)
    return pd.DataFrame({name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _cut(trades: Trades, cuts: list[int]) -> list[tuple[Trades, int]]:
    """Return calls with their frontier; equal arrival times may not be cut apart."""
    n = len(trades.code)
    edges = sorted({0, n} | {c % (n + 1) for c in cuts})
    edges = [e for e in edges if e in (0, n) or trades.ts_recv[e] > trades.ts_recv[e - 1]]
    calls = []
    for a, b in itertools.pairwise(edges):
        frontier = int(trades.ts_recv[b]) if b < n else int(trades.ts_recv[b - 1]) + 1
        calls.append((trades.rows(slice(a, b)), frontier))
    return [*calls, (trades.rows(slice(n, n)), END_OF_TIME)]


def _oracle(trades: Trades, interval: int) -> pd.DataFrame:
    start = trades.ts_event // interval * interval
    in_time = trades.ts_recv < start + interval + _GRACE
    frame = pd.DataFrame({**vars(trades), "start": start})[in_time]
    # rows that are already sorted by group take another path in pandas, of plain sums: a last row that sorts first
    # keeps it on the compensated one
    last = pd.DataFrame({"code": 0, "price": 1.0, "size": 1.0, "side": 1, "start": _FIRST_GROUP}, index=[0])
    frame = pd.concat([frame[last.columns], last])
    frame["notional"] = frame["price"] * frame["size"]
    frame["bought"] = frame["size"].where(frame["side"] == 1)
    bars = frame.groupby(["start", "code"]).agg(
        open=("price", "first"),
        high=("price", "max"),
        low=("price", "min"),
        close=("price", "last"),
        volume=("size", "sum"),
        notional=("notional", "sum"),
        trade_count=("price", "size"),
        buy_volume=("bought", "sum"),
    )
    return bars.drop(_FIRST_GROUP, level="start").reset_index()


@_LAW
@given(_trades())
def test_bars_equal_a_pandas_group_by_to_the_last_bit(trades: Trades) -> None:
    got = _frame([_feed(_state(), trades, END_OF_TIME).bars])
    for interval in _INTERVALS:
        own = got[got["interval_ns"] == interval].reset_index(drop=True)
        expected = _oracle(trades, interval)
        for name in expected.columns:
            source = own["ts_start" if name == "start" else name]
            np.testing.assert_array_equal(source.to_numpy(), expected[name].to_numpy(), err_msg=name)
        np.testing.assert_array_equal(own["ts"], own["ts_start"] + interval + _GRACE)
        finite = np.isfinite(own["notional"])
        np.testing.assert_array_equal(own["vwap"][finite], (own["notional"] / own["volume"])[finite])


@_LAW
@given(_trades())
def test_sums_are_within_two_units_of_the_exact_sum(trades: Trades) -> None:
    state = BarState((10**6,), grace_ns=10**9, max_ahead_ns=_AHEAD)
    state.ensure(_N_CODES)
    bars = _feed(state, trades, END_OF_TIME).bars
    for k in range(len(bars)):
        own = (trades.code == bars.code[k]) & (trades.ts_event // 10**6 * 10**6 == bars.ts_start[k])
        exact = math.fsum(trades.size[own])
        assert abs(bars.volume[k] - exact) <= 2 * math.ulp(exact)


@_LAW
@given(_trades(), st.lists(st.integers(0, 10_000), max_size=12))
def test_bars_and_late_rows_do_not_depend_on_the_cuts(trades: Trades, cuts: list[int]) -> None:
    whole = _feed(_state(), trades, END_OF_TIME)
    state = _state()
    bars, late, offset = [], [], 0
    for part, frontier in _cut(trades, cuts):
        update = _feed(state, part, frontier)
        bars.append(update.bars)
        late += [(int(r) + offset, int(j)) for r, j in zip(update.late_row, update.late_interval, strict=True)]
        offset += len(part.code)
    pd.testing.assert_frame_equal(_frame(bars), _frame([whole.bars]))
    assert late == list(zip(whole.late_row.tolist(), whole.late_interval.tolist(), strict=True))
    assert state.open_bars == 0


@_LAW
@given(_trades(), st.integers(0, 10_000))
def test_restored_state_continues_as_the_uninterrupted_one(trades: Trades, cut: int) -> None:
    first, *rest = _cut(trades, [cut])
    state, twin = _state(), BarState(_INTERVALS, _GRACE, _AHEAD)
    _feed(state, *first)
    snapshot = state.snapshot(_N_CODES)
    expected = _frame([_feed(state, *call).bars for call in rest] + [state.close(END_OF_TIME)])
    twin.restore(snapshot)
    got = _frame([_feed(twin, *call).bars for call in rest] + [twin.close(END_OF_TIME)])
    pd.testing.assert_frame_equal(got, expected)


@_LAW
@given(_trades(), st.integers(0, _N_CODES - 1))
def test_instruments_do_not_affect_each_other(trades: Trades, code: int) -> None:
    together = _frame([_feed(_state(), trades, END_OF_TIME).bars])
    alone = _frame([_feed(_state(), trades.rows(trades.code == code), END_OF_TIME).bars])
    pd.testing.assert_frame_equal(together[together["code"] == code].reset_index(drop=True), alone)


@_LAW
@given(_trades(), st.integers(0, 10_000))
def test_later_trades_do_not_change_bars_that_are_decided(trades: Trades, cut: int) -> None:
    k = cut % (len(trades.code) + 1)
    if k == len(trades.code):
        return
    now = int(trades.ts_recv[k])
    prefix = trades.rows(trades.ts_recv < now)
    decided = _frame([_feed(_state(), prefix, now).bars])
    whole = _frame([_feed(_state(), trades, END_OF_TIME).bars])
    pd.testing.assert_frame_equal(whole[whole["ts"] <= now].reset_index(drop=True), decided)


@_LAW
@given(_trades())
def test_every_trade_is_in_each_interval_or_late_for_it(trades: Trades) -> None:
    update = _feed(_state(), trades, END_OF_TIME)
    for j, interval in enumerate(_INTERVALS):
        counted = int(update.bars.trade_count[update.bars.interval_ns == interval].sum())
        assert counted + int((update.late_interval == j).sum()) == len(trades.code)


def test_state_size_does_not_grow_with_trades() -> None:
    state = _state()
    size = state.nbytes
    rng = np.random.default_rng(5)
    for step in range(50):
        recv = np.arange(1000, dtype=np.int64) * 3 + step * 3000
        trades = Trades(
            rng.integers(0, _N_CODES, 1000).astype(np.int32),
            recv,
            recv,
            np.ones(1000),
            np.ones(1000),
            np.zeros(1000, np.int8),
        )
        _feed(state, trades, (step + 1) * 3000)
    assert state.nbytes == size
    assert state.open_bars <= _N_CODES * sum((_GRACE + _AHEAD) // i + 2 for i in _INTERVALS)
