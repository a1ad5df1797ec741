"""The one graph. Live, replay and demo run this function; only the source and the sink differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import KeyedStream
from bytewax.outputs import Sink

from dataflows.settings import Settings
from operators.align import align
from operators.arrival import Arrival, Counts, Rows
from operators.count import count
from operators.decode import DecodeLimits, Validated, validate
from operators.route import route
from operators.shard import compute
from schemas.enums import CountKind
from schemas.failure import noted
from schemas.metrics import BATCH_RECORDS
from schemas.tables import DEAD_LETTERS
from schemas.telemetry import record, stage

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
    computed = compute("compute", frames, config=settings.compute)
    rows = op.filter_map("rows", computed, lambda item: item[1] if isinstance(item[1], Rows) else None)
    increments = op.filter_map("increments", computed, lambda item: item[1] if isinstance(item[1], dict) else None)
    refused = op.flat_map("refused", admitted, lambda item: item.refused)
    counted = op.map("counted", admitted, lambda item: item.counts)
    keyed_counts: KeyedStream[Counts] = op.map(
        "key_counts", op.merge("all_counts", counted, increments), lambda item: (_TOTALS, item)
    )
    totals = op.map("run_counts", count("count", keyed_counts), lambda item: item[1])
    tables = op.map("key_tables", op.merge("tables", rows, refused, totals), lambda item: (item.table, item))
    op.output("sink", tables, sink)
    return flow


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
