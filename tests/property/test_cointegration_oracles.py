"""The test of cointegration against least squares written out, MacKinnon's published values, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.cointegration import accepted, critical_value, engle_granger, p_value
from schemas.errors import ConfigError

FIRST, SECOND = np.array([0]), np.array([1])


def slow_engle_granger(y: np.ndarray, x: np.ndarray, lags: int) -> tuple[float, float, float, float]:
    """Return statistic, intercept, slope and half-life by two general least-squares fits."""
    design = np.column_stack([np.ones(len(x)), x])
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    e = y - design @ coefficients
    change = np.diff(e)
    rows = [[e[t], *(change[t - k] for k in range(1, lags + 1))] for t in range(lags, len(change))]
    regressors, target = np.array(rows), change[lags:]
    fit, *_ = np.linalg.lstsq(regressors, target, rcond=None)
    rest = target - regressors @ fit
    variance = rest @ rest / (len(target) - lags - 1)
    error = np.sqrt(variance * np.linalg.inv(regressors.T @ regressors)[0, 0])
    speed = (e[:-1] @ change) / (e[:-1] @ e[:-1])
    half_life = -np.log(2) / np.log1p(speed) if -1 < speed < 0 else np.nan
    return fit[0] / error, coefficients[0], coefficients[1], half_life


@pytest.mark.parametrize("lags", [0, 1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_engle_granger_equals_least_squares_written_out(lags, seed):
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(size=180)) + 50
    y = 3 + 0.7 * x + np.cumsum(rng.normal(size=180)) * (seed % 2) + rng.normal(size=180)
    found = engle_granger(np.column_stack([y, x]), FIRST, SECOND, lags=lags)
    expected = slow_engle_granger(y, x, lags)
    actual = (found.statistic[0], found.intercept[0], found.hedge_ratio[0], found.half_life[0])
    np.testing.assert_allclose(actual, expected, rtol=1e-8)


def test_engle_granger_leaves_out_rows_that_one_lacks():
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.normal(size=150))
    y = x + rng.normal(size=150)
    holes = np.column_stack([y, x])
    holes[[3, 50], 0] = np.nan
    holes[100, 1] = np.inf
    kept = np.isfinite(holes).all(axis=1)
    found, expected = (engle_granger(table, FIRST, SECOND) for table in (holes, holes[kept]))
    assert found.statistic[0] == expected.statistic[0]
    assert found.n_obs[0] == 147


# MacKinnon (2010), table 2: limits for two variables with a constant
@pytest.mark.parametrize(("level", "limit"), [(0.01, -3.89644), (0.05, -3.33613), (0.10, -3.04445)])
def test_critical_value_tends_to_the_published_limit(level, limit):
    assert critical_value(level, 10**9) == pytest.approx(limit, abs=1e-6)
    assert critical_value(level, 50) < critical_value(level, 500) < limit + 1e-9


# MacKinnon (1994) is an approximation to the same law: its probability at the limits is the level
@pytest.mark.parametrize("level", [0.01, 0.05, 0.10])
def test_p_value_at_the_critical_value_is_the_level(level):
    assert p_value(critical_value(level, 10**6), 10**6) == pytest.approx(level, rel=0.03)
    for n_obs in (100, 250):
        # for short series it errs on the safe side
        assert 0.99 * level < p_value(critical_value(level, n_obs), n_obs) < 1.12 * level


def test_p_value_is_monotone_and_bounded():
    grid = [p_value(statistic, 250) for statistic in np.linspace(-25, 5, 4_001)]
    assert grid[0] == 0.0
    assert grid[-1] == 1.0
    assert (np.diff(grid) >= -1e-3).all()


def test_critical_value_of_another_level_is_refused():
    with pytest.raises(ConfigError, match="expected a level of significance"):
        critical_value(0.025, 100)


@pytest.mark.parametrize("n", [100, 250])
def test_engle_granger_independent_walks_pass_at_the_nominal_rate(n):
    rng = np.random.default_rng(n)
    pairs = 4_000
    walks = np.cumsum(rng.normal(size=(n, 2 * pairs)), axis=0)
    p = engle_granger(walks, np.arange(pairs), np.arange(pairs) + pairs).p_value
    for level in (0.1, 0.05, 0.01):
        # three standard errors above the level, and not empty
        assert 0.5 * level < np.mean(p <= level) < level + 3 * np.sqrt(level * (1 - level) / pairs)


def test_engle_granger_correlated_walks_pass_at_the_nominal_rate():
    """Pairs are screened by the correlation of their returns; that must not make them pass."""
    rng = np.random.default_rng(5)
    pairs = 3_000
    common = rng.normal(size=(250, pairs))
    legs = [np.cumsum(common + rng.normal(size=(250, pairs)), axis=0) for _ in range(2)]
    p = engle_granger(np.column_stack(legs), np.arange(pairs), np.arange(pairs) + pairs).p_value
    assert np.mean(p <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / pairs)


@pytest.mark.parametrize("correction", ["bonferroni", "benjamini_hochberg"])
def test_accepted_of_independent_walks_has_any_at_the_level_of_the_family(correction):
    rng = np.random.default_rng(9)
    families, tests = 120, 60
    walks = np.cumsum(rng.normal(size=(250, 2 * families * tests)), axis=0)
    p = engle_granger(walks, np.arange(families * tests), np.arange(families * tests) + families * tests).p_value
    any_found = [accepted(own, 0.05, correction).any() for own in p.reshape(families, tests)]
    assert np.mean(any_found) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / families)


def test_engle_granger_half_life_of_a_known_process():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(40):
        spread = np.zeros(1_000)
        for t in range(1, 1_000):
            spread[t] = 0.9 * spread[t - 1] + rng.normal()
        x = np.cumsum(rng.normal(size=1_000))
        found.append(engle_granger(np.column_stack([x + spread, x]), FIRST, SECOND).half_life[0])
    assert np.median(found) == pytest.approx(np.log(0.5) / np.log(0.9), rel=0.1)


def degenerate() -> dict[str, np.ndarray]:
    walk = np.cumsum(np.random.default_rng(3).normal(size=100))
    return {
        "constant explaining": np.column_stack([walk, np.ones(100)]),
        "constant dependent": np.column_stack([np.ones(100), walk]),
        "the same": np.column_stack([walk, walk]),
        "a multiple": np.column_stack([1 + 2 * walk, walk]),
        "too short": np.column_stack([walk, walk + 1])[:29],
        "nothing": np.full((100, 2), np.nan),
        "huge": np.column_stack([walk * 1e300, walk[::-1] * 1e300]),
    }


@pytest.mark.parametrize("name", sorted(degenerate()))
def test_engle_granger_degenerate_pair_has_no_result(name):
    found = engle_granger(degenerate()[name], FIRST, SECOND)
    assert np.isnan(found.statistic[0])
    assert np.isnan(found.p_value[0])
    assert not accepted(found.p_value, 0.05, "benjamini_hochberg").any()


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=30), st.floats(0.001, 0.4))
def test_accepted_equals_the_definitions(values, level):
    p = np.array(values, dtype=np.float64)
    n = len(p)
    assert accepted(p, level, "bonferroni").tolist() == [value * n <= level or value <= level / n for value in values]
    ordered = sorted(value for value in values if value == value)
    bound = max((value for k, value in enumerate(ordered, 1) if value <= level * k / n), default=-1.0)
    assert accepted(p, level, "benjamini_hochberg").tolist() == [value <= bound for value in values]
