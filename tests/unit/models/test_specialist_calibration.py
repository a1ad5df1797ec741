"""Calibration against known probabilities, batch fits and hand-made sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from models.specialists.calibration import (
    PlattScaling,
    Reliability,
    effective_weight,
    log_loss,
    log_odds,
    logistic,
)

BATCH = 50


def draws(rng, n, slope=1.0, intercept=0.0, spread=1.0):
    """Return scores whose true log-odds are `slope` times them plus `intercept`, and labels."""
    score = rng.normal(0, spread, n)
    label = (rng.random(n) < logistic(slope * score + intercept)).astype(float)
    return score, label


def fed(scaling, score, label):
    for first in range(0, len(score), BATCH):
        scaling.update(score[first : first + BATCH], label[first : first + BATCH], 1.0)
    return scaling


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.3, -0.5), (2.5, 0.8), (0.0, 0.4)])
def test_platt_scaling_finds_the_known_slope_and_intercept(slope, intercept):
    score, label = draws(np.random.default_rng(1), 40_000, slope, intercept)
    scaling = fed(PlattScaling(decay=1 - 1e-9, prior=1.0), score, label)
    assert scaling.slope == pytest.approx(slope, abs=0.06)
    assert scaling.intercept == pytest.approx(intercept, abs=0.04)


def test_platt_scaling_without_forgetting_is_the_batch_fit():
    score, label = draws(np.random.default_rng(2), 20_000, 0.6, -0.2)
    scaling = fed(PlattScaling(decay=1 - 1e-12, prior=1e-3), score, label)
    batch = LogisticRegression(C=1e9, tol=1e-10).fit(score[:, None], label)
    assert scaling.slope == pytest.approx(batch.coef_[0, 0], rel=0.01)
    assert scaling.intercept == pytest.approx(batch.intercept_[0], abs=0.005)


def test_platt_scaling_follows_a_change_within_its_memory():
    rng = np.random.default_rng(3)
    scaling = PlattScaling(decay=0.5 ** (1 / 100), prior=1.0)
    fed(scaling, *draws(rng, 20_000, 2.0, 1.0))
    fed(scaling, *draws(rng, 40_000, 0.5, -1.0))
    assert scaling.slope == pytest.approx(0.5, abs=0.12)
    assert scaling.intercept == pytest.approx(-1.0, abs=0.1)


def test_platt_scaling_returns_to_a_score_as_it_is_when_evidence_fades():
    scaling = PlattScaling(decay=0.9, prior=10.0)
    fed(scaling, *draws(np.random.default_rng(4), 5_000, 0.0, 1.5))
    for _ in range(600):
        scaling.update(np.zeros(1), np.array([0.5]), 1e-9)
    assert scaling.slope == pytest.approx(1.0, abs=0.02)
    assert scaling.intercept == pytest.approx(0.0, abs=0.02)


def test_calibrated_probabilities_of_a_distorted_score_match_outcomes():
    """The expected calibration error on fresh data is below 0.02; that of the score itself is above 0.1."""
    rng = np.random.default_rng(5)
    scaling = fed(PlattScaling(decay=0.9995, prior=10.0), *draws(rng, 50_000, 0.3, -0.4, spread=2.0))
    score, label = draws(rng, 50_000, 0.3, -0.4, spread=2.0)
    errors = []
    for probability in (logistic(scaling.scaled(score)), logistic(score)):
        record = Reliability(decay=0.5)
        record.update(probability, label, 1.0)
        errors.append(record.calibration_error)
    assert errors[0] < 0.02
    assert errors[1] > 0.1


def test_platt_scaling_of_a_score_that_is_wrong_is_flat_and_not_inverted():
    score, label = draws(np.random.default_rng(6), 20_000, -1.5)
    assert fed(PlattScaling(decay=0.999, prior=1.0), score, label).slope < 0.05


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    weight=st.floats(1e-9, 1e3),
    ones=st.integers(0, 2**20),
)
def test_platt_scaling_stays_within_bounds_whatever_the_scores(scores, weight, ones):
    scaling = PlattScaling(decay=0.99, prior=1.0)
    score = np.array(scores)
    label = np.array([float(ones >> position & 1) for position in range(len(scores))])
    for _ in range(5):
        scaling.update(score, label, weight)
    assert 0 <= scaling.slope <= 5
    assert -5 <= scaling.intercept <= 5
    assert np.isfinite(logistic(scaling.scaled(score))).all()


def test_platt_scaling_without_outcomes_changes_nothing():
    scaling = fed(PlattScaling(decay=0.9, prior=1.0), *draws(np.random.default_rng(7), 500))
    before = scaling.snapshot()
    scaling.update(np.empty(0), np.empty(0), 1.0)
    assert scaling.snapshot() == before


def test_reliability_equals_the_sums_written_out():
    rng = np.random.default_rng(8)
    probability, label = rng.random((3, 40)), (rng.random((3, 40)) < 0.4).astype(float)
    record = Reliability(decay=0.5)
    for p, y in zip(probability, label, strict=True):
        record.update(p, y, 0.25)
    weight = np.repeat([0.25 * 0.25, 0.25 * 0.5, 0.25], 40)
    p, y = probability.ravel(), label.ravel()
    bins = np.floor(p * 20)
    parts = [abs(np.sum((weight * (p - y))[bins == b])) for b in range(20)]
    assert record.calibration_error == pytest.approx(sum(parts) / weight.sum())
    assert record.brier_score == pytest.approx(np.average((p - y) ** 2, weights=weight))
    assert record.base_rate == pytest.approx(np.average(y, weights=weight))
    assert record.n_effective == pytest.approx(weight.sum())


def test_reliability_without_outcomes_has_no_measures_and_no_confidence():
    record = Reliability(decay=0.9)
    assert np.isnan([record.calibration_error, record.brier_score, record.base_rate]).all()
    assert record.confidence(convincing=10, tolerated=0.1) == 0.0


def test_confidence_grows_with_outcomes_and_falls_with_calibration_error():
    def confidence(n, probability):
        record = Reliability(decay=0.999)
        record.update(np.full(n, probability), np.arange(n) % 2.0, 1.0)
        return record.confidence(convincing=100, tolerated=0.1)

    assert confidence(1_000, 0.5) > confidence(100, 0.5) == pytest.approx(0.5)
    assert confidence(100, 0.55) == pytest.approx(0.25, abs=1e-9)
    assert confidence(100, 0.9) == 0.0


def test_confidence_does_not_rise_with_the_distance_from_one_half():
    record = Reliability(decay=0.999)
    record.update(np.full(1_000, 0.97), np.zeros(1_000), 1.0)
    assert record.confidence(convincing=1, tolerated=0.1) == 0.0


@pytest.mark.parametrize(("n", "correlation", "overlap", "expected"), [(1, 1, 1, 1), (10, 1, 1, 0.1), (10, 0, 5, 0.2)])
def test_effective_weight_of_extremes(n, correlation, overlap, expected):
    assert effective_weight(n, correlation, overlap) == pytest.approx(expected)


def test_log_loss_and_log_odds_are_finite_for_certainties():
    certain = np.array([0.0, 1.0, 0.5])
    assert np.isfinite(log_odds(certain)).all()
    np.testing.assert_allclose(log_loss(certain, np.array([0.0, 1.0, 1.0])), [0, 0, np.log(2)], atol=2e-6)
    assert log_loss(np.array([1.0]), np.array([0.0]))[0] == pytest.approx(-np.log(1e-6), rel=1e-3)


def test_snapshots_continue_bit_for_bit():
    rng = np.random.default_rng(9)
    scaling, record = PlattScaling(decay=0.99, prior=2.0), Reliability(decay=0.99)
    other, other_record = PlattScaling(decay=0.99, prior=2.0), Reliability(decay=0.99)
    for step in range(20):
        score, label = draws(rng, 30)
        if step == 10:
            other.restore(scaling.snapshot())
            other_record.restore(record.snapshot())
        for one, two in ((scaling, record), (other, other_record)):
            one.update(score, label, 0.3)
            two.update(logistic(score), label, 0.3)
    assert other.snapshot() == scaling.snapshot()
    assert other_record.snapshot() == record.snapshot()
