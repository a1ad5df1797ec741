"""The graph: its steps keep their names, and what it admits, refuses and counts."""

from __future__ import annotations

from typing import Any

import pytest
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from bytewax.testing import TestingSource
from bytewax.visualize import to_rendered

from dataflows.graph import FLOW_ID, build_graph
from dataflows.settings import Settings, parse_settings
from models.specialists import SPECIALISTS
from operators.arrival import Arrival
from schemas.batches import make_batch
from schemas.time import END_OF_TIME
from sinks.memory import MemoryWriter
from sinks.tables import TableSink

SECOND = 10**9


def trades(seconds: list[float], **columns: Any) -> Any:
    n = len(seconds)
    ts = [int(second * SECOND) for second in seconds]
    base = {
        "instrument_id": ["A"] * n, "ts_event": ts, "ts_recv": ts, "partition": [0] * n, "offset": list(range(n)),
        "price": [10.0] * n, "size": [1.0] * n, "side": [1] * n,
    }  # fmt: skip
    return make_batch("trades", base | columns, n)


def build(arrivals: list[Arrival], writer: MemoryWriter, settings: Settings | None = None) -> Dataflow:
    names = tuple(sorted({arrival.source for arrival in arrivals})) or ("trades",)
    return build_graph(settings or Settings(), TestingSource(arrivals), names, TableSink(lambda: writer))


def run(arrivals: list[Arrival], settings: Settings | None = None) -> MemoryWriter:
    writer = MemoryWriter()
    cli_main(build(arrivals, writer, settings))
    writer.flush()
    return writer


def counts(writer: MemoryWriter) -> dict[tuple[str, str, str], int]:
    return {(row["kind"], row["subject"], row["reason"]): row["count"] for row in writer.rows("run_counts")}


def test_step_ids_are_those_of_every_recovery_folder():
    """A step that is renamed silently starts without its state."""
    assert FLOW_ID == "signalbox"
    steps = {step.step_id for step in to_rendered(build([], MemoryWriter())).substeps}
    assert {
        "signalbox.source", "signalbox.decode", "signalbox.route", "signalbox.align", "signalbox.compute",
        "signalbox.count", "signalbox.sink",
    } <= steps  # fmt: skip


def stateful(steps: Any) -> set[str]:
    found = set()
    for step in steps:
        if step.op_type == "stateful_batch":
            found.add(step.step_id)
        found |= stateful(step.substeps)
    return found


def test_stateful_steps_are_those_that_remember():
    assert stateful(to_rendered(build([], MemoryWriter())).substeps) == {
        "signalbox.align.state",
        "signalbox.compute.state",
        "signalbox.count.totals",
        "signalbox.universe.state",
        "signalbox.decide.state",
        "signalbox.specialists.state",
        "signalbox.drift.state",
    }


def test_graph_without_records_writes_nothing_but_empty_counts():
    writer = run([Arrival("trades", "trades", END_OF_TIME, None)])
    for table in ("bars", "features", "signals", "dead_letters", "late_events", "run_counts"):
        assert writer.rows(table) == []


def test_graph_counts_what_it_reads_refuses_and_takes():
    arrivals = [
        Arrival("trades", "trades", 5 * SECOND, trades([1, 2, 3], price=[10.0, -1.0, 10.0]), order_violations=2),
        Arrival("trades", "trades", END_OF_TIME, trades([6, 7], trade_id=[4, 4], offset=[3, 4])),
    ]
    writer = run(arrivals)
    found = counts(writer)
    assert found.pop(("unanswered", "ensemble", "no_quorum")) == 1
    assert {key[1]: found.pop(key) for key in list(found) if key[0] == "unanswered"} == dict.fromkeys(SPECIALISTS, 1)
    assert found == {
        ("read", "trades", ""): 5,
        ("decoded", "trades", ""): 3,
        ("dead_lettered", "trades", "out_of_range"): 1,
        ("dead_lettered", "trades", "duplicate"): 1,
        ("order_violation", "trades", ""): 2,
    }
    assert [(row["offset"], row["reason"]) for row in writer.rows("dead_letters")] == [
        (1, "out_of_range"),
        (4, "duplicate"),
    ]


def test_graph_batch_of_nothing_but_refused_records_still_moves_the_clock():
    arrivals = [
        Arrival("trades", "trades", 5 * SECOND, trades([1])),
        Arrival("trades", "trades", END_OF_TIME, trades([6], price=[float("nan")], offset=[1])),
    ]
    assert [row["close"] for row in run(arrivals).rows("bars")] == [10.0, 10.0]


@pytest.mark.parametrize("shards", [1, 3])
def test_graph_rows_of_every_shard_reach_the_sink(shards):
    names = [f"I{n}" for n in range(9)]
    batch = trades([1 + n / 10 for n in range(9)], instrument_id=names)
    settings = parse_settings({"shards": shards}, "x")
    rows = run([Arrival("trades", "trades", END_OF_TIME, batch)], settings).rows("bars")
    assert {row["instrument_id"] for row in rows} == set(names)


def test_graph_waits_for_the_slowest_source():
    arrivals = [
        Arrival("trades", "trades", END_OF_TIME, trades([1, 2])),
        Arrival("news", "news", 1, None),
    ]
    assert run(arrivals).rows("bars") == []
    assert len(run([*arrivals, Arrival("news", "news", END_OF_TIME, None)]).rows("bars")) == 3
