"""Decayed sentiment: values by hand, missing codes, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.sentiment import SentimentState
from schemas.enums import Missing
from schemas.errors import InvariantError, VersionError
from schemas.features import FeatureSet


def _state(half_life_ns: int = 10, min_weight: float = 0.1) -> SentimentState:
    state = SentimentState(half_life_ns=half_life_ns, min_weight=min_weight)
    state.ensure(4)
    return state


def _run(state: SentimentState, items: list[tuple[int, int, float, float]], decisions: list[tuple[int, int]]) -> Any:
    code, ts, score, weight = (list(column) for column in zip(*items, strict=True)) if items else ([], [], [], [])
    at_code, at = (list(column) for column in zip(*decisions, strict=True)) if decisions else ([], [])
    return state.update_and_sample(
        np.array(code, dtype=np.int32),
        np.array(ts, dtype=np.int64),
        np.array(score, dtype=np.float64),
        np.array(weight, dtype=np.float64),
        np.array(at_code, dtype=np.int32),
        np.array(at, dtype=np.int64),
    )


def test_sample_after_one_half_life_weighs_the_older_item_half() -> None:
    values, missing = _run(_state(), [(0, 0, 1.0, 1.0), (0, 10, -1.0, 1.0)], [(0, 11)])
    np.testing.assert_allclose(values, [[-1 / 3, 1.5 * 2**-0.1]], rtol=1e-14)
    assert missing.tolist() == [[Missing.OK, Missing.OK]]


def test_sample_before_any_item_has_no_input() -> None:
    values, missing = _run(_state(), [(1, 0, 1.0, 1.0)], [(0, 5)])
    assert np.isnan(values).all()
    assert missing.tolist() == [[Missing.NO_INPUT, Missing.NO_INPUT]]


def test_sample_when_the_weight_has_faded_is_stale() -> None:
    values, missing = _run(_state(), [(0, 0, 1.0, 1.0)], [(0, 33), (0, 34)])
    assert missing[:, 0].tolist() == [Missing.OK, Missing.STALE]
    assert np.isnan(values[1]).all()


@pytest.mark.parametrize(("score", "weight"), [(float("nan"), 1.0), (1.0, 0.0)])
def test_item_without_score_or_weight_counts_nowhere(score: float, weight: float) -> None:
    _, missing = _run(_state(), [(0, 0, score, weight)], [(0, 5)])
    assert missing[0, 0] == Missing.NO_INPUT
    values, _ = _run(_state(), [(0, 0, 0.5, 1.0), (0, 3, score, weight)], [(0, 10)])
    assert values.tolist() == [[0.5, 0.5]]


def test_item_at_the_moment_of_the_decision_is_not_seen_even_from_an_earlier_call() -> None:
    items, decision = [(0, 5, 1.0, 1.0), (0, 10, -1.0, 1.0)], [(0, 10)]
    together, _ = _run(_state(), items, decision)
    state = _state()
    _run(state, items, [])
    apart, _ = _run(state, [], decision)
    assert together.tolist() == apart.tolist() == [[1.0, 2**-0.5]]


def test_first_item_at_the_moment_of_a_later_decision_is_no_input() -> None:
    state = _state()
    _run(state, [(0, 10, 1.0, 1.0)], [])
    assert _run(state, [], [(0, 10)])[1].tolist() == [[Missing.NO_INPUT] * 2]


def test_gap_of_centuries_neither_overflows_nor_gives_nan() -> None:
    end = 2**63 - 1
    values, missing = _run(_state(1), [(0, 0, 1.0, 1.0), (0, end - 1, -0.25, 2.0)], [(0, 10**18), (0, end)])
    assert missing[:, 0].tolist() == [Missing.STALE, Missing.OK]
    assert values[1].tolist() == [-0.25, 1.0]


def test_reset_makes_an_instrument_fresh_and_leaves_others() -> None:
    state = _state()
    _run(state, [(0, 0, 1.0, 1.0), (1, 0, 1.0, 1.0)], [])
    state.reset(np.array([0], dtype=np.int32))
    assert _run(state, [], [(0, 5), (1, 5)])[1][:, 0].tolist() == [Missing.NO_INPUT, Missing.OK]


def test_empty_call_gives_empty_columns() -> None:
    values, missing = _run(_state(), [], [])
    assert values.shape == missing.shape == (0, 2)


@pytest.mark.parametrize(
    ("items", "decisions", "text"),
    [
        ([(0, 5, 0.0, 1.0), (0, 4, 0.0, 1.0)], [], "expected `item_ts` in order of time"),
        ([], [(0, 5), (0, 4)], "expected `decision_ts` in order of time"),
        ([(0, 5, 1.5, 1.0)], [], r"expected scores in \[-1, 1\] or NaN, found 1.5"),
        ([(0, 5, float("inf"), 1.0)], [], "found inf"),
        ([(0, 5, 1.0, -1.0)], [], "expected weights in"),
        ([(0, 5, 1.0, float("nan"))], [], "found nan"),
    ],
)
def test_input_that_breaks_the_contract_is_refused(items: Any, decisions: Any, text: str) -> None:
    with pytest.raises(InvariantError, match=text):
        _run(_state(), items, decisions)


@pytest.mark.parametrize("weights", [(), (0.0, 1.0), (-1.0,), (float("nan"),), (float("inf"),)])
def test_source_weights_out_of_bounds_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected `source_weights` above 0 and finite"):
        SentimentState(half_life_ns=10, min_weight=0.1, source_weights=weights)


@pytest.mark.parametrize("source", [-1, 1])
def test_source_that_is_not_configured_is_refused(source: int) -> None:
    code, none = np.zeros(1, np.int32), np.zeros(0, np.int32)
    with pytest.raises(InvariantError, match=f"expected sources from 0 to 0, found {source}"):
        _state().update_and_sample(
            code, np.zeros(1, np.int64), np.ones(1), np.ones(1), none, np.zeros(0, np.int64),
            item_source=np.array([source], np.int32),
        )  # fmt: skip


def test_absent_source_leaves_its_say_to_the_others() -> None:
    state = SentimentState(half_life_ns=10, min_weight=0.5, source_weights=(0.9, 0.1))
    state.ensure(1)
    code, source = np.zeros(2, np.int32), np.array([0, 1], np.int32)
    at = np.zeros(2, np.int32), np.array([9, 20])
    values, _ = state.update_and_sample(
        code, np.array([0, 8]), np.array([1.0, -1.0]), np.array([1.0, 4.0]), *at, item_source=source
    )
    assert values[:, 0] == pytest.approx([0.8, -1.0])


def test_decision_older_than_an_earlier_item_is_refused() -> None:
    state = _state()
    _run(state, [(0, 10, 1.0, 1.0)], [])
    with pytest.raises(InvariantError, match="found one at 9; give each decision with"):
        _run(state, [], [(1, 3), (0, 9)])


@pytest.mark.parametrize("setting", [{"half_life_ns": 0}, {"min_weight": 0.0}, {"min_weight": float("nan")}])
def test_parameters_out_of_bounds_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="above 0 and finite"):
        _state(**setting)


def test_restore_of_another_version_is_refused() -> None:
    snapshot = _state().snapshot(1)
    with pytest.raises(VersionError, match="expected a state snapshot"):
        _state().restore({**snapshot, "version": 99})


def test_specs_name_both_outputs_and_carry_the_parameters() -> None:
    news, social = _state(10, 0.5).specs("news"), _state(20, 0.5).specs("social")
    names = ("news_sentiment", "news_intensity", "social_sentiment", "social_intensity")
    assert FeatureSet((*news, *social)).names == names
    assert FeatureSet(news).hash != FeatureSet(_state(11, 0.5).specs("news")).hash
