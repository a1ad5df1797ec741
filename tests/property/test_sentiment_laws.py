"""Laws of decayed sentiment: it equals the formula, however the rows are cut and whoever else is there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.columns import CodeArray, FloatArray, IntArray, MissingArray
from operators.sentiment import SentimentState
from schemas.enums import Missing

_CODES = 3
_HALF_LIFE = 50
_MIN_WEIGHT = 0.05
_LAST = 1000


@dataclass(frozen=True)
class _Log:
    """Items and decisions, each by time; every array is read-only."""

    item_code: CodeArray
    item_ts: IntArray
    item_score: FloatArray
    item_weight: FloatArray
    decision_code: CodeArray
    decision_ts: IntArray

    def part(self, items: slice, decisions: slice) -> tuple[np.ndarray, ...]:
        columns = (self.item_code, self.item_ts, self.item_score, self.item_weight)
        return (*(column[items] for column in columns), self.decision_code[decisions], self.decision_ts[decisions])


def _frozen(values: list[float], dtype: str) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


@st.composite
def _logs(draw: st.DrawFn) -> _Log:
    times = st.integers(0, 60) | st.integers(0, _LAST)
    codes = st.integers(0, _CODES - 1)
    scores = st.floats(-1, 1) | st.just(float("nan"))
    items = draw(st.lists(st.tuples(times, codes, scores, st.floats(0, 4)), max_size=25))
    decisions = draw(st.lists(st.tuples(times, codes), max_size=15))
    items.sort(key=lambda item: item[0])
    decisions.sort(key=lambda decision: decision[0])
    return _Log(
        _frozen([item[1] for item in items], "i4"),
        _frozen([item[0] for item in items], "i8"),
        _frozen([item[2] for item in items], "f8"),
        _frozen([item[3] for item in items], "f8"),
        _frozen([decision[1] for decision in decisions], "i4"),
        _frozen([decision[0] for decision in decisions], "i8"),
    )


def _fresh() -> SentimentState:
    state = SentimentState(half_life_ns=_HALF_LIFE, min_weight=_MIN_WEIGHT)
    state.ensure(_CODES)
    return state


def _whole(log: _Log) -> tuple[FloatArray, MissingArray]:
    return _fresh().update_and_sample(*log.part(slice(None), slice(None)))


@given(log=_logs())
@settings(max_examples=150, deadline=None)
def test_values_equal_the_formula(log: _Log) -> None:
    values, missing = _whole(log)
    for row, (code, now) in enumerate(zip(log.decision_code, log.decision_ts, strict=True)):
        seen = (log.item_code == code) & (log.item_ts < now) & ~np.isnan(log.item_score) & (log.item_weight > 0)
        weights = log.item_weight[seen] * 2.0 ** (-(now - log.item_ts[seen]) / _HALF_LIFE)
        if not seen.any():
            assert missing[row].tolist() == [Missing.NO_INPUT] * 2
        elif weights.sum() < _MIN_WEIGHT * (1 - 1e-12):
            assert missing[row].tolist() == [Missing.STALE] * 2
        elif weights.sum() > _MIN_WEIGHT * (1 + 1e-12):
            expected = [np.sum(weights * log.item_score[seen]) / weights.sum(), weights.sum()]
            np.testing.assert_allclose(values[row], expected, rtol=1e-11, atol=1e-12)
            assert missing[row].tolist() == [Missing.OK] * 2
            assert abs(values[row, 0]) <= 1.0
    assert ((missing == Missing.OK) == np.isfinite(values)).all()


@given(log=_logs(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_cut_by_time_and_any_resume_give_the_same_rows(log: _Log, data: st.DataObject) -> None:
    frontiers = sorted(data.draw(st.lists(st.integers(0, _LAST), max_size=5)))
    # A part holds the items before its frontier and the decisions up to it, or the items at it too.
    item_side = data.draw(st.sampled_from(["left", "right"]))
    item_cuts = [0, *np.searchsorted(log.item_ts, frontiers, side=item_side).tolist(), len(log.item_ts)]
    decision_cuts = [0, *np.searchsorted(log.decision_ts, frontiers, side="left").tolist(), len(log.decision_ts)]
    state = _fresh()
    values, missing = [], []
    for part in range(len(frontiers) + 1):
        rows = state.update_and_sample(
            *log.part(slice(*item_cuts[part : part + 2]), slice(*decision_cuts[part : part + 2]))
        )
        values.append(rows[0])
        missing.append(rows[1])
        snapshot = state.snapshot(_CODES)
        state = _fresh()
        state.restore(snapshot)
    expected = _whole(log)
    assert np.concatenate(values).tobytes() == expected[0].tobytes()
    assert np.concatenate(missing).tobytes() == expected[1].tobytes()


@given(log=_logs(), now=st.integers(0, _LAST))
@settings(max_examples=100, deadline=None)
def test_items_from_a_moment_on_change_nothing_up_to_it(log: _Log, now: int) -> None:
    known = int(np.searchsorted(log.item_ts, now, side="left"))
    due = int(np.searchsorted(log.decision_ts, now, side="right"))
    cut = _fresh().update_and_sample(*log.part(slice(known), slice(due)))
    whole = _whole(log)
    assert cut[0].tobytes() == whole[0][:due].tobytes()
    assert cut[1].tobytes() == whole[1][:due].tobytes()


@given(log=_logs(), code=st.integers(0, _CODES - 1))
@settings(max_examples=100, deadline=None)
def test_instrument_alone_has_the_values_that_it_has_among_others(log: _Log, code: int) -> None:
    own_items, own_decisions = log.item_code == code, log.decision_code == code
    alone = _fresh().update_and_sample(
        log.item_code[own_items],
        log.item_ts[own_items],
        log.item_score[own_items],
        log.item_weight[own_items],
        log.decision_code[own_decisions],
        log.decision_ts[own_decisions],
    )
    whole = _whole(log)
    assert alone[0].tobytes() == whole[0][own_decisions].tobytes()
    assert alone[1].tobytes() == whole[1][own_decisions].tobytes()


@given(log=_logs())
@settings(max_examples=30, deadline=None)
def test_looking_more_often_changes_no_other_decision(log: _Log) -> None:
    state = _fresh()
    state.update_and_sample(*log.part(slice(None), slice(0, 0)))
    looked = _fresh()
    looked.update_and_sample(*log.part(slice(None), slice(None)))
    assert state.snapshot(_CODES) == looked.snapshot(_CODES)


_SOURCE_WEIGHTS = (0.5, 0.3, 0.2)


@given(log=_logs(), seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=150, deadline=None)
def test_blend_of_sources_equals_the_formula_however_it_is_cut(log: _Log, seed: int, data: st.DataObject) -> None:
    source = np.random.default_rng(seed).integers(0, 3, len(log.item_ts)).astype(np.int32)
    state = SentimentState(half_life_ns=_HALF_LIFE, min_weight=_MIN_WEIGHT, source_weights=_SOURCE_WEIGHTS)
    state.ensure(_CODES)
    cut = data.draw(st.integers(0, _LAST))
    i, d = (int(np.searchsorted(ts, cut, side="left")) for ts in (log.item_ts, log.decision_ts))
    parts = [
        state.update_and_sample(*log.part(slice(i), slice(d)), item_source=source[:i]),
        state.update_and_sample(*log.part(slice(i, None), slice(d, None)), item_source=source[i:]),
    ]
    values, missing = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    for row, (code, now) in enumerate(zip(log.decision_code, log.decision_ts, strict=True)):
        seen = (log.item_code == code) & (log.item_ts < now) & ~np.isnan(log.item_score) & (log.item_weight > 0)
        weights = log.item_weight * 2.0 ** (-(now - log.item_ts) / _HALF_LIFE)
        of = [weights[seen & (source == s)].sum() for s in range(3)]
        if any(abs(total / _MIN_WEIGHT - 1) < 1e-9 for total in of):
            continue
        present = [s for s in range(3) if of[s] >= _MIN_WEIGHT]
        if not present:
            assert missing[row].tolist() == [Missing.STALE if seen.any() else Missing.NO_INPUT] * 2
            continue
        means = [np.sum((weights * log.item_score)[seen & (source == s)]) / of[s] for s in present]
        blended = np.average(means, weights=[_SOURCE_WEIGHTS[s] for s in present])
        np.testing.assert_allclose(values[row], [blended, sum(of[s] for s in present)], rtol=1e-11, atol=1e-12)
