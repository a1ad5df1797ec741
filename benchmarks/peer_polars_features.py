"""The peer's bar features: each as expressions over bars that are sorted by interval, instrument and time.

Written as a Polars user would: rolling and exponential windows within groups, sums of products expanded so that they
slide too. What takes a step for each bar that no window expresses is in `LEFT_OUT`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import polars as pl

__all__ = ["BAR_KEY", "LEFT_OUT", "PEER_FEATURES", "bar_features"]

BAR_KEY: Final = ["interval_ns", "instrument_id"]
LEFT_OUT: Final = {
    "hurst": "rescaled ranges of segments of several lengths within a window",
    "volatility_regime": "states with hysteresis, a step for each bar",
    "trend_regime": "states with hysteresis, a step for each bar",
}
"""Bar features that the peer does not compute, and what they would take."""

_OPEN, _HIGH, _LOW, _CLOSE = (pl.col(name) for name in ("open", "high", "low", "close"))
_VOLUME, _NOTIONAL = pl.col("volume"), pl.col("notional")
_R, _CHANGE, _RANGE = pl.col("_return"), pl.col("_change"), pl.col("_range")

Step = dict[str, pl.Expr]


def _over(expression: pl.Expr) -> pl.Expr:
    return expression.over(BAR_KEY)


def _where(condition: pl.Expr, value: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(value)


def _positive(value: pl.Expr) -> pl.Expr:
    return _where(value > 0.0, value)


def _shared() -> Step:
    """Return what several features use."""
    before = _CLOSE.shift(1)
    spans = pl.max_horizontal(_HIGH - _LOW, (_HIGH - before).abs(), (_LOW - before).abs())
    return {
        "_return": _over((_CLOSE / before).log()),
        "_change": _over(_CLOSE.diff()),
        "_range": _over(_where(before.is_not_null(), spans)),
    }


def _seeded(x: pl.Expr, period: int, alpha: float) -> pl.Expr:
    """Exponential mean of the values that exist, from the plain mean of the first `period` of them."""
    n = x.cum_count()
    seeded = pl.when(n == period).then(x.rolling_mean(period)).when(n > period).then(x)
    return _over(seeded.ewm_mean(alpha=alpha, adjust=False, ignore_nulls=True))


def _wilder(x: pl.Expr, period: int) -> pl.Expr:
    return _seeded(x, period, 1.0 / period)


def _ema(x: pl.Expr, span: int) -> pl.Expr:
    return _seeded(x, span, 2.0 / (span + 1.0))


def _log_return() -> list[Step]:
    return [{"log_return": _R}]


def _ewma_volatility() -> list[Step]:
    decay = 0.5 ** (1.0 / 11.2)
    return [{"ewma_volatility": _over(_positive(_R.pow(2).ewm_mean(alpha=1.0 - decay, min_samples=20)).sqrt())}]


def _realized_volatility() -> list[Step]:
    return [{"realized_volatility": _over(_positive(_R.pow(2).rolling_sum(60)).sqrt())}]


def _zscore() -> list[Step]:
    mean, std = pl.col("rolling_mean"), pl.col("rolling_std")
    return [
        {"rolling_mean": _over(_CLOSE.rolling_mean(20)), "rolling_std": _over(_CLOSE.rolling_std(20, ddof=0))},
        {"rolling_std": _where(std > 1e-8 * mean, std)},
        {"zscore": (_CLOSE - mean) / std},
    ]


def _rsi() -> list[Step]:
    gain, loss = pl.col("_gain"), pl.col("_loss")
    return [
        {"_gain": _wilder(_CHANGE.clip(lower_bound=0.0), 14), "_loss": _wilder((-_CHANGE).clip(lower_bound=0.0), 14)},
        {"rsi": _where(gain + loss > 1e-12 * _CLOSE, 100.0 * gain / (gain + loss))},
    ]


def _relative_volume() -> list[Step]:
    return [{"relative_volume": _over(_VOLUME / _VOLUME.shift(1).rolling_mean(20))}]


def _channel() -> list[Step]:
    top, bottom = pl.col("channel_high"), pl.col("channel_low")
    return [
        {
            "channel_high": _over(_HIGH.shift(1).rolling_max(20)),
            "channel_low": _over(_LOW.shift(1).rolling_min(20)),
        },
        {"channel_range": (top - bottom) / (0.5 * (top + bottom))},
    ]


def _moving_averages() -> list[Step]:
    averages = {
        "sma_fast": _over(_CLOSE.rolling_mean(20)),
        "sma_slow": _over(_CLOSE.rolling_mean(50)),
        "ema_fast": _ema(_CLOSE, 12),
        "ema_slow": _ema(_CLOSE, 26),
    }
    return [averages, {f"{name}_distance": _CLOSE / pl.col(name) - 1.0 for name in averages}]


def _macd() -> list[Step]:
    line, signal = pl.col("macd"), pl.col("macd_signal")
    return [
        {"macd": _ema(_CLOSE, 12) - _ema(_CLOSE, 26)},
        {"macd_signal": _ema(line, 9)},
        {"macd_histogram": line - signal},
    ]


def _stochastic() -> list[Step]:
    high, low = _over(_HIGH.rolling_max(14)), _over(_LOW.rolling_min(14))
    top, bottom = pl.col("_top"), pl.col("_bottom")
    return [
        {"_top": high, "_bottom": low},
        {"stochastic_fast_k": _where(top > bottom, 100.0 * (_CLOSE - bottom) / (top - bottom))},
        {"stochastic_slow_k": _over(pl.col("stochastic_fast_k").rolling_mean(3))},
        {"stochastic_d": _over(pl.col("stochastic_slow_k").rolling_mean(3))},
    ]


def _bollinger() -> list[Step]:
    mean, std = pl.col("_mean"), pl.col("_std")
    return [
        {"_mean": _over(_CLOSE.rolling_mean(20)), "_std": _over(_CLOSE.rolling_std(20, ddof=0))},
        {
            "bollinger_upper": mean + 2.0 * std,
            "bollinger_lower": mean - 2.0 * std,
            "bollinger_percent_b": _where(std > 1e-8 * mean, 0.5 + (_CLOSE - mean) / (4.0 * std)),
            "bollinger_bandwidth": 4.0 * std / mean,
        },
    ]


def _atr() -> list[Step]:
    mean = pl.col("atr")
    return [
        {"true_range": _RANGE, "atr": _wilder(_RANGE, 14)},
        {"atr": _where(mean > 1e-12 * _CLOSE, mean)},
        {"normalized_atr": 100.0 * mean / _CLOSE},
    ]


def _adx() -> list[Step]:
    up, down = pl.col("_up"), pl.col("_down")
    plus, minus, span = pl.col("_plus"), pl.col("_minus"), pl.col("_span")
    least = 1e-12 * _CLOSE
    return [
        {"_up": _over(_HIGH.diff()), "_down": _over(-_LOW.diff())},
        {
            "_plus": pl.when((up > down) & (up > 0.0)).then(up).when(up.is_not_null()).then(0.0),
            "_minus": pl.when((down > up) & (down > 0.0)).then(down).when(up.is_not_null()).then(0.0),
        },
        {"_plus": _wilder(plus, 14), "_minus": _wilder(minus, 14), "_span": _wilder(_RANGE, 14)},
        {
            "plus_di": _where(span > least, 100.0 * plus / span),
            "minus_di": _where(span > least, 100.0 * minus / span),
            "_index": _where(plus + minus > least, 100.0 * (plus - minus).abs() / (plus + minus)),
        },
        {"adx": _wilder(pl.col("_index"), 14)},
    ]


def _keltner() -> list[Step]:
    middle, mean = pl.col("_middle"), pl.col("_mean")
    return [
        {"_middle": _ema(_CLOSE, 20), "_mean": _wilder(_RANGE, 10)},
        {
            "keltner_upper": middle + 2.0 * mean,
            "keltner_lower": middle - 2.0 * mean,
            "keltner_width": 4.0 * mean / middle,
            "keltner_position": _where(mean > 1e-8 * middle, 0.5 + (_CLOSE - middle) / (4.0 * mean)),
        },
    ]


def _donchian() -> list[Step]:
    high, low = pl.col("donchian_high"), pl.col("donchian_low")
    return [
        {"donchian_high": _over(_HIGH.rolling_max(20)), "donchian_low": _over(_LOW.rolling_min(20))},
        {"donchian_position": _where(high > low, (_CLOSE - low) / (high - low))},
    ]


def _rate_of_change() -> list[Step]:
    return [{"rate_of_change": _over(100.0 * (_CLOSE / _CLOSE.shift(10) - 1.0))}]


def _vwap() -> list[Step]:
    """Prices count from the first of their instrument, so that the squares do not cancel."""
    price, origin, mean, total = pl.col("_price"), pl.col("_origin"), pl.col("_mean"), pl.col("_total")
    vwap, std = pl.col("rolling_vwap"), pl.col("_std")
    return [
        {"_origin": _over((_NOTIONAL / _VOLUME).first()), "_total": _over(_VOLUME.rolling_sum(20))},
        {"_price": _NOTIONAL / _VOLUME - origin},
        {
            "_mean": _over((price * _VOLUME).rolling_sum(20)) / total,
            "_square": _over((price.pow(2) * _VOLUME).rolling_sum(20)) / total,
        },
        {"rolling_vwap": origin + mean, "_std": _positive(pl.col("_square") - mean.pow(2)).sqrt()},
        {
            "vwap_deviation_bps": 1e4 * (_CLOSE - vwap) / vwap,
            "vwap_zscore": _where(std > 1e-8 * vwap, (_CLOSE - vwap) / std),
        },
    ]


def _on_balance_volume() -> list[Step]:
    change = pl.col("obv_change")
    return [
        {"obv_change": _over((_CHANGE.sign() * _VOLUME).rolling_sum(20))},
        {"obv_change_share": change / _over(_VOLUME.rolling_sum(20))},
    ]


def _money_flow() -> list[Step]:
    """Divide by a column: Polars makes a product of a division by a literal, which changes signs near zero."""
    price, up, down = pl.col("_typical"), pl.col("_up"), pl.col("_down")
    flow = price.diff().sign() * price * _VOLUME
    return [
        {"_typical": (_HIGH + _LOW + _CLOSE) / (0.0 * _VOLUME + 3.0)},
        {
            "_up": _over(flow.clip(lower_bound=0.0).rolling_sum(14)),
            "_down": _over((-flow).clip(lower_bound=0.0).rolling_sum(14)),
        },
        {"money_flow_index": _where(up + down > 0.0, 100.0 * up / (up + down))},
    ]


def _returns() -> list[Step]:
    ratios = {horizon: _over(_CLOSE / _CLOSE.shift(horizon)) for horizon in (5, 15, 60)}
    simple = {f"simple_return_{horizon}": ratio - 1.0 for horizon, ratio in ratios.items()}
    return [simple | {f"log_return_{horizon}": ratio.log() for horizon, ratio in ratios.items()}]


def _range_volatility() -> list[Step]:
    extent, body = (_HIGH / _LOW).log().pow(2), (_CLOSE / _OPEN).log().pow(2)
    parkinson = extent / (4.0 * math.log(2.0))
    garman_klass = 0.5 * extent - (2.0 * math.log(2.0) - 1.0) * body
    return [
        {
            "parkinson_volatility": _over(_positive(parkinson.rolling_mean(20)).sqrt()),
            "garman_klass_volatility": _over(_positive(garman_klass.rolling_mean(20)).sqrt()),
        }
    ]


def _bipower_variation() -> list[Step]:
    realized, bipower = pl.col("_realized"), pl.col("_bipower")
    return [
        {
            "_realized": _over(_R.pow(2).rolling_sum(60)),
            "_bipower": _over((_R.abs() * _R.abs().shift(1)).rolling_sum(59)) * (math.pi / 2.0 * 60.0 / 59.0),
        },
        {
            "bipower_volatility": _positive(bipower).sqrt(),
            "jump_share": _where(realized > 0.0, (1.0 - bipower / realized).clip(lower_bound=0.0)),
        },
    ]


def _autocorrelation() -> list[Step]:
    mean, std = pl.col("_mean"), pl.col("_std")

    def correlation(lag: int) -> pl.Expr:
        n, later, earlier = 60 - lag, _R, _R.shift(lag)
        products = _over((later * earlier).rolling_sum(n))
        sums = _over(later.rolling_sum(n) + earlier.rolling_sum(n))
        return _where(std > 1e-12, (products - mean * sums + n * mean.pow(2)) / (60.0 * std.pow(2)))

    return [
        {"_mean": _over(_R.rolling_mean(60)), "_std": _over(_R.rolling_std(60, ddof=0))},
        {f"autocorrelation_{lag}": correlation(lag) for lag in (1, 5)},
    ]


def _variance_ratio() -> list[Step]:
    """Centred products are expanded in powers of the mean, so that each sum slides."""
    n, q = 120, 5
    mean, variance, ratio, theta = pl.col("_mean"), pl.col("_variance"), pl.col("variance_ratio"), pl.col("_theta")
    wide = pl.col("_wide")
    squares = _over(wide.pow(2).rolling_sum(n - q + 1))
    sums = _over(wide.rolling_sum(n - q + 1))
    scale = q * (n - q + 1) * (1.0 - q / n)
    long = (squares - 2.0 * q * mean * sums + (n - q + 1) * q**2 * mean.pow(2)) / scale

    def products(lag: int) -> pl.Expr:
        b, d = _R, _R.shift(lag)
        a, c = b.pow(2), d.pow(2)
        terms = (a * c, a * d + b * c, a + c + 4.0 * b * d, b + d)
        fourth, third, second, first = (_over(term.rolling_sum(n - lag)) for term in terms)
        centred = fourth - 2.0 * mean * third + mean.pow(2) * second - 2.0 * mean.pow(3) * first
        return (2.0 * (q - lag) / q) ** 2 * (centred + (n - lag) * mean.pow(4))

    total = pl.sum_horizontal(products(lag) for lag in range(1, q)) / (n * variance).pow(2)
    return [
        {
            "_mean": _over(_R.rolling_mean(n)),
            "_variance": _over(_R.rolling_var(n, ddof=0)),
            "_wide": _over(_R.rolling_sum(q)),
        },
        {"variance_ratio": _where(variance.sqrt() > 1e-12, long / (variance * n / (n - 1))), "_theta": total},
        {"variance_ratio_z": _where(theta > 0.0, (ratio - 1.0) / theta.sqrt())},
    ]


def _return_moments() -> list[Step]:
    moves = _over(_R.rolling_std(60, ddof=0)) > 1e-12
    return [
        {
            "return_skew": _where(moves, _over(_R.rolling_skew(60))),
            "return_kurtosis": _where(moves, _over(_R.rolling_kurtosis(60))),
        }
    ]


def _amihud() -> list[Step]:
    return [{"amihud_illiquidity": _over((1e6 * (_CHANGE / _CLOSE.shift(1)).abs() / _NOTIONAL).rolling_mean(60))}]


def _roll_spread() -> list[Step]:
    n, before, c, variance = 59, _R.shift(1), pl.col("_covariance"), pl.col("_variance")
    products, later, earlier = (x.rolling_sum(n) for x in (_R * before, _R, before))
    spread = pl.when(c.abs() <= 1e-12 * variance).then(0.0).otherwise(-c.sign() * 2e4 * c.abs().sqrt())
    return [
        {
            "_covariance": _over((products - later * earlier / n) / (n - 1)),
            "_variance": _over(_R.rolling_var(60, ddof=0)),
        },
        {"roll_spread_bps": _where(variance.sqrt() > 1e-12, spread)},
    ]


PEER_FEATURES: Final[dict[str, Callable[[], list[Step]]]] = {
    step.__name__[1:]: step
    for step in (
        _log_return, _ewma_volatility, _realized_volatility, _zscore, _rsi, _relative_volume, _channel,
        _moving_averages, _macd, _stochastic, _bollinger, _atr, _adx, _keltner, _donchian, _rate_of_change, _vwap,
        _on_balance_volume, _money_flow, _returns, _range_volatility, _bipower_variation, _autocorrelation,
        _variance_ratio, _return_moments, _amihud, _roll_spread,
    )
}  # fmt: skip
"""Name of a bar feature to the steps that compute its columns, each from columns of those before; columns that begin
with an underscore are not outputs."""


def bar_features(bars: pl.LazyFrame, names: Iterable[str]) -> pl.LazyFrame:
    """Return the bars with the columns of these features."""
    columns = bars.collect_schema().names()
    frame = bars.with_columns(**_shared())
    for name in names:
        for step in PEER_FEATURES[name]():
            frame = frame.with_columns(**step)
            columns += [column for column in step if not column.startswith("_") and column not in columns]
    return frame.select(columns)
