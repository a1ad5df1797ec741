"""From the records of a frame to feature vectors: one shard, every topic, every configured interval.

The engine holds the states of a shard and calls each once per frame. Trades become bars; books and
quotes become the top of the book; news and posts become decayed sentiment. At the close of each bar
the features of its instrument are sampled as of that moment, from records that arrived before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from operators.arrival import Rows
from operators.bars import BarState
from operators.book_features import NAMES, BookFeatureColumns, BookFeatureState
from operators.book_intake import BookIntake
from operators.columns import BarColumns, CodeArray, FloatArray, MissingArray
from operators.decode import late_events
from operators.duplicates import SequenceWindow
from operators.event_bars import EventBarColumns, EventBarState
from operators.feature_groups import make_groups
from operators.features import BAR_FEATURES
from operators.prices import PriceState
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs, InstrumentRows
from operators.shard_config import ShardConfig
from operators.strategies.base import StrategyView
from operators.text.group import TextGroup
from operators.text.items import TextItems
from schemas.batches import floats, int8s, integers, times
from schemas.enums import CountKind, DeadLetterReason, LateReason, Missing
from schemas.features import FeatureSet, FeatureSpec
from schemas.time import duration_ns

__all__ = ["NO_POINTS", "FeatureEngine", "FeatureFrame", "feature_set"]

_REPEATED_TRADE = "expected a new `trade_id`, found one seen before or older than the last 1024"
_ACCOUNTED = frozenset(("trades", "books", "quotes"))


_MID: Final = NAMES.index("mid_price")
_NO_PRICES: Final = (np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0))
NO_POINTS: Final = StrategyView(
    np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0), np.empty((0, 5)), np.empty((0, 5), np.uint8)
)
"""No rows to decide on."""


@dataclass(frozen=True, slots=True)
class _Trades:
    """The trades that were taken, as parts of what the groups get."""

    batches: dict[str, pa.RecordBatch]
    codes: dict[str, CodeArray]
    event_bars: EventBarColumns | None = None


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
    items
        News items, with values as in `ITEM_NAMES`.
    predictions
        Model to its predictions, with values as in `PREDICTION_NAMES`.
    event_bars
        Closed event bars; None where no trade came.
    """

    bars: BarColumns
    values: FloatArray
    missing: MissingArray
    book: BookFeatureColumns
    items: StrategyView = NO_POINTS
    predictions: Mapping[str, StrategyView] = field(default_factory=dict)
    event_bars: EventBarColumns | None = None


def feature_set(config: ShardConfig) -> FeatureSet:
    """Return the ordered features that a shard with this configuration computes."""
    specs: list[FeatureSpec] = []
    for name in config.features.enabled:
        specs.extend(BAR_FEATURES[name].specs(getattr(config.features, name)))
    for group in make_groups(config).values():
        specs.extend(group.specs())
    return FeatureSet(tuple(specs))


class FeatureEngine:
    """The states of one shard.

    Parameters
    ----------
    config
        What to compute.
    """

    def __init__(self, config: ShardConfig) -> None:
        self._intervals = sorted(duration_ns(interval) for interval in config.bars.intervals)
        self._bars = BarState(
            tuple(self._intervals),
            grace_ns=duration_ns(config.bars.grace),
            max_ahead_ns=duration_ns(config.decode.max_ahead),
        )
        self._bar_features = [
            [BAR_FEATURES[name](getattr(config.features, name)) for name in config.features.enabled]
            for _ in self._intervals
        ]
        self.event_bars = EventBarState(config.event_bars)
        """open event bars, which name their series"""
        self._trade_ids = SequenceWindow()
        self._books = BookIntake(config.book)
        self._book_features = BookFeatureState(config.book.depth, config.book.features)
        self._groups = make_groups(config)
        self._prices = PriceState()
        self._accounted = _ACCOUNTED.union(*(group.accounts_for for group in self._groups.values()))
        self._n_features = len(feature_set(config).specs)

    def _array_states(self) -> dict[str, InstrumentRows]:
        """Return every state that has a row per instrument, by name."""
        states: dict[str, InstrumentRows] = {
            "bars": self._bars,
            "event_bars": self.event_bars,
            "trade_ids": self._trade_ids,
            "books": self._books,
            "book_features": self._book_features,
            "prices": self._prices,
        }
        for name, group in self._groups.items():
            states.update({f"{name}.{part}": state for part, state in group.states().items()})
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
        kept, bars, late = self._take_trades(batches.get("trades"), codes.get("trades"), frontier, refusals)
        book = self._book_features.update(self._books.update(batches, codes, frontier, refusals))
        for topic in batches.keys() - self._accounted:
            refusals.accept(topic, batches[topic].num_rows)
        frame = FrameInputs(batches | kept.batches, codes | kept.codes, frontier, book, refusals)
        interval = np.searchsorted(self._intervals, bars.interval_ns).astype(np.int32)
        values, missing = self._features(bars, frame, DecisionColumns(bars.code, interval, bars.ts))
        items = self._priced_items(frame)
        return FeatureFrame(bars, values, missing, book, items, event_bars=kept.event_bars), late

    def _take_trades(
        self, batch: pa.RecordBatch | None, code: CodeArray | None, frontier: int, refusals: Refusals
    ) -> tuple[_Trades, BarColumns, list[Rows]]:
        if batch is None or code is None:
            return _Trades({}, {}), self._bars.close(frontier), []
        repeated = self._trade_ids.update(code, integers(batch, "trade_id"))
        batch, code = refusals.refuse(batch, code, repeated, DeadLetterReason.DUPLICATE, _REPEATED_TRADE)
        refusals.accept("trades", batch.num_rows)
        event_bars = self.event_bars.update(
            code, times(batch, "ts_recv"), times(batch, "ts_event"), floats(batch, "price"), floats(batch, "size"),
            int8s(batch, "side"),
        )  # fmt: skip
        kept = _Trades({"trades": batch}, {"trades": code}, event_bars)
        done = self._bars.update(
            code, times(batch, "ts_event"), times(batch, "ts_recv"), floats(batch, "price"), floats(batch, "size"),
            int8s(batch, "side"), frontier,
        )  # fmt: skip
        if not len(done.late_row):
            return kept, done.bars, []
        refusals.count(CountKind.LATE, "trades", LateReason.BAR_CLOSED, len(np.unique(done.late_row)))
        intervals = np.asarray(self._intervals, dtype=np.int64)[done.late_interval]
        late = late_events("trades", batch, done.late_row, intervals, LateReason.BAR_CLOSED)
        return kept, done.bars, [Rows("late_events", late)]

    def _features(
        self, bars: BarColumns, frame: FrameInputs, decisions: DecisionColumns
    ) -> tuple[FloatArray, MissingArray]:
        values = np.full((len(bars), self._n_features), np.nan)
        missing = np.zeros((len(bars), self._n_features), dtype=np.uint8)
        column = self._fill_bar_features(bars, values, missing)
        for group in self._groups.values():
            block_values, block_missing = group.update(frame, decisions)
            width = block_values.shape[1]
            values[:, column : column + width] = block_values
            missing[:, column : column + width] = block_missing
            column += width
        return values, missing

    def _priced_items(self, frame: FrameInputs) -> StrategyView:
        """Return the news items of a frame, each with the last price before it."""
        news = self._groups.get("news")
        items = news.items if isinstance(news, TextGroup) else TextItems.empty()
        book = frame.book
        mids = (book.code, book.ts, book.values[:, _MID])
        batch = frame.batches.get("trades")
        trades = _NO_PRICES
        if batch is not None:
            trades = (frame.codes["trades"], times(batch, "ts_recv"), floats(batch, "price"))
        price, age = self._prices.update(mids, trades, items.code, items.ts)
        values = np.column_stack((items.score, items.weight, items.novelty, items.damping, age / 1e9))
        missing = np.where(np.isnan(values), Missing.NO_INPUT, Missing.OK).astype(np.uint8)
        return StrategyView(items.code, items.ts, price, values, missing)

    def _fill_bar_features(self, bars: BarColumns, values: FloatArray, missing: MissingArray) -> int:
        """Fill the columns of the bar features; return their number."""
        column = 0
        for interval, features in zip(self._intervals, self._bar_features, strict=True):
            rows = np.flatnonzero(bars.interval_ns == interval)
            own = bars.take(rows)
            column = 0
            for feature in features:
                width = len(feature.specs(feature.config))
                if len(rows):
                    columns = slice(column, column + width)
                    values[rows, columns], missing[rows, columns] = feature.update(own)
                column += width
        return column
