"""Batch twins of the technical indicators, and of the first bar features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["TWINS"]

Floats = npt.NDArray[np.float64]


def _windows(x: pd.Series, length: int, reduce: Callable[..., Floats], *others: pd.Series) -> Floats:
    """Return `reduce` of the last `length` values at each bar, NaN before there are as many."""
    out = np.full(len(x), np.nan)
    if len(x) >= length:
        views = (np.lib.stride_tricks.sliding_window_view(column.to_numpy(), length) for column in (x, *others))
        out[length - 1 :] = reduce(*views)
    return out


def _mean(x: Floats) -> Floats:
    return x.mean(axis=1)


def _std(x: Floats) -> Floats:
    return x.std(axis=1)


def _recursive(x: pd.Series, period: int, alpha: float) -> pd.Series:
    """Return the exponential average of the values that exist, from the plain mean of the first `period` of them."""
    known = x.dropna()
    if len(known) < period:
        return pd.Series(np.nan, index=x.index)
    seeded = known.iloc[period - 1 :].copy()
    seeded.iloc[0] = known.iloc[:period].mean()
    return seeded.ewm(alpha=alpha, adjust=False).mean().reindex(x.index)


def _ema(x: pd.Series, span: int) -> pd.Series:
    return _recursive(x, span, 2.0 / (span + 1.0))


def _wilder(x: pd.Series, period: int) -> pd.Series:
    return _recursive(x, period, 1.0 / period)


def _ratio(numerator: Any, denominator: Any, least: Any = 0.0) -> Floats:
    """Return the ratio where the denominator is above `least`, else NaN."""
    bottom = np.asarray(denominator, dtype=np.float64)
    return np.asarray(numerator) / np.where(bottom > least, bottom, np.nan)


def _log_returns(bars: pd.DataFrame) -> pd.Series:
    return np.log(bars["close"]).diff()


def _true_range(bars: pd.DataFrame) -> pd.Series:
    before = bars["close"].shift()
    spans = [bars["high"] - bars["low"], (bars["high"] - before).abs(), (bars["low"] - before).abs()]
    return pd.concat(spans, axis=1).max(axis=1).where(before.notna())


def log_return(bars: pd.DataFrame, config: Any) -> Floats:
    return _log_returns(bars).to_numpy()[:, None]


def ewma_volatility(bars: pd.DataFrame, config: Any) -> Floats:
    squares = _log_returns(bars) ** 2
    volatility = np.sqrt(squares.ewm(halflife=config.half_life, min_periods=config.min_returns).mean())
    return volatility.where(volatility > config.floor).to_numpy()[:, None]


def realized_volatility(bars: pd.DataFrame, config: Any) -> Floats:
    total = _windows(_log_returns(bars), config.window, lambda r: (r**2).sum(axis=1))
    return np.sqrt(np.where(total > 0.0, total, np.nan))[:, None]


def zscore(bars: pd.DataFrame, config: Any) -> Floats:
    mean, std = (_windows(bars["close"], config.window, reduce) for reduce in (_mean, _std))
    std = np.where(std > config.relative_floor * np.abs(mean), std, np.nan)
    return np.stack([(bars["close"] - mean) / std, mean, std], axis=1)


def rsi(bars: pd.DataFrame, config: Any) -> Floats:
    change = bars["close"].diff()
    gain = _wilder(change.clip(lower=0.0), config.period)
    loss = _wilder((-change).clip(lower=0.0), config.period)
    return 100.0 * _ratio(gain, gain + loss, config.relative_floor * bars["close"])[:, None]


def relative_volume(bars: pd.DataFrame, config: Any) -> Floats:
    before = pd.Series(_windows(bars["volume"], config.window, _mean)).shift()
    return _ratio(bars["volume"], before)[:, None]


def channel(bars: pd.DataFrame, config: Any) -> Floats:
    high = bars["high"].rolling(config.window).max().shift()
    low = bars["low"].rolling(config.window).min().shift()
    return np.stack([high, low, 2.0 * (high - low) / (high + low)], axis=1)


def moving_averages(bars: pd.DataFrame, config: Any) -> Floats:
    close = bars["close"]
    simple = [_windows(close, window, _mean) for window in (config.sma_fast, config.sma_slow)]
    exponential = [_ema(close, span).to_numpy() for span in (config.ema_fast, config.ema_slow)]
    averages = np.stack([*simple, *exponential], axis=1)
    return np.concatenate([averages, close.to_numpy()[:, None] / averages - 1.0], axis=1)


def macd(bars: pd.DataFrame, config: Any) -> Floats:
    line = _ema(bars["close"], config.fast) - _ema(bars["close"], config.slow)
    signal = _ema(line, config.signal)
    return np.stack([line, signal, line - signal], axis=1)


def stochastic(bars: pd.DataFrame, config: Any) -> Floats:
    high, low = bars["high"].rolling(config.window).max(), bars["low"].rolling(config.window).min()
    fast = pd.Series(100.0 * _ratio(bars["close"] - low, high - low))
    slow = pd.Series(_windows(fast, config.slow_k, _mean))
    return np.stack([fast, slow, _windows(slow, config.slow_d, _mean)], axis=1)


def bollinger(bars: pd.DataFrame, config: Any) -> Floats:
    close = bars["close"].to_numpy()
    mean, std = (_windows(bars["close"], config.window, reduce) for reduce in (_mean, _std))
    upper, lower = mean + config.multiple * std, mean - config.multiple * std
    moving = np.where(std > config.relative_floor * mean, std, np.nan)
    return np.stack(
        [upper, lower, 0.5 + (close - mean) / (2.0 * config.multiple * moving), upper / mean - lower / mean], 1
    )


def atr(bars: pd.DataFrame, config: Any) -> Floats:
    span = _true_range(bars)
    mean = _wilder(span, config.period)
    mean = mean.where(mean > config.relative_floor * bars["close"])
    return np.stack([span, mean, 100.0 * mean / bars["close"]], axis=1)


def adx(bars: pd.DataFrame, config: Any) -> Floats:
    up, down = bars["high"].diff(), -bars["low"].diff()
    known = up.notna()
    plus = _wilder(up.where((up > down) & (up > 0.0), 0.0).where(known), config.period)
    minus = _wilder(down.where((down > up) & (down > 0.0), 0.0).where(known), config.period)
    span = _wilder(_true_range(bars), config.period)
    least = config.relative_floor * bars["close"]
    index = pd.Series(100.0 * _ratio((plus - minus).abs(), plus + minus, least))
    indicators = [100.0 * _ratio(movement, span, least) for movement in (plus, minus)]
    return np.stack([*indicators, _wilder(index, config.period)], axis=1)


def keltner(bars: pd.DataFrame, config: Any) -> Floats:
    middle = _ema(bars["close"], config.span)
    mean = _wilder(_true_range(bars), config.atr_period)
    upper, lower = middle + config.multiple * mean, middle - config.multiple * mean
    moving = mean.where(mean > config.relative_floor * middle)
    position = 0.5 + (bars["close"] - middle) / (2.0 * config.multiple * moving)
    both = (middle + mean).notna()
    return np.stack([upper.where(both), lower.where(both), (upper - lower) / middle, position], axis=1)


def donchian(bars: pd.DataFrame, config: Any) -> Floats:
    high, low = bars["high"].rolling(config.window).max(), bars["low"].rolling(config.window).min()
    return np.stack([high, low, _ratio(bars["close"] - low, high - low)], axis=1)


def rate_of_change(bars: pd.DataFrame, config: Any) -> Floats:
    return 100.0 * bars["close"].pct_change(config.period, fill_method=None).to_numpy()[:, None]


def vwap(bars: pd.DataFrame, config: Any) -> Floats:
    price, volume = bars["notional"] / bars["volume"], bars["volume"]
    mean = _windows(price, config.window, lambda p, v: (p * v).sum(axis=1) / v.sum(axis=1), volume)

    def deviation(p: Floats, v: Floats) -> Floats:
        weights = v / v.sum(axis=1, keepdims=True)
        centre = (weights * p).sum(axis=1, keepdims=True)
        return np.sqrt((weights * (p - centre) ** 2).sum(axis=1))

    std = _windows(price, config.window, deviation, volume)
    away = bars["close"].to_numpy() - mean
    return np.stack([mean, 1e4 * away / mean, _ratio(away, std, config.relative_floor * mean)], axis=1)


def on_balance_volume(bars: pd.DataFrame, config: Any) -> Floats:
    level = (np.sign(bars["close"].diff()).fillna(0.0) * bars["volume"]).cumsum()
    change = level.diff(config.window)
    return np.stack([change, change / bars["volume"].rolling(config.window).sum()], axis=1)


def money_flow(bars: pd.DataFrame, config: Any) -> Floats:
    price = (bars["high"] + bars["low"] + bars["close"]) / 3.0
    flow = np.sign(price.diff()) * price * bars["volume"]
    up = _windows(flow.clip(lower=0.0), config.period, lambda f: f.sum(axis=1))
    down = _windows((-flow).clip(lower=0.0), config.period, lambda f: f.sum(axis=1))
    return 100.0 * _ratio(up, up + down)[:, None]


TWINS: dict[str, Callable[[pd.DataFrame, Any], Floats]] = {
    twin.__name__: twin
    for twin in (
        log_return, ewma_volatility, realized_volatility, zscore, rsi, relative_volume, channel,
        moving_averages, macd, stochastic, bollinger, atr, adx, keltner, donchian, rate_of_change, vwap,
        on_balance_volume, money_flow,
    )
}  # fmt: skip
