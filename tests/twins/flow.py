"""Batch twins of the features of trade flow: from whole tables of one instrument, by pandas, numpy and scipy alone.

Trades have the columns `ts, ts_event, price, size, side`, quotes `ts, mid` (NaN where the quote is lost); both are in
order of arrival. Everything is recomputed for each decision from the records before it, by the formula of the paper.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from operators.flow.config import FlowConfig
from schemas.time import duration_ns

__all__ = ["flow_twin", "lee_ready", "prevailing_mid"]

Floats = npt.NDArray[np.float64]
DAY_NS = 86400 * 10**9


def prevailing_mid(trades: pd.DataFrame, quotes: pd.DataFrame, max_age_ns: int) -> pd.Series:
    """Return the mid of the last quote at or before each trade, NaN where there is none or it is too old."""
    if not len(trades):
        return pd.Series(dtype=float)
    return pd.merge_asof(trades[["ts"]], quotes[["ts", "mid"]], on="ts", tolerance=max_age_ns)["mid"]


def lee_ready(price: pd.Series, side: pd.Series, mid: pd.Series) -> npt.NDArray[np.int64]:
    """Return the flag where there is one, else the quote rule, at the mid or without one the tick test."""
    change = np.sign(price.diff())
    tick = change.where(change != 0).ffill().fillna(0)
    quote = np.sign(price - mid).fillna(0)
    sign = side.where(side != 0, quote.where(quote != 0, tick))
    return sign.to_numpy().astype(np.int64)


def flow_twin(
    trades: pd.DataFrame, quotes: pd.DataFrame, decisions: pd.DataFrame, config: FlowConfig
) -> tuple[Floats, list[str]]:
    """Return the features at each decision (`ts, interval`), shape `(m, 17)`, and their names."""
    trades = trades.assign(mid=prevailing_mid(trades, quotes, duration_ns(config.max_quote_age)).to_numpy())
    trades["sign"] = lee_ready(trades.price, trades.side, trades.mid)
    before: dict[int, int] = {}
    rows: list[dict[str, float]] = []
    for ts, interval in decisions[["ts", "interval"]].itertuples(index=False):
        seen = trades[trades.ts < ts]
        row = _signed(seen, ts, before.get(interval, -(2**62)), config)
        row |= _spreads(seen, quotes[quotes.ts < ts], ts, config) | {"vpin": _vpin(seen, ts, config)}
        row |= _kyle(seen, quotes[quotes.ts < ts], ts, config) | {"roll_trade_spread_bps": _roll(seen, ts, config)}
        row |= _intensity(seen, ts, config) | _sweep(seen, ts, config)
        rows.append(row)
        before[interval] = ts
    names = list(rows[0]) if rows else []
    return np.array([list(row.values()) for row in rows], dtype=np.float64).reshape(len(rows), -1), names


def _weights(ts: pd.Series, now: int, half_life: Any) -> Floats:
    return np.asarray(2.0 ** ((ts.to_numpy() - now) / duration_ns(half_life)), dtype=np.float64)


def _fresh(trades: pd.DataFrame, ts: int, config: FlowConfig) -> bool:
    return len(trades) > 0 and ts - trades.ts.iloc[-1] <= duration_ns(config.max_trade_age)


def _ratio(value: float, by: float) -> float:
    return value / by if by else np.nan


def _signed(seen: pd.DataFrame, ts: int, before: int, config: FlowConfig) -> dict[str, float]:
    signed = seen[seen.sign != 0]
    own = signed[signed.ts >= before]
    net = float((own.sign * own["size"]).sum()) if len(own) else np.nan
    weight = _weights(signed.ts, ts, config.half_life) * signed["size"]
    fresh = _fresh(signed, ts, config)
    return {
        "signed_volume": net,
        "volume_imbalance": _ratio(net, own["size"].sum()),
        "volume_imbalance_decayed": (weight * signed.sign).sum() / weight.sum() if fresh else np.nan,
    }


def _spreads(seen: pd.DataFrame, quotes: pd.DataFrame, ts: int, config: FlowConfig) -> dict[str, float]:
    known = seen[seen.mid.notna()]
    weight = _weights(known.ts, ts, config.spread.half_life) * known["size"]
    spread = 2e4 * (known.price - known.mid).abs() / known.mid
    effective = (weight * spread).sum() / weight.sum() if _fresh(known, ts, config) else np.nan
    horizon, step = (
        duration_ns(config.spread.horizon),
        duration_ns(config.spread.horizon) // config.spread.horizon_steps,
    )
    due = known[known.sign != 0].copy()
    due["ts"] = (due.ts // step + 1) * step + horizon
    due = due[due.ts < ts].reset_index(drop=True)
    due["later"] = prevailing_mid(due, quotes, duration_ns(config.max_quote_age))
    due = due[due.later.notna()]
    if not _fresh(due, ts, config):
        return {"effective_spread_bps": effective, "realized_spread_bps": np.nan, "price_impact_bps": np.nan}
    weight = _weights(due.ts, ts, config.spread.half_life) * due["size"]
    realized = 2e4 * due.sign * (due.price - due.later) / due.mid
    impact = 2e4 * due.sign * (due.later - due.mid) / due.mid
    return {
        "effective_spread_bps": effective,
        "realized_spread_bps": (weight * realized).sum() / weight.sum(),
        "price_impact_bps": (weight * impact).sum() / weight.sum(),
    }


def _vpin(seen: pd.DataFrame, ts: int, config: FlowConfig) -> float:
    own = config.vpin
    if not _fresh(seen, ts, config):
        return np.nan
    if own.classification == "bulk":
        bar = seen.ts // duration_ns(own.bar)
        bars = seen.groupby(bar).agg(close=("price", "last"), size=("size", "sum"))
        bars = bars[(bars.index + 1) * duration_ns(own.bar) <= ts]
        change = bars.close.diff()
        deviation = change.rolling(own.bars).std(ddof=0)
        bought = pd.Series(stats.norm.cdf((change / deviation).where(deviation > 0, 0.0)), index=bars.index)
        parts = bars.assign(bought=bought * bars["size"])[deviation.notna()]
    else:
        signed = seen[seen.sign != 0]
        parts = pd.DataFrame({"size": signed["size"], "bought": signed["size"] * (signed.sign > 0), "ts": signed.ts})
    if own.bucket_size is None:
        return _vpin_of_days(seen, parts, config)
    volume, bought = np.cumsum([0.0, *parts["size"]]), np.cumsum([0.0, *parts.bought])
    edges = np.arange(0.0, volume[-1] * (1 + 1e-12), own.bucket_size)
    if len(edges) <= own.buckets:
        return np.nan
    buys = np.diff(np.interp(edges, volume, bought))[-own.buckets :]
    return float(np.abs(2.0 * buys - own.bucket_size).sum() / (own.buckets * own.bucket_size))


def _vpin_of_days(seen: pd.DataFrame, parts: pd.DataFrame, config: FlowConfig) -> float:
    """Trades by sign into buckets whose size follows the day's volume as it was when each began."""
    half_life, first = duration_ns(config.vpin.volume_half_life), seen.ts.iloc[0]
    full, size, bought, filled = [], 0.0, 0.0, 0.0
    for part in parts.rename(columns={"size": "volume"}).itertuples():
        if part.ts - first < duration_ns(config.vpin.volume_warm_up):
            continue
        past = seen.loc[: part.Index]
        decayed = (past["size"] * 2.0 ** ((past.ts - part.ts) / half_life)).sum()
        lived = (1 - 2.0 ** ((first - part.ts) / half_life)) * half_life / np.log(2)
        present = config.vpin.bucket_share * decayed / lived * DAY_NS
        size = size or present
        rest = part.volume
        while filled + rest >= size:
            taken = size - filled
            full.append((abs(2 * (bought + taken * (part.bought > 0)) - size), size))
            rest -= taken
            size, bought, filled = present, 0.0, 0.0
        bought, filled = bought + rest * (part.bought > 0), filled + rest
    last = np.array(full[-config.vpin.buckets :]).reshape(-1, 2)
    return float(last[:, 0].sum() / last[:, 1].sum()) if len(last) == config.vpin.buckets else np.nan


def _kyle(seen: pd.DataFrame, quotes: pd.DataFrame, ts: int, config: FlowConfig) -> dict[str, float]:
    nothing = {"kyle_lambda": np.nan, "kyle_lambda_t": np.nan}
    length = duration_ns(config.kyle.bucket)
    if not len(seen):
        return nothing
    first = min([seen.ts.iloc[0], *quotes.ts[:1]]) // length
    if config.kyle.price == "trade":
        prices, max_age = seen.rename(columns={"mid": "_", "price": "mid"}), config.max_trade_age
    else:
        prices, max_age = quotes, config.max_quote_age
    buckets = np.arange(first, ts // length)
    ends = pd.DataFrame({"ts": (buckets + 1) * length})
    price = pd.merge_asof(
        ends, prices[["ts", "mid"]], on="ts", tolerance=duration_ns(max_age), allow_exact_matches=False
    )["mid"].to_numpy()
    flow = (seen.sign * seen["size"]).groupby(seen.ts // length).sum().reindex(buckets, fill_value=0.0).to_numpy()
    y, x = np.diff(price, prepend=np.nan)[-config.kyle.buckets :], flow[-config.kyle.buckets :]
    known = ~np.isnan(y)
    y, x = y[known], x[known]
    if len(y) < config.kyle.min_buckets or np.ptp(x) == 0:
        return nothing
    fit = stats.linregress(x, y)
    rest = ((y - fit.intercept - fit.slope * x) ** 2).sum()
    perfect = rest <= 1e-20 * ((y - y.mean()) ** 2).sum() or rest == 0
    error = np.sqrt(rest / (len(y) - 2) / ((x - x.mean()) ** 2).sum())
    return {"kyle_lambda": fit.slope, "kyle_lambda_t": np.nan if perfect else fit.slope / error}


def _roll(seen: pd.DataFrame, ts: int, config: FlowConfig) -> float:
    last = seen.price.tail(config.roll.trades)
    if len(last) < config.roll.trades or not _fresh(seen, ts, config):
        return np.nan
    change = last.diff().dropna().to_numpy()
    covariance = np.cov(change[1:], change[:-1], bias=True)[0, 1]
    negative = -covariance > 1e-8 * (change[1:] ** 2).mean()
    return 2e4 * np.sqrt(-covariance) / last.mean() if negative else np.nan


def _intensity(seen: pd.DataFrame, ts: int, config: FlowConfig) -> dict[str, float]:
    if not len(seen):
        return {"buy_intensity": np.nan, "sell_intensity": np.nan, "intensity_ratio": np.nan}
    own, age = config.intensity, ts - seen.ts.iloc[0]
    beta, slow = (np.log(2) / duration_ns(half) * 1e9 for half in (own.half_life, own.baseline_half_life))
    excited = beta * np.exp(-beta * (ts - seen.ts.to_numpy()) / 1e9)
    baseline = (slow * np.exp(-slow * (ts - seen.ts.to_numpy()) / 1e9)).sum() / (1 - np.exp(-slow * age / 1e9))
    return {
        "buy_intensity": excited[seen.sign > 0].sum(),
        "sell_intensity": excited[seen.sign < 0].sum(),
        "intensity_ratio": excited.sum() / baseline if age >= duration_ns(own.baseline_half_life) else np.nan,
    }


def _runs(seen: pd.DataFrame, window: int) -> list[list[Any]]:
    runs: list[list[Any]] = []
    for trade in seen.itertuples():
        if runs and trade.sign != 0:
            head = runs[-1][0]
            if head.sign == trade.sign and 0 <= trade.ts_event - head.ts_event <= window:
                runs[-1].append(trade)
                continue
        runs.append([trade])
    return runs


def _sweep(seen: pd.DataFrame, ts: int, config: FlowConfig) -> dict[str, float]:
    own = config.sweep
    row = dict.fromkeys(("sweep_count_decayed", "sweep_direction", "sweep_size", "sweep_age"), np.nan)
    if not len(seen):
        return row
    row["sweep_count_decayed"] = 0.0
    for run in _runs(seen, duration_ns(own.window)):
        reached = np.maximum.accumulate([trade.sign * trade.price for trade in run])
        levels = [len(set(reached[: k + 1])) for k in range(len(run))]
        if levels[-1] < own.levels:
            continue
        made = run[levels.index(own.levels)]
        past = seen.loc[: run[0].Index].iloc[:-1]
        weight = _weights(past.ts, run[0].ts, config.intensity.baseline_half_life)
        typical = _ratio((weight * past["size"]).sum(), weight.sum())
        row["sweep_count_decayed"] += 2.0 ** ((made.ts - ts) / duration_ns(own.half_life))
        fresh = ts - made.ts <= duration_ns(config.max_trade_age)
        row["sweep_direction"] = made.sign if fresh else np.nan
        row["sweep_size"] = seen.loc[run[0].Index : run[-1].Index, "size"].sum() / typical if fresh else np.nan
        row["sweep_age"] = (ts - made.ts) / 1e9
    return row
