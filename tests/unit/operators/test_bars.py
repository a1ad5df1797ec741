"""Bars: small tables of trades and the bars that they must give."""

from __future__ import annotations

import numpy as np
import pytest

from operators.bars import BarState, BarUpdate
from schemas.enums import Side
from schemas.errors import ConfigError, InvariantError, VersionError
from schemas.time import END_OF_TIME


def _update(state: BarState, rows: list[tuple[int, int, int, float, float, int]], frontier: int) -> BarUpdate:
    """Feed rows of (code, ts_event, ts_recv, price, size, side)."""
    state.ensure(1 + max((row[0] for row in rows), default=0))
    columns = list(zip(*rows, strict=True)) or [()] * 6
    return state.update(
        np.array(columns[0], dtype=np.int32),
        np.array(columns[1], dtype=np.int64),
        np.array(columns[2], dtype=np.int64),
        np.array(columns[3], dtype=np.float64),
        np.array(columns[4], dtype=np.float64),
        np.array(columns[5], dtype=np.int8),
        frontier,
    )


def test_bar_of_three_trades_has_every_column() -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=0)
    rows = [(0, 100, 101, 5.0, 2.0, Side.BUY), (0, 199, 199, 9.0, 1.0, Side.SELL), (0, 150, 205, 3.0, 1.0, 0)]
    bars = _update(state, rows, 210).bars
    got = {name: getattr(bars, name).tolist() for name in bars.__dataclass_fields__}
    assert got == {
        "code": [0],
        "interval_ns": [100],
        "ts_start": [100],
        "ts_end": [200],
        "ts": [210],
        "open": [5.0],
        "high": [9.0],
        "low": [3.0],
        "close": [3.0],
        "volume": [4.0],
        "notional": [22.0],
        "vwap": [5.5],
        "trade_count": [3],
        "buy_volume": [2.0],
    }
    assert state.open_bars == 0


@pytest.mark.parametrize(("frontier", "closed"), [(209, 0), (210, 1), (END_OF_TIME, 1)])
def test_bar_closes_exactly_when_the_frontier_reaches_its_decision_time(frontier: int, closed: int) -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=0)
    assert len(_update(state, [(0, 150, 150, 1.0, 1.0, 0)], frontier).bars) == closed


@pytest.mark.parametrize(("arrival", "late"), [(209, []), (210, [0])])
def test_trade_is_late_exactly_from_the_decision_time_on(arrival: int, late: list[int]) -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=0)
    assert _update(state, [(0, 150, arrival, 1.0, 1.0, 0)], END_OF_TIME).late_row.tolist() == late


def test_lateness_does_not_depend_on_whether_the_bar_was_closed_by_then() -> None:
    rows = [(0, 150, 150, 1.0, 1.0, 0), (0, 160, 215, 2.0, 1.0, 0)]
    together = BarState((100,), grace_ns=10, max_ahead_ns=0)
    update = _update(together, rows, END_OF_TIME)
    assert (update.late_row.tolist(), update.bars.trade_count.tolist()) == ([1], [1])
    apart = BarState((100,), grace_ns=10, max_ahead_ns=0)
    assert len(_update(apart, rows[:1], 151).bars) == 0
    assert _update(apart, rows[1:], END_OF_TIME).late_row.tolist() == [0]


def test_trade_late_for_a_short_bar_is_in_time_for_a_long_one() -> None:
    state = BarState((10, 100), grace_ns=5, max_ahead_ns=0)
    update = _update(state, [(0, 101, 120, 1.0, 1.0, 0)], END_OF_TIME)
    assert (update.late_row.tolist(), update.late_interval.tolist()) == ([0], [0])
    assert update.bars.interval_ns.tolist() == [100]


def test_bars_come_by_decision_time_then_interval_then_code() -> None:
    state = BarState((50, 100), grace_ns=0, max_ahead_ns=0)
    rows = [(2, 110, 110, 1.0, 1.0, 0), (0, 160, 160, 1.0, 1.0, 0), (1, 170, 170, 1.0, 1.0, 0)]
    bars = _update(state, rows, END_OF_TIME).bars
    assert list(zip(bars.ts.tolist(), bars.interval_ns.tolist(), bars.code.tolist(), strict=True)) == [
        (150, 50, 2),
        (200, 50, 0),
        (200, 50, 1),
        (200, 100, 0),
        (200, 100, 1),
        (200, 100, 2),
    ]


def test_event_times_ahead_of_arrival_keep_several_bars_open() -> None:
    state = BarState((10,), grace_ns=10, max_ahead_ns=25)
    rows = [(0, event, 100, 1.0, 1.0, 0) for event in (99, 105, 115, 125, 95)]
    update = _update(state, rows, 101)
    assert (len(update.bars), state.open_bars) == (0, 4)
    bars = _update(state, [], END_OF_TIME).bars
    assert list(zip(bars.ts_start.tolist(), bars.trade_count.tolist(), strict=True)) == [
        (90, 2),
        (100, 1),
        (110, 1),
        (120, 1),
    ]


def test_event_times_before_the_epoch_are_floored() -> None:
    state = BarState((100,), grace_ns=0, max_ahead_ns=0)
    assert _update(state, [(0, -1, -1, 1.0, 1.0, 0)], END_OF_TIME).bars.ts_start.tolist() == [-100]


def test_event_time_far_in_the_past_is_late_without_overflow() -> None:
    state = BarState((7, 10**9), grace_ns=0, max_ahead_ns=0)
    update = _update(state, [(0, -(2**63), 0, 1.0, 1.0, 0), (0, -(2**63) + 5, 0, 1.0, 1.0, 0)], END_OF_TIME)
    assert update.late_row.tolist() == [0, 0, 1, 1]
    assert len(update.bars) == 0


def test_close_without_trades_closes_what_is_due() -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=0)
    _update(state, [(0, 150, 150, 1.0, 1.0, 0)], 151)
    assert len(state.close(209)) == 0
    assert len(state.close(210)) == 1
    assert len(state.close(END_OF_TIME)) == 0


def test_overflowing_notional_gives_no_vwap() -> None:
    state = BarState((100,), grace_ns=0, max_ahead_ns=0)
    bars = _update(state, [(0, 1, 1, 1e200, 1e200, 0), (0, 2, 2, 1.0, 1.0, 0)], END_OF_TIME).bars
    assert np.isinf(bars.notional[0])
    assert np.isnan(bars.vwap[0])


@pytest.mark.parametrize(
    ("rows", "frontier", "message"),
    [
        ([(0, 31, 10, 1.0, 1.0, 0)], 100, "at most `max_ahead` after `ts_recv`, found row 0"),
        ([(0, 10, 10, 1.0, 1.0, 0), (0, 9, 9, 1.0, 1.0, 0)], 100, "not to decrease.*found row 1"),
        ([(0, 10, 100, 1.0, 1.0, 0)], 100, "before the frontier, found row 0"),
        ([(0, 10, 2**62 + 1, 1.0, 1.0, 0)], END_OF_TIME, "of the epoch, found row 0"),
        ([(-1, 10, 10, 1.0, 1.0, 0)], 100, "`ensure` has made room for, found row 0"),
    ],
)
def test_row_that_breaks_a_rule_stops_and_changes_nothing(
    rows: list[tuple[int, int, int, float, float, int]], frontier: int, message: str
) -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=20)
    before = state.snapshot(1)
    with pytest.raises(InvariantError, match=message):
        _update(state, rows, frontier)
    assert state.snapshot(1) == before


def test_row_before_a_frontier_that_has_passed_stops() -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=0)
    _update(state, [], 500)
    with pytest.raises(InvariantError, match="before the last frontier"):
        _update(state, [(0, 499, 499, 1.0, 1.0, 0)], 600)


@pytest.mark.parametrize(
    ("intervals", "grace", "ahead", "message"),
    [
        ((), 0, 0, "distinct bar intervals"),
        ((5, 5), 0, 0, "distinct bar intervals"),
        ((0,), 0, 0, "bar intervals in"),
        ((10**18,), 0, 0, "bar intervals in"),
        ((10,), -1, 0, "grace and lead in"),
        ((10,), 0, -1, "grace and lead in"),
        ((1,), 10**6, 0, "at most 4096 bars"),
    ],
)
def test_inconsistent_durations_are_refused(intervals: tuple[int, ...], grace: int, ahead: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BarState(intervals, grace, ahead)


def test_restore_with_another_grace_is_refused() -> None:
    snapshot = BarState((100,), grace_ns=10, max_ahead_ns=0).snapshot(1)
    with pytest.raises(ConfigError, match="expected open bars with"):
        BarState((100,), grace_ns=11, max_ahead_ns=0).restore(snapshot)


def test_restore_of_another_version_is_refused() -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=0)
    snapshot = state.snapshot(1)
    snapshot["state"]["version"] = 99
    with pytest.raises(VersionError, match="version 99"):
        state.restore(snapshot)


def test_reset_forgets_the_open_bars_of_its_codes_only() -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=0)
    _update(state, [(0, 150, 150, 1.0, 1.0, 0), (1, 150, 150, 1.0, 1.0, 0)], 151)
    codes = np.array([0, 1], dtype=np.int32)
    assert state.has_open(codes).tolist() == [True, True]
    state.reset(codes[[0, 0]])
    assert state.has_open(codes).tolist() == [False, True]
    assert state.open_bars == 1
    assert _update(state, [], END_OF_TIME).bars.code.tolist() == [1]
    assert not state.has_open(codes).any()


def test_frontier_at_the_beginning_of_time_closes_nothing() -> None:
    state = BarState((100,), grace_ns=10, max_ahead_ns=0)
    _update(state, [(0, 150, 150, 1.0, 1.0, 0)], 151)
    assert len(state.close(-(2**63))) == 0
    assert len(state.close(210)) == 1


def test_earlier_bar_opened_after_a_later_one_closes_first() -> None:
    state = BarState((10,), grace_ns=10, max_ahead_ns=25)
    _update(state, [(0, 115, 100, 1.0, 1.0, 0), (0, 95, 100, 1.0, 1.0, 0)], 101)
    assert state.close(110).ts_start.tolist() == [90]
    assert state.close(130).ts_start.tolist() == [110]


def test_restored_state_knows_which_bars_are_closed() -> None:
    state, twin = (BarState((100,), grace_ns=10, max_ahead_ns=0) for _ in range(2))
    state.close(500)
    twin.restore(state.snapshot(1))
    with pytest.raises(InvariantError, match="before the last frontier"):
        _update(twin, [(0, 499, 499, 1.0, 1.0, 0)], 600)
