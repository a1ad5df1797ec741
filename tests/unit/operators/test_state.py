"""Arrays with a row per instrument: they grow, are made fresh, and are kept as plain values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.state import ArrayState, Column
from schemas.errors import VersionError

COLUMNS = {
    "count": Column("i8"),
    "flag": Column("u1", fill=3),
    "window": Column("f8", fill=float("nan"), shape=(2, 3)),
}


def make(version: int = 1) -> ArrayState:
    return ArrayState(COLUMNS, version=version)


def assert_same(first: ArrayState, second: ArrayState, rows: int) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(first[name][:rows], second[name][:rows])


def test_rows_are_fresh():
    state = make()
    state.ensure(5)
    assert state["count"][4] == 0
    assert state["flag"][4] == 3
    assert np.isnan(state["window"][4]).all()


@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_growth_keeps_rows_and_adds_fresh_ones(sizes):
    state = make()
    state["count"][0] = 7
    for size in sizes:
        state.ensure(size)
        assert state.rows >= size
        assert state["count"][0] == 7
        assert not state["count"][1:].any()
        assert (state["flag"] == 3).all()


def test_growth_doubles_so_that_many_small_steps_are_cheap():
    state = make()
    grown = set()
    for size in range(1, 5_000):
        state.ensure(size)
        grown.add(state.rows)
    assert len(grown) <= 10


def test_reset_makes_rows_fresh_and_leaves_the_others():
    state = make()
    state["count"][:4] = 9
    state["window"][:4] = 1.0
    state.reset(np.array([1, 3], dtype=np.int32))
    assert state["count"][:4].tolist() == [9, 0, 9, 0]
    assert np.isnan(state["window"][[1, 3]]).all()
    assert (state["window"][[0, 2]] == 1.0).all()


@given(rows=st.integers(0, 60))
def test_restored_rows_equal_the_kept_ones(rows):
    state = make()
    state.ensure(rows)
    state["count"][:rows] = np.arange(rows)
    state["window"][:rows, 1, 2] = np.arange(rows) / 3
    twin = make()
    twin.restore(state.snapshot(rows))
    assert_same(state, twin, rows)
    twin["count"][:] = 1
    twin.ensure(100)
    assert (twin["flag"][rows:] == 3).all()


def test_snapshot_is_not_changed_by_later_writes():
    state = make()
    snapshot = state.snapshot(2)
    kept = repr(snapshot)
    state["count"][:] = 5
    assert repr(snapshot) == kept


def test_snapshot_of_more_rows_than_there_are_has_fresh_ones():
    state = make()
    twin = make()
    twin.restore(state.snapshot(40))
    assert twin.rows >= 40
    assert (twin["flag"][:40] == 3).all()


def test_snapshot_of_another_version_is_refused():
    with pytest.raises(VersionError, match=r"expected a state snapshot of version 2 .* found version 1"):
        make(version=2).restore(make().snapshot(1))


@pytest.mark.parametrize(
    "columns",
    [
        {"count": Column("i8")},
        COLUMNS | {"more": Column("i8")},
        COLUMNS | {"count": Column("i4")},
        COLUMNS | {"window": Column("f8", shape=(2, 4))},
    ],
)
def test_snapshot_of_other_columns_is_refused(columns):
    snapshot = ArrayState(columns, version=1).snapshot(1)
    with pytest.raises(VersionError, match="start a new run"):
        make().restore(snapshot)


def test_nbytes_counts_every_array():
    state = make()
    assert state.nbytes == state.rows * (8 + 1 + 48)
