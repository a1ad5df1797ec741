"""Bars of five days of US equity trades equal a pandas group-by of the same ticks, in every column and row."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from operators.bars import BarState
from operators.columns import BarColumns
from schemas.time import END_OF_TIME

pytestmark = pytest.mark.real

_SYMBOLS = ("bac", "spy")
_DAYS = ("20131007", "20131008", "20131009", "20131010", "20131011")
_SECOND = 10**9
_INTERVALS = (_SECOND, 10 * _SECOND, 60 * _SECOND, 300 * _SECOND)
_GRACE = _SECOND
_N_TRADES = 2_461_080
_FIRST_GROUP = np.int64(-1)


@dataclass(frozen=True)
class Ticks:
    """Trades of both symbols in order of time."""

    code: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    side: npt.NDArray[np.int8]


def _read(folder: Path, code: int, day: str) -> pd.DataFrame:
    path = folder / "lean_ticks" / "tick" / _SYMBOLS[code] / f"{day}_trade.zip"
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        ticks = pd.read_csv(file, header=None, usecols=[0, 1, 2], names=["ms", "price", "size"], dtype="int64")
    midnight = pd.Timestamp(day, tz="America/New_York").value
    return ticks.assign(code=code, ts=midnight + ticks["ms"] * 1_000_000)


@pytest.fixture(scope="module")
def ticks(real_data: Path) -> Ticks:
    frame = pd.concat([_read(real_data, code, day) for day in _DAYS for code in range(len(_SYMBOLS))])
    frame = frame.sort_values("ts", kind="stable")
    rng = np.random.default_rng(7)  # the capture has no aggressor; any fixed sides exercise the sum
    columns = Ticks(
        frame["code"].to_numpy(np.int32),
        frame["ts"].to_numpy(np.int64),
        frame["price"].to_numpy(np.float64) / 10_000.0,
        frame["size"].to_numpy(np.float64),
        rng.integers(-1, 2, len(frame)).astype(np.int8),
    )
    for column in vars(columns).values():
        column.flags.writeable = False
    return columns


def _bars(ticks: Ticks, batch: int) -> pd.DataFrame:
    state = BarState(_INTERVALS, grace_ns=_GRACE, max_ahead_ns=0)
    state.ensure(len(_SYMBOLS))
    n = len(ticks.ts)
    parts: list[BarColumns] = []
    start = 0
    while start < n:
        # equal arrival times stay together
        stop = n if start + batch >= n else int(np.searchsorted(ticks.ts, ticks.ts[start + batch], side="right"))
        frontier = int(ticks.ts[stop]) if stop < n else END_OF_TIME
        part = slice(start, stop)
        update = state.update(
            ticks.code[part], ticks.ts[part], ticks.ts[part], ticks.price[part], ticks.size[part], ticks.side[part],
            frontier,
        )  # fmt: skip
        assert len(update.late_row) == 0
        parts.append(update.bars)
        start = stop
    names = list(BarColumns.__dataclass_fields__)
    return pd.DataFrame({name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _oracle(ticks: Ticks, interval: int) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "code": ticks.code,
            "ts_start": ticks.ts // interval * interval,
            "price": ticks.price,
            "size": ticks.size,
            "notional": ticks.price * ticks.size,
            "bought": np.where(ticks.side == 1, ticks.size, np.nan),
        }
    )
    # a last row that sorts first keeps pandas on its compensated sums; it takes plain ones for rows sorted by group
    last = pd.DataFrame(
        {"code": [0], "ts_start": [_FIRST_GROUP], "price": [1.0], "size": [1.0], "notional": [1.0], "bought": [1.0]}
    )
    bars = (
        pd.concat([frame, last])
        .groupby(["ts_start", "code"])
        .agg(
            open=("price", "first"),
            high=("price", "max"),
            low=("price", "min"),
            close=("price", "last"),
            volume=("size", "sum"),
            notional=("notional", "sum"),
            trade_count=("price", "size"),
            buy_volume=("bought", "sum"),
        )
        .drop(_FIRST_GROUP, level="ts_start")
        .reset_index()
    )
    return bars.assign(
        interval_ns=interval,
        ts_end=bars["ts_start"] + interval,
        ts=bars["ts_start"] + interval + _GRACE,
        vwap=bars["notional"] / bars["volume"],
        code=bars["code"].astype(np.int32),
    )[list(BarColumns.__dataclass_fields__)]


@pytest.fixture(scope="module")
def expected(ticks: Ticks) -> dict[int, pd.DataFrame]:
    return {interval: _oracle(ticks, interval) for interval in _INTERVALS}


def test_capture_holds_every_trade(ticks: Ticks) -> None:
    assert len(ticks.ts) == _N_TRADES


@pytest.mark.parametrize("batch", [997, 10_000, 250_000, 10**9])
def test_bars_equal_a_pandas_group_by(ticks: Ticks, expected: dict[int, pd.DataFrame], batch: int) -> None:
    bars = _bars(ticks, batch)
    order = np.lexsort((bars["code"], bars["interval_ns"], bars["ts"]))
    np.testing.assert_array_equal(order, np.arange(len(bars)))
    for interval in _INTERVALS:
        own = bars[bars["interval_ns"] == interval].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, expected[interval], check_exact=True)
        assert own["trade_count"].sum() == _N_TRADES
