"""Partitions that a topic got between two parts of a run are admitted, and change nothing that was already computed."""

from __future__ import annotations

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

NEVER = -(2**63) + 1
Place = tuple[int, int, int]
"""`(ts_recv, partition, offset)`."""


def batch(places: list[Place]) -> pa.RecordBatch | None:
    if not places:
        return None
    recv, partition, offset = zip(*places, strict=True)
    return make_batch("trades", {"ts_recv": recv, "partition": partition, "offset": offset}, len(places))


def rows(frame) -> list[Place]:
    if frame is None or not frame.batches:
        return []
    found = frame.batches["trades"]
    columns = times(found, "ts_recv"), integers(found, "partition"), integers(found, "offset")
    return list(zip(*(column.tolist() for column in columns), strict=True))


def clock_of(log: list[Place], delivered: int, least: int) -> int:
    """Return the clock of a live source: that of the next record, or of the last."""
    return max([least, *(ts for ts, *_ in log[: delivered + 1])])


@st.composite
def partition(draw: st.DrawFn, number: int) -> list[Place]:
    recv = np.cumsum(draw(st.lists(st.integers(0, 6), max_size=12))).tolist()
    return [(ts, number, offset) for offset, ts in enumerate(recv)]


def deliver(
    state: AlignState, data, log: dict[str, list[Place]], position: dict[str, int], least: dict[str, int]
) -> list[Place]:
    """Deliver some records of one source and return the rows of the frame."""
    source = data.draw(st.sampled_from(sorted(log)))
    start = position[source]
    position[source] = data.draw(st.integers(start, len(log[source])))
    clock = clock_of(log[source], position[source], least[source])
    return rows(state.update([Arrival(source, "trades", clock, batch(log[source][start : position[source]]))]))


@settings(max_examples=150, deadline=None)
@given(old=st.tuples(partition(0), partition(1)), new=partition(2), data=st.data())
def test_partition_added_between_two_parts_of_a_run_leaves_the_first_part_as_it_is(old, new, data):
    log = {"trades/0": old[0], "trades/1": old[1]}
    position = dict.fromkeys(log, 0)
    state = AlignState(log)
    before = []
    for _ in range(data.draw(st.integers(0, 6))):
        before += deliver(state, data, log, position, dict.fromkeys(log, NEVER))
    # the clock with which the source begins: that of the slowest, or any after it
    slowest = min(clock_of(log[source], position[source], NEVER) for source in log)
    least = slowest + data.draw(st.integers(0, 5))
    raised = [(max(ts, least), number, offset) for ts, number, offset in new]
    log["trades/2"], position["trades/2"] = raised, 0
    twin = AlignState(log)
    twin.restore(state.snapshot())
    after = []
    for _ in range(data.draw(st.integers(0, 6))):
        again = AlignState(log)
        again.restore(twin.snapshot())
        twin = again
        after += deliver(twin, data, log, position, {"trades/0": NEVER, "trades/1": NEVER, "trades/2": least})
    rest = [Arrival(source, "trades", END_OF_TIME, batch(log[source][position[source] :])) for source in sorted(log)]
    after += rows(twin.update(rest))
    assert before == sorted(old[0] + old[1])[: len(before)]
    assert before + after == sorted(old[0] + old[1] + raised)
    assert twin.buffered_rows == 0


def moved(*sources: str) -> AlignState:
    state = AlignState(sources)
    state.update([Arrival(source, source.rpartition("/")[0], 9, None) for source in sources])
    return state


def test_partition_added_behind_the_frontier_is_refused():
    state = AlignState(("trades/0", "trades/1"))
    state.restore(moved("trades/0").snapshot())
    with pytest.raises(InvariantError, match="found `trades/1` going from 9 to 8"):
        state.update([Arrival("trades/1", "trades", 8, None)])


def test_partition_added_is_waited_for():
    state = AlignState(("trades/0", "trades/1"))
    state.restore(moved("trades/0").snapshot())
    assert state.update([Arrival("trades/0", "trades", 20, None)]) is None
    frame = state.update([Arrival("trades/1", "trades", 15, None)])
    assert frame is not None
    assert frame.frontier == 15


def test_source_that_is_gone_is_named():
    state = AlignState(("trades/0",))
    with pytest.raises(VersionError, match="found no trades/1; what they delivered is part of the state"):
        state.restore(moved("trades/0", "trades/1").snapshot())


def test_topic_that_was_added_is_refused():
    state = AlignState(("news/0", "trades/0"))
    with pytest.raises(VersionError, match="expected an alignment snapshot of version 1 for sources"):
        state.restore(moved("trades/0").snapshot())
