"""The computing operator: frames of a shard in, rows of the output tables and counters out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.arrival import Counts, Frame, Rows
from operators.book_features import NAMES
from operators.columns import CodeArray
from operators.directory import REFUSED, Directory
from operators.feature_engine import FeatureEngine, FeatureFrame, feature_set
from operators.measures import measure_snapshot
from operators.refusals import Refusals
from operators.shard_config import ShardConfig
from operators.signal_engine import SignalEngine
from operators.universe import UniverseSlice
from operators.universe_slices import Carried, UniverseSlices
from schemas.batches import times
from schemas.enums import DeadLetterReason
from schemas.errors import VersionError
from schemas.failure import noted
from schemas.metrics import STATE_INSTRUMENTS
from schemas.tables import BARS, EVENT_BARS, FEATURES, SIGNALS
from schemas.telemetry import add, is_measuring, stage
from schemas.time import duration_ns

__all__ = ["ShardOutput", "ShardState", "compute"]

_VERSION = 2
_SWEEPS = 8
"""Idle instruments are swept this often per expiry: at most an eighth more state than need be."""

ShardOutput = Rows | Counts | UniverseSlice
"""Rows for a table, increments of counters, or what the universe gets."""


class ShardState:
    """Everything a shard remembers: directory, features, strategies.

    Parameters
    ----------
    config
        What to compute.
    carried
        What the universe gets of each bar; nothing where there is no universe.
    """

    def __init__(self, config: ShardConfig, carried: Carried | None = None) -> None:
        self._directory = Directory(config.max_instruments, duration_ns(config.idle_expiry))
        self._features = feature_set(config)
        self._engine = FeatureEngine(config)
        self._signals = SignalEngine(config, self._features, NAMES)
        self._slices = None
        if carried is not None:
            self._slices = UniverseSlices(carried, duration_ns(config.bars.grace), self._features.names)
        self._expiry = duration_ns(config.idle_expiry)
        self._swept = -(2**62)

    def update(self, frame: Frame) -> list[ShardOutput]:
        """Take a frame; return rows for the output tables and the counters' increments."""
        outputs: list[ShardOutput] = []
        batches = frame.batches
        while (gap := self._directory.first_gap(batches)) is not None:
            # an instrument comes back after its expiry, or takes the room of an expired one: end the old life first
            outputs.extend(self._update({t: b for t, b in _below(batches, gap).items() if b.num_rows}, gap))
            self._forget(gap)
            batches = {t: b for t, b in _from(batches, gap).items() if b.num_rows}
        outputs.extend(self._update(batches, frame.frontier))
        if batches and frame.frontier - self._swept > self._expiry // _SWEEPS:
            self._swept = max(int(times(batch, "ts_recv")[-1]) for batch in batches.values())
            self._forget(self._swept)
        return outputs

    def _forget(self, before: int) -> None:
        codes = self._directory.expire(before)
        if len(codes):
            self._engine.reset(codes)
            self._signals.reset(codes)

    def _update(self, batches: dict[str, pa.RecordBatch], frontier: int) -> list[ShardOutput]:
        refusals = Refusals()
        codes = self._directory.codes(batches)
        self._engine.ensure(len(self._directory))
        self._signals.ensure(len(self._directory))
        taken = {}
        for topic, batch in batches.items():
            kept, codes[topic] = refusals.refuse(
                batch, codes[topic], codes[topic] == REFUSED, DeadLetterReason.TOO_MANY_INSTRUMENTS,
                "expected room for the instrument, found the shard full; raise `max_instruments` or add shards",
            )  # fmt: skip
            if kept.num_rows:
                taken[topic] = kept
        computed, late = self._engine.update(taken, codes, frontier, refusals)
        outputs: list[ShardOutput] = [*late, *self._bar_rows(computed), *self._event_bar_rows(computed)]
        outputs.extend(Rows(SIGNALS.name, rows) for rows in self._signals.update(computed, self._directory.names))
        outputs.extend(refusals.rows)
        if refusals.counts:
            outputs.append(refusals.counts)
        if self._slices is not None:
            piece = self._slices.cut(frontier, computed.bars, computed.values, computed.missing, self._directory.names)
            if piece is not None:
                outputs.append(piece)
        return outputs

    def _bar_rows(self, frame: FeatureFrame) -> list[Rows]:
        bars = frame.bars
        n = len(bars)
        if not n:
            return []
        instrument = self._names(bars.code)
        columns: dict[str, Any] = {"instrument_id": instrument}
        columns |= {name: getattr(bars, name) for name in BARS.names[2:]}
        shared = {"instrument_id": instrument, "interval_ns": bars.interval_ns, "ts": bars.ts}
        shared["feature_set"] = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(n, dtype=np.int32)), pa.array([self._features.hash])
        )
        width = frame.missing.shape[1]
        shared["missing"] = pa.ListArray.from_arrays(
            pa.array(np.arange(0, n * width + 1, width, dtype=np.int32)), pa.array(frame.missing.ravel())
        )
        known = _batch(FEATURES.arrow, shared)
        arrays = [*known.columns, *map(pa.array, np.ascontiguousarray(frame.values.T))]
        features = pa.RecordBatch.from_arrays(arrays, names=[*known.schema.names, *self._features.names])
        return [Rows(BARS.name, _batch(BARS.arrow, columns)), Rows(FEATURES.name, features)]

    def _event_bar_rows(self, frame: FeatureFrame) -> list[Rows]:
        bars = frame.event_bars
        if bars is None or not len(bars):
            return []
        columns: dict[str, Any] = {
            "series": self._engine.event_bars.names(bars.series),
            "instrument_id": self._names(bars.code),
        }
        columns |= {name: getattr(bars, name) for name in EVENT_BARS.names[3:]}
        return [Rows(EVENT_BARS.name, _batch(EVENT_BARS.arrow, columns))]

    def _names(self, code: CodeArray) -> pa.DictionaryArray:
        used, indices = np.unique(code, return_inverse=True)
        names = [self._directory.names[index] for index in used.tolist()]
        return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), pa.array(names))

    @property
    def instruments(self) -> int:
        """Instruments that there is state for."""
        return len(self._directory)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain values: text, numbers, bytes, lists and maps."""
        rows = len(self._directory)
        return {
            "version": _VERSION,
            "feature_set": self._features.hash,
            "swept": self._swept,
            "directory": self._directory.snapshot(),
            "engine": self._engine.snapshot(rows),
            "signals": self._signals.snapshot(rows),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            Another version wrote it, or for another feature set.
        """
        if (snapshot["version"], snapshot["feature_set"]) != (_VERSION, self._features.hash):
            raise VersionError(
                f"expected a shard snapshot of version {_VERSION} for feature set {self._features.hash}, found version "
                f"{snapshot['version']} for {snapshot['feature_set']}; resume with the version and configuration that "
                "wrote it, or start a new run"
            )
        self._swept = snapshot["swept"]
        self._directory.restore(snapshot["directory"])
        self._engine.restore(snapshot["engine"])
        self._signals.restore(snapshot["signals"])


def _batch(schema: pa.Schema, columns: dict[str, Any]) -> pa.RecordBatch:
    fields = [schema.field(name) for name in columns]
    arrays = [
        value if isinstance(value, pa.Array) else pa.array(value).cast(field.type)
        for value, field in zip(columns.values(), fields, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _below(batches: dict[str, pa.RecordBatch], cut: int) -> dict[str, pa.RecordBatch]:
    return {
        topic: batch.slice(0, int(np.searchsorted(times(batch, "ts_recv"), cut))) for topic, batch in batches.items()
    }


def _from(batches: dict[str, pa.RecordBatch], cut: int) -> dict[str, pa.RecordBatch]:
    return {name: batch.slice(int(np.searchsorted(times(batch, "ts_recv"), cut))) for name, batch in batches.items()}


class _ShardLogic(StatefulBatchLogic[Frame, ShardOutput, dict[str, Any]]):
    def __init__(self, config: ShardConfig, carried: Carried | None, resume: dict[str, Any] | None) -> None:
        self._state = ShardState(config, carried)
        if resume is not None:
            self._state.restore(resume)
        self._instruments = 0
        add(STATE_INSTRUMENTS, 0)

    @noted
    def on_batch(self, values: list[Frame]) -> tuple[Iterable[ShardOutput], bool]:
        outputs = [output for frame in values for output in self._compute(frame)]
        if is_measuring():
            instruments = self._state.instruments
            if instruments != self._instruments:
                add(STATE_INSTRUMENTS, instruments - self._instruments)
                self._instruments = instruments
        return outputs, StatefulBatchLogic.RETAIN

    def _compute(self, frame: Frame) -> list[ShardOutput]:
        # a clock alone can close bars: what then is computed begins a trace of its own
        with stage("compute", parent=frame.trace, root=True) as span:
            outputs = self._state.update(frame)
            if not outputs and not frame.batches:
                span.discard()
        if not span.trace:
            return outputs
        return [replace(output, trace=span.trace) if isinstance(output, Rows) else output for output in outputs]

    @noted
    def snapshot(self) -> dict[str, Any]:
        began = time.perf_counter()
        state = self._state.snapshot()
        if is_measuring():
            measure_snapshot("compute", state, time.perf_counter() - began)
        return state


@operator
def compute(
    step_id: str, up: KeyedStream[Frame], *, config: ShardConfig, carried: Carried | None = None
) -> KeyedStream[ShardOutput]:
    """Compute bars, features and signals of each shard.

    Parameters
    ----------
    step_id
        Unique id.
    up
        Frames by shard.
    config
        What to compute.
    carried
        What the universe gets of each bar; no slices without.
    """
    return op.stateful_batch("state", up, noted(lambda resume: _ShardLogic(config, carried, resume)))
