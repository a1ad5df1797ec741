"""Drift monitors: false alarms, delays, evidence, and that a snapshot loses nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from river.drift import ADWIN

from models.drift import DriftConfig, DriftEvent, DriftMonitor
from models.drift_detectors import AdwinDetector
from schemas.enums import DriftDetector, DriftDirection
from schemas.errors import InvariantError, VersionError

S = 10**9
START = 5_000
"""stationary values before a change"""
EVERY = pytest.mark.parametrize("detector", DriftDetector)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def gaussian(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(3.0, 2.0, n)


def student(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_t(3, n) / math.sqrt(3)


def bernoulli(rng: np.random.Generator, n: int) -> np.ndarray:
    return (rng.random(n) < 0.3).astype(float)


def rare(rng: np.random.Generator, n: int) -> np.ndarray:
    return (rng.random(n) < 0.01).astype(float)


def watch(values: np.ndarray, **parameters: Any) -> list[DriftEvent]:
    return DriftMonitor(DriftConfig(**parameters)).update(values, np.arange(len(values)) * S)


@pytest.mark.parametrize("draw", [gaussian, student, bernoulli, rare])
def test_false_alarms_on_a_million_stationary_values_stay_under_the_bound(draw):
    events = watch(draw(np.random.default_rng(17), 1_000_000))
    bound = DriftConfig().false_alarm_bound(1_000_000)
    assert bound == {
        DriftDetector.ADWIN: pytest.approx(3.125),
        DriftDetector.PAGE_HINKLEY: pytest.approx(0.01, rel=0.1),
    }
    for detector in DriftDetector:
        assert sum(event.detector is detector for event in events) <= bound[detector]


def test_bound_is_not_empty_where_detectors_are_sensitive():
    """Alarms do come, fewer than allowed, once the parameters allow many."""
    parameters = {"allowance": 0.05, "threshold": 15.0, "delta": 0.3, "clip": 1.0}
    parameters |= {"cooldown": "1us", "min_instances": 2000}
    found = dict.fromkeys(DriftDetector, 0)
    for seed in range(4):
        for event in watch(gaussian(np.random.default_rng(seed), 50_000), **parameters):
            found[event.detector] += 1
    bound = DriftConfig(**parameters).false_alarm_bound(200_000)
    assert 0 < found[DriftDetector.ADWIN] <= bound[DriftDetector.ADWIN]
    assert 0 < found[DriftDetector.PAGE_HINKLEY] <= bound[DriftDetector.PAGE_HINKLEY]


def changed(draw: Draw, by: float, over: int = 0) -> Draw:
    def values(rng: np.random.Generator, n: int) -> np.ndarray:
        after = np.arange(n) - START + 1
        return draw(rng, n) + by * np.clip(after / max(over, 1), 0.0, 1.0)

    return values


def errors(before: float, after: float) -> Draw:
    def values(rng: np.random.Generator, n: int) -> np.ndarray:
        return (rng.random(n) < np.where(np.arange(n) < START, before, after)).astype(float)

    return values


@pytest.mark.parametrize(
    ("draw", "adwin", "page_hinkley"),
    [
        (changed(gaussian, 4.0), 100, 45),
        (changed(gaussian, 2.0), 220, 130),
        (changed(gaussian, 1.0), 600, 500),
        (changed(student, 1.0), 400, 600),
        (changed(student, 0.5), 800, 800),
        (changed(gaussian, 2.0, over=5_000), 2_400, 3_000),
        (errors(0.3, 0.5), 800, 850),
        (errors(0.3, 0.4), 3_500, None),
    ],
    ids=["2 sd", "1 sd", "half a sd", "heavy tails", "heavy tails, half a sd", "gradual", "errors", "few more errors"],
)
def test_drift_is_found_within_the_stated_delay_with_the_evidence(draw, adwin, page_hinkley):
    for seed in range(6):
        values = draw(np.random.default_rng(seed), START + 3_600)
        first: dict[DriftDetector, DriftEvent] = {}
        for event in watch(values):
            first.setdefault(event.detector, event)
            assert event.value > event.bound > 0
        for detector, delay in ((DriftDetector.ADWIN, adwin), (DriftDetector.PAGE_HINKLEY, page_hinkley)):
            if delay is not None:
                check(first[detector], values, delay)


def check(event: DriftEvent, values: np.ndarray, delay: int) -> None:
    found = event.ts // S
    assert START <= found < START + delay
    assert event.direction is DriftDirection.UP
    assert event.mean_after > event.mean_before
    seen = values[: found + 1]
    n = event.n_before + event.n_after
    assert event.mean_after == pytest.approx(seen[-event.n_after :].mean(), rel=1e-9)
    assert event.mean_before == pytest.approx(seen[len(seen) - n : -event.n_after].mean(), rel=1e-9)


@EVERY
def test_fall_is_reported_as_such(detector):
    event = next(e for e in watch(-changed(gaussian, 2.0)(np.random.default_rng(2), 6_000)) if e.detector is detector)
    assert event.direction is DriftDirection.DOWN
    assert event.mean_after < event.mean_before


@EVERY
def test_streams_of_any_unit_give_the_same_drifts(detector):
    values = changed(gaussian, 1.0)(np.random.default_rng(3), 6_000)
    plain, scaled = (
        [(e.ts, e.direction, e.n_before) for e in watch(v) if e.detector is detector]
        for v in (values, 1e6 * values - 3e7)
    )
    assert plain == scaled
    assert plain


@EVERY
def test_constant_stream_drifts_only_where_it_changes(detector):
    for level in (0.0, 0.1, -3e9):
        values = np.full(3_000, level)
        assert not watch(values)
        values[2_000:] += 1e-3 * abs(level) + 1e-6
        events = [event for event in watch(values) if event.detector is detector]
        assert [event.direction for event in events] == [DriftDirection.UP]


def test_one_outlier_is_no_drift():
    values = gaussian(np.random.default_rng(4), 3_000)
    values[2_000] = 1e140
    assert not watch(values)


def test_adwin_finds_what_river_finds_where_the_cap_is_not_reached():
    values = changed(gaussian, 2.0)(np.random.default_rng(5), 6_000)
    config = DriftConfig(cap=100_000)
    reference = values[: config.min_instances]
    river = ADWIN(delta=config.delta)
    expected = -1
    while not river.drift_detected:
        expected += 1
        z = np.clip((values[expected] - reference.mean()) / reference.std(), -4, 4)
        river.update(0.5 + z / 8)
    events = [event for event in watch(values, cap=100_000) if event.detector is DriftDetector.ADWIN]
    assert events[0].ts == expected * S


def test_adwin_keeps_at_most_twice_the_cap():
    detector = AdwinDetector(DriftConfig(cap=100, min_instances=50))
    sizes = []
    for value in gaussian(np.random.default_rng(6), 1_000).tolist():
        assert detector.update(value, 0) is None
        sizes.append(len(detector.snapshot().get("values", b"")) // 8)
    assert max(sizes) == 200
    assert min(sizes[200:]) == 101


def test_values_that_are_none_are_counted_and_change_nothing():
    values = changed(gaussian, 2.0)(np.random.default_rng(7), 7_000)
    spoiled = np.insert(values, [100, 3_000, 5_050, 5_050], [np.nan, np.inf, -np.inf, 1e200])
    monitor = DriftMonitor(DriftConfig())
    events = monitor.update(spoiled, np.arange(len(spoiled)) * S)
    assert monitor.skipped == 4
    plain = watch(values)
    assert [(e.detector, e.n_before, e.value) for e in events] == [(e.detector, e.n_before, e.value) for e in plain]
    assert plain


def test_cooldown_reports_the_first_and_counts_the_others():
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.normal(level, 1.0, 2_000) for level in (0, 5, 0, 5)])
    every = watch(values, cooldown="1s")
    assert [event.detector for event in every].count(DriftDetector.ADWIN) == 3
    monitor = DriftMonitor(DriftConfig(cooldown="1d"))
    events = monitor.update(values, np.arange(len(values)) * S)
    assert sorted(event.detector for event in events) == [DriftDetector.ADWIN, DriftDetector.PAGE_HINKLEY]
    assert monitor.suppressed == len(every) - 2


SHORT = DriftConfig(min_instances=30, cap=64, threshold=10.0, delta=0.05, cooldown="20s")
LEVELS = np.random.default_rng(9)
STEPS = np.concatenate([LEVELS.normal(level, 1.0, 150) for level in (0, 3, 3, -1, 0, 8)])
STEPS[::41] = np.nan
TS = np.arange(len(STEPS)) * S


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, len(STEPS)), max_size=6))
def test_cuts_and_snapshots_change_nothing(cuts):
    whole = DriftMonitor(SHORT)
    expected = whole.update(STEPS, TS)
    assert len({event.detector for event in expected}) == 2
    monitor, events, low = DriftMonitor(SHORT), [], 0
    for high in [*sorted(cuts), len(STEPS)]:
        events += monitor.update(STEPS[low:high], TS[low:high])
        snapshot = monitor.snapshot()
        monitor = DriftMonitor(SHORT)
        monitor.restore(snapshot)
        assert repr(monitor.snapshot()) == repr(snapshot)
        low = high
    assert events == expected
    assert repr(monitor.snapshot()) == repr(whole.snapshot())


def test_snapshot_at_every_value_gives_the_same_events():
    expected = DriftMonitor(SHORT).update(STEPS, TS)
    monitor, events = DriftMonitor(SHORT), []
    for i in range(len(STEPS)):
        events += monitor.update(STEPS[i : i + 1], TS[i : i + 1])
        snapshot = monitor.snapshot()
        monitor = DriftMonitor(SHORT)
        monitor.restore(snapshot)
    assert events == expected


def test_snapshot_is_plain_and_not_changed_later():
    monitor = DriftMonitor(SHORT)
    monitor.update(STEPS[:400], TS[:400])
    snapshot = monitor.snapshot()
    json.dumps(snapshot, default=lambda value: {bytes: "bytes"}[type(value)])
    before = repr(snapshot)
    monitor.update(STEPS[400:], TS[400:])
    assert repr(snapshot) == before


def test_snapshot_of_another_configuration_or_version_is_refused():
    snapshot = DriftMonitor(SHORT).snapshot()
    with pytest.raises(VersionError, match="resume with what wrote it"):
        DriftMonitor(DriftConfig()).restore(snapshot)
    with pytest.raises(VersionError, match="of version 1"):
        DriftMonitor(SHORT).restore(snapshot | {"version": 2})


def test_input_is_checked_and_not_written():
    monitor = DriftMonitor(SHORT)
    values, ts = np.array([1.0, np.nan]), np.array([5, 6])
    for array in (values, ts):
        array.flags.writeable = False
    assert monitor.update(values, ts) == []
    assert monitor.update(np.empty(0), np.empty(0, np.int64)) == []
    with pytest.raises(InvariantError, match="a time for each value, found 2 for 1"):
        monitor.update(values[:1], ts)
    with pytest.raises(InvariantError, match="never decrease"):
        monitor.update(values, ts - 2)
    with pytest.raises(InvariantError, match="never decrease"):
        monitor.update(values, np.array([9, 8]))


@pytest.mark.parametrize("changed_field", [{"delta": 0}, {"cap": 1}, {"cooldown": "0s"}, {"clip": math.inf}])
def test_config_is_checked(changed_field):
    with pytest.raises(ValidationError, match=next(iter(changed_field))):
        DriftConfig(**changed_field)
