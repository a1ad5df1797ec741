"""Strategies over feature frames: rows of `signals`, each with what it was made from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.columns import CodeArray
from operators.feature_engine import NO_POINTS, FeatureFrame
from operators.shard_config import ShardConfig
from operators.strategies import STRATEGIES
from operators.strategies.base import ITEM_NAMES, PREDICTION_NAMES, DecidesOn, Decisions, Strategy, StrategyView
from schemas.enums import Missing
from schemas.errors import ConfigError, InvariantError
from schemas.features import FeatureSet
from schemas.tables import SIGNALS
from schemas.time import duration_ns

__all__ = ["SignalEngine"]

_FIELDS = {field.name: field for field in SIGNALS.arrow}


class SignalEngine:
    """The enabled strategies of one shard.

    Parameters
    ----------
    config
        Which strategies, with which parameters.
    features
        The features of a bar's row, in order.
    book_features
        Names of the features of a book's update, in order.

    Raises
    ------
    ConfigError
        A strategy needs a feature that nothing computes.
    """

    def __init__(self, config: ShardConfig, features: FeatureSet, book_features: tuple[str, ...]) -> None:
        self._feature_set = features.hash
        self._strategies: list[tuple[Strategy, npt.NDArray[np.int64], dict[str, float]]] = []
        offers: dict[DecidesOn, tuple[str, ...]] = {
            "bar": features.names,
            "book": book_features,
            "item": ITEM_NAMES,
            "prediction": PREDICTION_NAMES,
        }
        for name in config.strategies.enabled:
            strategy = STRATEGIES[name](getattr(config.strategies, name))
            offered = offers[strategy.on]
            unknown = [need for need in strategy.needs if need not in offered]
            if unknown:
                raise ConfigError(f"expected strategy `{name}` to need features among {offered}, was {unknown}")
            columns = np.array([offered.index(need) for need in strategy.needs], dtype=np.int64)
            self._strategies.append((strategy, columns, strategy.thresholds()))
        self._parameters = {strategy.name: strategy.config.content_hash() for strategy, _, _ in self._strategies}
        self._mid = book_features.index("mid_price")

    def ensure(self, rows: int) -> None:
        """Have state for this many instruments."""
        for strategy, _, _ in self._strategies:
            strategy.state.ensure(rows)

    def reset(self, codes: CodeArray) -> None:
        """Forget these instruments."""
        for strategy, _, _ in self._strategies:
            strategy.state.reset(codes)

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return every strategy's state as plain values."""
        return {strategy.name: strategy.state.snapshot(rows) for strategy, _, _ in self._strategies}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot."""
        for strategy, _, _ in self._strategies:
            strategy.state.restore(snapshot[strategy.name])

    def update(self, frame: FeatureFrame, names: list[str]) -> list[pa.RecordBatch]:
        """Return the signals of a frame, a batch for each strategy that decided something.

        Parameters
        ----------
        frame
            Bars, features and book features.
        names
            Instrument by code.
        """
        found = []
        for strategy, columns, thresholds in self._strategies:
            view = self._view(frame, strategy, columns)
            if not len(view.code):
                continue
            decisions = strategy.on_frame(view)
            if len(decisions):
                found.append(self._rows(strategy, view, decisions, thresholds, names))
        return found

    @property
    def inactive(self) -> dict[str, str]:
        """Names of enabled strategies that cannot decide at present, and why."""
        return {
            strategy.name: f"no model `{model}` is live" if model else "its configuration names no `model`"
            for strategy, _, _ in self._strategies
            if (model := _model(strategy)) is not None
        }

    def _view(self, frame: FeatureFrame, strategy: Strategy, columns: npt.NDArray[np.int64]) -> StrategyView:
        if strategy.on == "bar":
            return _bar_view(frame, duration_ns(strategy.config.interval), columns)  # type: ignore[attr-defined]
        if strategy.on == "book":
            book = frame.book
            points = StrategyView(book.code, book.ts, book.values[:, self._mid], book.values, book.missing)
        elif strategy.on == "item":
            points = frame.items
        else:
            points = frame.predictions.get(_model(strategy) or "", NO_POINTS)
        priced = np.isfinite(points.price)
        if not priced.all():
            # nothing is decided at no price: what is due waits for the next row that has one
            points = points.take(priced)
        view = replace(points, values=points.values[:, columns], missing=points.missing[:, columns])
        if strategy.on == "book":
            return view
        return _with_closes(view, frame, duration_ns(strategy.config.interval))  # type: ignore[attr-defined]

    def _rows(
        self,
        strategy: Strategy,
        view: StrategyView,
        decisions: Decisions,
        thresholds: dict[str, float],
        names: list[str],
    ) -> pa.RecordBatch:
        rows = decisions.row
        n = len(rows)
        if not ((decisions.confidence >= 0.0) & (decisions.confidence <= 1.0)).all():
            found = decisions.confidence.tolist()[:9]
            raise InvariantError(f"expected confidence in [0, 1] from strategy `{strategy.name}`, found {found}")
        instruments = [names[code] for code in view.code[rows].tolist()]
        parameters = self._parameters[strategy.name]
        identities = zip(
            instruments, view.ts[rows].tolist(), decisions.direction.tolist(), decisions.intent.tolist(), strict=True
        )
        prefix = f"{strategy.name}|{parameters}|{self._feature_set}"
        columns: dict[str, Any] = {
            "signal_id": [_signal_id(prefix, *identity) for identity in identities],
            "instrument_id": pa.array(instruments).dictionary_encode(),
            "ts": pa.array(view.ts[rows]).cast(_FIELDS["ts"].type),
            "strategy": _repeat(strategy.name, n),
            "direction": decisions.direction,
            "intent": decisions.intent,
            "confidence": decisions.confidence,
            "price": view.price[rows],
            "parameters_hash": _repeat(parameters, n),
            "feature_set": _repeat(self._feature_set, n),
            "reason": [strategy.reasons[reason] for reason in decisions.reason.tolist()],
            "inputs": _maps(
                (*strategy.needs, *strategy.derived), np.column_stack((view.values[rows], decisions.evidence))
            ),
            "thresholds": _maps(tuple(thresholds), np.tile(np.array(list(thresholds.values())), (n, 1))),
        }
        fields = [_FIELDS[name] for name in columns]
        arrays = [
            value if isinstance(value, pa.Array) else pa.array(value, type=field.type)
            for value, field in zip(columns.values(), fields, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _bar_view(frame: FeatureFrame, interval_ns: int, columns: npt.NDArray[np.int64]) -> StrategyView:
    bars = frame.bars
    rows = np.flatnonzero(bars.interval_ns == interval_ns)
    return StrategyView(
        bars.code[rows], bars.ts[rows], bars.close[rows],
        frame.values[np.ix_(rows, columns)], frame.missing[np.ix_(rows, columns)],
    )  # fmt: skip


def _with_closes(view: StrategyView, frame: FeatureFrame, interval_ns: int) -> StrategyView:
    """Return the rows with the closes of bars between them, at which no input is there and what is held can end.

    A close comes before a row of the same time, which arrived when the bar was complete.
    """
    bars = frame.bars
    rows = np.flatnonzero(bars.interval_ns == interval_ns)
    if not len(rows):
        return view
    shape = (len(rows), view.values.shape[1])
    code, ts = np.concatenate((bars.code[rows], view.code)), np.concatenate((bars.ts[rows], view.ts))
    found = StrategyView(
        code, ts, np.concatenate((bars.close[rows], view.price)),
        np.concatenate((np.full(shape, np.nan), view.values)),
        np.concatenate((np.full(shape, Missing.NO_INPUT, dtype=np.uint8), view.missing)),
    )  # fmt: skip
    return found.take(np.argsort(ts, kind="stable"))


def _model(strategy: Strategy) -> str | None:
    """Return the model whose predictions a strategy decides on; None where it decides on something else."""
    return str(strategy.config.model) if strategy.on == "prediction" else None  # type: ignore[attr-defined]


def _signal_id(prefix: str, instrument: str, ts: int, direction: int, intent: int) -> str:
    """Return 32 hexadecimal digits over the natural key of a decision."""
    return hashlib.sha256(f"{prefix}|{instrument}|{ts}|{direction}|{intent}".encode()).hexdigest()[:32]


def _repeat(text: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([text]))


def _maps(names: tuple[str, ...], values: npt.NDArray[np.float64]) -> pa.MapArray:
    """Return one map per row, without the values that are missing."""
    finite = np.isfinite(values)
    offsets = np.concatenate(([0], np.cumsum(finite.sum(axis=1)))).astype(np.int32)
    keys = np.tile(np.arange(len(names)), len(values))[finite.ravel()]
    return pa.MapArray.from_arrays(
        pa.array(offsets), pa.array(names, type=pa.string()).take(pa.array(keys)), pa.array(values[finite])
    )
