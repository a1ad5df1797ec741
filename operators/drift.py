"""Drift monitors over what specialists read, answer and get wrong: monitored values in, rows of `drift_events` out.

Each stream of each model has a monitor of its own, under a key of its own. It is fed one value for each decision time,
the mean over the instruments: what instruments do at one time is alike, and a test that takes them for independent
values raises false alarms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from models.drift import DriftMonitor
from models.drift_config import DriftConfig, DriftEvent
from operators.arrival import Rows
from operators.specialist_frame import Monitored
from schemas.enums import DriftStream
from schemas.failure import noted
from schemas.tables import DRIFT_EVENTS

__all__ = ["drift", "drift_rows", "stream_key", "stream_kind"]

_KINDS: Final = {"score": DriftStream.SCORE, "error": DriftStream.ERROR}
_FIELDS: Final = {field.name: field for field in DRIFT_EVENTS.arrow}


def stream_key(monitored: Monitored) -> str:
    """Return the key of a stream: model and stream.

    Examples
    --------
    >>> stream_key(Monitored("news", "1f", "input:news_sentiment", 0, np.zeros(1)))
    'news/input:news_sentiment'
    """
    return f"{monitored.model}/{monitored.stream}"


def stream_kind(stream: str) -> DriftStream:
    """Return what kind of numbers a stream holds.

    Examples
    --------
    >>> stream_kind("input:rsi").name, stream_kind("error").name
    ('INPUT', 'ERROR')
    """
    return _KINDS.get(stream, DriftStream.INPUT)


def drift_rows(model: str, stream: str, events: list[DriftEvent]) -> Rows:
    """Return drifts of one stream as rows of `drift_events`.

    Parameters
    ----------
    model, stream
        Whose drifts they are.
    events
        At least one.
    """
    columns: dict[str, list[Any]] = {
        "model": [model] * len(events),
        "stream": [stream] * len(events),
        "stream_kind": [int(stream_kind(stream))] * len(events),
    }
    names = [field.name for field in DRIFT_EVENTS.computed]
    for name in names:
        if name not in columns:
            columns[name] = [getattr(event, name) for event in events]
    fields = [_FIELDS[name] for name in names]
    arrays = [_array(columns[field.name], field.type) for field in fields]
    return Rows(DRIFT_EVENTS.name, pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)))


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values).dictionary_encode().cast(kind)
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


class _DriftLogic(StatefulBatchLogic[Monitored, Rows, dict[str, Any]]):
    def __init__(self, config: DriftConfig, resume: dict[str, Any] | None) -> None:
        self._monitor = DriftMonitor(config)
        if resume is not None:
            self._monitor.restore(resume)

    @noted
    def on_batch(self, values: list[Monitored]) -> tuple[Iterable[Rows], bool]:
        means = np.array([value.values.mean() for value in values])
        events = self._monitor.update(means, np.array([value.ts for value in values], dtype=np.int64))
        found = [drift_rows(values[0].model, values[0].stream, events)] if events else []
        return found, StatefulBatchLogic.RETAIN

    @noted
    def snapshot(self) -> dict[str, Any]:
        return self._monitor.snapshot()


@operator
def drift(step_id: str, up: KeyedStream[Monitored], *, config: DriftConfig) -> KeyedStream[Rows]:
    """Watch streams of values for drift.

    Parameters
    ----------
    step_id
        Unique id.
    up
        Values of each stream under its `stream_key`, in order of time.
    config
        Sensitivity of the detectors.
    """
    return op.stateful_batch("state", up, noted(lambda resume: _DriftLogic(config, resume)))
