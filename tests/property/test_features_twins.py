"""Every bar feature against its batch twin: bars of several instruments interleaved, taken in small pieces."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from operators.columns import BarColumns
from operators.features import BAR_FEATURES
from operators.features.base import BarFeature
from tests.twins import TWINS

_PIECE = 97
_COLUMNS = [field.name for field in fields(BarColumns)]

every_feature = pytest.mark.parametrize("cls", BAR_FEATURES.values(), ids=BAR_FEATURES)


def _table(code: Any, prices: Any, volume: Any) -> pd.DataFrame:
    """Return bars as a table; `prices` has a column each for open, high, low and close."""
    table = pd.DataFrame(prices, columns=["open", "high", "low", "close"], dtype=np.float64)
    table["code"] = np.asarray(code, dtype=np.int32)
    table["volume"] = np.asarray(volume, dtype=np.float64)
    table["vwap"] = (table["high"] + table["low"] + 2.0 * table["close"]) / 4.0
    table["notional"] = table["vwap"] * table["volume"]
    table["buy_volume"] = 0.5 * table["volume"]
    table["interval_ns"] = 1
    for name in ("ts_start", "ts_end", "ts", "trade_count"):
        table[name] = np.arange(1, len(table) + 1)
    return table[_COLUMNS]


def _walks(seed: int, tick: float) -> pd.DataFrame:
    """Return random walks of five instruments in random order, one of which hardly moves."""
    rng = np.random.default_rng(seed)
    n, n_codes = 5000, 5
    code = rng.integers(0, n_codes, n)
    step = rng.normal(0.0, 0.004, n) * np.array([1.0, 2.0, 0.5, 1.0, 0.01])[code]
    close = 40.0 * np.exp(pd.Series(step).groupby(code).cumsum().to_numpy())
    away = close * 0.003 * rng.random((2, n)) * (rng.random(n) < 0.9)
    prices = np.stack([close, close + away[0], close - away[1], close], axis=1)
    if tick:
        prices = np.round(prices / tick) * tick
    return _table(code, prices, np.round(rng.lognormal(5.0, 1.0, n)) + 1.0)


def _lean(folder: Path) -> pd.DataFrame:
    """Return published minute bars of two shares and five days, by time."""
    days = []
    for code, symbol in enumerate(("spy", "bac")):
        for path in sorted((folder / "lean_bars" / "minute" / symbol).glob("*_trade.zip")):
            with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as lines:
                day = pd.read_csv(lines, header=None, names=["ms", "open", "high", "low", "close", "volume"])
            days.append(day.assign(code=code, day=path.name))
    rows = pd.concat(days).sort_values(["day", "ms", "code"], kind="stable")
    return _table(rows["code"], rows[["open", "high", "low", "close"]].to_numpy() / 1e4, rows["volume"])


def _streamed(cls: type[BarFeature], table: pd.DataFrame) -> npt.NDArray[np.float64]:
    feature = cls(cls.Config())
    feature.state.ensure(int(table["code"].max()) + 1)
    bars = BarColumns(*(table[name].to_numpy() for name in _COLUMNS))
    pieces = (bars.take(slice(start, start + _PIECE)) for start in range(0, len(bars), _PIECE))
    return np.concatenate([feature.update(piece)[0] for piece in pieces])


def _batch(cls: type[BarFeature], table: pd.DataFrame) -> npt.NDArray[np.float64]:
    values = np.full((len(table), len(cls.specs(cls.Config()))), np.nan)
    for code in table["code"].unique():
        own = np.flatnonzero(table["code"] == code)
        values[own] = TWINS[cls.name](table.iloc[own].reset_index(drop=True), cls.Config())
    return values


def _agree(cls: type[BarFeature], table: pd.DataFrame) -> None:
    found, expected = _streamed(cls, table), _batch(cls, table)
    n_bars = table.groupby("code").cumcount().to_numpy() + 1
    for k, spec in enumerate(cls.specs(cls.Config())):
        assert np.isfinite(found[n_bars >= spec.warm_up, k]).mean() > 0.5, spec.name
        np.testing.assert_allclose(found[:, k], expected[:, k], rtol=1e-9, atol=1e-9, err_msg=spec.name)


def test_every_feature_has_a_twin_and_every_twin_a_feature() -> None:
    assert set(TWINS) == set(BAR_FEATURES)


@every_feature
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("tick", [0.0, 0.05])
def test_feature_agrees_with_its_twin_on_interleaved_random_walks(
    cls: type[BarFeature], seed: int, tick: float
) -> None:
    _agree(cls, _walks(seed, tick))


@every_feature
@pytest.mark.real
def test_feature_agrees_with_its_twin_on_minutes_of_two_shares(cls: type[BarFeature], real_data: Path) -> None:
    _agree(cls, _lean(real_data))
