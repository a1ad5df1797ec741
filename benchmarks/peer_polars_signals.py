"""Signals of the Polars peer: conditions as expressions, positions by jumping from entry to exit.

Which rows open a position and which row next ends one are columns. A position is then a jump from an
entry to the first exit behind it, so that Python walks only over entries and not over rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["signals"]

_MINUTE: Final = 60 * 10**9
_HOUR: Final = 60 * _MINUTE
_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class _Rule:
    """A strategy: `enter` is 1, -1 or 0 by row, the exits are conditions."""

    strategy: str
    enter: pl.Expr
    exit_long: pl.Expr
    exit_short: pl.Expr
    confidence: pl.Expr
    price: str
    ts: str
    inputs: tuple[str, ...]
    reasons: tuple[str, str, str, str]
    max_holding: int


_Z: Final = pl.col("zscore")
_CLOSE: Final = pl.col("close")
_MIDDLE: Final = (pl.col("channel_high") + pl.col("channel_low")) / 2
_ARMED: Final = (pl.col("channel_range") <= 0.02) & (pl.col("relative_volume") >= 1.5)
_PRESSURE: Final = pl.col("pressure")
_CALM: Final = pl.col("spread_bps") <= 20.0


def _direction(long: pl.Expr, short: pl.Expr) -> pl.Expr:
    """1, -1 or 0; a condition on a null is false."""
    return pl.when(long).then(1).when(short).then(-1).otherwise(0).cast(pl.Int8)


_MEAN_REVERSION: Final = _Rule(
    strategy="mean_reversion",
    enter=_direction(_Z <= -2.0, _Z >= 2.0),
    exit_long=_Z >= -0.5,
    exit_short=_Z <= 0.5,
    confidence=(_Z.abs() / 4.0).clip(0.0, 1.0),
    price="close",
    ts="ts",
    inputs=("zscore",),
    reasons=(
        "close is far below its rolling mean",
        "close is far above its rolling mean",
        "close came back to its rolling mean",
        "held as long as allowed",
    ),
    max_holding=4 * _HOUR,
)
_BREAKOUT: Final = _Rule(
    strategy="breakout",
    enter=_direction(_ARMED & (_CLOSE > pl.col("channel_high")), _ARMED & (_CLOSE < pl.col("channel_low"))),
    exit_long=_CLOSE < _MIDDLE,
    exit_short=_CLOSE > _MIDDLE,
    confidence=(0.5 + 0.5 * (pl.col("relative_volume") - 1.0)).clip(0.0, 1.0),
    price="close",
    ts="ts",
    inputs=("channel_high", "channel_low", "channel_range", "relative_volume"),
    reasons=(
        "close left the channel upwards on volume",
        "close left the channel downwards on volume",
        "close fell back into the channel",
        "held as long as allowed",
    ),
    max_holding=4 * _HOUR,
)
_MICROSTRUCTURE: Final = _Rule(
    strategy="microstructure_alpha",
    enter=_direction(
        _CALM & (_PRESSURE >= 2.5) & (pl.col("flow_mean") > 0), _CALM & (_PRESSURE <= -2.5) & (pl.col("flow_mean") < 0)
    ),
    exit_long=_PRESSURE <= 0.0,
    exit_short=_PRESSURE >= 0.0,
    confidence=(_PRESSURE.abs() / 5.0).clip(0.0, 1.0),
    price="mid_price",
    ts="ts_recv",
    inputs=("depth_imbalance", "order_flow_imbalance", "spread_bps"),
    reasons=(
        "bid depth and order flow press upwards",
        "offer depth and order flow press downwards",
        "imbalance is gone",
        "held as long as allowed",
    ),
    max_holding=_MINUTE,
)


def signals(features: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """Return the decisions of the three strategies.

    Parameters
    ----------
    features
        Bars with their features.
    quotes
        Quotes by instrument in arrival order, with imbalance and flow.
    """
    minutes = features.filter(pl.col("interval_ns") == _MINUTE).sort("instrument_id", "ts")
    moments = _with_moments(quotes)
    return pl.concat(
        [
            _decide(minutes, _MEAN_REVERSION),
            _decide(minutes, _BREAKOUT),
            _decide(moments, _MICROSTRUCTURE),
        ],
        how="diagonal",
    )


def _with_moments(quotes: pl.DataFrame) -> pl.DataFrame:
    """Return quotes with the z-score of the imbalance against its past, and the running mean of order flow."""
    alpha = 1.0 - 2.0 ** (-1.0 / 200)
    imbalance, flow = pl.col("depth_imbalance"), pl.col("flow")
    key = "instrument_id"
    mid = 0.5 * (pl.col("bid_price") + pl.col("ask_price"))
    return (
        quotes.lazy()
        .filter(flow.is_not_null())
        .with_columns(
            mean=imbalance.ewm_mean(alpha=alpha, adjust=False).shift(1).over(key),
            std=imbalance.ewm_std(alpha=alpha, adjust=False, bias=True).shift(1).over(key),
            flow_mean=flow.ewm_mean(alpha=alpha, adjust=False).over(key),
            n_before=pl.int_range(pl.len()).over(key),
            mid_price=mid,
            spread_bps=1e4 * (pl.col("ask_price") - pl.col("bid_price")) / mid,
        )
        .with_columns(
            pressure=pl.when((pl.col("n_before") >= 50) & (pl.col("std") >= 1e-6)).then(
                (imbalance - pl.col("mean")) / pl.col("std")
            )
        )
        .select(
            key, "ts_recv", "mid_price", "depth_imbalance", "spread_bps", "pressure", "flow_mean",
            order_flow_imbalance="flow",
        )  # fmt: skip
        .collect()
    )


def _decide(rows: pl.DataFrame, rule: _Rule) -> pl.DataFrame:
    """Return the decisions of one strategy on rows that are sorted by instrument and time."""
    index = pl.int_range(pl.len(), dtype=pl.Int64)
    marked = rows.select(
        enter=rule.enter,
        long=pl.when(rule.exit_long).then(index).fill_null(strategy="backward").over("instrument_id").fill_null(_NEVER),
        short=pl.when(rule.exit_short).then(index).fill_null(strategy="backward").over("instrument_id").fill_null(_NEVER),
    )
    return marked.select()
