"""Rows for instruments that had a record."""

from __future__ import annotations

import numpy as np
import pytest

from operators.state import Column
from operators.text.sparse import SparseState
from schemas.errors import VersionError


def _codes(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def _state(version: int = 1) -> SparseState:
    state = SparseState({"n": Column("i8", fill=-1)}, version=version)
    state.ensure(50)
    return state


def test_slots_are_given_once_and_only_to_instruments_with_a_record() -> None:
    state = _state()
    first = state.slots(_codes(40, 2, 40))
    assert state.slots(_codes(2, 40)).tolist() == [first[1], first[0]]
    assert state.occupied == len(set(first.tolist())) == 2


def test_memory_follows_instruments_with_a_record() -> None:
    state = SparseState({"ring": Column("f8", shape=(1000,))}, version=1)
    before = state.nbytes
    state.ensure(100_000)
    assert state.nbytes - before <= 4 * 200_000
    assert len(state.snapshot(100_000)["rows"]["arrays"]["ring"][2]) == 0


def test_reset_frees_a_row_and_makes_it_fresh_for_its_next_owner() -> None:
    state = _state()
    slots = state.slots(_codes(1, 2))
    state._state["n"][slots] = [7, 8]
    state.reset(_codes(1, 30))
    assert state.occupied == 1
    [reused] = state.slots(_codes(3)).tolist()
    assert reused == slots[0]
    assert state._state["n"][reused] == -1
    assert state._state["n"][state.slots(_codes(2))[0]] == 8


def test_restored_state_hands_out_rows_as_the_original_does() -> None:
    state = _state()
    state.slots(_codes(5, 6, 7, 8))
    state.reset(_codes(7, 5))
    twin = _state()
    twin.restore(state.snapshot(50))
    assert twin.snapshot(50) == state.snapshot(50)
    assert twin.slots(_codes(1, 2, 3)).tolist() == state.slots(_codes(1, 2, 3)).tolist()
    assert twin.snapshot(50) == state.snapshot(50)


def test_restore_of_another_version_is_refused() -> None:
    with pytest.raises(VersionError, match="expected a snapshot of rows per instrument of version 1, found 2"):
        _state().restore(_state(2).snapshot(1))
