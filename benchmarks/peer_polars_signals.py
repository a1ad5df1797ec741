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

_SECOND: Final = 10**9
_MINUTE: Final = 60 * _SECOND
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
    cooldown: int = 0


_zscore: Final = pl.col("zscore")
_close: Final = pl.col("close")
_middle: Final = (pl.col("channel_high") + pl.col("channel_low")) / 2
_armed: Final = (pl.col("channel_range") <= 0.02) & (pl.col("relative_volume") >= 1.5)
_pressure: Final = pl.col("pressure")
_calm: Final = pl.col("spread_bps") <= 20.0


def _direction(long: pl.Expr, short: pl.Expr) -> pl.Expr:
    """1, -1 or 0; a condition on a null is false."""
    return pl.when(long).then(1).when(short).then(-1).otherwise(0).cast(pl.Int8)


_MEAN_REVERSION: Final = _Rule(
    strategy="mean_reversion",
    enter=_direction(_zscore <= -2.0, _zscore >= 2.0),
    exit_long=_zscore >= -0.5,
    exit_short=_zscore <= 0.5,
    confidence=(_zscore.abs() / 4.0).clip(0.0, 1.0),
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
    enter=_direction(_armed & (_close > pl.col("channel_high")), _armed & (_close < pl.col("channel_low"))),
    exit_long=_close < _middle,
    exit_short=_close > _middle,
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
        _calm & (_pressure >= 2.5) & (pl.col("flow_mean") > 0), _calm & (_pressure <= -2.5) & (pl.col("flow_mean") < 0)
    ),
    exit_long=_pressure <= 0.0,
    exit_short=_pressure >= 0.0,
    confidence=(_pressure.abs() / 5.0).clip(0.0, 1.0),
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
    cooldown=5 * _SECOND,
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
            key,
            "ts_recv",
            "mid_price",
            "depth_imbalance",
            "spread_bps",
            "pressure",
            "flow_mean",
            order_flow_imbalance="flow",
        )
        .collect()
    )


def _decide(rows: pl.DataFrame, rule: _Rule) -> pl.DataFrame:
    """Return the decisions of one strategy on rows that are sorted by instrument and time."""
    next_exit = [
        pl.when(condition)
        .then(pl.col("index").cast(pl.Int64))
        .fill_null(strategy="backward")
        .over("instrument_id")
        .fill_null(_NEVER)
        for condition in (rule.exit_long, rule.exit_short)
    ]
    marked = rows.lazy().with_row_index().select(enter=rule.enter, long=next_exit[0], short=next_exit[1]).collect()
    enter = marked["enter"].to_numpy()
    candidates = np.flatnonzero(enter)
    direction = enter[candidates]
    exits = np.where(direction > 0, marked["long"].to_numpy()[candidates], marked["short"].to_numpy()[candidates])
    instrument = rows["instrument_id"].to_physical().to_numpy()
    ends = np.append(np.flatnonzero(np.diff(instrument)) + 1, len(instrument))
    taken = _walk(rows[rule.ts].to_numpy(), ends, candidates, exits, rule)
    return _table(rows, rule, candidates[taken[:, 0]], direction[taken[:, 0]], taken[:, 1], taken[:, 2])


def _walk(
    ts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    exits: npt.NDArray[np.int64],
    rule: _Rule,
) -> npt.NDArray[np.int64]:
    """Return for each position: the candidate that opened it, the row that ended it (or -1), and whether by age."""
    found: list[tuple[int, int, int]] = []
    end, free, rests = 0, 0, -_NEVER
    group = np.searchsorted(ends, candidates, side="right")
    for number, (row, stop, own_exit) in enumerate(
        zip(candidates.tolist(), ends[group].tolist(), exits.tolist(), strict=True)
    ):
        if stop != end:
            end, free, rests = stop, row, -_NEVER
        if row < free or ts[row] < rests:
            continue
        too_old = row + int(np.searchsorted(ts[row:end], ts[row] + rule.max_holding))
        last = min(own_exit, too_old)
        if last >= end:
            found.append((number, -1, 0))
            free = end
            continue
        found.append((number, last, int(too_old < own_exit)))
        free, rests = last, int(ts[last]) + rule.cooldown
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _table(
    rows: pl.DataFrame,
    rule: _Rule,
    entered: npt.NDArray[np.int64],
    direction: npt.NDArray[np.int8],
    ended: npt.NDArray[np.int64],
    by_age: npt.NDArray[np.int64],
) -> pl.DataFrame:
    """Return entries and exits with what they were made from."""
    closed = ended >= 0
    row = np.concatenate((entered, ended[closed]))
    is_exit = np.repeat([False, True], [len(entered), int(closed.sum())])
    reason = np.concatenate(((direction < 0).astype(np.int64), 2 + by_age[closed]))
    inputs = ("instrument_id", rule.ts, rule.price, *rule.inputs)
    return (
        rows[row]
        .select(*dict.fromkeys(inputs), confidence=rule.confidence)
        .with_columns(
            strategy=pl.lit(rule.strategy),
            direction=pl.Series(np.concatenate((direction, direction[closed]))),
            intent=pl.Series(np.where(is_exit, 2, 1).astype(np.int8)),
            reason=pl.Series(reason).replace_strict(dict(enumerate(rule.reasons)), return_dtype=pl.String),
        )
        .with_columns(confidence=pl.when(pl.col("intent") == 2).then(1.0).otherwise(pl.col("confidence")))
        .rename({rule.ts: "ts", rule.price: "price"})
        .sort("ts", "instrument_id", "intent")
    )
