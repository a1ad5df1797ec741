"""Bar features against TA-Lib and pandas on random walks, at every bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import talib

from operators.columns import BarColumns
from operators.features import BAR_FEATURES

_N = 3000
_SEEDS = (1, 2, 3)

Floats = npt.NDArray[np.float64]


def _walk(seed: int) -> BarColumns:
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, _N)))
    high = close * (1.0 + 0.01 * rng.random(_N))
    low = close * (1.0 - 0.01 * rng.random(_N))
    volume = rng.integers(1, 10_000, _N).astype(np.float64)
    ts = np.arange(_N, dtype=np.int64)
    code = np.zeros(_N, dtype=np.int32)
    return BarColumns(code, ts, ts, ts, ts, close, high, low, close, volume, volume, close, ts, volume)


def _run(name: str, bars: BarColumns, **parameters: Any) -> Floats:
    cls = BAR_FEATURES[name]
    feature = cls(cls.Config(**parameters))
    feature.state.ensure(1)
    return feature.update(bars)[0].T


def _returns(close: Floats) -> pd.Series[float]:
    return pd.Series(np.concatenate([[np.nan], np.log(close[1:] / close[:-1])]))


@pytest.mark.parametrize("seed", _SEEDS)
def test_log_return_equals_numpy(seed: int) -> None:
    bars = _walk(seed)
    np.testing.assert_allclose(_run("log_return", bars)[0], _returns(bars.close), rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("half_life", [0.5, 11.2, 300.0])
def test_ewma_volatility_equals_pandas_ewm(seed: int, half_life: float) -> None:
    bars = _walk(seed)
    got = _run("ewma_volatility", bars, half_life=half_life, min_returns=5)[0]
    squares = _returns(bars.close) ** 2
    expected = np.sqrt(squares.ewm(halflife=half_life, min_periods=5).mean())
    np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [1, 20, 300])
def test_realized_volatility_equals_pandas_rolling(seed: int, window: int) -> None:
    bars = _walk(seed)
    expected = (_returns(bars.close) ** 2).rolling(window).apply(np.sum, raw=True) ** 0.5
    np.testing.assert_allclose(_run("realized_volatility", bars, window=window)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [2, 20, 300])
def test_zscore_equals_talib_and_pandas(seed: int, window: int) -> None:
    bars = _walk(seed)
    zscore, mean, std = _run("zscore", bars, window=window)
    rolling = pd.Series(bars.close).rolling(window)
    exact = rolling.apply(np.std, raw=True)
    np.testing.assert_allclose(mean, talib.SMA(bars.close, window), rtol=1e-9)
    np.testing.assert_allclose(mean, rolling.mean(), rtol=1e-9)
    np.testing.assert_allclose(std, exact, rtol=1e-9)
    np.testing.assert_allclose(zscore, (bars.close - rolling.apply(np.mean, raw=True)) / exact, rtol=1e-9, atol=1e-9)
    if window > 2:  # TA-Lib takes the mean of squares less the square of the mean, which cancels in short windows
        np.testing.assert_allclose(std, talib.STDDEV(bars.close, window), rtol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("period", [2, 14, 100])
def test_rsi_equals_talib(seed: int, period: int) -> None:
    bars = _walk(seed)
    np.testing.assert_allclose(_run("rsi", bars, period=period)[0], talib.RSI(bars.close, period), rtol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [1, 20, 300])
def test_relative_volume_equals_pandas_rolling(seed: int, window: int) -> None:
    bars = _walk(seed)
    volume = pd.Series(bars.volume)
    expected = volume / volume.shift(1).rolling(window).mean()
    np.testing.assert_allclose(_run("relative_volume", bars, window=window)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [2, 20, 300])
def test_channel_equals_talib_shifted_by_one(seed: int, window: int) -> None:
    bars = _walk(seed)
    high = pd.Series(talib.MAX(bars.high, window)).shift(1)
    low = pd.Series(talib.MIN(bars.low, window)).shift(1)
    got = _run("channel", bars, window=window)
    np.testing.assert_array_equal(got[0], high)
    np.testing.assert_array_equal(got[1], low)
    np.testing.assert_allclose(got[2], (high - low) / ((high + low) / 2), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ["realized_volatility", "zscore", "relative_volume", "channel"])
def test_windowed_value_depends_on_its_window_alone_to_the_last_bit(name: str) -> None:
    bars = _walk(1)
    whole = _run(name, bars, window=20)
    for end in range(100, 160):
        fresh = _run(name, bars.take(slice(end - 21, end)), window=20)
        np.testing.assert_array_equal(fresh[:, -1], whole[:, end - 1])
