"""Alignment: frames hold each record once, in arrival order, as soon as the slowest clock allows it."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.align import AlignState
from operators.arrival import Arrival
from schemas.batches import integers, make_batch, times
from schemas.errors import InvariantError, VersionError
from schemas.time import END_OF_TIME

Place = tuple[int, int, int]
"""`(ts_recv, partition, offset)`."""


def batch(places: list[Place], topic: str = "trades") -> pa.RecordBatch | None:
    if not places:
        return None
    recv, partition, offset = zip(*places, strict=True)
    names = [f"I{n}" for n in offset]
    return make_batch(
        topic,
        {"instrument_id": names, "ts_recv": list(recv), "partition": list(partition), "offset": list(offset)},
        len(places),
    )


def places(found: pa.RecordBatch) -> list[Place]:
    columns = times(found, "ts_recv"), integers(found, "partition"), integers(found, "offset")
    return list(zip(*(column.tolist() for column in columns), strict=True))


def arrive(source: str, clock: int, *recv: int) -> Arrival:
    return Arrival(source, source, clock, batch([(ts, 0, ts) for ts in recv], source))


def test_frame_waits_for_every_source():
    state = AlignState(("news", "quotes", "trades"))
    assert state.update([arrive("trades", 10, 1, 9), arrive("news", 20)]) is None
    assert state.buffered_rows == 2
    frame = state.update([arrive("quotes", 5, 4)])
    assert frame is not None
    assert frame.frontier == 5
    assert {topic: places(found) for topic, found in frame.batches.items()} == {
        "quotes": [(4, 0, 4)],
        "trades": [(1, 0, 1)],
    }
    assert state.buffered_rows == 1


def test_frame_holds_nothing_at_its_frontier():
    state = AlignState(("trades",))
    frame = state.update([arrive("trades", 7, 6, 7)])
    assert frame is not None
    assert places(frame.batches["trades"]) == [(6, 0, 6)]


def test_frame_of_one_moment_comes_whole():
    state = AlignState(("trades",))
    first = state.update([Arrival("trades", "trades", 7, batch([(7, 0, 0)]))])
    second = state.update([Arrival("trades", "trades", 8, batch([(7, 0, 1)]))])
    assert first is not None
    assert first.batches == {}
    assert second is not None
    assert places(second.batches["trades"]) == [(7, 0, 0), (7, 0, 1)]


def test_frame_topics_are_in_the_order_that_breaks_ties():
    state = AlignState(("trades", "books", "news"))
    frame = state.update([arrive(topic, 9, 1) for topic in ("trades", "news", "books")])
    assert frame is not None
    assert list(frame.batches) == ["books", "news", "trades"]


def test_clock_that_stands_gives_no_frame():
    state = AlignState(("trades",))
    assert state.update([arrive("trades", 9, 1)]) is not None
    assert state.update([arrive("trades", 9)]) is None


def test_end_of_time_releases_everything():
    state = AlignState(("trades",))
    frame = state.update([arrive("trades", END_OF_TIME, 5, 2**62)])
    assert frame is not None
    assert len(places(frame.batches["trades"])) == 2
    assert state.buffered_rows == 0


def test_unknown_source_is_refused():
    with pytest.raises(InvariantError, match=re.escape("expected a source among ['trades'] with a clock")):
        AlignState(("trades",)).update([arrive("news", 5)])


def test_clock_that_goes_back_is_refused():
    state = AlignState(("trades",))
    state.update([arrive("trades", 9)])
    with pytest.raises(InvariantError, match="found `trades` going from 9 to 8"):
        state.update([arrive("trades", 8)])


def test_snapshot_of_other_sources_is_refused():
    snapshot = AlignState(("trades",)).snapshot()
    with pytest.raises(VersionError, match="expected an alignment snapshot of version 1 for sources"):
        AlignState(("news", "trades")).restore(snapshot)


def test_snapshot_of_another_version_is_refused():
    snapshot = AlignState(("trades",)).snapshot() | {"version": 2}
    with pytest.raises(VersionError, match="found version 2"):
        AlignState(("trades",)).restore(snapshot)


@st.composite
def partitioned(draw: st.DrawFn) -> dict[str, list[Place]]:
    """Draw the records of one topic in three partitions, each in order."""
    found = {}
    for partition in range(3):
        gaps = draw(st.lists(st.integers(0, 6), max_size=12))
        recv = np.cumsum(gaps).tolist()
        found[f"trades/{partition}"] = [(ts, partition, offset) for offset, ts in enumerate(recv)]
    return found


@settings(max_examples=80, deadline=None)
@given(log=partitioned(), data=st.data())
def test_partitions_of_a_topic_merge_into_one_order_however_they_arrive(log, data):
    state = AlignState(log)
    position = dict.fromkeys(log, 0)
    found: list[Place] = []
    frontier = -(2**63)
    while any(position[source] <= len(log[source]) for source in log):
        source = data.draw(st.sampled_from([name for name in log if position[name] <= len(log[name])]))
        start = position[source]
        stop = data.draw(st.integers(start, len(log[source])))
        position[source] = stop
        if stop == len(log[source]):
            position[source], clock = stop + 1, END_OF_TIME
        else:
            clock = log[source][stop][0]
        if data.draw(st.booleans()):
            twin = AlignState(log)
            twin.restore(state.snapshot())
            assert twin.buffered_rows == state.buffered_rows
            state = twin
        frame = state.update([Arrival(source, "trades", clock, batch(log[source][start:stop]))])
        if frame is not None:
            rows = places(frame.batches["trades"]) if frame.batches else []
            assert all(frontier <= recv < frame.frontier for recv, *_ in rows)
            frontier = frame.frontier
            found += rows
    assert found == sorted(place for places_of in log.values() for place in places_of)
    assert state.buffered_rows == 0


def test_snapshot_keeps_symbols_and_bytes():
    places_of = {"ts_recv": [5, 6], "partition": [0, 0], "offset": [0, 1]}
    columns = places_of | {"instrument_id": ["A", "B"], "raw": [b"{", None]}
    state = AlignState(("news", "trades"))
    state.update([Arrival("trades", "trades", 10, make_batch("trades", columns, 2).slice(1))])
    state.update([Arrival("trades", "trades", 11, make_batch("trades", columns | {"ts_recv": [8, 9]}, 2))])
    twin = AlignState(("news", "trades"))
    twin.restore(state.snapshot())
    frame = twin.update([Arrival("news", "news", 20, None), Arrival("trades", "trades", 20, None)])
    assert frame is not None
    assert frame.batches["trades"].column("instrument_id").to_pylist() == ["B", "A", "B"]
    assert frame.batches["trades"].column("raw").to_pylist() == [None, b"{", None]


# --- traces

TRACES = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 20)]


def traced(source: str, clock: int, recv: list[int], trace: str) -> Arrival:
    rows = batch([(ts, 0, ts) for ts in recv], source) if recv else None
    return Arrival(source, source, clock, rows, trace=trace)


def test_frame_comes_of_the_arrivals_whose_records_it_holds():
    state = AlignState(("news", "trades"))
    state.update([traced("trades", 3, [1, 2], TRACES[0]), traced("trades", 9, [8], TRACES[1])])
    assert list(state.held_traces) == TRACES[:2]
    assert state.update([traced("news", 5, [4], TRACES[2])]) is not None
    assert sorted(state.origins) == [TRACES[0], TRACES[2]]
    assert state.update([traced("news", 20, [], ""), traced("trades", 20, [], "")]) is not None
    assert state.origins == [TRACES[1]]


def test_frame_of_many_arrivals_names_few():
    state = AlignState(("trades",))
    state.update([traced("trades", at + 1, [at], TRACES[at]) for at in range(15)])
    assert len(state.origins) == 9


def test_traces_are_no_part_of_the_state():
    state, twin = AlignState(("news", "trades")), AlignState(("news", "trades"))
    state.update([traced("trades", 3, [1, 2], TRACES[0])])
    twin.update([traced("trades", 3, [1, 2], "")])
    assert state.snapshot() == twin.snapshot()
    twin.restore(state.snapshot())
    assert list(twin.held_traces) == [""]
