"""Online regression: River's own answers, missing inputs, hostile inputs, plain snapshots."""

from __future__ import annotations

import msgspec
import numpy as np
import pandas as pd
import pytest
from river import linear_model, optim, preprocessing

from models.specialists.calibration import logistic
from models.specialists.regression import OnlineLogisticRegression
from schemas.errors import VersionError

NAMES = ("a", "b", "c")


def make(names=NAMES, **changes):
    settings = {"learning_rate": 0.1, "l2": 1e-3, "max_deviations": 100.0} | changes
    return OnlineLogisticRegression(names, **settings)


def moments(seed, n=60, rows=40):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        inputs = np.tanh(rng.normal(size=(rows, 3)) * [0.1, 1.0, 0.5] + [0.3, 0.0, -0.2])
        yield inputs, (rng.random(rows) < logistic(2.0 * inputs[:, 1])).astype(float)


def score(model, inputs):
    return model.contributions(inputs).sum(axis=1)


def test_regression_answers_as_the_pipeline_of_river():
    ours = make()
    scaler, theirs = (
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(optim.AdaGrad(0.1), l2=1e-3, intercept_lr=0.0),
    )
    for inputs, label in moments(1):
        ours.learn(inputs, label)
        frame = pd.DataFrame(inputs, columns=NAMES)
        scaler.learn_many(frame)
        theirs.learn_many(scaler.transform_many(frame), pd.Series(label))
    expected = theirs.predict_proba_many(scaler.transform_many(frame))[True]
    np.testing.assert_allclose(logistic(score(ours, inputs)), expected, rtol=1e-9)


def test_regression_scale_is_the_mean_and_deviation_of_all_present_inputs():
    model, seen = make(), []
    rng = np.random.default_rng(2)
    for inputs, label in moments(2):
        inputs[rng.random(inputs.shape) < [0.0, 0.3, 0.9]] = np.nan
        model.learn(inputs, label)
        seen.append(inputs)
    table = pd.DataFrame(np.concatenate(seen), columns=NAMES)
    snapshot = model.snapshot()
    for name in NAMES:
        assert snapshot["counts"][name] == table[name].count()
        assert snapshot["means"][name] == pytest.approx(table[name].mean())
        assert snapshot["variances"][name] == pytest.approx(table[name].var(ddof=0))


def test_regression_missing_input_adds_nothing_and_teaches_nothing():
    model = make()
    for inputs, label in moments(3):
        inputs[:, 2] = np.nan
        model.learn(inputs, label)
    assert model.weights[2] == 0.0
    assert model.contributions(np.full((1, 3), np.nan)).tolist() == [[0.0, 0.0, 0.0]]


def test_regression_constant_input_adds_nothing_and_does_not_fail():
    model = make()
    for inputs, label in moments(4):
        inputs[:, 0] = 0.1
        model.learn(inputs, label)
    assert model.snapshot()["variances"]["a"] >= 0.0
    far = np.array([[1.0, 0.0, 0.0]])
    assert model.contributions(far)[0, 0] == 0.0


def test_regression_far_value_moves_no_further_than_the_bound():
    model = make(max_deviations=3.0)
    for inputs, label in moments(5):
        model.learn(inputs, label)
    assert model.standardised(np.array([[1.0, -1.0, 1.0]])).tolist()[0][0] == 3.0


def test_regression_finds_the_input_that_matters():
    model = make()
    for inputs, label in moments(6, n=200):
        model.learn(inputs, label)
    weights = np.abs(model.weights)
    assert weights[1] > 5 * max(weights[0], weights[2])


def test_regression_separable_labels_keep_it_finite():
    model = make(learning_rate=10.0, l2=0.0)
    for inputs, _ in moments(7, n=400):
        model.learn(inputs, (inputs[:, 1] > 0).astype(float))
    assert np.isfinite(score(model, inputs)).all()


def test_regression_restored_continues_bit_for_bit():
    rows = list(moments(8))
    whole, twin = make(), make()
    for inputs, label in rows[:30]:
        whole.learn(inputs, label)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(whole.snapshot()))
    twin.restore(kept)
    for inputs, label in rows[30:]:
        whole.learn(inputs, label)
        twin.learn(inputs, label)
    assert twin.snapshot() == whole.snapshot()
    assert score(twin, inputs).tolist() == score(whole, inputs).tolist()
    assert kept["iterations"] == 30


def test_regression_of_other_inputs_is_refused():
    with pytest.raises(
        VersionError, match=r"expected a regression of version 1 on \['a'\], found version 1 on \['a', 'b'"
    ):
        make(("a",)).restore(make().snapshot())


def test_regression_without_rows_changes_nothing():
    model = make()
    model.learn(np.empty((0, 3)), np.empty(0))
    assert model.snapshot() == make().snapshot()
