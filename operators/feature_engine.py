"""From the records of a frame to feature vectors: one shard, every topic, every configured interval.

The engine holds the states of a shard and calls each once per frame. Trades become bars; books and
quotes become the top of the book; news and posts become decayed sentiment. At the close of each bar
the features of its instrument are sampled as of that moment, from records that arrived before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from models.text.sentiment import FinanceSentiment
from operators.arrival import Rows
from operators.bars import BarState
from operators.book_features import BookFeatureColumns, BookFeatureState
from operators.book_intake import BookIntake
from operators.book_sampler import BookSampler
from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.decode import late_events
from operators.duplicates import SequenceWindow, TextIdWindow
from operators.features import BAR_FEATURES
from operators.refusals import Refusals
from operators.sentiment import SentimentState
from operators.shard_config import SentimentConfig, ShardConfig
from schemas.batches import floats, int8s, integers, times
from schemas.enums import CountKind, DeadLetterReason, LateReason
from schemas.features import FeatureSet, FeatureSpec
from schemas.time import duration_ns

__all__ = ["FeatureEngine", "FeatureFrame", "feature_set"]

_REPEATED_TRADE = "expected a new `trade_id`, found one seen before or older than the last 1024"
_TEXT_TOPICS = {"news": ("news_id", "headline"), "social": ("post_id", "text")}


@dataclass(frozen=True, slots=True)
class FeatureFrame:
    """What a frame became.

    Parameters
    ----------
    bars
        Closed bars, by decision time.
    values
        Features at the close of each bar, shape `(len(bars), k)`; NaN where there is none.
    missing
        A `Missing` code for each value, same shape.
    book
        Book features at each update of a book.
    """

    bars: BarColumns
    values: FloatArray
    missing: MissingArray
    book: BookFeatureColumns


def feature_set(config: ShardConfig) -> FeatureSet:
    """Return the ordered features that a shard with this configuration computes."""
    specs: list[FeatureSpec] = []
    for name, cls in BAR_FEATURES.items():
        specs.extend(cls.specs(getattr(config.features, name)))
    specs.extend(BookFeatureState.specs(depth=config.book.depth))
    for topic in _TEXT_TOPICS:
        sentiment, intensity = _sentiment(getattr(config, topic)).specs(topic)
        scored = replace(sentiment, parameters=sentiment.parameters | {"lexicon": _scorer().version})
        specs.extend((scored, intensity))
    return FeatureSet(tuple(specs))


@lru_cache(maxsize=1)
def _scorer() -> FinanceSentiment:
    """Return the scorer that all shards of a process share; it keeps nothing but a cache."""
    return FinanceSentiment()


def _sentiment(config: SentimentConfig) -> SentimentState:
    return SentimentState(half_life_ns=duration_ns(config.half_life), min_weight=config.min_weight)


class FeatureEngine:
    """The states of one shard.

    Parameters
    ----------
    config
        What to compute.
    """

    def __init__(self, config: ShardConfig) -> None:
        self._intervals = [duration_ns(interval) for interval in config.bars.intervals]
        self._bars = BarState(
            tuple(self._intervals),
            grace_ns=duration_ns(config.bars.grace),
            max_ahead_ns=duration_ns(config.decode.max_ahead),
        )
        self._bar_features = [
            [cls(getattr(config.features, name)) for name, cls in BAR_FEATURES.items()] for _ in self._intervals
        ]
        self._trade_ids = SequenceWindow()
        self._text_ids = {topic: TextIdWindow() for topic in _TEXT_TOPICS}
        self._books = BookIntake(config.book)
        self._book_features = BookFeatureState()
        self._sampler = BookSampler(len(self._intervals), max_age_ns=duration_ns(config.book.max_age))
        self._sentiment = {topic: _sentiment(getattr(config, topic)) for topic in _TEXT_TOPICS}
        self._scorer = _scorer()
        self._n_features = len(feature_set(config).specs)

    def _array_states(self) -> dict[str, Any]:
        """Return every state that has a row per instrument, by name."""
        states: dict[str, Any] = {
            "bars": self._bars,
            "trade_ids": self._trade_ids,
            "books": self._books,
            "book_features": self._book_features,
            "sampler": self._sampler,
        }
        for topic in _TEXT_TOPICS:
            states[f"{topic}_ids"] = self._text_ids[topic]
            states[f"{topic}_sentiment"] = self._sentiment[topic]
        for interval, features in zip(self._intervals, self._bar_features, strict=True):
            states.update({f"{feature.name}/{interval}": feature.state for feature in features})
        return states

    def ensure(self, rows: int) -> None:
        """Have state for this many instruments."""
        for state in self._array_states().values():
            state.ensure(rows)

    def reset(self, codes: CodeArray) -> None:
        """Forget these instruments."""
        for state in self._array_states().values():
            state.reset(codes)

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return every state as plain values."""
        return {name: state.snapshot(rows) for name, state in self._array_states().items()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot."""
        for name, state in self._array_states().items():
            state.restore(snapshot[name])

    def update(
        self, batches: dict[str, pa.RecordBatch], codes: dict[str, CodeArray], frontier: int, refusals: Refusals
    ) -> tuple[FeatureFrame, list[Rows]]:
        """Take the records of a frame.

        Parameters
        ----------
        batches
            Topic to its records in arrival order, all with `ts_recv` below `frontier`.
        codes
            Topic to the instrument code of each record.
        frontier
            Bars that close at or before it are closed.
        refusals
            Takes records that are refused here.

        Returns
        -------
        frame
            Bars, features and book features.
        rows
            Rows for `late_events`.
        """
        bars, late = self._take_trades(batches.get("trades"), codes.get("trades"), frontier, refusals)
        book = self._book_features.update(self._books.update(batches, codes, frontier, refusals))
        values = np.full((len(bars), self._n_features), np.nan)
        missing = np.zeros((len(bars), self._n_features), dtype=np.uint8)
        self._fill_bar_features(bars, values, missing)
        column = sum(len(feature.specs(feature.config)) for feature in self._bar_features[0])
        interval_index = frozen(np.searchsorted(np.sort(self._intervals), bars.interval_ns).astype(np.int32))
        sampled = self._sampler.sample(book, bars.code, interval_index, bars.ts)
        texts = (self._sample_text(name, batches.get(name), codes.get(name), bars, refusals) for name in _TEXT_TOPICS)
        blocks = [sampled, *texts]
        for block_values, block_missing in blocks:
            width = block_values.shape[1]
            values[:, column : column + width] = block_values
            missing[:, column : column + width] = block_missing
            column += width
        for topic in set(batches) - {"trades", "books", "quotes", *_TEXT_TOPICS}:
            refusals.accept(topic, batches[topic].num_rows)
        return FeatureFrame(bars, values, missing, book), late

    def _take_trades(
        self, batch: pa.RecordBatch | None, code: CodeArray | None, frontier: int, refusals: Refusals
    ) -> tuple[BarColumns, list[Rows]]:
        if batch is None or code is None:
            return self._bars.close(frontier), []
        repeated = self._trade_ids.update(code, integers(batch, "trade_id"))
        batch, code = refusals.refuse(batch, code, repeated, DeadLetterReason.DUPLICATE, _REPEATED_TRADE)
        refusals.accept("trades", batch.num_rows)
        done = self._bars.update(
            code, times(batch, "ts_event"), times(batch, "ts_recv"), floats(batch, "price"), floats(batch, "size"),
            int8s(batch, "side"), frontier,
        )  # fmt: skip
        if not len(done.late_row):
            return done.bars, []
        refusals.count(CountKind.LATE, "trades", LateReason.BAR_CLOSED, len(np.unique(done.late_row)))
        intervals = np.asarray(self._intervals, dtype=np.int64)[done.late_interval]
        late = late_events("trades", batch, done.late_row, intervals, LateReason.BAR_CLOSED)
        return done.bars, [Rows("late_events", late)]

    def _fill_bar_features(self, bars: BarColumns, values: FloatArray, missing: MissingArray) -> None:
        for interval, features in zip(self._intervals, self._bar_features, strict=True):
            rows = np.flatnonzero(bars.interval_ns == interval)
            if not len(rows):
                continue
            own = bars.take(rows)
            column = 0
            for feature in features:
                block_values, block_missing = feature.update(own)
                width = block_values.shape[1]
                values[rows, column : column + width] = block_values
                missing[rows, column : column + width] = block_missing
                column += width

    def _sample_text(
        self, topic: str, batch: pa.RecordBatch | None, code: CodeArray | None, bars: BarColumns, refusals: Refusals
    ) -> tuple[FloatArray, MissingArray]:
        item_code: CodeArray = np.empty(0, dtype=np.int32)
        item_ts: IntArray = np.empty(0, dtype=np.int64)
        score: FloatArray = np.empty(0)
        if batch is not None and code is not None:
            ident, text = _TEXT_TOPICS[topic]
            repeated = self._text_ids[topic].update(code, batch.column(ident).to_pylist())
            batch, item_code = refusals.refuse(
                batch, code, repeated, DeadLetterReason.DUPLICATE, f"{ident} seen before"
            )
            refusals.accept(topic, batch.num_rows)
            item_ts = times(batch, "ts_recv")
            score = self._scorer.scores(batch.column(text).to_pylist())
        return self._sentiment[topic].update_and_sample(
            item_code, item_ts, score, np.ones(len(score)), bars.code, bars.ts
        )
