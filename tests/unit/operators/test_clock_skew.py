"""Clock offset of a source."""

from __future__ import annotations

import numpy as np
import pytest

from operators.clock_skew import ClockSkewState
from schemas.errors import VersionError


def test_estimate_of_late_clock_is_offset_plus_shortest_way() -> None:
    rng = np.random.default_rng(1)
    event = np.cumsum(rng.integers(1, 1000, 20_000)) + 10**18
    delay = 1_270_000_000 + 500 + rng.exponential(10_000, 20_000).astype(np.int64)
    state = ClockSkewState()
    state.update(event, event + delay)
    assert 1_270_000_500 <= (state.estimate_ns() or 0) <= 1_270_000_700


def test_estimate_ignores_single_wrong_event_times() -> None:
    event = np.arange(4096) * 1000
    recv = event + 77
    event[1000] += 10**12
    state = ClockSkewState()
    state.update(event, recv)
    assert state.estimate_ns() == 77


def test_estimate_follows_a_clock_that_was_set() -> None:
    state = ClockSkewState(window=4, windows=3)
    event = np.arange(100)
    state.update(event, event + 5)
    state.update(event, event - 40)
    assert state.estimate_ns() == -40


@pytest.mark.parametrize("cuts", [[0, 1, 2, 3, 50, 50], [7] * 3, list(range(100))])
def test_update_gives_the_same_state_however_the_rows_are_cut(cuts: list[int]) -> None:
    rng = np.random.default_rng(2)
    event, recv = rng.integers(0, 1000, (2, 100))
    whole, parts = ClockSkewState(window=8, windows=3), ClockSkewState(window=8, windows=3)
    whole.update(event, recv)
    for start, stop in zip([0, *cuts], [*cuts, 100], strict=True):
        parts.update(event[start:stop], recv[start:stop])
        resumed = ClockSkewState(window=8, windows=3)
        resumed.restore(parts.snapshot())
        parts = resumed
    assert parts.snapshot() == whole.snapshot()


def test_restore_of_other_settings_is_refused() -> None:
    with pytest.raises(VersionError, match="resume with the settings that wrote it"):
        ClockSkewState(window=2).restore(ClockSkewState(window=4).snapshot())


def test_even_number_of_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="an odd number has a middle"):
        ClockSkewState(windows=2)
