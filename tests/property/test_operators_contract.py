"""One contract for everything in `operators` that remembers: no state may be left out.

Each state is fed by an adapter: it takes a stretch of a log (rows and the time up to which they are complete) and
returns plain rows. Rows of a log are cut only between different times, as alignment cuts them.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import operators
from operators.align import AlignState
from operators.arrival import Arrival, Frame
from operators.bars import BarState
from operators.book import BookState
from operators.book_features import NAMES, BookFeatureColumns, BookFeatureState
from operators.book_intake import BookIntake
from operators.book_levels import BookLevels
from operators.book_messages import BookMessages
from operators.book_sampler import BookSampler
from operators.book_top import TopOfBookState, quotes_top
from operators.columns import BarColumns, FloatArray
from operators.count import CountState
from operators.directory import Directory
from operators.duplicates import SequenceWindow, TextIdWindow
from operators.event_bars import EventBarState
from operators.feature_engine import FeatureEngine
from operators.features import BAR_FEATURES
from operators.features.base import BarFeature
from operators.prices import PriceState
from operators.refusals import Refusals
from operators.sampled import InstrumentRows
from operators.sentiment import SentimentState
from operators.shard import ShardState
from operators.shard_config import BookConfig, ShardConfig
from operators.signal_engine import SignalEngine
from operators.state import ArrayState, InstrumentState
from operators.strategies import STRATEGIES
from operators.strategies.base import Strategy, StrategyView
from schemas.batches import make_batch
from schemas.time import END_OF_TIME

CODES = 3
GRID = 7
"""Distance of the decisions of states that are sampled."""
START = -1
ALL_CODES = np.arange(CODES, dtype=np.int32)

Row = tuple[int | None, int | None, str]
"""Instrument code, time at which the row is known, content. A row without a time may come at any later time."""


@dataclass
class Log:
    """Rows in order of time; every array is read-only."""

    columns: dict[str, Any]

    def __post_init__(self) -> None:
        for column in self.columns.values():
            if isinstance(column, np.ndarray):
                column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.columns["ts"])

    def __getattr__(self, name: str) -> Any:
        return self.columns[name]

    def rows(self, rows: Any) -> Log:
        chosen = np.arange(len(self))[rows]
        picked = {
            name: values[rows] if isinstance(values, np.ndarray) else [values[row] for row in chosen.tolist()]
            for name, values in self.columns.items()
        }
        return Log(picked)

    def cut(self, points: list[int]) -> list[tuple[Log, int, int]]:
        """Return stretches `(rows, low, high)`: rows with `low <= ts < high`, the last one until past the end."""
        ts = self.columns["ts"]
        end = (int(ts[-1]) if len(ts) else 0) + 500
        edges = sorted({int(ts[point % len(ts)]) for point in points} if len(ts) else set())
        times = [START, *(edge for edge in edges if START < edge < end), end]
        return [(self.rows(slice(*np.searchsorted(ts, [low, high]))), low, high) for low, high in pairwise(times)]


class Adapter:
    """Feeds one state. `size` is what must not grow."""

    def __init__(self, state: Any, feed: Callable[[Any, Log, int, int], list[Row]]) -> None:
        self.state = state
        self._feed = feed

    def feed(self, log: Log, low: int, high: int) -> list[Row]:
        return self._feed(self.state, log, low, high)

    def snapshot(self) -> Any:
        with_rows = len(inspect.signature(self.state.snapshot).parameters) == 1
        return self.state.snapshot(CODES) if with_rows else self.state.snapshot()

    def restore(self, snapshot: Any) -> None:
        self.state.restore(snapshot)

    def reset(self) -> None:
        self.state.reset(ALL_CODES)

    def finish(self) -> list[Row]:
        return []

    def size(self) -> tuple[int, int]:
        return len(repr(self.snapshot())), getattr(self.state, "nbytes", 0)


@dataclass(frozen=True)
class Case:
    """How to make one state, and what to feed it with."""

    covers: tuple[type, ...]
    make: Callable[[], Adapter]
    log: Callable[[np.random.Generator, int], Log]
    keyed: bool = True
    """whether instruments must not affect each other"""
    resets: bool = True
    """whether instruments can be forgotten"""


def plain(*arrays: Any) -> list[str]:
    """Return the rows of some arrays as text, NaN equal to NaN."""
    return [str(tuple(row)) for row in zip(*(np.asarray(array).tolist() for array in arrays), strict=True)]


def column_rows(columns: Any, *more: Any) -> list[Row]:
    names = [item.name for item in fields(columns)]
    text = plain(*(getattr(columns, name) for name in names), *more)
    return list(zip(columns.code.tolist(), columns.ts.tolist(), text, strict=True))


def times_of(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.cumsum(rng.choice([0, 1, 2, 5, 11], n)).astype(np.int64)


def base_log(rng: np.random.Generator, n: int, **columns: Any) -> Log:
    code = rng.integers(0, CODES, n).astype(np.int32)
    return Log({"ts": times_of(rng, n), "code": code, "id": np.arange(n), **columns})


def decisions(low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the decisions with `low < ts <= high`: every code on a grid."""
    ts = np.arange((low // GRID + 1) * GRID, high + 1, GRID, dtype=np.int64)
    return np.tile(ALL_CODES, len(ts)), np.repeat(ts, CODES)


# --- alignment and counters


def feed_align(state: AlignState, log: Log, low: int, high: int) -> list[Row]:
    arrivals = []
    for code, topic in enumerate(("books", "news", "trades")):
        own = log.rows(log.code == code)
        columns = {"ts_recv": own.ts, "partition": np.zeros(len(own), np.int32), "offset": own.id}
        arrivals.append(Arrival(topic, topic, high, make_batch(topic, columns, len(own)) if len(own) else None))
    frame = state.update(arrivals)
    rows: list[Row] = []
    for code, topic in enumerate(("books", "news", "trades")):
        if frame is not None and topic in frame.batches:
            batch = frame.batches[topic]
            ts = batch.column("ts_recv").cast(pa.int64()).to_pylist()
            rows += [(code, t, str(i)) for t, i in zip(ts, batch.column("offset").to_pylist(), strict=True)]
    return rows


class AlignAdapter(Adapter):
    def __init__(self) -> None:
        state = AlignState(("books", "news", "trades"))
        super().__init__(state, feed_align)


def feed_count(state: CountState, log: Log, low: int, high: int) -> list[Row]:
    for code, n in zip(log.code.tolist(), log.id.tolist(), strict=True):
        state.update({("read", str(code), ""): n})
    return []


class CountAdapter(Adapter):
    def __init__(self) -> None:
        super().__init__(CountState(), feed_count)

    def finish(self) -> list[Row]:
        return [(int(key[1]), None, str(total)) for key, total in self.state.totals.items()]


# --- directory and shard


def named(code: np.ndarray) -> list[str]:
    return [f"I{value}" for value in code.tolist()]


def feed_directory(state: Directory, log: Log, low: int, high: int) -> list[Row]:
    if not len(log):
        return []
    batch = make_batch("trades", {"instrument_id": named(log.code), "ts_recv": log.ts}, len(log))
    codes = state.codes({"trades": batch})["trades"].tolist()
    found = [state.names[code] if code >= 0 else "refused" for code in codes]
    return list(zip(log.code.tolist(), log.ts.tolist(), found, strict=True))


ADDED = tuple(
    name
    for name, cls in STRATEGIES.items()
    if "interval" in cls.Config.model_fields and name not in ("mean_reversion", "breakout")
)
"""Strategies of which only the bars are set."""
SHARD = ShardConfig.model_validate(
    {
        "bars": {"intervals": ["1us", "3us"], "grace": "1us"},
        "decode": {"max_ahead": "0s"},
        "book": {"max_pending": 3, "max_age": "5us"},
        "news": {"half_life": "9us"},
        "idle_expiry": "1m",
        "features": {"zscore": {"window": 2}, "channel": {"window": 2}, "relative_volume": {"window": 2}},
        "strategies": {
            "mean_reversion": {"interval": "1us", "entry_zscore": 0.1, "exit_zscore": 0.05, "max_holding": "9us"},
            "breakout": {"interval": "1us", "max_range": 1.0, "min_relative_volume": 0.0, "max_holding": "7us"},
            **{
                name: {"interval": "1us"}
                for name, cls in STRATEGIES.items()
                if "interval" in cls.Config.model_fields and name not in ("mean_reversion", "breakout")
            },
            "microstructure_alpha": {
                "entry_zscore": 0.1, "warm_up": 2, "half_life": 2, "max_spread_bps": 10_000, "max_holding": "5us",
                "cooldown": "0s",
            },
        },
    }
)  # fmt: skip
HEADLINES = ("profit beats forecast", "shares plunge on fraud", "board meets")


def shard_batches(log: Log, names: Callable[[np.ndarray], list[str]] = named) -> dict[str, pa.RecordBatch]:
    found = {}
    for kind, topic in enumerate(("books", "news", "quotes", "trades")):
        own = log.rows(log.kind == kind)
        n = len(own)
        if not n:
            continue
        number = own.id.astype(np.int64)
        price = 100.0 + (number * 7) % 5
        columns: dict[str, Any] = {
            "instrument_id": names(own.code), "ts_event": own.ts, "ts_recv": own.ts,
            "partition": np.zeros(n, np.int32), "offset": number,
        }  # fmt: skip
        size = 1.0 + number % 3
        if topic == "trades":
            columns |= {"price": price, "size": size, "side": np.ones(n, np.int8), "trade_id": number // 2}
        elif topic == "quotes":
            columns |= {"bid_price": price, "bid_size": size, "ask_price": price + 1, "ask_size": 4.0 - size}
        elif topic == "news":
            headlines = [HEADLINES[i % 3] for i in number.tolist()]
            columns |= {"news_id": [str(i // 2) for i in number.tolist()], "headline": headlines}
        else:
            columns |= {
                "kind": (number % 3 > 0).astype(np.int8), "last_sequence": number,
                "previous_sequence": number - 1 - number % 2,
                "bid_prices": [[value] for value in price], "bid_sizes": [[value] for value in size],
                "ask_prices": [[value + 1] for value in price], "ask_sizes": [[4.0 - value] for value in size],
            }  # fmt: skip
        found[topic] = make_batch(topic, columns, n)
    return found


def table_rows(table: str, batch: pa.RecordBatch) -> list[Row]:
    rows: list[Row] = []
    for row in batch.to_pylist():
        code = int(str(row["instrument_id"])[1:])
        when = int(row["ts"].value) if "ts" in row else None
        rows.append((code, when, f"{table} {row}"))
    return rows


def feed_shard(state: ShardState, log: Log, low: int, high: int) -> list[Row]:
    rows: list[Row] = []
    for output in state.update(Frame(high, shard_batches(log))):
        if not isinstance(output, dict):
            rows += table_rows(output.table, output.batch)
    return rows


class ShardAdapter(Adapter):
    def __init__(self) -> None:
        super().__init__(ShardState(SHARD), feed_shard)

    def finish(self) -> list[Row]:
        return feed_shard(self.state, shard_log(np.random.default_rng(0), 0), 0, END_OF_TIME)


# --- single states


def bar_log(rng: np.random.Generator, n: int) -> Log:
    log = base_log(rng, n, price=rng.random(n) + 1.0, size=rng.random(n) + 0.1, side=rng.integers(-1, 2, n, np.int8))
    return Log(log.columns | {"ts_event": log.ts - rng.integers(0, 30, n)})


def feed_bars(state: BarState, log: Log, low: int, high: int) -> list[Row]:
    update = state.update(log.code, log.ts_event, log.ts, log.price, log.size, log.side, high)
    late = update.late_row
    missed = zip(log.code[late].tolist(), log.ts[late].tolist(), plain(log.id[late], update.late_interval), strict=True)
    return [*column_rows(update.bars), *missed]


def feed_sequence(state: SequenceWindow, log: Log, low: int, high: int) -> list[Row]:
    return list(zip(log.code.tolist(), log.ts.tolist(), plain(log.id, state.update(log.code, log.ident)), strict=True))


def feed_text_ids(state: TextIdWindow, log: Log, low: int, high: int) -> list[Row]:
    seen = state.update(log.code, [str(ident) if ident >= 0 else None for ident in log.ident.tolist()])
    return list(zip(log.code.tolist(), log.ts.tolist(), plain(log.id, seen), strict=True))


def ident_log(rng: np.random.Generator, n: int) -> Log:
    return base_log(rng, n, ident=np.arange(n) // 3 + rng.integers(-4, 5, n))


def book_log(rng: np.random.Generator, n: int) -> Log:
    log = base_log(rng, n)
    # each instrument's numbers rise by one, so that what another does is no gap
    number = np.zeros(n, dtype=np.int64)
    for code in range(CODES):
        own = log.code == code
        number[own] = np.arange(own.sum()) + rng.choice([0, 0, 0, 0, -1, 1], own.sum())
    kind = (rng.random(n) > 0.2).astype(np.int8)
    price = 100.0 + rng.integers(0, 5, n)
    return Log(log.columns | {"last": np.abs(number), "book_kind": kind, "price": price})


def book_messages(log: Log) -> BookMessages:
    n = len(log)
    none, offsets, size = np.full(n, -1), np.arange(n + 1), np.ones(n)
    return BookMessages(
        log.code, log.ts, log.id, log.book_kind, none, log.last, none,
        offsets, log.price, size, offsets, log.price + 2.0, size,
    )  # fmt: skip


def feed_book(state: BookState, log: Log, low: int, high: int) -> list[Row]:
    update = state.update(book_messages(log))
    code_of = dict(zip(log.id.tolist(), log.code.tolist(), strict=True))
    refused = zip(update.rejected_ident.tolist(), update.rejected_reason.tolist(), strict=True)
    return [*column_rows(update.top), *((code_of.get(ident), None, f"{ident} {why}") for ident, why in refused)]


class BookAdapter(Adapter):
    """Refusals are compared without their code: a held message is refused in a later call."""

    def __init__(self) -> None:
        super().__init__(BookState(depth=2, max_levels=4, max_pending=3), feed_book)

    def feed(self, log: Log, low: int, high: int) -> list[Row]:
        return [(None if ts is None else code, ts, text) for code, ts, text in super().feed(log, low, high)]


def book_batches(log: Log) -> dict[str, pa.RecordBatch]:
    found = {}
    for topic, own in (("books", log.rows(log.id % 4 > 0)), ("quotes", log.rows(log.id % 4 == 0))):
        n = len(own)
        columns: dict[str, Any] = {
            "instrument_id": named(own.code), "ts_event": own.ts, "ts_recv": own.ts,
            "partition": np.zeros(n, np.int32), "offset": own.id,
        }  # fmt: skip
        price = own.price.tolist()
        if topic == "books":
            columns |= {
                "kind": own.book_kind, "last_sequence": own.last, "bid_prices": [[p] for p in price],
                "bid_sizes": [[1.0]] * n, "ask_prices": [[p + 2] for p in price], "ask_sizes": [[1.0]] * n,
            }  # fmt: skip
        else:
            ones = np.ones(n)
            columns |= {"bid_price": own.price, "bid_size": ones, "ask_price": own.price + 2, "ask_size": ones}
        if n:
            found[topic] = make_batch(topic, columns, n)
    return found


def feed_intake(state: BookIntake, log: Log, low: int, high: int) -> list[Row]:
    batches = book_batches(log)
    codes = {
        topic: np.array([int(name[1:]) for name in batch.column("instrument_id").to_pylist()], dtype=np.int32)
        for topic, batch in batches.items()
    }
    refusals = Refusals()
    rows = column_rows(state.update(batches, codes, high, refusals))
    for refused in refusals.rows:
        rows += table_rows(refused.table, refused.batch)
    return rows


class IntakeAdapter(Adapter):
    def __init__(self) -> None:
        state = BookIntake(BookConfig(depth=2, max_levels=16, max_pending=3))
        state.ensure(CODES)
        super().__init__(state, feed_intake)

    def finish(self) -> list[Row]:
        return feed_intake(self.state, book_log(np.random.default_rng(0), 0), 0, END_OF_TIME)


def quote_log(rng: np.random.Generator, n: int) -> Log:
    return base_log(
        rng, n, bid=rng.integers(8, 11, n).astype(float), ask=rng.integers(10, 13, n).astype(float),
        bid_size=rng.integers(0, 5, n).astype(float), ask_size=rng.integers(0, 5, n).astype(float),
    )  # fmt: skip


def tops(log: Log) -> Any:
    return quotes_top(log.code, log.ts, log.bid, log.bid_size, log.ask, log.ask_size)


def feed_top(state: TopOfBookState, log: Log, low: int, high: int) -> list[Row]:
    books = log.id % 5 == 0
    return column_rows(state.update(tops(log.rows(books)), tops(log.rows(~books))))


def feed_book_features(state: BookFeatureState, log: Log, low: int, high: int) -> list[Row]:
    return column_rows(state.update(tops(log)))


def sample_log(rng: np.random.Generator, n: int) -> Log:
    values = rng.normal(0, 1, (n, len(NAMES)))
    missing = (rng.random((n, len(NAMES))) < 0.1).astype(np.uint8)
    values[missing > 0] = np.nan
    return base_log(rng, n, values=values, missing=missing)


def feed_sampler(state: BookSampler, log: Log, low: int, high: int) -> list[Row]:
    code, ts = decisions(low, high)
    updates = BookFeatureColumns(log.code, log.ts, log.values, log.missing)
    interval = np.zeros(len(code), dtype=np.int32)
    return list(zip(code.tolist(), ts.tolist(), plain(*state.sample(updates, code, interval, ts)), strict=True))


def sentiment_log(rng: np.random.Generator, n: int) -> Log:
    return base_log(rng, n, score=rng.uniform(-1, 1, n), weight=rng.uniform(0, 2, n))


def feed_sentiment(state: SentimentState, log: Log, low: int, high: int) -> list[Row]:
    code, ts = decisions(low, high)
    found = state.update_and_sample(log.code, log.ts, log.score, log.weight, code, ts)
    return list(zip(code.tolist(), ts.tolist(), plain(*found), strict=True))


# --- bar features and strategies


class InnerAdapter(Adapter):
    """A feature or a strategy, whose arrays are its attribute `state`."""

    def snapshot(self) -> Any:
        return self.state.state.snapshot(CODES)

    def restore(self, snapshot: Any) -> None:
        self.state.state.restore(snapshot)

    def reset(self) -> None:
        self.state.state.reset(ALL_CODES)

    def size(self) -> tuple[int, int]:
        return len(repr(self.snapshot())), self.state.state.nbytes


def feature_log(rng: np.random.Generator, n: int) -> Log:
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    return base_log(rng, n, close=close, volume=rng.random(n) + 0.1)


def feed_feature(feature: BarFeature, log: Log, low: int, high: int) -> list[Row]:
    ts, close, volume = log.ts, log.close, log.volume
    bars = BarColumns(
        log.code, np.ones(len(ts), np.int64), ts, ts, ts, close, close * 1.01, close * 0.99, close,
        volume, close * volume, close, np.ones(len(ts), np.int64), volume,
    )  # fmt: skip
    return list(zip(log.code.tolist(), ts.tolist(), plain(*feature.update(bars)), strict=True))


def _states(values: FloatArray) -> FloatArray:
    return np.column_stack((np.round(values[:, :2] / 4), values[:, 2:]))


def _news(values: FloatArray) -> FloatArray:
    return np.column_stack((values[:, 0] / 4, np.abs(values[:, 1]) / 4, np.abs(values[:, 2])))


INPUTS: dict[str, Callable[[FloatArray], FloatArray]] = {"regime_adaptive": _states, "news_analytics": _news}
"""What makes inputs of numbers up to 4 either way, where they are not read as they are."""


def strategy_log(name: str) -> Callable[[np.random.Generator, int], Log]:
    width = len(STRATEGIES[name].needs)

    def log(rng: np.random.Generator, n: int) -> Log:
        values = rng.uniform(0, 4, (n, width)) * rng.choice([-1.0, 1.0], (n, 1))
        values = INPUTS.get(name, np.asarray)(values)
        return base_log(rng, n, values=values, missing=np.zeros((n, width), np.uint8), price=100 + rng.normal(0, 5, n))

    return log


def feed_strategy(strategy: Strategy, log: Log, low: int, high: int) -> list[Row]:
    found = strategy.on_frame(StrategyView(log.code, log.ts, log.price, log.values, log.missing))
    row = found.row
    text = plain(log.id[row], found.direction, found.intent, found.confidence, found.reason)
    return list(zip(log.code[row].tolist(), log.ts[row].tolist(), text, strict=True))


SHORT: dict[str, dict[str, Any]] = {
    "ewma_volatility": {"half_life": 2.0, "min_returns": 2},
    "realized_volatility": {"window": 2},
    "zscore": {"window": 2},
    "rsi": {"period": 2},
    "relative_volume": {"window": 2},
    "channel": {"window": 2},
    "moving_averages": {"sma_fast": 1, "sma_slow": 2, "ema_fast": 1, "ema_slow": 2},
    "macd": {"fast": 1, "slow": 2, "signal": 1},
    "stochastic": {"window": 2, "slow_k": 1, "slow_d": 1},
    "bollinger": {"window": 2},
    "atr": {"period": 2},
    "adx": {"period": 2},
    "keltner": {"span": 2, "atr_period": 2},
    "donchian": {"window": 2},
    "rate_of_change": {"period": 2},
    "vwap": {"window": 2},
    "on_balance_volume": {"window": 2},
    "money_flow": {"period": 2},
    "bipower_variation": {"window": 2},
    "autocorrelation": {"window": 3, "lags": [1]},
    "hurst": {"segment": 4, "doublings": 1},
    "variance_ratio": {"window": 4, "period": 2},
    "return_moments": {"window": 4},
    "amihud": {"window": 1},
    "roll_spread": {"window": 4},
    "volatility_regime": {
        "short": 2,
        "long": 4,
        "enter_low": 0.9,
        "leave_low": 0.95,
        "leave_high": 1.05,
        "enter_high": 1.1,
        "min_dwell": 1,
    },
    "trend_regime": {"window": 2, "enter": 0.1, "leave": 0.05, "min_dwell": 1},
    "microstructure_alpha": {"warm_up": 2, "half_life": 2, "entry_zscore": 0.3, "max_spread_bps": 100},
    "breakout": {"max_range": 1.0},
    "momentum": {"entry_scaled_return": 0.05, "min_adx": 0.0},
    "news_analytics": {"half_life": "1us", "coalesce": "0s", "burst": 1000.0, "max_holding": "1us"},
}
"""Parameters short enough for a log to get through the warm-up."""


def inner(cls: Any, feed: Callable[[Any, Log, int, int], list[Row]]) -> Callable[[], Adapter]:
    def make() -> Adapter:
        instance = cls(cls.Config(**SHORT.get(cls.name, {})))
        instance.state.ensure(CODES)
        return InnerAdapter(instance, feed)

    return make


def ensured(make: Callable[[], Any], feed: Callable[[Any, Log, int, int], list[Row]]) -> Callable[[], Adapter]:
    def build() -> Adapter:
        state = make()
        state.ensure(CODES)
        return Adapter(state, feed)

    return build


def book_adapter() -> Adapter:
    adapter = BookAdapter()
    adapter.state.ensure(CODES)
    return adapter


def shard_log(rng: np.random.Generator, n: int) -> Log:
    """Return records a microsecond apart, the shortest duration that a configuration can name."""
    log = base_log(rng, n, kind=rng.integers(0, 4, n))
    return Log(log.columns | {"ts": log.ts * 1_000})


CASES: dict[str, Case] = {
    "align": Case((AlignState,), AlignAdapter, base_log, resets=False),
    "count": Case((CountState,), CountAdapter, base_log, resets=False),
    "directory": Case((Directory,), lambda: Adapter(Directory(CODES, 10**12), feed_directory), base_log, resets=False),
    "shard": Case((ShardState, FeatureEngine, SignalEngine), ShardAdapter, shard_log, resets=False),
    "bars": Case((BarState,), ensured(lambda: BarState((10, 35), 5, 0), feed_bars), bar_log),
    "trade_ids": Case((SequenceWindow,), ensured(SequenceWindow, feed_sequence), ident_log),
    "text_ids": Case((TextIdWindow,), ensured(lambda: TextIdWindow(4), feed_text_ids), ident_log),
    "book": Case((BookState, BookLevels), book_adapter, book_log, keyed=False),
    "book_intake": Case((BookIntake,), IntakeAdapter, book_log),
    "book_top": Case((TopOfBookState,), ensured(TopOfBookState, feed_top), quote_log),
    "book_features": Case((BookFeatureState,), ensured(BookFeatureState, feed_book_features), quote_log),
    "book_sampler": Case((BookSampler,), ensured(lambda: BookSampler(1, 20), feed_sampler), sample_log),
    "sentiment": Case(
        (SentimentState,),
        ensured(lambda: SentimentState(half_life_ns=30, min_weight=0.01), feed_sentiment),
        sentiment_log,
    ),
    **{f"feature {name}": Case((cls,), inner(cls, feed_feature), feature_log) for name, cls in BAR_FEATURES.items()},
    **{
        f"strategy {name}": Case((cls,), inner(cls, feed_strategy), strategy_log(name))
        for name, cls in STRATEGIES.items()
    },
}
EXCUSED: dict[type, str] = {
    ArrayState: "storage of every other state; tests/unit/operators/test_state.py",
    InstrumentState: "base of states with a row per instrument; every one of them is in the registry",
    BarFeature: "abstract; every feature is in the registry",
    Strategy: "abstract; every strategy is in the registry",
    InstrumentRows: "protocol of what a feature group keeps",
    PriceState: "tests/property/test_prices.py",
    EventBarState: "tests/property/test_event_bars_laws.py",
}
_GROUPS = "the laws of feature groups, of which each registered one has a case: tests/property/test_groups_contract.py"
_UNIVERSE = "tests/property/test_universe_contract.py, test_universe_laws.py and test_cross_section_oracles.py"
ELSEWHERE: dict[str, str] = {
    "operators.flow.": _GROUPS,
    "operators.text.": _GROUPS,
    "operators.events.": _GROUPS,
    "operators.cross_section.": _UNIVERSE,
    "operators.universe": _UNIVERSE,
    "operators.slots": _UNIVERSE,
    "operators.strategies.correlation": _UNIVERSE,
    "operators.strategies.hedge": _UNIVERSE,
    "operators.strategies.last_prices": _UNIVERSE,
    "operators.strategies.pair_positions": _UNIVERSE,
    "operators.strategies.pairs_trading": _UNIVERSE,
    "operators.strategies.statistical_arbitrage": _UNIVERSE,
    "operators.strategies.universe_base": _UNIVERSE,
    "operators.specialists": "takes whole frames; tests/unit/operators/test_specialists.py",
    "operators.pending": "takes whole frames; tests/unit/operators/test_pending.py",
}
"""Modules whose states have laws of their own, and where."""
EVERY = pytest.mark.parametrize("name", CASES)
LAW = settings(max_examples=12, deadline=None)
SEEDS = st.integers(0, 2**32)
CUTS = st.lists(st.integers(0, 200), max_size=6)


def order(row: Row) -> tuple[int, int, str]:
    return (-1 if row[0] is None else row[0], -1 if row[1] is None else row[1], row[2])


def run(case: Case, log: Log, points: list[int] = [], *, resume: bool = False) -> list[Row]:  # noqa: B006
    adapter = case.make()
    rows: list[Row] = []
    for stretch in log.cut(points):
        if resume:
            kept = adapter.snapshot()
            adapter = case.make()
            adapter.restore(kept)
        rows += adapter.feed(*stretch)
    return sorted([*rows, *adapter.finish()], key=order)


def log_of(name: str, seed: int, n: int = 60) -> Log:
    return CASES[name].log(np.random.default_rng(seed), n)


@EVERY
def test_state_log_gives_rows(name):
    """Otherwise every law below would hold of nothing."""
    rows = run(CASES[name], log_of(name, 1))
    assert len(rows) >= 1
    assert len({row[2] for row in rows}) > 1


@EVERY
@LAW
@given(seed=SEEDS, points=CUTS)
def test_state_any_cut_gives_the_same_rows(name, seed, points):
    log = log_of(name, seed)
    assert run(CASES[name], log, points) == run(CASES[name], log)


@EVERY
@LAW
@given(seed=SEEDS, points=CUTS)
def test_state_resumed_at_every_cut_gives_the_same_rows(name, seed, points):
    log = log_of(name, seed)
    assert run(CASES[name], log, points, resume=True) == run(CASES[name], log)


@EVERY
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, point=st.integers(0, 200))
def test_state_snapshot_is_not_changed_by_later_rows(name, seed, point):
    adapter = CASES[name].make()
    first, *rest = log_of(name, seed).cut([point])
    adapter.feed(*first)
    kept = adapter.snapshot()
    before = repr(kept)
    for stretch in rest:
        adapter.feed(*stretch)
    adapter.finish()
    assert repr(kept) == before


@EVERY
@LAW
@given(seed=SEEDS, point=st.integers(1, 200))
def test_state_later_rows_do_not_change_earlier_ones(name, seed, point):
    case, log = CASES[name], log_of(name, seed)
    (prefix, low, now), *_ = log.cut([point])
    known = sorted((row for row in case.make().feed(prefix, low, now) if row[1] is not None), key=order)
    whole = [row for row in run(case, log) if row[1] is not None and row[1] < now]
    assert [row for row in known if row[1] is not None and row[1] < now] == whole


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.keyed])
@LAW
@given(seed=SEEDS)
def test_state_instruments_do_not_affect_each_other(name, seed):
    case, log = CASES[name], log_of(name, seed)
    together = run(case, log)
    for code in range(CODES):
        alone = log.rows(log.code == code)
        # the same end for both, so that decisions on a grid are the same ones
        adapter, (*_, end) = case.make(), log.cut([])[0]
        rows = sorted([*adapter.feed(alone, START, end), *adapter.finish()], key=order)
        assert [row for row in rows if row[0] == code] == [row for row in together if row[0] == code]


@EVERY
def test_state_inputs_are_not_written(name):
    log = log_of(name, 3)
    before = {key: np.array(value).copy() for key, value in log.columns.items()}
    run(CASES[name], log, [5, 20, 40])
    for key, value in log.columns.items():
        np.testing.assert_array_equal(np.array(value), before[key])


@EVERY
def test_state_empty_stretch_gives_nothing_and_changes_nothing(name):
    adapter = CASES[name].make()
    (first, low, high), *_ = log_of(name, 4).cut([30])
    adapter.feed(first, low, high)
    kept = repr(adapter.snapshot())
    assert adapter.feed(first.rows(slice(0, 0)), high, high) == []
    assert repr(adapter.snapshot()) == kept


@EVERY
def test_state_that_never_had_a_row_can_be_kept(name):
    adapter = CASES[name].make()
    twin = CASES[name].make()
    twin.restore(adapter.snapshot())
    assert repr(twin.snapshot()) == repr(adapter.snapshot())


def assert_plain(value: Any, path: str) -> None:
    assert value is None or type(value) in (bool, int, float, str, bytes, list, tuple, dict), f"{path}: {type(value)}"
    if isinstance(value, dict):
        for key, part in value.items():
            assert_plain(key, f"{path} key {key!r}")
            assert_plain(part, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            assert_plain(part, f"{path}[{position}]")


@EVERY
def test_state_snapshot_holds_plain_values_only(name):
    adapter = CASES[name].make()
    assert_plain(adapter.snapshot(), name)
    for stretch in log_of(name, 5).cut([10, 20, 45]):
        adapter.feed(*stretch)
        assert_plain(adapter.snapshot(), name)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.resets])
def test_state_forgotten_instruments_start_anew(name):
    """What comes after a reset equals what a fresh state gives, apart from the rows that the reset itself settled."""
    case, log = CASES[name], log_of(name, 6)
    (first, low, middle), (second, _, high) = log.cut([30])
    adapter, fresh = case.make(), case.make()
    adapter.feed(first, low, middle)
    adapter.reset()
    after = [row for row in adapter.feed(second, middle, high) if row[1] is not None]
    assert sorted(after, key=order) == sorted(
        (row for row in fresh.feed(second, middle, high) if row[1] is not None), key=order
    )


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.resets])
def test_state_kept_straight_after_instruments_were_forgotten_continues_the_same(name):
    case, log = CASES[name], log_of(name, 8)
    (first, low, middle), (second, _, high) = log.cut([30])
    adapter, twin = case.make(), case.make()
    adapter.feed(first, low, middle)
    adapter.reset()
    twin.restore(adapter.snapshot())
    expected = [*adapter.feed(second, middle, high), *adapter.finish()]
    assert [*twin.feed(second, middle, high), *twin.finish()] == expected


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.resets])
def test_state_size_is_flat_while_instruments_come_and_go(name):
    case = CASES[name]
    adapter = case.make()
    sizes, offset = [], 0
    for wave in range(30):
        log = case.log(np.random.default_rng(wave % 3), 60)
        moved = {key: log.columns[key] + offset for key in ("ts", "ts_event") if key in log.columns}
        (stretch, _, high) = Log(log.columns | moved).cut([])[0]
        adapter.feed(stretch, offset - 1, high)
        sizes.append(adapter.size())
        adapter.reset()
        offset = high + 1
    snapshot, memory = (max(column) for column in zip(*sizes[3:9], strict=True))
    for later_snapshot, later_memory in sizes[9:]:
        assert later_snapshot <= 1.2 * snapshot + 64
        assert later_memory <= memory


def stateful_classes() -> set[type]:
    found = set()
    for info in pkgutil.walk_packages(operators.__path__, "operators."):
        module = importlib.import_module(info.name)
        for _, member in inspect.getmembers(module, inspect.isclass):
            keeps = all(callable(getattr(member, name, None)) for name in ("snapshot", "restore"))
            if member.__module__ == info.name and (keeps or issubclass(member, BarFeature | Strategy)):
                found.add(member)
    return found


def has_a_contract_elsewhere(cls: type) -> bool:
    return any(cls.__module__.startswith(prefix) for prefix in ELSEWHERE)


def test_every_state_is_in_the_registry_or_excused():
    covered = {cls for case in CASES.values() for cls in case.covers}
    left = {cls for cls in stateful_classes() - covered if not has_a_contract_elsewhere(cls)}
    assert left == set(EXCUSED)
    assert covered <= stateful_classes(), "the registry names a class that keeps no state"
