"""The one graph. Live, replay and demo run this function; only the source and the sink differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.operators import KeyedStream
from bytewax.outputs import Sink

from dataflows.settings import Settings
from operators.align import align
from operators.arrival import Arrival, Counts, Rows
from operators.count import count
from operators.decode import DecodeLimits, Validated, validate
from operators.drift import drift, stream_key
from operators.feature_engine import feature_set
from operators.route import route
from operators.shard import ShardOutput, compute
from operators.specialist_frame import SpecialistFrame
from operators.specialists import specialists
from operators.universe import UNIVERSE_KEY, UniverseSlice, universe
from operators.universe_engine import decide
from operators.universe_slices import Carried
from schemas.enums import CountKind
from schemas.failure import noted
from schemas.metrics import BATCH_RECORDS
from schemas.tables import DEAD_LETTERS
from schemas.telemetry import record, stage
from schemas.time import duration_ns

__all__ = ["FLOW_ID", "build_graph"]

FLOW_ID: Final = "signalbox"
"""Id of the dataflow. It and the step ids below are part of every recovery folder: never rename one."""
_TOTALS: Final = "totals"


@dataclass(frozen=True, slots=True)
class _Admitted:
    """An arrival after validation: what goes on, what was refused, what was counted."""

    arrival: Arrival
    refused: tuple[Rows, ...]
    counts: Counts


@dataclass(frozen=True, slots=True)
class _Across:
    """What comes of looking at all instruments together."""

    rows: Stream[Rows]
    counts: Stream[Counts]


def build_graph(settings: Settings, source: Source[Arrival], sources: tuple[str, ...], sink: Sink[Any]) -> Dataflow:
    """Return the dataflow from a source of arrivals to a sink of table rows.

    Parameters
    ----------
    settings
        The configuration.
    source
        Delivers `Arrival` items.
    sources
        Names of all the sources that it delivers from; alignment waits for each.
    sink
        Takes `(table, Rows)` items.
    """
    limits = settings.compute.decode
    flow = Dataflow(FLOW_ID)
    arrivals = op.input("source", flow, source)
    admitted = op.map("decode", arrivals, lambda arrival: _admit(arrival, limits))
    shards = route("route", op.map("accepted", admitted, lambda item: item.arrival), shards=settings.shards)
    frames = align("align", shards, sources=sources)
    carried = _carried(settings)
    computed = compute(
        "compute", frames, config=settings.compute, carried=carried if settings.universe.enabled else None
    )
    rows = op.filter_map("rows", computed, lambda item: item[1] if isinstance(item[1], Rows) else None)
    increments = op.filter_map("increments", computed, lambda item: item[1] if isinstance(item[1], dict) else None)
    across = [_across(computed, carried, settings)] if settings.universe.enabled else []
    refused = op.flat_map("refused", admitted, lambda item: item.refused)
    counted = op.map("counted", admitted, lambda item: item.counts)
    keyed_counts: KeyedStream[Counts] = op.map(
        "key_counts", op.merge("all_counts", counted, increments, *(found.counts for found in across)),
        lambda item: (_TOTALS, item),
    )  # fmt: skip
    totals = op.map("run_counts", count("count", keyed_counts), lambda item: item[1])
    every = op.merge("tables", rows, refused, totals, *(found.rows for found in across))
    tables = op.map("key_tables", every, lambda item: (item.table, item))
    op.output("sink", tables, sink)
    return flow


def _across(computed: KeyedStream[ShardOutput], carried: Carried, settings: Settings) -> _Across:
    """Look at all instruments together: features and strategies across them, specialists, and drift of these."""
    slices = op.filter_map("slices", computed, _named_slice)
    frames = universe("universe", slices, shards=settings.shards, config=settings.universe.members, names=carried.names)
    decided = op.map("universe_rows", decide("decide", frames, config=settings.universe), lambda item: item[1])
    answers = specialists("specialists", frames, config=settings.specialists)
    answered = op.flat_map("specialist_rows", answers, lambda item: item[1].rows)
    counts = op.filter_map("specialist_counts", answers, lambda item: _counts(item[1]))
    streams = op.flat_map(
        "monitored", answers, lambda item: [(stream_key(values), values) for values in item[1].monitored]
    )
    drifts = op.map("drift_rows", drift("drift", streams, config=settings.drift), lambda item: item[1])
    return _Across(op.merge("across", decided, answered, drifts), counts)


def _carried(settings: Settings) -> Carried:
    """Return what the universe gets of bars; a specialist does without features that are not computed."""
    computed = feature_set(settings.compute).names
    read = {name for name in settings.specialists.needs if name in computed}
    return Carried(duration_ns(settings.universe.members.interval), tuple(sorted({*settings.universe.needs, *read})))


def _named_slice(item: tuple[str, ShardOutput]) -> tuple[str, UniverseSlice] | None:
    shard, output = item
    return (UNIVERSE_KEY, replace(output, shard=shard)) if isinstance(output, UniverseSlice) else None


def _counts(frame: SpecialistFrame) -> Counts | None:
    """Return what specialists counted as increments of counters."""
    return {
        (CountKind.OUTCOME.value, reason, "") if model == "outcomes" else (CountKind.UNANSWERED.value, model, reason): n
        for (model, reason), n in frame.counts.items()
    } or None


@noted
def _admit(arrival: Arrival, limits: DecodeLimits) -> _Admitted:
    """Decode and validate what arrived."""
    counts: Counts = {}
    if arrival.order_violations:
        counts[CountKind.ORDER_VIOLATION.value, arrival.topic, ""] = arrival.order_violations
    if arrival.batch is None or not arrival.batch.num_rows:
        return _Admitted(arrival, (), counts)
    with stage("decode", arrival.topic, parent=arrival.trace) as span:
        checked = arrival.is_checked
        validated = Validated.all_of(arrival.batch) if checked else validate(arrival.topic, arrival.batch, limits)
    counts[CountKind.READ.value, arrival.topic, ""] = arrival.batch.num_rows
    record(BATCH_RECORDS, arrival.batch.num_rows, arrival.topic)
    refused: tuple[Rows, ...] = ()
    if validated.rejected.num_rows:
        refused = (Rows(DEAD_LETTERS.name, validated.rejected, span.trace),)
        for reason in validated.rejected.column("reason").to_pylist():
            key = (CountKind.DEAD_LETTERED.value, arrival.topic, reason)
            counts[key] = counts.get(key, 0) + 1
    accepted = validated.accepted if validated.accepted.num_rows else None
    passed = Arrival(arrival.source, arrival.topic, arrival.clock, accepted, trace=span.trace)
    return _Admitted(passed, refused, counts)
