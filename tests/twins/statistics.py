"""Batch twins of the statistics of returns and prices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["TWINS"]

Floats = npt.NDArray[np.float64]


def _over_returns(bars: pd.DataFrame, length: int, reduce: Callable[[Floats], list[Floats]], k: int) -> Floats:
    """Return `k` outputs of the windows of log returns, shape `(windows, length)`, NaN before the first."""
    return _over(np.diff(np.log(bars["close"].to_numpy())), length, reduce, k)


def _over(changes: Floats, length: int, reduce: Callable[[Floats], list[Floats]], k: int) -> Floats:
    out = np.full((len(changes) + 1, k), np.nan)
    if len(changes) >= length:
        with np.errstate(invalid="ignore", divide="ignore"):
            outputs = reduce(np.lib.stride_tricks.sliding_window_view(changes, length))
        out[length:] = np.stack(outputs, axis=1)
    return out


def _known(values: Floats, exists: npt.NDArray[np.bool_]) -> Floats:
    return np.where(exists, values, np.nan)


def returns(bars: pd.DataFrame, config: Any) -> Floats:
    simple = [bars["close"].pct_change(horizon, fill_method=None) for horizon in config.horizons]
    return np.stack([column for change in simple for column in (change, np.log1p(change))], axis=1)


def range_volatility(bars: pd.DataFrame, config: Any) -> Floats:
    extent = np.log(bars["high"] / bars["low"]) ** 2
    body = np.log(bars["close"] / bars["open"]) ** 2
    garman_klass = 0.5 * extent - (2.0 * np.log(2.0) - 1.0) * body
    variances = np.full((len(bars), 2), np.nan)
    for k, term in enumerate((extent / (4.0 * np.log(2.0)), garman_klass)):
        views = np.lib.stride_tricks.sliding_window_view(term.to_numpy(), config.window)
        variances[config.window - 1 :, k] = views.mean(axis=1)
    return np.sqrt(_known(variances, variances > 0.0))


def bipower_variation(bars: pd.DataFrame, config: Any) -> Floats:
    def reduce(r: Floats) -> list[Floats]:
        n = r.shape[1]
        bipower = np.pi / 2.0 * n / (n - 1) * (np.abs(r[:, 1:]) * np.abs(r[:, :-1])).sum(axis=1)
        realized = (r**2).sum(axis=1)
        return [np.sqrt(_known(bipower, bipower > 0.0)), np.maximum(1.0 - bipower / realized, 0.0)]

    return _over_returns(bars, config.window, reduce, 2)


def autocorrelation(bars: pd.DataFrame, config: Any) -> Floats:
    def reduce(r: Floats) -> list[Floats]:
        d = r - r.mean(axis=1, keepdims=True)
        squares = (d**2).sum(axis=1)
        moves = r.std(axis=1) > config.floor
        return [_known((d[:, lag:] * d[:, :-lag]).sum(axis=1) / squares, moves) for lag in config.lags]

    return _over_returns(bars, config.window, reduce, len(config.lags))


def hurst(bars: pd.DataFrame, config: Any) -> Floats:
    sizes = config.segment * 2 ** np.arange(config.doublings + 1)

    def reduce(r: Floats) -> list[Floats]:
        logs = []
        for n in sizes:
            parts = r.reshape(len(r), -1, n)
            sums = np.cumsum(parts - parts.mean(axis=2, keepdims=True), axis=2)
            extent = np.maximum(sums.max(axis=2), 0.0) - np.minimum(sums.min(axis=2), 0.0)
            std = parts.std(axis=2)
            moves = std > config.floor
            rescaled = np.where(moves, extent / std, 0.0).sum(axis=1) / moves.sum(axis=1)
            logs.append(np.log(rescaled) - np.log(_expected(n)))
        known = np.isfinite(np.array(logs)).all(axis=0)
        slopes = np.polyfit(np.log(sizes), np.where(known, np.array(logs), 0.0), 1)[0]
        return [_known(0.5 + slopes, known)]

    return _over_returns(bars, config.window, reduce, 1)


def _expected(n: int) -> float:
    """Return the rescaled range that Anis and Lloyd expect of `n` independent normal values."""
    i = np.arange(1, n)
    return math.gamma((n - 1) / 2) / (math.sqrt(math.pi) * math.gamma(n / 2)) * float(np.sqrt((n - i) / i).sum())


def variance_ratio(bars: pd.DataFrame, config: Any) -> Floats:
    n, q = config.window, config.period

    def reduce(r: Floats) -> list[Floats]:
        d = r - r.mean(axis=1, keepdims=True)
        path = np.concatenate([np.zeros((len(d), 1)), np.cumsum(d, axis=1)], axis=1)
        short = (d**2).sum(axis=1) / (n - 1)
        long = ((path[:, q:] - path[:, :-q]) ** 2).sum(axis=1) / (q * (n - q + 1) * (1 - q / n))
        delta = [(d[:, j:] ** 2 * d[:, :-j] ** 2).sum(axis=1) / (d**2).sum(axis=1) ** 2 for j in range(1, q)]
        theta = sum((2.0 * (q - j) / q) ** 2 * delta[j - 1] for j in range(1, q))
        ratio = _known(long / short, r.std(axis=1) > config.floor)
        return [ratio, (ratio - 1.0) / np.sqrt(np.where(theta > 0.0, theta, np.nan))]

    return _over_returns(bars, n, reduce, 2)


def return_moments(bars: pd.DataFrame, config: Any) -> Floats:
    def reduce(r: Floats) -> list[Floats]:
        z = (r - r.mean(axis=1, keepdims=True)) / r.std(axis=1, keepdims=True)
        moves = r.std(axis=1) > config.floor
        return [_known((z**3).mean(axis=1), moves), _known((z**4).mean(axis=1) - 3.0, moves)]

    return _over_returns(bars, config.window, reduce, 2)


def amihud(bars: pd.DataFrame, config: Any) -> Floats:
    impact = 1e6 * bars["close"].pct_change(fill_method=None).abs() / bars["notional"]
    return _over(impact.to_numpy()[1:], config.window, lambda x: [x.mean(axis=1)], 1)


def roll_spread(bars: pd.DataFrame, config: Any) -> Floats:
    def reduce(r: Floats) -> list[Floats]:
        later, earlier = (x - x.mean(axis=1, keepdims=True) for x in (r[:, 1:], r[:, :-1]))
        covariance = (later * earlier).sum(axis=1) / (r.shape[1] - 2)
        covariance[np.abs(covariance) <= 1e-12 * r.var(axis=1)] = 0.0
        spread = -np.sign(covariance) * 2e4 * np.sqrt(np.abs(covariance))
        return [_known(spread, r.std(axis=1) > config.floor)]

    return _over_returns(bars, config.window, reduce, 1)


def volatility_regime(bars: pd.DataFrame, config: Any) -> Floats:
    def reduce(r: Floats) -> list[Floats]:
        usual = np.sqrt((r**2).mean(axis=1))
        recent = np.sqrt((r[:, -config.short :] ** 2).mean(axis=1))
        return [_known(recent / usual, usual > config.floor)]

    ratio = _over_returns(bars, config.long, reduce, 1)[:, 0]
    high, low = (config.enter_high, config.leave_high), (config.enter_low, config.leave_low)
    return _states(ratio, *high, *low, config.min_dwell)


def trend_regime(bars: pd.DataFrame, config: Any) -> Floats:
    changes = np.diff(bars["close"].to_numpy())
    least = config.relative_floor * bars["close"].to_numpy()[config.window :]

    def reduce(x: Floats) -> list[Floats]:
        # one after the other: a ratio of a few ticks lies on a threshold often, and must not fall to its other side
        way, path = np.cumsum(x, axis=1)[:, -1], np.cumsum(np.abs(x), axis=1)[:, -1]
        return [_known(way / path, path > least)]

    ratio = _over(changes, config.window, reduce, 1)[:, 0]
    return _states(ratio, config.enter, config.leave, -config.enter, -config.leave, config.min_dwell)


def _states(
    levels: Floats, enter_high: float, leave_high: float, enter_low: float, leave_low: float, dwell: int
) -> Floats:
    """Return level, state and bars in the state, from the runs of states on the bars that have a level."""
    out = np.full((len(levels), 3), np.nan)
    seen: list[int] = []
    for row in np.flatnonzero(np.isfinite(levels)):
        level = levels[row]
        now = seen[-1] if seen else 0
        stays = {1: level >= leave_high, 0: True, -1: level <= leave_low}[now]
        wanted = 1 if level >= enter_high else -1 if level <= enter_low else now if stays else 0
        held = len(seen) >= dwell and len(set(seen[-dwell:])) == 1
        seen.append(wanted if held or not seen else now)
        run = next((k for k, state in enumerate(reversed(seen)) if state != seen[-1]), len(seen))
        out[row] = level, seen[-1], run
    return out


TWINS: dict[str, Callable[[pd.DataFrame, Any], Floats]] = {
    twin.__name__: twin
    for twin in (
        returns, range_volatility, bipower_variation, autocorrelation, hurst, variance_ratio, return_moments, amihud,
        roll_spread, volatility_regime, trend_regime,
    )
}  # fmt: skip
