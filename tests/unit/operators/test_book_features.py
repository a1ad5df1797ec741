"""Features of the top of the book, and their values at decisions."""

from __future__ import annotations

import numpy as np
import pytest

from operators.book_feature_table import BOOK_FEATURES, FLOWS, LEVELS, Sampling
from operators.book_features import NAMES, BookFeatureColumns, BookFeatureConfig, BookFeatureState
from operators.book_sampler import BookSampler
from operators.book_top import no_levels
from operators.columns import BookColumns
from schemas.enums import Missing
from schemas.errors import InvariantError
from schemas.features import FeatureSet

FLOW = NAMES.index("order_flow_imbalance")
nan = float("nan")


def make_top(*rows, code=None, missing=None, depth=None, levels=None):
    bid, bid_size, ask, ask_size = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    n = len(rows)
    codes = np.zeros(n, dtype=np.int32) if code is None else np.array(code, dtype=np.int32)
    depths = (bid_size, ask_size) if depth is None else (np.full(n, depth[0]), np.full(n, depth[1]))
    status = np.zeros(n, dtype=np.uint8) if missing is None else np.array(missing, dtype=np.uint8)
    below = no_levels(n, 1) if levels is None else np.array(levels, dtype=np.float64)
    return BookColumns(codes, np.arange(n), bid, bid_size, ask, ask_size, *depths, status, below)


def column(features, name):
    return features.values[:, NAMES.index(name)].tolist()


def why(features, name):
    return [Missing(reason) for reason in features.missing[:, NAMES.index(name)].tolist()]


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
        "spread_bps": 200.0, "weighted_mid": (101.0 * 3 + 99.0 * 1) / 4, "depth_imbalance": 0.5,
        "queue_imbalance": 0.5, "weighted_depth_imbalance": 0.5,
        "book_slope": (np.log(4.0) / 0.01 + np.log(2.0) / 0.01) / 2,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-13)
    reasons = dict(zip(NAMES, features.missing[0].tolist(), strict=True))
    assert reasons == {name: Missing.OK if name in expected else Missing.WARMING_UP for name in NAMES}


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
    features = state.update(make_top((9.0, 1.0, 10.0, 1.0), depth=(0.0, 0.0)))
    assert why(features, "depth_imbalance") == [Missing.DEGENERATE]
    features = state.update(make_top((1e308, 1.0, 1.5e308, 1.0)))
    for name in ("mid_price", "spread_bps", "book_slope"):
        assert why(features, name) == [Missing.NOT_FINITE]
    features = state.update(make_top((9.0, 1e308, 10.0, 1e308), (8.0, 1e307, 11.0, 1.0)))
    for name in ("weighted_mid", "queue_imbalance", "depth_imbalance", "weighted_depth_imbalance"):
        assert why(features, name) == [Missing.NOT_FINITE, Missing.OK]
    assert ((features.missing == Missing.OK) == np.isfinite(features.values)).all()


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ((99.0, 5.0, 101.0, 1.0), (2.0, 0.0, 0.0, 0.0, 0, 0)),
        ((99.0, 2.0, 101.0, 4.0), (0.0, 1.0, 3.0, 0.0, 0, 0)),
        ((99.5, 5.0, 101.0, 0.5), (5.0, 0.0, 0.0, 0.5, 1, 0)),
        ((98.0, 5.0, 101.5, 7.0), (0.0, 3.0, 0.0, 1.0, 1, 1)),
        ((98.0, 5.0, 100.0, 7.0), (0.0, 3.0, 7.0, 0.0, 0, 2)),
    ],
)
def test_queue_at_the_touch_counts_what_came_what_left_and_which_way_it_moved(state, now, expected):
    features = state.update(make_top((99.0, 3.0, 101.0, 1.0), now))
    names = ("bid_size_added", "bid_size_removed", "ask_size_added", "ask_size_removed", "touch_up_moves",
             "touch_down_moves")  # fmt: skip
    assert tuple(column(features, name)[1] for name in names) == expected
    added_bid, removed_bid, added_ask, removed_ask, *_ = expected
    assert features.values[1, FLOW] == added_bid - removed_bid - added_ask + removed_ask


def test_order_flow_over_several_levels_is_the_sum_over_ranks():
    state = BookFeatureState(depth=3)
    state.ensure(1)
    touch = (10.0, 1.0, 11.0, 1.0)
    empty = [nan, 0.0]
    first = [[9.0, 2.0, 12.0, 2.0], [8.0, 3.0, 13.0, 3.0]]
    thinner = [[9.0, 5.0, 12.5, 2.0], [8.0, 3.0, *empty]]
    better = [[9.5, 1.0, 12.5, 2.0], [9.0, 5.0, 13.0, 3.0]]
    features = state.update(make_top(touch, touch, touch, levels=[first, thinner, better]))
    # bids +3; offers: 12 to 12.5 takes 2 away, 13 goes and takes 3
    assert column(features, "multi_level_order_flow_imbalance")[1] == 3.0 + 2.0 + 3.0
    # bids: 9.5 is better (+1), then 9 is better than 8 (+5); offers: 13 comes (3)
    assert column(features, "multi_level_order_flow_imbalance")[2] == 1.0 + 5.0 - 3.0
    assert why(features, "multi_level_order_flow_imbalance") == [Missing.WARMING_UP, Missing.OK, Missing.OK]


def test_order_flow_over_several_levels_begins_when_they_are_known():
    state = BookFeatureState(depth=2)
    state.ensure(1)
    touch = (10.0, 1.0, 11.0, 1.0)
    quote, book = [[nan] * 4], [[9.0, 2.0, 12.0, 2.0]]
    features = state.update(make_top(touch, touch, touch, touch, levels=[quote, quote, book, book]))
    reasons = [Missing.WARMING_UP, Missing.OK, Missing.WARMING_UP, Missing.OK]
    assert why(features, "multi_level_order_flow_imbalance") == reasons
    assert why(features, "order_flow_imbalance") == [Missing.WARMING_UP, *[Missing.OK] * 3]


def test_book_slope_is_the_mean_of_both_sides():
    state = BookFeatureState(depth=2)
    state.ensure(1)
    features = state.update(make_top((9.0, 2.0, 11.0, 3.0), levels=[[[8.0, 5.0, nan, 0.0]]]))
    bids = (np.log(3) / (1 - 9 / 10) + (np.log(8) / np.log(3) - 1) / (1 - 8 / 9)) / 2
    offers = np.log(4) / (11 / 10 - 1)
    assert column(features, "book_slope")[0] == pytest.approx((bids + offers) / 2, rel=1e-14)


def test_rows_with_other_levels_than_the_state_keeps_are_refused():
    state = BookFeatureState(depth=2)
    state.ensure(1)
    with pytest.raises(ValueError, match="expected rows of 1 or 2 levels, found 3; make the state with the depth"):
        state.update(make_top((9.0, 2.0, 11.0, 3.0), levels=np.zeros((1, 2, 4))))
    with pytest.raises(ValueError, match="expected `depth` of at least 1, was 0"):
        BookFeatureState(depth=0)


def tick_state(warm_up=1):
    state = BookFeatureState(depth=1, config=BookFeatureConfig(tick_warm_up=warm_up))
    state.ensure(1)
    return state


def test_tick_is_the_smallest_increment_seen_so_far():
    rows = [(10.0, 1.0, 10.5, 1.0), (10.0, 1.0, 10.2, 1.0), (10.1, 1.0, 10.4, 1.0), (10.1, 1.0, 10.4, 1.0)]
    features = tick_state().update(make_top(*rows))
    assert column(features, "tick_size") == pytest.approx([0.5, 0.2, 0.1, 0.1], rel=1e-12)
    assert column(features, "spread_ticks") == [1.0, 1.0, 3.0, 3.0]


def test_tick_says_warming_up_until_enough_updates():
    features = tick_state(warm_up=3).update(make_top(*[(10.0, 1.0, 10.5, 1.0)] * 3))
    reasons = [Missing.WARMING_UP, Missing.WARMING_UP, Missing.OK]
    assert why(features, "tick_size") == why(features, "spread_ticks") == reasons


def test_tick_of_prices_that_differ_by_rounding_only_does_not_exist():
    features = tick_state().update(make_top((1.0, 1.0, np.nextafter(1.0, 2.0), 1.0)))
    assert why(features, "tick_size") == why(features, "spread_ticks") == [Missing.DEGENERATE]


def test_spread_off_the_grid_is_not_rounded():
    features = tick_state().update(make_top((10.0, 1.0, 10.2, 1.0), (10.0, 1.0, 10.5, 1.0)))
    assert column(features, "spread_ticks") == pytest.approx([1.0, 2.5])


def test_tick_forgets_a_price_off_the_grid():
    n = 140_000
    bid, ask = np.full(n, 10.0), np.full(n, 10.5)
    ask[50] = 10.001
    top = BookColumns(
        np.zeros(n, np.int32), np.arange(n), bid, np.ones(n), ask, np.ones(n), np.ones(n), np.ones(n),
        np.zeros(n, np.uint8), no_levels(n, 1),
    )  # fmt: skip
    features = tick_state().update(top)
    ticks = np.array(column(features, "tick_size"))
    assert ticks[49] == 0.5
    assert ticks[50:131_072] == pytest.approx(0.001)
    assert (ticks[131_072:] == 0.5).all()


def liquidity_state(half_life):
    state = BookFeatureState(depth=1, config=BookFeatureConfig(resiliency_half_life=half_life))
    state.ensure(1)
    return state


def test_resiliency_of_a_spread_that_comes_back_by_a_share_is_that_share():
    logs = [0.0]
    for i in range(200):
        logs.append(0.7 * logs[-1] + (1.0 if i % 20 == 0 else 0.0))
    rows = [(100.0, 1.0, 100.0 + np.exp(log), 1.0) for log in logs[1:]]
    features = liquidity_state(10).update(make_top(*rows))
    # a shock enters as noise: between shocks 30 % of the deviation is gone at each update
    found = np.array(column(features, "spread_resiliency"))
    x, y = np.array(logs[1:-1]), np.diff(logs[1:])
    weights = 0.5 ** (np.arange(len(x))[::-1] / 10)
    slope = np.polynomial.Polynomial.fit(x, y, 1, w=np.sqrt(weights), domain=[-1, 1], window=[-1, 1]).coef[1]
    assert found[-1] == pytest.approx(-slope, rel=1e-9)
    assert 0.2 < found[-1] < 0.5
    assert why(features, "spread_resiliency")[:11] == [Missing.WARMING_UP] * 10 + [Missing.OK]


def test_resiliency_of_depth_that_is_back_at_once_is_two_and_of_none_is_degenerate():
    rows = [(100.0, 1.0 + 9 * (i % 2), 101.0, 1.0) for i in range(40)]
    features = liquidity_state(10).update(make_top(*rows))
    assert column(features, "depth_resiliency")[-1] == pytest.approx(2.0), "it overshoots by as much as was missing"
    assert why(features, "spread_resiliency")[-1] == Missing.DEGENERATE


def test_resiliency_does_not_see_a_change_across_a_lost_book():
    row, wide = (100.0, 1.0, 101.0, 1.0), (100.0, 1.0, 109.0, 1.0)
    rows = [row, wide] * 10 + [row] + [wide] * 15
    status = [0] * 20 + [Missing.OUT_OF_SYNC] + [0] * 15
    with_gap = liquidity_state(10).update(make_top(*rows, missing=status))
    without = liquidity_state(10).update(make_top(*rows[:20], *rows[22:]))
    for name in ("spread_resiliency", "depth_resiliency"):
        assert column(with_gap, name)[22:] == pytest.approx(column(without, name)[20:], rel=1e-12, nan_ok=True)


def test_resiliency_recovers_from_hostile_numbers():
    rng = np.random.default_rng(4)
    spreads = np.exp(rng.normal(0, 0.3, 3_000))
    rows = [(100.0, 1.0, 100.0 + spread, 1.0) for spread in spreads]
    clean = liquidity_state(20).update(make_top(*rows))
    rows[100:103] = [(5e-324, 5e-324, 1e308, 1e308), (1.0, 1e308, 1.5e308, 1e308), (1e-300, 1e-300, 1.0, 1.0)]
    dirty = liquidity_state(20).update(make_top(*rows))
    assert ((dirty.missing == Missing.OK) == np.isfinite(dirty.values)).all()
    assert column(dirty, "spread_resiliency")[-1] == pytest.approx(column(clean, "spread_resiliency")[-1], rel=1e-9)


def test_book_feature_specs_name_the_columns_and_their_parameters():
    assert FeatureSet(BookFeatureState.specs(depth=5)).names == NAMES
    assert FeatureSet(BookFeatureState.specs(depth=5)).hash != FeatureSet(BookFeatureState.specs(depth=6)).hash


def test_every_feature_is_a_level_or_a_flow():
    assert sorted(LEVELS + FLOWS) == list(range(len(NAMES)))
    assert [NAMES[k] for k in FLOWS] == [item.name for item in BOOK_FEATURES if item.sampling is Sampling.FLOW]
    specs = BookFeatureState.specs(depth=5)
    assert all("since the decision before" in specs[k].formula for k in FLOWS)
    assert not any("since the decision before" in specs[k].formula for k in LEVELS)


def test_book_feature_parameters_are_in_the_hash_of_those_that_depend_on_them():
    config = BookFeatureConfig(imbalance_states=8, microprice_refresh=50)
    before = {spec.name: spec for spec in BookFeatureState.specs(5)}
    after = {spec.name: spec for spec in BookFeatureState.specs(5, config)}
    assert [name for name in NAMES if before[name] != after[name]] == ["microprice"]
    assert after["microprice"].warm_up == 150


def test_an_odd_number_of_imbalance_states_is_refused():
    with pytest.raises(ValueError, match="expected an even number of `imbalance_states`, was 5"):
        BookFeatureConfig(imbalance_states=5)


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
    assert np.isnan(values[1, list(LEVELS)]).all()
    values, missing = sample(sampler, make_features([]), [500], interval=1)
    assert (missing[0, 0], missing[0, FLOW], values[0, FLOW]) == (Missing.STALE, Missing.OK, 1.0)


def test_book_sampler_keeps_the_reason_of_a_lost_book(sampler):
    _, missing = sample(sampler, make_features([10], values=[np.nan], missing=Missing.OUT_OF_SYNC), [500])
    assert set(missing[0, list(LEVELS)].tolist()) == {Missing.OUT_OF_SYNC}
    assert set(missing[0, list(FLOWS)].tolist()) == {Missing.NO_INPUT}


def test_book_sampler_sums_each_flow_over_the_updates_that_have_it(sampler):
    features = make_features([10, 20, 30])
    deep = NAMES.index("multi_level_order_flow_imbalance")
    features.missing[:2, deep] = Missing.WARMING_UP
    features.values[:2, deep] = nan
    values, _ = sample(sampler, features, [35])
    assert (values[0, FLOW], values[0, deep]) == (6.0, 3.0)


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
