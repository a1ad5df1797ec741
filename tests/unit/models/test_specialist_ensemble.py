"""The pool of specialists: weights on the simplex, skill, quorum, calibration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.specialists.base import NoAnswer
from models.specialists.calibration import Reliability, logistic
from models.specialists.config import EnsembleConfig
from models.specialists.ensemble import Ensemble, EnsembleOutcomes, simplex_weights
from schemas.errors import VersionError

NAMES = ("a", "b", "c")


def make(**changes):
    settings = {"label_correlation": 0.0, "half_life": 500} | changes
    return Ensemble(NAMES, EnsembleConfig(**settings), horizon_ns=60)


def run(ensemble, rng, steps, truths):
    """Learn from rows whose log-odds are the sum of `truths` times a normal number for each member."""
    said = []
    for _ in range(steps):
        parts = rng.normal(size=(50, len(NAMES))) * truths
        own = rng.normal(size=(50, len(NAMES)))
        members = logistic(np.where(np.array(truths) > 0, parts, 0.3 * own))
        label = (rng.random(50) < logistic(parts.sum(axis=1))).astype(float)
        together = ensemble.predict(members)
        said.append((together.estimate, label))
        ensemble.learn(EnsembleOutcomes(members, together.score, together.estimate, label, 60))
    return said


@given(st.lists(st.floats(), min_size=1, max_size=12), st.floats(1e-6, 0.999))
def test_simplex_weights_are_positive_and_sum_to_one_whatever_the_skill(skill, floor):
    weights = simplex_weights(np.array(skill), floor)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_weights_are_equal_before_any_outcome():
    ensemble = make()
    assert ensemble.weights.tolist() == [1 / 3] * 3
    assert ensemble.weighs_equally


def test_weights_go_to_the_skilled_member():
    ensemble = make()
    run(ensemble, np.random.default_rng(1), 200, (0.0, 1.0, 0.0))
    assert ensemble.weights[1] > 0.9
    assert ensemble.skill[1] > 0 > max(ensemble.skill[0], ensemble.skill[2])
    assert not ensemble.weighs_equally


def test_weights_move_when_the_skill_moves():
    ensemble = make(half_life=50)
    rng = np.random.default_rng(2)
    run(ensemble, rng, 200, (1.0, 0.0, 0.0))
    run(ensemble, rng, 400, (0.0, 0.0, 1.0))
    assert ensemble.weights[2] > 0.8


def test_pool_of_independent_members_is_scaled_up_and_calibrated():
    """Three independent calibrated members: the truth is the sum of their log-odds, three times their mean."""
    ensemble = make()
    said = run(ensemble, np.random.default_rng(3), 900, (0.7, 0.7, 0.7))
    assert ensemble.calibration.slope == pytest.approx(3.0, abs=0.35)
    probability, label = (np.concatenate(part) for part in zip(*said[600:], strict=True))
    record = Reliability(decay=0.5)
    record.update(probability, label, 1.0)
    assert record.calibration_error < 0.02
    assert np.mean((probability - label) ** 2) < 0.21


def test_quorum_below_which_there_is_no_answer():
    members = np.array([[0.7, 0.6, 0.5], [0.7, 0.6, np.nan], [0.7, np.nan, np.nan], [np.nan] * 3])
    together = make(quorum=2).predict(members)
    assert together.reason.tolist() == [NoAnswer.ANSWERED, NoAnswer.ANSWERED, NoAnswer.NO_QUORUM, NoAnswer.NO_QUORUM]
    answered = [True, True, False, False]
    for column in (together.score, together.estimate, together.confidence, together.disagreement):
        assert np.isfinite(column).tolist() == answered
    np.testing.assert_allclose(together.weights.sum(axis=1), answered)
    assert together.weights[1, 2] == 0.0


def test_answer_does_not_depend_on_other_rows():
    members = np.random.default_rng(4).random((40, 3))
    members[::3, 1] = np.nan
    ensemble = make()
    run(ensemble, np.random.default_rng(5), 20, (1.0, 0.5, 0.0))
    whole = ensemble.predict(members)
    for row in range(40):
        assert ensemble.predict(members[row : row + 1]).estimate[0] == whole.estimate[row]


def test_contributions_and_intercept_sum_to_the_log_odds():
    ensemble = make()
    run(ensemble, np.random.default_rng(6), 100, (1.0, 0.5, 0.0))
    together = ensemble.predict(np.random.default_rng(7).uniform(0.2, 0.8, (10, 3)))
    np.testing.assert_allclose(together.contributions.sum(axis=1) + together.intercept, together.log_odds, rtol=1e-12)
    np.testing.assert_allclose(logistic(together.log_odds), together.estimate)


def test_disagreement_lowers_confidence():
    ensemble = make()
    run(ensemble, np.random.default_rng(8), 100, (0.7, 0.7, 0.7))
    alike, apart = ensemble.predict(np.array([[0.6, 0.6, 0.6], [0.95, 0.5, 0.05]])).confidence
    assert alike > apart > 0
    disagreement = ensemble.predict(np.array([[0.6, 0.6, 0.6], [0.9, 0.9, 0.9], [1.0, 1.0, 0.0]])).disagreement
    assert disagreement[:2] == pytest.approx([0, 0], abs=1e-8)
    assert 0 < disagreement[2] <= 0.5


def test_confidence_is_nothing_before_the_first_outcome():
    assert make().predict(np.full((1, 3), 0.9)).confidence.tolist() == [0.0]


def test_empty_moment_gives_nothing_and_teaches_nothing():
    ensemble = make()
    before = ensemble.snapshot()
    assert len(ensemble.predict(np.empty((0, 3))).estimate) == 0
    ensemble.learn(EnsembleOutcomes(np.empty((0, 3)), np.empty(0), np.empty(0), np.empty(0), 60))
    assert ensemble.snapshot() == before


def test_member_that_never_answers_has_no_skill_and_the_floor():
    ensemble = make()
    members = np.full((20, 3), np.nan)
    rng = np.random.default_rng(9)
    for _ in range(50):
        odds = rng.normal(size=20)
        members[:, 0] = logistic(odds)
        label = (rng.random(20) < members[:, 0]).astype(float)
        ensemble.learn(EnsembleOutcomes(members, np.full(20, np.nan), np.full(20, np.nan), label, 60))
    assert ensemble.skill[1] == 0.0
    assert ensemble.weights[1] == pytest.approx(0.05 / 3)


def test_restored_ensemble_continues_bit_for_bit():
    ensemble, twin = make(), make()
    run(ensemble, np.random.default_rng(10), 30, (1.0, 0.0, 0.3))
    twin.restore(ensemble.snapshot())
    for each in (ensemble, twin):
        run(each, np.random.default_rng(11), 30, (1.0, 0.0, 0.3))
    assert twin.snapshot() == ensemble.snapshot()


def test_snapshot_of_other_parameters_is_refused():
    with pytest.raises(VersionError, match="ensemble: expected a snapshot of version"):
        make().restore(make(quorum=1).snapshot())


def test_ensemble_without_members_is_refused():
    with pytest.raises(ValueError, match="expected members and `horizon_ns` of at least 1"):
        Ensemble((), EnsembleConfig(), horizon_ns=1)
