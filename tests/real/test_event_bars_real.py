"""Event bars of a day of US equity trades: tick bars equal a pandas group-by, the others keep their definitions."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from operators.event_bars import EventBarColumns, EventBarsConfig, EventBarState
from schemas.enums import EventBarKind

pytestmark = pytest.mark.real

_SYMBOLS = ("bac", "spy")
_CONFIG = EventBarsConfig(ticks=(500,), volumes=(200_000.0,), notionals=(5e6,), imbalances=(500,))


@pytest.fixture(scope="module")
def trades(real_data: Path) -> pd.DataFrame:
    days = []
    for code, symbol in enumerate(_SYMBOLS):
        path = real_data / "lean_ticks" / "tick" / symbol / "20131008_trade.zip"
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
            day = pd.read_csv(file, header=None, usecols=[0, 1, 2], names=["ts", "price", "size"], dtype="int64")
        days.append(day.assign(code=code))
    frame = pd.concat(days).sort_values("ts", kind="stable", ignore_index=True)
    return frame.assign(price=frame["price"] / 1e4, size=frame["size"].astype(float), side=0)


def _bars(trades: pd.DataFrame, batch: int) -> EventBarColumns:
    state = EventBarState(_CONFIG)
    state.ensure(len(_SYMBOLS))
    parts = []
    for start in range(0, len(trades), batch):
        part = trades.iloc[start : start + batch]
        parts.append(
            state.update(
                part["code"].to_numpy(np.int32), part["ts"].to_numpy(), part["ts"].to_numpy(),
                part["price"].to_numpy(), part["size"].to_numpy(), part["side"].to_numpy(np.int8),
            )
        )  # fmt: skip
    columns = zip(*([getattr(part, name) for name in EventBarColumns.__slots__] for part in parts), strict=True)
    return EventBarColumns(*map(np.concatenate, columns))


@pytest.fixture(scope="module")
def bars(trades: pd.DataFrame) -> EventBarColumns:
    return _bars(trades, 10_000)


def test_bars_do_not_depend_on_the_batch(trades: pd.DataFrame, bars: EventBarColumns) -> None:
    other = _bars(trades, 2_777)
    for name in EventBarColumns.__slots__:
        np.testing.assert_array_equal(getattr(other, name), getattr(bars, name), err_msg=name)


@pytest.mark.parametrize("code", [0, 1])
def test_tick_bars_equal_a_group_by(trades: pd.DataFrame, bars: EventBarColumns, code: int) -> None:
    own = trades[trades["code"] == code].reset_index(drop=True)
    group = own.assign(notional=own["price"] * own["size"]).groupby(own.index // 500)
    expected = group.agg(
        ts=("ts", "last"), open=("price", "first"), high=("price", "max"), low=("price", "min"),
        close=("price", "last"), volume=("size", "sum"), notional=("notional", "sum"),
    )[group.size() == 500]  # fmt: skip
    got = bars.take((bars.code == code) & (bars.kind == EventBarKind.TICK))
    assert len(got) == len(expected) > 100
    for name in ("ts", "open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(got, name), expected[name], err_msg=name)
    np.testing.assert_allclose(got.notional, expected["notional"], rtol=1e-12)


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(("kind", "column"), [(EventBarKind.VOLUME, "volume"), (EventBarKind.DOLLAR, "notional")])
def test_filled_bars_reach_their_threshold_with_their_last_trade_only(
    trades: pd.DataFrame, bars: EventBarColumns, code: int, kind: EventBarKind, column: str
) -> None:
    own = trades[trades["code"] == code]
    amount = (own["size"] * (own["price"] if column == "notional" else 1.0)).to_numpy()
    got = bars.take((bars.code == code) & (bars.kind == kind))
    last = amount[np.cumsum(got.trade_count) - 1]
    filled = getattr(got, column)
    assert len(got) > 50
    assert (filled >= got.threshold).all()
    assert (filled - last < got.threshold * (1.0 + 1e-12)).all()
    assert filled.sum() == pytest.approx(amount[: got.trade_count.sum()].sum(), rel=1e-12)


@pytest.mark.parametrize("code", [0, 1])
def test_imbalance_bars_keep_near_their_expected_length(bars: EventBarColumns, code: int) -> None:
    got = bars.take((bars.code == code) & (bars.kind == EventBarKind.IMBALANCE))
    assert got.trade_count.max() <= 8 * 500
    assert got.trade_count.mean() == pytest.approx(500, rel=0.4)
