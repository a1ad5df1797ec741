"""The drift statistic, with scipy as oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from dataflows.report.drift import ks_statistic

_SAMPLE = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=60)


@given(_SAMPLE, _SAMPLE)
def test_ks_statistic_of_two_samples_is_the_largest_distance(first: list[float], last: list[float]) -> None:
    distances = [
        abs(sum(a <= x for a in first) / len(first) - sum(b <= x for b in last) / len(last)) for x in first + last
    ]
    assert ks_statistic(np.array(first), np.array(last)) == pytest.approx(max(distances), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_ks_statistic_of_two_samples_is_that_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, last = rng.normal(size=150).round(1), rng.normal(0.1 * seed, size=90).round(1)
    assert ks_statistic(first, last) == pytest.approx(ks_2samp(first, last, method="asymp").statistic, abs=1e-12)


@given(_SAMPLE, st.randoms())
def test_ks_statistic_of_a_permutation_is_zero(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ks_statistic(np.array(values), np.array(shuffled)) == 0.0


def test_ks_statistic_of_an_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="expected two samples with values, was 0 and 1 values"):
        ks_statistic(np.empty(0), np.ones(1))
