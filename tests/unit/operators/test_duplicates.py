"""Duplicate windows: exact rows, and a plain set as oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.duplicates import SequenceWindow, TextIdWindow
from schemas.errors import ConfigError, VersionError

_WINDOW = 1024


def _mark(window: SequenceWindow, idents: list[int]) -> list[bool]:
    window.ensure(1)
    return window.update(np.zeros(len(idents), np.int32), np.array(idents, dtype=np.int64)).tolist()


def _expected(idents: list[int]) -> list[bool]:
    seen: set[int] = set()
    top = -1
    repeated = []
    for x in idents:
        repeated.append(x >= 0 and (x in seen or (top >= 0 and x <= top - _WINDOW)))
        if x >= 0:
            seen.add(x)
            top = max(top, x)
    return repeated


@pytest.mark.parametrize(
    ("idents", "repeated"),
    [
        ([5, 5], [False, True]),
        ([-1, -1, -2], [False, False, False]),
        ([0, 0], [False, True]),
        ([2000, 977, 976], [False, False, True]),
        ([10, 10 + 1024, 11, 10], [False, False, False, True]),
        ([10, 2**63 - 1, 2**63 - 1, 2**63 - 2, 10], [False, False, True, False, True]),
        ([63, 64, 127, 128, 64, 65, 128], [False, False, False, False, True, False, True]),
        ([1, 1500, 1023 + 1], [False, False, False]),
    ],
)
def test_sequence_window_tells_repeats(idents: list[int], repeated: list[bool]) -> None:
    assert _mark(SequenceWindow(), idents) == repeated == _expected(idents)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**40), st.lists(st.integers(-1100, 1100), max_size=200), st.integers(0, 200))
def test_sequence_window_equals_a_set_however_it_is_cut(base: int, steps: list[int], cut: int) -> None:
    idents = [max(0, base + int(x)) for x in np.cumsum(steps)]
    window, twin = SequenceWindow(), SequenceWindow()
    first = _mark(window, idents[:cut])
    twin.restore(window.snapshot(1))
    assert first + _mark(twin, idents[cut:]) == _expected(idents)


def test_sequence_windows_of_instruments_are_independent_and_reset_alone() -> None:
    window = SequenceWindow()
    window.ensure(2)
    code = np.array([0, 1], dtype=np.int32)
    ident = np.array([7, 7])
    ident.flags.writeable = False
    assert window.update(code, ident).tolist() == [False, False]
    window.reset(code[:1])
    assert window.update(code, ident).tolist() == [False, True]


def test_sequence_window_takes_no_rows_and_keeps_its_size() -> None:
    window = SequenceWindow()
    size = window.nbytes
    assert _mark(window, []) == []
    _mark(window, list(range(100_000)))
    assert window.nbytes == size


def test_text_window_forgets_the_first_in_first() -> None:
    window = TextIdWindow(capacity=3)
    window.ensure(1)
    code = np.zeros(7, np.int32)
    assert window.update(code, ["a", "b", "c", "a", "d", "a", "c"]).tolist() == [0, 0, 0, 1, 0, 0, 1]


def test_text_window_snapshot_is_a_copy_and_continues() -> None:
    window, twin = TextIdWindow(capacity=3), TextIdWindow(capacity=3)
    window.ensure(2)
    code = np.array([0, 1, 1], dtype=np.int32)
    window.update(code, ["a", "b", "c"])
    snapshot = window.snapshot(2)
    assert snapshot == {"version": 1, "ids": [["a"], ["b", "c"]]}
    window.update(code, ["x", "y", "z"])
    assert snapshot["ids"] == [["a"], ["b", "c"]]
    twin.restore(snapshot)
    assert twin.update(code, ["a", "x", "b"]).tolist() == [True, False, True]


def test_text_window_restored_with_less_capacity_keeps_the_newest() -> None:
    window, small = TextIdWindow(capacity=3), TextIdWindow(capacity=2)
    window.ensure(1)
    window.update(np.zeros(3, np.int32), ["a", "b", "c"])
    small.restore(window.snapshot(1))
    assert small.snapshot(1)["ids"] == [["b", "c"]]


def test_text_window_reset_forgets_its_codes_and_missing_ids_pass() -> None:
    window = TextIdWindow()
    window.ensure(1)
    code = np.zeros(1, np.int32)
    window.update(code, ["a"])
    window.reset(code)
    assert window.update(np.zeros(3, np.int32), ["a", None, None]).tolist() == [False, False, False]


def test_text_window_refuses_no_capacity_and_other_versions() -> None:
    with pytest.raises(ConfigError, match="expected a positive number of ids"):
        TextIdWindow(capacity=0)
    with pytest.raises(VersionError, match="found 2"):
        TextIdWindow().restore({"version": 2, "ids": []})


def test_sequence_window_ids_at_the_end_of_64_bits_end():
    window = SequenceWindow()
    window.ensure(1)
    last = 2**63 - 1
    ids = np.array([last - 5, last, last, last - 5, last - 1], dtype=np.int64)
    assert window.update(np.zeros(5, dtype=np.int32), ids).tolist() == [False, False, True, True, False]
