"""The peer: the same bars, features and signals as a batch program in Polars.

It reads the same Parquet files with projection pushdown, uses both cores through Polars' own threads, takes
decisions only from records that arrived strictly before them, and writes bars, features and signals to
Parquet. The four inputs are collected together, so that Polars works on one while Python scores the texts of
another. Formulas and parameters are the defaults of `dataflows.settings`; nothing of `operators` is used.

What it leaves out, in its favour: admission checks, duplicate detection, dead letters, the code that says why
a value is missing, signal ids, and snapshots to resume from.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.peer_polars_features import BAR_KEY, PEER_FEATURES, bar_features
from benchmarks.peer_polars_signals import signals
from models.text.sentiment import FinanceSentiment

__all__ = ["BOOK_AND_TEXT", "PolarsResult", "bars", "counts", "run"]

_SECOND: Final = 10**9
_INTERVALS: Final = (_SECOND, 60 * _SECOND)
_GRACE: Final = _SECOND
_BOOK_MAX_AGE: Final = 60 * _SECOND
_HALF_LIFE: Final = {"news": 1800 * _SECOND, "social": 600 * _SECOND}
_TEXT: Final = {"news": "headline", "social": "text"}
_MIN_WEIGHT: Final = 0.01
BOOK_AND_TEXT: Final[tuple[str, ...]] = (
    "bid_price", "ask_price", "bid_size", "ask_size", "mid_price", "spread", "spread_bps", "weighted_mid",
    "depth_imbalance", "order_flow_imbalance",
    "news_sentiment", "news_intensity", "social_sentiment", "social_intensity",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PolarsResult:
    """What the program made.

    Parameters
    ----------
    bars, features, signals
        The three tables; features hold null where there is no value.
    stages
        Seconds of each part.
    """

    bars: pl.DataFrame
    features: pl.DataFrame
    signals: pl.DataFrame
    stages: dict[str, float]


def run(archive: Path, out: Path) -> PolarsResult:
    """Compute everything from the archive and write three Parquet files to `out`."""
    stages: dict[str, float] = {}
    started = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal started
        now = time.perf_counter()
        stages[stage] = now - started
        started = now

    scorer = FinanceSentiment()
    texts = [_scored(_scan(archive, topic), text, scorer) for topic, text in _TEXT.items()]
    inputs = [bars(archive), _quotes(_scan(archive, "quotes")), *texts]
    made, quotes, *items = pl.collect_all(inputs)
    lap("inputs")
    features = bar_features(made.lazy(), PEER_FEATURES).collect()
    computed = [name for name in features.columns if name not in made.columns]
    lap("bar features")
    features = _book_features(features, quotes)
    lap("book features at bars")
    for topic, scored in zip(_TEXT, items, strict=True):
        features = _sentiment(features, scored, topic)
    lap("sentiment at bars")
    found = signals(features, quotes)
    lap("signals")
    out.mkdir(parents=True, exist_ok=True)
    features = features.select([*BAR_KEY, "ts", *computed, *BOOK_AND_TEXT])
    made.write_parquet(out / "bars.parquet")
    features.write_parquet(out / "features.parquet")
    found.write_parquet(out / "signals.parquet")
    lap("write")
    return PolarsResult(made, features, found, stages)


def _scan(archive: Path, topic: str) -> pl.LazyFrame:
    return pl.scan_parquet(archive / topic / "*" / "*.parquet").with_columns(
        pl.col("ts_event", "ts_recv").cast(pl.Int64)
    )


def bars(archive: Path) -> pl.LazyFrame:
    """Bars of each interval from the trades that arrived before the bar's decision time, in arrival order."""
    trades = _scan(archive, "trades")
    return pl.concat([_bars_of(trades, interval) for interval in _INTERVALS]).sort(
        "interval_ns", "instrument_id", "ts_start"
    )


def _bars_of(trades: pl.LazyFrame, interval: int) -> pl.LazyFrame:
    start = pl.col("ts_event") // interval * interval
    price, size = pl.col("price"), pl.col("size")
    return (
        trades.with_columns(ts_start=start, notional=price * size)
        .filter(pl.col("ts_recv") < pl.col("ts_start") + interval + _GRACE)
        .group_by("instrument_id", "ts_start")
        .agg(
            open=price.first(),
            high=price.max(),
            low=price.min(),
            close=price.last(),
            volume=size.sum(),
            notional=pl.col("notional").sum(),
            trade_count=pl.len().cast(pl.Int64),
            buy_volume=size.filter(pl.col("side") == 1).sum(),
        )
        .with_columns(
            interval_ns=pl.lit(interval, dtype=pl.Int64),
            ts_end=pl.col("ts_start") + interval,
            ts=pl.col("ts_start") + interval + _GRACE,
            vwap=pl.col("notional") / pl.col("volume"),
        )
    )


def _quotes(quotes: pl.LazyFrame) -> pl.LazyFrame:
    """Quotes by instrument in arrival order, with what every update needs: imbalance, order flow and its sum."""
    bid, bid_size, ask, ask_size = (pl.col(name) for name in ("bid_price", "bid_size", "ask_price", "ask_size"))
    known = pl.col("instrument_id") == pl.col("instrument_id").shift(1)
    flow = (
        pl.when(bid >= bid.shift(1)).then(bid_size).otherwise(0.0)
        - pl.when(bid <= bid.shift(1)).then(bid_size.shift(1)).otherwise(0.0)
        - pl.when(ask <= ask.shift(1)).then(ask_size).otherwise(0.0)
        + pl.when(ask >= ask.shift(1)).then(ask_size.shift(1)).otherwise(0.0)
    )
    return (
        quotes.select("instrument_id", "ts_recv", "bid_price", "bid_size", "ask_price", "ask_size")
        .sort("instrument_id", maintain_order=True)
        .with_columns(
            depth_imbalance=(bid_size - ask_size) / (bid_size + ask_size),
            flow=pl.when(known).then(flow),
        )
        .with_columns(
            flow_sum=pl.col("flow").fill_null(0.0).cum_sum().over("instrument_id"),
            flow_count=pl.col("flow").cum_count().over("instrument_id"),
        )
    )


def _book_features(features: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """Book features as of each bar's decision time, from quotes that arrived strictly before it."""
    bid, bid_size, ask, ask_size = (pl.col(name) for name in ("bid_price", "bid_size", "ask_price", "ask_size"))
    joined = features.sort("ts").join_asof(
        quotes, left_on="ts", right_on="ts_recv", by="instrument_id", allow_exact_matches=False,
        check_sortedness=False, coalesce=False,
    )  # fmt: skip
    sampled = ("bid_price", "ask_price", "bid_size", "ask_size", "mid_price", "spread", "spread_bps", "weighted_mid")
    fresh = pl.col("ts") - pl.col("ts_recv") <= _BOOK_MAX_AGE
    flow_sum, flow_count = pl.col("flow_sum").fill_null(0.0), pl.col("flow_count").fill_null(0)
    return (
        joined.lazy()
        .sort("interval_ns", "instrument_id", "ts_start")
        .with_columns(
            mid_price=0.5 * (bid + ask),
            spread=ask - bid,
            weighted_mid=(ask * bid_size + bid * ask_size) / (bid_size + ask_size),
            new_flow=(flow_sum - flow_sum.shift(1, fill_value=0.0)).over(BAR_KEY),
            new_flows=(flow_count - flow_count.shift(1, fill_value=0)).over(BAR_KEY),
        )
        .with_columns(
            spread_bps=1e4 * pl.col("spread") / pl.col("mid_price"),
            order_flow_imbalance=pl.when(pl.col("new_flows") > 0).then(pl.col("new_flow")),
        )
        .with_columns(pl.when(fresh).then(pl.col(*sampled, "depth_imbalance")))
        .drop("ts_recv", "flow", "flow_sum", "flow_count", "new_flow", "new_flows")
        .collect()
    )


def _scored(items: pl.LazyFrame, text: str, scorer: FinanceSentiment) -> pl.LazyFrame:
    """Items of a topic in arrival order, each distinct text scored once."""
    scores = (
        items.select(text).unique().with_columns(score=pl.col(text).map_elements(scorer.score, return_dtype=pl.Float64))
    )
    return (
        items.select("instrument_id", pl.col("ts_recv").alias("ts_item"), text)
        .join(scores, on=text, how="left", maintain_order="left")
        .filter(pl.col("score").is_not_nan())
        .drop(text)
    )


def _sentiment(features: pl.DataFrame, items: pl.DataFrame, topic: str) -> pl.DataFrame:
    """Mean of the scores before each decision, weights halving with age, and the weight behind it."""
    half_life = float(_HALF_LIFE[topic])
    if not items.height:
        return features.with_columns(
            pl.lit(None, dtype=pl.Float64).alias(f"{topic}_sentiment"),
            pl.lit(None, dtype=pl.Float64).alias(f"{topic}_intensity"),
        )
    origin = items["ts_item"][0]
    growth = pl.lit(2.0).pow((pl.col("ts_item") - origin) / half_life)
    decayed = items.with_columns(
        weight_sum=growth.cum_sum().over("instrument_id"),
        score_sum=(growth * pl.col("score")).cum_sum().over("instrument_id"),
    ).select("instrument_id", "ts_item", "weight_sum", "score_sum")
    intensity = pl.col("weight_sum") * pl.lit(2.0).pow((origin - pl.col("ts")) / half_life)
    supported = intensity >= _MIN_WEIGHT
    return (
        features.sort("ts")
        .join_asof(
            decayed,
            left_on="ts",
            right_on="ts_item",
            by="instrument_id",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .with_columns(
            pl.when(supported).then(pl.col("score_sum") / pl.col("weight_sum")).alias(f"{topic}_sentiment"),
            pl.when(supported).then(intensity).alias(f"{topic}_intensity"),
        )
        .drop("ts_item", "weight_sum", "score_sum")
    )


def counts(result: PolarsResult) -> dict[str, int]:
    """Return rows of each table."""
    return {"bars": result.bars.height, "features": result.features.height, "signals": result.signals.height}
