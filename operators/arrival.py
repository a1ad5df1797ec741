"""What a source hands to the graph, and what the graph's steps hand on."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

__all__ = ["Arrival", "Counts", "Frame", "Rows"]

Counts = dict[tuple[str, str, str], int]
"""Increments of counters: (`CountKind`, topic or table, reason) to records."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Records that one source delivered, and how far its clock has come.

    Parameters
    ----------
    source
        Name of the source: a topic, or a partition of one.
    topic
        Topic of the records.
    clock
        Arrival clock, ns: every record of the source with `ts_recv` below it has been delivered.
    batch
        The records in arrival order with the archive schema of the topic, or None.
    order_violations
        Records whose `ts_recv` was raised, because their source went back in time.
    trace
        Trace context, as `traceparent` has it; empty where there is none. No part of any state.
    is_checked
        Whether the source has seen that admission has nothing against any of the rows.
    """

    source: str
    topic: str
    clock: int
    batch: pa.RecordBatch | None
    order_violations: int = 0
    trace: str = ""
    is_checked: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """All records that a shard may process, cut at one moment for every topic.

    Parameters
    ----------
    frontier
        Every record with `ts_recv` below it is in this frame or was in one before, ns.
    batches
        Topic to its records in arrival order; a topic without records is absent.
    trace
        Trace context of the arrival that completed it, through its alignment.
    """

    frontier: int
    batches: dict[str, pa.RecordBatch]
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for one output table, without `run_id`.

    Parameters
    ----------
    table
        Name of the table.
    batch
        The rows.
    trace
        Context of the trace that computed them.
    """

    table: str
    batch: pa.RecordBatch
    trace: str = ""
