from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.kafka_figures import latencies, percentiles, rates, slope

MS = 10**6


def test_latency_of_a_stall_counts_every_record_that_was_due_meanwhile():
    scheduled = np.arange(1_000, dtype=np.int64) * MS
    seen = scheduled + MS
    stalled = (scheduled >= 500 * MS) & (scheduled < 600 * MS)
    seen[stalled] = 600 * MS  # nothing came out for 100 ms, then everything at once
    found, moved = latencies(scheduled, seen, 0, float(MS))
    told = percentiles(found)
    assert moved == 0
    assert (told["p50_ms"], told["max_ms"]) == (1.0, 100.0)
    assert told["p90_ms"] == pytest.approx(1, abs=1)
    assert told["p99_ms"] == pytest.approx(90, abs=1)


def test_latency_of_a_time_that_is_not_of_the_schedule_is_left_out_and_counted():
    found, moved = latencies(np.array([0, 33, 40]), np.array([5, 36, 41]), 0, 10.0)
    assert (found.tolist(), moved) == ([5, 1], 1)


@given(st.floats(1_000, 10**8), st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.integers(0, 2**60))
def test_latency_knows_every_time_of_its_own_schedule(interval: float, numbers: list[int], begin: int):
    scheduled = np.array([begin + int(number * interval) for number in numbers], dtype=np.int64)
    found, moved = latencies(scheduled, scheduled + 7, begin, interval)
    assert (found.tolist(), moved) == ([7] * len(numbers), 0)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200))
def test_percentiles_are_values_that_occur_and_do_not_fall(values: list[int]):
    told = percentiles(np.array(values, dtype=np.int64))
    quantiles = [told[name] for name in ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms")]
    assert quantiles == sorted(quantiles)
    assert set(quantiles) <= {round(value / MS, 3) for value in values}


def test_percentiles_of_nothing_are_none():
    assert percentiles(np.zeros(0, dtype=np.int64)) == {"count": 0}


def test_slope_of_noise_holds_zero_and_of_growth_does_not():
    rng = np.random.default_rng(1)
    seconds = np.arange(1800.0)
    noise = 400 + rng.normal(0, 5, size=len(seconds))
    flat = slope(seconds.tolist(), noise.tolist())
    assert flat is not None
    assert flat.low < 0 < flat.high
    assert not flat.exceeds(1)
    grown = slope(seconds.tolist(), (noise + seconds * 100 / 3600).tolist())
    assert grown is not None
    assert grown.low < 100 < grown.high
    assert grown.exceeds(50)


def test_slope_of_samples_that_hang_together_has_the_interval_of_its_bins():
    steps = np.repeat(np.random.default_rng(2).normal(0, 10, size=30), 60)  # each value for a minute
    found = slope(np.arange(1800.0).tolist(), steps.tolist())
    assert found is not None
    assert found.bins == 30
    assert found.high - found.low > 20  # taken for 1,800 values of their own it would be a seventh of that


@pytest.mark.parametrize(("seconds", "values"), [([], []), ([1, 2, 3], [1, 2, 3]), ([5, 5, 5, 5, 5], [1, 2, 3, 4, 5])])
def test_slope_of_too_few_samples_is_none(seconds: list[float], values: list[float]):
    assert slope(seconds, values) is None


def test_rates_take_medians_and_the_largest_memory():
    runs: list[dict[str, Any]] = [
        {"seconds": s, "cpu_seconds": c, "peak_mib": p} for s, c, p in ((1, 4, 9), (4, 1, 5), (2, 2, 7))
    ]
    found = rates(100, runs)
    assert (found.events_per_s, found.events_per_s_per_core, found.peak_mib) == (50.0, 50.0, 9)
