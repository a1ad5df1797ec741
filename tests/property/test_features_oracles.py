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
    typical = (high + low + close) / 3.0
    ts = np.arange(_N, dtype=np.int64)
    code = np.zeros(_N, dtype=np.int32)
    return BarColumns(code, ts, ts, ts, ts, close, high, low, close, volume, volume * typical, typical, ts, volume)


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


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize(("fast", "slow"), [(1, 2), (12, 26), (50, 200)])
def test_moving_averages_equal_talib(seed: int, fast: int, slow: int) -> None:
    close = _walk(seed).close
    got = _run("moving_averages", _walk(seed), sma_fast=fast, sma_slow=slow, ema_fast=fast, ema_slow=slow)
    expected = [_simple(close, fast), _simple(close, slow), _exponential(close, fast), _exponential(close, slow)]
    np.testing.assert_allclose(got[:4], expected, rtol=1e-9)
    np.testing.assert_allclose(got[4:], [close / average - 1.0 for average in expected], rtol=1e-9, atol=1e-12)


def _simple(close: Floats, period: int) -> Floats:
    return talib.SMA(close, period) if period > 1 else close  # TA-Lib begins at two


def _exponential(close: Floats, period: int) -> Floats:
    return talib.EMA(close, period) if period > 1 else close


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize(("fast", "slow", "signal"), [(12, 26, 9), (5, 35, 5), (2, 3, 2)])
def test_macd_equals_talib_at_once_in_its_averages_and_soon_as_a_whole(
    seed: int, fast: int, slow: int, signal: int
) -> None:
    close = _walk(seed).close
    got = _run("macd", _walk(seed), fast=fast, slow=slow, signal=signal)
    line = talib.EMA(close, fast) - talib.EMA(close, slow)
    np.testing.assert_allclose(got[0], line, rtol=1e-9, atol=1e-12)
    smoothed = np.concatenate([np.full(slow - 1, np.nan), talib.EMA(line[slow - 1 :], signal)])
    np.testing.assert_allclose(got[1], smoothed, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(got[2], got[0] - got[1])
    seeded_later = np.array(talib.MACD(close, fast, slow, signal))
    np.testing.assert_allclose(got[:, 400:], seeded_later[:, 400:], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize(("window", "slow_k", "slow_d"), [(14, 3, 3), (5, 1, 1), (100, 10, 20)])
def test_stochastic_equals_talib(seed: int, window: int, slow_k: int, slow_d: int) -> None:
    bars = _walk(seed)
    got = _run("stochastic", bars, window=window, slow_k=slow_k, slow_d=slow_d)
    fast_k, _ = talib.STOCHF(bars.high, bars.low, bars.close, window, 1)
    np.testing.assert_allclose(got[0], fast_k, rtol=1e-9, atol=1e-11)
    slow, d = talib.STOCH(bars.high, bars.low, bars.close, window, slow_k, 0, slow_d, 0)
    from_d_on = np.isfinite(d)  # TA-Lib holds slow %K back until %D exists
    np.testing.assert_allclose(got[1][from_d_on], slow[from_d_on], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(got[2], d, rtol=1e-9, atol=1e-11)
    assert np.isfinite(got[1]).sum() == from_d_on.sum() + slow_d - 1


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize(("window", "multiple"), [(20, 2.0), (5, 0.5), (300, 3.0)])
def test_bollinger_equals_talib(seed: int, window: int, multiple: float) -> None:
    close = _walk(seed).close
    got = _run("bollinger", _walk(seed), window=window, multiple=multiple)
    upper, middle, lower = talib.BBANDS(close, window, multiple, multiple, 0)
    np.testing.assert_allclose(got[:2], [upper, lower], rtol=1e-9)
    width = upper - lower  # TA-Lib's deviation cancels: the last digits of the width go first
    np.testing.assert_allclose(got[2:], [(close - lower) / width, width / middle], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("period", [2, 14, 100])  # TA-Lib's normalised range of period one is not normalised
def test_true_ranges_equal_talib(seed: int, period: int) -> None:
    bars = _walk(seed)
    columns = (bars.high, bars.low, bars.close)
    got = _run("atr", bars, period=period)
    expected = [talib.TRANGE(*columns), talib.ATR(*columns, period), talib.NATR(*columns, period)]
    np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("period", [2, 14, 50])
def test_adx_equals_talib_when_the_difference_at_the_start_has_decayed(seed: int, period: int) -> None:
    bars = _walk(seed)
    columns = (bars.high, bars.low, bars.close)
    got = _run("adx", bars, period=period)
    expected = np.array([f(*columns, period) for f in (talib.PLUS_DI, talib.MINUS_DI, talib.ADX)])
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
    seeded_alike = 40 * period
    np.testing.assert_allclose(got[:, seeded_alike:], expected[:, seeded_alike:], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize(("span", "period", "multiple"), [(20, 10, 2.0), (5, 14, 1.0), (200, 2, 0.5)])
def test_keltner_equals_talib_average_and_range(seed: int, span: int, period: int, multiple: float) -> None:
    bars = _walk(seed)
    got = _run("keltner", bars, span=span, atr_period=period, multiple=multiple)
    middle = talib.EMA(bars.close, span)
    half = multiple * talib.ATR(bars.high, bars.low, bars.close, period)
    position = (bars.close - (middle - half)) / (2.0 * half)
    expected = [middle + half, middle - half, 2.0 * half / middle, position]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [2, 20, 300])
def test_donchian_equals_talib(seed: int, window: int) -> None:
    bars = _walk(seed)
    got = _run("donchian", bars, window=window)
    np.testing.assert_array_equal(got[:2], [talib.MAX(bars.high, window), talib.MIN(bars.low, window)])
    below_top = talib.WILLR(bars.high, bars.low, bars.close, window)
    np.testing.assert_allclose(got[2], 1.0 + below_top / 100.0, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("period", [1, 10, 300])
def test_rate_of_change_equals_talib(seed: int, period: int) -> None:
    bars = _walk(seed)
    expected = talib.ROC(bars.close, period)
    np.testing.assert_allclose(_run("rate_of_change", bars, period=period)[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [2, 20, 300])
def test_vwap_equals_numpy_weighted_average(seed: int, window: int) -> None:
    bars = _walk(seed)
    got = _run("vwap", bars, window=window)
    prices, weights = (np.lib.stride_tricks.sliding_window_view(x, window) for x in (bars.vwap, bars.volume))
    average = np.average(prices, axis=1, weights=weights)
    std = np.sqrt(np.average((prices - average[:, None]) ** 2, axis=1, weights=weights))
    away = bars.close[window - 1 :] - average
    assert np.isnan(got[:, : window - 1]).all()
    expected = [average, 1e4 * away / average, away / std]
    np.testing.assert_allclose(got[:, window - 1 :], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [1, 20, 300])
def test_obv_change_equals_the_difference_of_talib(seed: int, window: int) -> None:
    bars = _walk(seed)
    change, share = _run("on_balance_volume", bars, window=window)
    expected = pd.Series(talib.OBV(bars.close, bars.volume)).diff(window)
    np.testing.assert_array_equal(change, expected)
    np.testing.assert_allclose(share, expected / pd.Series(bars.volume).rolling(window).sum(), rtol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("period", [2, 14, 300])
def test_money_flow_index_equals_talib(seed: int, period: int) -> None:
    bars = _walk(seed)
    expected = talib.MFI(bars.high, bars.low, bars.close, bars.volume, period)
    np.testing.assert_allclose(_run("money_flow", bars, period=period)[0], expected, rtol=1e-9, atol=1e-11)


_WINDOWED = (
    "realized_volatility", "zscore", "relative_volume", "channel", "bollinger", "donchian", "vwap", "on_balance_volume",
)  # fmt: skip


@pytest.mark.parametrize("name", _WINDOWED)
def test_windowed_value_depends_on_its_window_alone_to_the_last_bit(name: str) -> None:
    bars = _walk(1)
    whole = _run(name, bars, window=20)
    for end in range(100, 160):
        fresh = _run(name, bars.take(slice(end - 21, end)), window=20)
        np.testing.assert_array_equal(fresh[:, -1], whole[:, end - 1])
