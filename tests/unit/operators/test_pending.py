"""Predictions that await their outcome."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.pending import PendingOutcomes

NAMES = ("A", "B", "C", "D")


def make(**changes):
    return PendingOutcomes(1, **({"horizon_ns": 10, "tolerance_ns": 5, "max_rows": 100} | changes))


def told(matured):
    return list(zip(matured.instruments, matured.ts.tolist(), matured.records[:, 0].tolist(),
                    matured.exit_close.tolist(), strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("ts", "expected"), [(9, []), (10, [7.0]), (15, [7.0]), (16, ["none"])], ids=["early", "due", "late", "too late"]
)
def test_prediction_takes_the_first_close_from_the_horizon_to_its_tolerance(ts, expected):
    pending = make()
    pending.add(0, ("A",), np.ones((1, 1)))
    found = [close if close == close else "none" for close in pending.mature(ts, {"A": 7.0}).exit_close.tolist()]
    assert found == expected
    assert pending.rows == (0 if expected else 1)


def test_instrument_that_vanished_expires_once():
    pending = make()
    pending.add(0, ("A", "B"), np.ones((2, 1)))
    assert pending.mature(12, {"B": 1.0}).instruments == ("B",)
    assert len(pending.mature(14, {"B": 1.0})) == 0
    expired = pending.mature(99, {"A": 1.0})
    assert expired.instruments == ("A",)
    assert np.isnan(expired.exit_close).all()
    assert len(pending.mature(100, {"A": 1.0})) == 0


def test_what_does_not_fit_is_refused_and_the_rest_still_matures():
    pending = make(max_rows=3)
    assert pending.add(0, ("A", "B"), np.zeros((2, 1)))
    assert not pending.add(1, ("A", "B"), np.ones((2, 1)))
    assert pending.rows == 2
    assert [row[:3] for row in told(pending.mature(11, {"A": 1.0, "B": 1.0}))] == [("A", 0, 0.0), ("B", 0, 0.0)]
    assert pending.add(12, ("A", "B"), np.ones((2, 1)))


def test_records_are_copied():
    pending, records = make(), np.zeros((1, 1))
    pending.add(0, ("A",), records)
    records[:] = 9
    assert told(pending.mature(10, {"A": 1.0})) == [("A", 0, 0.0, 1.0)]


def slow(frames, horizon, tolerance):
    """Return when and how each prediction ends, found by looking through all later frames for each."""
    over = []
    for position, (ts, closes) in enumerate(frames):
        for name in closes:
            later = [(t, c) for t, c in frames[position + 1 :] if t >= ts + horizon]
            for t, c in later:
                if t > ts + horizon + tolerance:
                    over.append((t, ts, name, None))
                elif name in c:
                    over.append((t, ts, name, c[name]))
                else:
                    continue
                break
    return sorted(over, key=repr)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), horizon=st.integers(1, 12), tolerance=st.integers(0, 6))
def test_every_prediction_ends_as_a_slow_search_says_also_when_resumed(data, horizon, tolerance):
    ts = sorted(data.draw(st.sets(st.integers(0, 60), min_size=2, max_size=25)))
    frames = [(t, {name: float(t + position) for position, name in enumerate(NAMES) if data.draw(st.booleans())})
              for t in ts]  # fmt: skip
    pending, over = make(horizon_ns=horizon, tolerance_ns=tolerance), []
    for t, closes in frames:
        twin = make(horizon_ns=horizon, tolerance_ns=tolerance)
        twin.restore(pending.snapshot())
        pending = twin
        for name, made, _, close in told(pending.mature(t, closes)):
            over.append((t, made, name, close if close == close else None))
        assert pending.add(t, tuple(closes), np.ones((len(closes), 1)))
    assert sorted(over, key=repr) == slow(frames, horizon, tolerance)
    assert pending.rows == sum(len(closes) for _, closes in frames) - len(over)
