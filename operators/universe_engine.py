"""Features across instruments and the strategies on them: frames of the universe in, rows of the output tables out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.arrival import Rows
from operators.cross_section import CrossSection, CrossSectionState
from operators.strategies.universe_base import UniverseDecisions, UniverseStrategy
from operators.strategies.universe_registry import UNIVERSE_STRATEGIES
from operators.universe import UniverseFrame
from operators.universe_engine_config import UniverseEngineConfig
from schemas.errors import InvariantError, VersionError
from schemas.failure import noted
from schemas.tables import CROSS_SECTION, SIGNALS
from schemas.time import duration_ns

__all__ = ["UniverseEngine", "decide"]

_VERSION: Final = 1
_ROOM: Final = 2
"""Instruments that features are kept for, over the most in a frame: one that leaves the universe for a while keeps its
history."""
_SIGNALS: Final = {field.name: field for field in SIGNALS.arrow}
_CROSS: Final = {field.name: field for field in CROSS_SECTION.arrow}


class UniverseEngine:
    """The features and enabled strategies of a universe.

    Parameters
    ----------
    config
        What to compute.

    Examples
    --------
    >>> sorted(UniverseEngine(UniverseEngineConfig()).inactive)
    ['correlation', 'pairs_trading', 'statistical_arbitrage']
    """

    def __init__(self, config: UniverseEngineConfig) -> None:
        universe = config.members
        self._cross = CrossSectionState(
            config.cross_section, _ROOM * universe.max_instruments, duration_ns(universe.idle_expiry)
        )
        self._strategies: list[UniverseStrategy] = [
            UNIVERSE_STRATEGIES[name](getattr(config.strategies, name)) for name in config.strategies.enabled
        ]
        self._parameters = {strategy.name: strategy.config.content_hash() for strategy in self._strategies}

    @property
    def feature_set(self) -> str:
        """Content hash of the features across instruments."""
        return self._cross.features.hash

    @property
    def inactive(self) -> dict[str, str]:
        """Names of enabled strategies that cannot decide at present, and why."""
        return {strategy.name: why for strategy in self._strategies if (why := strategy.inactive) is not None}

    def update(self, frame: UniverseFrame) -> list[Rows]:
        """Take the next frame; return rows of `cross_section` and `signals`."""
        cross = self._cross.update(frame)
        found = [Rows(CROSS_SECTION.name, self._feature_rows(frame, cross))] if frame.instruments else []
        for strategy in self._strategies:
            decisions = strategy.on_frame(frame, cross)
            if decisions:
                found.append(Rows(SIGNALS.name, self._signal_rows(strategy, frame.ts, decisions)))
        return found

    def _feature_rows(self, frame: UniverseFrame, cross: CrossSection) -> pa.RecordBatch:
        n, width = cross.values.shape
        ranks = next((at for at, name in enumerate(cross.names) if name.startswith("rank_")), width)
        columns: dict[str, Any] = {
            "instrument_id": pa.array(frame.instruments, type=pa.string()).dictionary_encode(),
            "interval_ns": np.full(n, frame.interval_ns),
            "ts": np.full(n, frame.ts),
            "feature_set": _repeat(self.feature_set, n),
            "missing": pa.ListArray.from_arrays(
                pa.array(np.arange(0, n * width + 1, width, dtype=np.int32)), pa.array(cross.missing.ravel())
            ),
            "live": np.full(n, frame.live),
            "present": np.full(n, n),
        }
        for at, name in enumerate(cross.names[:ranks]):
            columns[name] = pa.array(cross.values[:, at], from_pandas=True)
        names = tuple(name.removeprefix("rank_") for name in cross.names[ranks:])
        columns["ranks"] = _maps(names, cross.values[:, ranks:])
        return _batch(_CROSS, columns)

    def _signal_rows(self, strategy: UniverseStrategy, ts: int, decisions: UniverseDecisions) -> pa.RecordBatch:
        confidence = [decision.confidence for decision in decisions]
        if not all(0.0 <= value <= 1.0 for value in confidence):
            raise InvariantError(
                f"expected confidence in [0, 1] from strategy `{strategy.name}`, found {confidence[:9]}"
            )
        n = len(decisions)
        parameters = self._parameters[strategy.name]
        thresholds = strategy.thresholds()
        evidence = [[decision.evidence.get(name, np.nan) for name in strategy.derived] for decision in decisions]
        prefix = f"{strategy.name}|{parameters}|{self.feature_set}"
        columns: dict[str, Any] = {
            "signal_id": [
                _signal_id(f"{prefix}|{item.instrument}|{ts}|{item.direction}|{item.intent}|{item.pair}")
                for item in decisions
            ],
            "instrument_id": pa.array([item.instrument for item in decisions]).dictionary_encode(),
            "ts": np.full(n, ts),
            "strategy": _repeat(strategy.name, n),
            "direction": [int(item.direction) for item in decisions],
            "intent": [int(item.intent) for item in decisions],
            "confidence": confidence,
            "price": [item.price for item in decisions],
            "parameters_hash": _repeat(parameters, n),
            "feature_set": _repeat(self.feature_set, n),
            "reason": [_sentence(strategy.reasons[item.reason], item.pair) for item in decisions],
            "inputs": _maps(strategy.derived, np.array(evidence)),
            "thresholds": _maps(tuple(thresholds), np.tile(np.array(list(thresholds.values())), (n, 1))),
        }
        return _batch(_SIGNALS, columns)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        return {
            "version": _VERSION,
            "parameters": dict(self._parameters),
            "cross_section": self._cross.snapshot(),
            "strategies": {strategy.name: strategy.snapshot() for strategy in self._strategies},
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            Another version wrote it, or for other strategies, parameters or features.
        """
        if (snapshot["version"], snapshot["parameters"]) != (_VERSION, self._parameters):
            raise VersionError(
                f"expected a snapshot of version {_VERSION} for strategies {self._parameters}, found version "
                f"{snapshot['version']} for {snapshot['parameters']}; resume with the configuration that wrote it, or "
                "start a new run"
            )
        self._cross.restore(snapshot["cross_section"])
        for strategy in self._strategies:
            strategy.restore(snapshot["strategies"][strategy.name])


def _signal_id(key: str) -> str:
    """Return 32 hexadecimal digits over the natural key of a decision."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _sentence(reason: str, pair: str) -> str:
    return f"{pair}: {reason}" if pair else reason


def _repeat(text: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([text]))


def _maps(names: tuple[str, ...], values: np.ndarray[Any, np.dtype[np.float64]]) -> pa.MapArray:
    """Return one map per row, without the values that are missing."""
    finite = np.isfinite(values)
    offsets = np.concatenate(([0], np.cumsum(finite.sum(axis=1)))).astype(np.int32)
    keys = np.nonzero(finite)[1]
    return pa.MapArray.from_arrays(
        pa.array(offsets), pa.array(names, type=pa.string()).take(pa.array(keys)), pa.array(values[finite])
    )


def _batch(fields: dict[str, pa.Field], columns: dict[str, Any]) -> pa.RecordBatch:
    own = [fields[name] for name in columns]
    arrays = [
        value.cast(field.type) if isinstance(value, pa.Array) else pa.array(value).cast(field.type)
        for value, field in zip(columns.values(), own, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(own))


class _DecideLogic(StatefulBatchLogic[UniverseFrame, Rows, dict[str, Any]]):
    def __init__(self, config: UniverseEngineConfig, resume: dict[str, Any] | None) -> None:
        self._engine = UniverseEngine(config)
        if resume is not None:
            self._engine.restore(resume)

    @noted
    def on_batch(self, values: list[UniverseFrame]) -> tuple[Iterable[Rows], bool]:
        return [rows for frame in values for rows in self._engine.update(frame)], StatefulBatchLogic.RETAIN

    @noted
    def snapshot(self) -> dict[str, Any]:
        return self._engine.snapshot()


@operator
def decide(step_id: str, up: KeyedStream[UniverseFrame], *, config: UniverseEngineConfig) -> KeyedStream[Rows]:
    """Compute features across instruments and decide on them.

    Parameters
    ----------
    step_id
        Unique id.
    up
        Frames of the universe, under one key, in order of time.
    config
        What to compute.
    """
    return op.stateful_batch("state", up, noted(lambda resume: _DecideLogic(config, resume)))
