"""Features of the top of the book, and their values at decisions."""

from __future__ import annotations

import numpy as np
import pytest

from operators.book_features import NAMES, BookFeatureColumns, BookFeatureState
from operators.book_sampler import BookSampler
from operators.columns import BookColumns
from schemas.enums import Missing
from schemas.errors import InvariantError
from schemas.features import FeatureSet

FLOW = NAMES.index("order_flow_imbalance")


def make_top(*rows, code=None, missing=None, depth=None):
    bid, bid_size, ask, ask_size = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    n = len(rows)
    codes = np.zeros(n, dtype=np.int32) if code is None else np.array(code, dtype=np.int32)
    depths = (bid_size, ask_size) if depth is None else (np.full(n, depth[0]), np.full(n, depth[1]))
    status = np.zeros(n, dtype=np.uint8) if missing is None else np.array(missing, dtype=np.uint8)
    return BookColumns(codes, np.arange(n), bid, bid_size, ask, ask_size, *depths, status)


@pytest.fixture
def state():
    fresh = BookFeatureState()
    fresh.ensure(2)
    return fresh


def test_book_features_of_one_top_are_the_formulas(state):
    features = state.update(make_top((99.0, 3.0, 101.0, 1.0), depth=(30.0, 10.0)))
    found = dict(zip(NAMES, features.values[0].tolist(), strict=True))
    expected = {
        "bid_price": 99.0, "ask_price": 101.0, "bid_size": 3.0, "ask_size": 1.0, "mid_price": 100.0, "spread": 2.0,
        "spread_bps": 200.0, "microprice": (101.0 * 3 + 99.0 * 1) / 4, "depth_imbalance": 0.5,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert features.missing[0].tolist() == [Missing.OK] * 9 + [Missing.WARMING_UP]


@pytest.mark.parametrize(
    ("now", "flow"),
    [
        ((99.0, 5.0, 101.0, 1.0), 5.0 - 3.0),
        ((100.0, 5.0, 101.0, 1.0), 5.0),
        ((98.0, 5.0, 101.0, 1.0), -3.0),
        ((99.0, 3.0, 101.0, 4.0), -4.0 + 1.0),
        ((99.0, 3.0, 100.0, 4.0), -4.0),
        ((99.0, 3.0, 102.0, 4.0), 1.0),
        ((100.0, 2.0, 102.0, 7.0), 2.0 + 1.0),
    ],
)
def test_order_flow_imbalance_counts_what_came_and_went(state, now, flow):
    features = state.update(make_top((99.0, 3.0, 101.0, 1.0), now))
    assert features.values[1, FLOW] == flow


def test_book_features_of_a_lost_book_are_missing_and_order_flow_starts_anew(state):
    row = (99.0, 3.0, 101.0, 1.0)
    features = state.update(make_top(row, row, row, row, missing=[0, Missing.OUT_OF_SYNC, 0, 0]))
    assert (features.missing[1] == Missing.OUT_OF_SYNC).all()
    assert np.isnan(features.values[1]).all()
    assert features.missing[:, FLOW].tolist() == [
        Missing.WARMING_UP,
        Missing.OUT_OF_SYNC,
        Missing.WARMING_UP,
        Missing.OK,
    ]


def test_book_features_degenerate_or_overflowing_have_no_value(state):
    assert state.update(make_top((9.0, 1.0, 10.0, 1.0), depth=(0.0, 0.0))).missing[0, 8] == Missing.DEGENERATE
    features = state.update(make_top((1e308, 1.0, 1.5e308, 1.0)))
    assert features.missing[0, NAMES.index("mid_price")] == Missing.NOT_FINITE
    assert np.isnan(features.values[0, NAMES.index("mid_price")])


def test_book_feature_specs_name_the_columns_and_their_parameters():
    assert FeatureSet(BookFeatureState.specs(depth=5)).names == NAMES
    assert FeatureSet(BookFeatureState.specs(depth=5)).hash != FeatureSet(BookFeatureState.specs(depth=6)).hash


def make_features(ts, values=None, code=None, missing=0):
    n = len(ts)
    codes = np.zeros(n, dtype=np.int32) if code is None else np.array(code, dtype=np.int32)
    table = np.repeat(
        np.arange(1.0, n + 1)[:, None] if values is None else np.array(values)[:, None], len(NAMES), axis=1
    )
    return BookFeatureColumns(codes, np.array(ts, dtype=np.int64), table, np.full(table.shape, missing, dtype=np.uint8))


def sample(sampler, features, ts, interval=0, code=0):
    m = len(ts)
    codes = np.full(m, code, dtype=np.int32)
    return sampler.sample(features, codes, np.full(m, interval, dtype=np.int32), np.array(ts, dtype=np.int64))


@pytest.fixture
def sampler():
    fresh = BookSampler(n_intervals=2, max_age_ns=100)
    fresh.ensure(2)
    return fresh


def test_book_sampler_sees_only_updates_before_the_decision(sampler):
    values, missing = sample(sampler, make_features([10, 20, 20, 30]), [10, 20, 21, 31])
    assert (missing[0] == Missing.NO_INPUT).all()
    assert values[1:, 0].tolist() == [1.0, 3.0, 4.0]
    assert values[1:, FLOW].tolist() == [1.0, 5.0, 4.0]


def test_book_sampler_sums_order_flow_per_interval_since_its_last_decision(sampler):
    values, missing = sample(sampler, make_features([10, 20]), [15, 25])
    assert values[:, FLOW].tolist() == [1.0, 2.0]
    values, _ = sample(sampler, make_features([]), [26], interval=1)
    assert values[0, FLOW] == 3.0
    values, missing = sample(sampler, make_features([]), [26])
    assert (missing[0, FLOW], missing[0, 0]) == (Missing.NO_INPUT, Missing.OK)


def test_book_sampler_says_stale_of_old_values_but_not_of_order_flow(sampler):
    values, missing = sample(sampler, make_features([10]), [110, 111], interval=0)
    assert missing[:, 0].tolist() == [Missing.OK, Missing.STALE]
    assert np.isnan(values[1, :FLOW]).all()
    values, missing = sample(sampler, make_features([]), [500], interval=1)
    assert (missing[0, 0], missing[0, FLOW], values[0, FLOW]) == (Missing.STALE, Missing.OK, 1.0)


def test_book_sampler_keeps_the_reason_of_a_lost_book(sampler):
    _, missing = sample(sampler, make_features([10], values=[np.nan], missing=Missing.OUT_OF_SYNC), [500])
    assert missing[0].tolist() == [Missing.OUT_OF_SYNC] * FLOW + [Missing.NO_INPUT]


def test_book_sampler_says_not_finite_of_a_sum_that_overflows(sampler):
    values, missing = sample(sampler, make_features([1, 2], values=[1.5e308, 1.5e308]), [5])
    assert missing[0, FLOW] == Missing.NOT_FINITE
    assert np.isnan(values[0, FLOW])


def test_book_sampler_refuses_a_decision_behind_its_updates(sampler):
    sampler.sample(make_features([10]), *(np.empty(0, dtype=kind) for kind in ("i4", "i4", "i8")))
    with pytest.raises(InvariantError, match="expected the decision of instrument code 0 at 10 before its updates"):
        sample(sampler, make_features([]), [10])
    sample(sampler, make_features([]), [10], code=1)


@pytest.mark.parametrize("name", ["n_intervals", "max_age_ns"])
def test_book_sampler_with_a_parameter_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"expected `{name}` of at least 1, was 0"):
        BookSampler(**({"n_intervals": 1, "max_age_ns": 1} | {name: 0}))
