"""Every registered specialist: learns a planted effect, finds nothing in noise, withstands hostile numbers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.specialists import SPECIALISTS, register
from models.specialists.base import CrossSection, NoAnswer, Outcomes, Specialist
from models.specialists.calibration import Reliability, logistic
from models.specialists.config import LearningConfig
from models.specialists.inputs import Bounded, Product
from models.specialists.news import NewsSpecialist
from models.specialists.technical import TechnicalSpecialist
from schemas.errors import ConfigError, VersionError

EVERY = pytest.mark.parametrize("name", SPECIALISTS)
ROWS = 40
INTERVAL = 60
HOSTILE = [0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324]


def make(name, **changes):
    config = LearningConfig(**({"label_correlation": 0.0} | changes))
    return SPECIALISTS[name](config, horizon_ns=INTERVAL)


def factors(specialist):
    """Return the bounded factors of its inputs by feature."""
    found = {}
    for item in specialist.inputs:
        for part in (item.left, item.right) if isinstance(item, Product) else (item,):
            found.setdefault(part.feature, part)
    return found


def section(specialist, rng, rows=ROWS):
    """Return features on the scales of the inputs, and the standard normal numbers behind them."""
    columns, behind = {}, {}
    for feature, part in factors(specialist).items():
        behind[feature] = rng.normal(size=rows)
        scaled = part.centre + part.scale * behind[feature]
        columns[feature] = np.exp(scaled) if part.log else scaled
    return CrossSection(rows, INTERVAL, columns), behind


def live(specialist, seed, steps, effect):
    """Predict and learn in turns; return the answers with their labels and true probabilities.

    Features lead the log-odds by `effect` times the sum of the first input and, negatively, the last bounded one.
    """
    rng = np.random.default_rng(seed)
    bounded = [item for item in specialist.inputs if isinstance(item, Bounded)]
    told = []
    for _ in range(steps):
        cross, behind = section(specialist, rng)
        truth = logistic(effect * (np.tanh(behind[bounded[0].feature]) - np.tanh(behind[bounded[-1].feature])))
        label = (rng.random(ROWS) < truth).astype(float)
        said = specialist.predict(cross)
        told.append((said.probability, label, truth))
        specialist.learn(Outcomes(said.inputs, said.score, said.estimate, label, INTERVAL))
    probability, label, truth = (np.concatenate(part) for part in zip(*told, strict=True))
    answered = np.isfinite(probability)
    return probability[answered], label[answered], truth[answered]


@EVERY
def test_specialist_learns_a_planted_effect_and_is_calibrated(name):
    probability, label, truth = live(make(name), 1, 250, effect=1.5)
    half = len(label) // 2
    assert roc_auc_score(label[half:], probability[half:]) > roc_auc_score(label[half:], truth[half:]) - 0.03 > 0.7
    record = Reliability(decay=0.5)
    record.update(probability[half:], label[half:], 1.0)
    assert record.calibration_error < 0.04
    assert record.brier_score < np.mean((truth[half:] - label[half:]) ** 2) + 0.01


@EVERY
def test_specialist_finds_nothing_in_noise(name):
    """The standard error of the area is 0.006; the probabilities shrink to one half."""
    probability, label, _ = live(make(name), 2, 250, effect=0.0)
    assert abs(roc_auc_score(label, probability) - 0.5) < 0.025
    assert np.abs(probability[len(label) // 2 :] - 0.5).mean() < 0.06


@EVERY
def test_specialist_warms_up_before_it_answers(name):
    specialist = make(name, min_outcomes=100)
    rng = np.random.default_rng(3)
    reasons = []
    for _ in range(4):
        cross, _ = section(specialist, rng)
        said = specialist.predict(cross)
        reasons.append(set(said.reason.tolist()))
        specialist.learn(Outcomes(said.inputs, said.score, said.estimate, np.ones(ROWS), INTERVAL))
    assert reasons == [{NoAnswer.WARMING_UP}] * 3 + [{NoAnswer.ANSWERED}]


@EVERY
def test_specialist_without_its_features_gives_no_answer(name):
    specialist = make(name, min_outcomes=0)
    live(specialist, 4, 5, effect=1.0)
    said = specialist.predict(CrossSection(3, INTERVAL, {}))
    assert said.reason.tolist() == [NoAnswer.NO_INPUT] * 3
    for column in (said.score, said.estimate, said.probability, said.confidence):
        assert np.isnan(column).all()


@EVERY
def test_specialist_missing_feature_only_affects_its_rows(name):
    specialist = make(name)
    live(specialist, 5, 20, effect=1.0)
    cross, _ = section(specialist, np.random.default_rng(6))
    whole = specialist.predict(cross)
    for feature in specialist.needs:
        holes = {key: value.copy() for key, value in cross.columns.items()}
        holes[feature][7] = np.nan
        said = specialist.predict(CrossSection(ROWS, INTERVAL, holes))
        others = np.arange(ROWS) != 7
        assert said.estimate[others].tolist() == whole.estimate[others].tolist()
        assert np.isnan(said.estimate[7]) or said.confidence[7] < whole.confidence[7]


@EVERY
def test_specialist_required_or_too_few_inputs_make_no_answer(name):
    specialist = make(name, min_outcomes=0)
    live(specialist, 7, 5, effect=1.0)
    cross, _ = section(specialist, np.random.default_rng(8))
    columns = dict(cross.columns)
    for feature in specialist.needs:
        columns[feature] = np.full(ROWS, np.nan)
        said = specialist.predict(CrossSection(ROWS, INTERVAL, columns))
        present = np.isfinite(said.inputs).sum(axis=1)
        enough = specialist.min_inputs or specialist.config.min_coverage * len(specialist.inputs)
        required = [specialist.input_names.index(item) for item in specialist.required]
        expected = (present >= enough) & np.isfinite(said.inputs[:, required]).all(axis=1)
        assert (said.reason == NoAnswer.ANSWERED).tolist() == expected.tolist()
    assert not expected.any()


@EVERY
def test_specialist_hostile_numbers_neither_fail_nor_last(name):
    """After hostile rows it learns the planted effect all the same."""
    specialist = make(name)
    rng = np.random.default_rng(9)
    for _ in range(20):
        cross, _ = section(specialist, rng)
        columns = {key: np.where(rng.random(ROWS) < 0.5, rng.choice(HOSTILE, ROWS), value)
                   for key, value in cross.columns.items()}  # fmt: skip
        said = specialist.predict(CrossSection(ROWS, INTERVAL, columns))
        known = np.isfinite(said.score)
        assert (np.isfinite(said.estimate) == known).all()
        label = (rng.random(known.sum()) < 0.5).astype(float)
        specialist.learn(Outcomes(said.inputs[known], said.score[known], said.estimate[known], label, INTERVAL))
    probability, label, _ = live(specialist, 10, 200, effect=1.5)
    assert roc_auc_score(label[-3000:], probability[-3000:]) > 0.7


@EVERY
def test_specialist_contributions_sum_to_the_log_odds(name):
    specialist = make(name)
    live(specialist, 11, 60, effect=1.0)
    cross, _ = section(specialist, np.random.default_rng(12))
    said = specialist.predict(cross)
    np.testing.assert_allclose(said.contributions.sum(axis=1) + said.intercept, said.log_odds, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(logistic(said.log_odds), said.estimate)


@EVERY
def test_specialist_prediction_changes_nothing_and_writes_nothing(name):
    specialist = make(name)
    live(specialist, 13, 10, effect=1.0)
    before = repr(specialist.snapshot())
    cross, _ = section(specialist, np.random.default_rng(14))
    for column in cross.columns.values():
        column.flags.writeable = False
    first = specialist.predict(cross)
    assert specialist.predict(cross).estimate.tolist() == first.estimate.tolist()
    assert repr(specialist.snapshot()) == before


@EVERY
def test_specialist_restored_continues_bit_for_bit(name):
    specialist, twin = make(name), make(name)
    live(specialist, 15, 30, effect=1.0)
    twin.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(specialist.snapshot())))
    expected, found = (live(each, 16, 30, effect=1.0)[0].tolist() for each in (specialist, twin))
    assert found == expected
    assert repr(twin.snapshot()) == repr(specialist.snapshot())


@EVERY
def test_specialist_state_does_not_grow(name):
    specialist = make(name)
    live(specialist, 17, 20, effect=1.0)
    size = len(msgspec.msgpack.encode(specialist.snapshot()))
    live(specialist, 18, 60, effect=1.0)
    assert len(msgspec.msgpack.encode(specialist.snapshot())) <= size + 40


@EVERY
def test_specialist_empty_moment_gives_nothing(name):
    said = make(name).predict(CrossSection(0, INTERVAL, {}))
    assert said.inputs.shape == (0, len(SPECIALISTS[name].inputs))
    assert len(said.estimate) == 0


@EVERY
def test_specialist_needs_are_what_its_inputs_read(name):
    cls = SPECIALISTS[name]
    assert set(cls.needs) == set(factors(cls))
    names = [item.name for item in cls.inputs]
    assert len(set(names)) == len(names)
    assert set(cls.required) <= set(names)


def test_specialist_with_other_parameters_has_another_version_and_refuses_the_snapshot():
    one, other = make("news"), make("news", l2=0.5)
    assert one.version == make("news").version != other.version
    assert one.input_set == other.input_set != make("social").input_set
    with pytest.raises(VersionError, match="specialist `news`: expected a snapshot of version"):
        other.restore(one.snapshot())


def test_horizon_decides_the_version_and_is_positive():
    config = LearningConfig()
    assert NewsSpecialist(config, horizon_ns=1).version != NewsSpecialist(config, horizon_ns=2).version
    with pytest.raises(ValueError, match="expected `horizon_ns` of at least 1, was 0"):
        NewsSpecialist(config, horizon_ns=0)


def test_overlapping_horizons_count_less():
    short = TechnicalSpecialist(LearningConfig(label_correlation=0), horizon_ns=INTERVAL)
    long = TechnicalSpecialist(LearningConfig(label_correlation=0), horizon_ns=10 * INTERVAL)
    for specialist in (short, long):
        cross, _ = section(specialist, np.random.default_rng(19))
        said = specialist.predict(cross)
        specialist.learn(Outcomes(said.inputs, said.score, said.estimate, np.ones(ROWS), INTERVAL))
    assert short.reliability.n_effective == pytest.approx(ROWS)
    assert long.reliability.n_effective == pytest.approx(ROWS / 10)


def test_registry_refuses_doubles_and_what_does_not_say_what_it_is():
    class Unnamed(NewsSpecialist):
        name = ""

    class Ensemble(NewsSpecialist):
        name = "ensemble"

    class Blind(NewsSpecialist):
        name = "blind"
        needs = ()

    with pytest.raises(ConfigError, match="found `news` twice"):
        register(NewsSpecialist, NewsSpecialist)
    for cls in (Unnamed, Ensemble):
        with pytest.raises(ConfigError, match="expected a name on"):
            register(cls)
    with pytest.raises(ConfigError, match="expected features in `needs`"):
        register(Blind)
    for wrong in (Specialist, dict, "news"):
        with pytest.raises(ConfigError, match="expected a complete subclass of `Specialist`"):
            register(wrong)
