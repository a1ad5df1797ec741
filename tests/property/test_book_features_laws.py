"""Book features and their samples equal a direct formula, however rows are cut into calls."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.book_feature_table import FLOWS, LEVELS
from operators.book_features import NAMES, BookFeatureColumns, BookFeatureConfig, BookFeatureState
from operators.book_sampler import BookSampler
from operators.book_top import TopOfBookState, no_levels, quotes_top
from operators.columns import BookColumns
from schemas.enums import Missing
from tests.twins.books import BookTable, book_twin

N_CODES, MAX_AGE = 3, 6
FLOW = NAMES.index("order_flow_imbalance")
SIZES = st.integers(0, 4).map(float)


@st.composite
def quote_rows(draw, min_size=0):
    """Draw quotes in time order, some one-sided or locked."""
    n = draw(st.integers(min_size, 30))
    ts = np.cumsum(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=np.int64)
    code = np.array(draw(st.lists(st.integers(0, N_CODES - 1), min_size=n, max_size=n)), dtype=np.int32)
    column = lambda values: np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype=np.float64)  # noqa: E731
    bid = column(st.integers(8, 10))
    rows = (code, ts, bid, column(SIZES), bid + column(st.integers(0, 2)), column(SIZES))
    for array in rows:
        array.flags.writeable = False
    return rows


CONFIG = BookFeatureConfig(
    tick_warm_up=3, resiliency_half_life=10, imbalance_states=4, microprice_refresh=10, microprice_half_life=100,
    microprice_min_visits=2,
)  # fmt: skip
DEPTH = 3


def features_of(rows, cuts=()):
    return features_of_top(quotes_top(*rows, depth=DEPTH), cuts)


def features_of_top(top, cuts=()):
    """Compute the features in calls that are cut there, through a snapshot each."""
    state = BookFeatureState(DEPTH, CONFIG)
    state.ensure(N_CODES)
    parts = []
    for part in np.split(np.arange(len(top)), sorted(cuts)):
        twin = BookFeatureState(DEPTH, CONFIG)
        twin.restore(state.snapshot(N_CODES))
        state = twin
        parts.append(state.update(read_only(top.take(part))))
    names = [field.name for field in dataclasses.fields(BookFeatureColumns)]
    return BookFeatureColumns(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def read_only(top):
    for field in dataclasses.fields(top):
        getattr(top, field.name).flags.writeable = False
    return top


def random_books(seed, n=400, lost=0.02, hostile=()):
    """Return updates of books of up to three levels, and quotes for the last code; some rows are lost."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, N_CODES, n).astype(np.int32)
    mid = 10_000 + np.cumsum(rng.integers(-1, 2, (n, N_CODES)), axis=0)[np.arange(n), code]
    prices = np.stack([mid - rng.integers(0, 2, n), mid + rng.integers(1, 3, n)], axis=1) / 100
    sizes = np.exp(rng.normal(0, 1, (n, DEPTH, 2))).round(2) + 0.01
    if hostile:
        at = rng.choice(n, n // 20, replace=False)
        sizes[at, 0, rng.integers(0, 2, len(at))] = rng.choice(hostile, len(at))
        at = rng.choice(n, n // 20, replace=False)
        prices[at, 1] = rng.choice(hostile, len(at))
    steps = rng.integers(1, 4, (n, DEPTH - 1, 2)).cumsum(axis=1) / 100
    levels = np.empty((n, DEPTH - 1, 4))
    levels[:, :, 0::2] = prices[:, None, :] + steps * [-1, 1]
    levels[:, :, 1::2] = sizes[:, 1:]
    absent = rng.integers(1, DEPTH + 2, (n, 2))
    for side in range(2):
        none = np.arange(1, DEPTH) >= absent[:, side, None]
        levels[none, 2 * side], levels[none, 2 * side + 1] = np.nan, 0.0
    levels[code == N_CODES - 1] = np.nan
    quotes = quotes_top(code, np.arange(n), prices[:, 0], sizes[:, 0, 0], prices[:, 1], sizes[:, 0, 1], DEPTH)
    depths = [quotes.bid_size, quotes.ask_size]
    for k in range(DEPTH - 1):
        depths = [total + np.nan_to_num(levels[:, k, 2 * side + 1]) for side, total in enumerate(depths)]
    missing = np.where(rng.random(n) < lost, Missing.OUT_OF_SYNC, quotes.missing).astype(np.uint8)
    return dataclasses.replace(quotes, levels=levels, bid_depth=depths[0], ask_depth=depths[1], missing=missing)


@pytest.mark.parametrize("seed", range(6))
def test_every_book_feature_equals_its_batch_twin(seed):
    top = random_books(seed, n=1_500)
    features = features_of_top(top)
    for code in range(N_CODES):
        own = top.code == code
        lost = top.missing[own] != Missing.OK
        touch = [np.where(lost, np.nan, column[own]) for column in (top.bid_price, top.bid_size, top.ask_price)]
        twin = book_twin(BookTable(*touch, top.ask_size[own], top.levels[own]), CONFIG)
        assert set(twin) == set(NAMES)
        for k, name in enumerate(NAMES):
            np.testing.assert_allclose(features.values[own, k], twin[name], rtol=1e-9, atol=1e-11, err_msg=name)
            assert np.isfinite(twin[name]).mean() > 0.5, name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 400), max_size=5))
def test_features_of_books_cut_and_resumed_anywhere_are_the_same(seed, cuts):
    top = random_books(seed)
    whole, cut = features_of_top(top), features_of_top(top, cuts)
    np.testing.assert_array_equal(whole.values, cut.values)
    np.testing.assert_array_equal(whole.missing, cut.missing)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 400))
def test_features_of_books_see_only_what_came_before_and_only_their_instrument(seed, n):
    top = random_books(seed)
    whole = features_of_top(top)
    for rows in (np.arange(n), *(np.flatnonzero(top.code == code) for code in range(N_CODES))):
        np.testing.assert_array_equal(features_of_top(top.take(rows)).values, whole.values[rows])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_features_of_quotes_do_not_depend_on_books_beside_them(seed):
    top = random_books(seed)
    rows = np.flatnonzero(top.code == N_CODES - 1)
    alone = dataclasses.replace(top.take(rows), levels=no_levels(len(rows), DEPTH))
    np.testing.assert_array_equal(features_of_top(alone).values, features_of_top(top).values[rows])


HOSTILE = [0.0, -1.0, np.nan, np.inf, 1e308, 5e-324, 1e-160, 1e200]


@pytest.mark.parametrize("seed", range(10))
def test_features_of_books_survive_hostile_numbers(seed):
    dirty = random_books(seed, hostile=HOSTILE)
    features = features_of_top(dirty)
    assert ((features.missing == Missing.OK) == np.isfinite(features.values)).all()
    clean = random_books(seed + 100, n=6_000)
    after = dataclasses.replace(clean, ts=clean.ts + len(dirty))
    state, fresh = BookFeatureState(DEPTH, CONFIG), BookFeatureState(DEPTH, CONFIG)
    state.ensure(N_CODES)
    fresh.ensure(N_CODES)
    state.update(dirty)
    found, expected = state.update(after).values[-500:], fresh.update(after).values[-500:]
    microprice = NAMES.index("microprice")
    np.testing.assert_allclose(found[:, microprice], expected[:, microprice], atol=0.01)  # estimated at other updates
    np.testing.assert_allclose(
        np.delete(found, microprice, axis=1), np.delete(expected, microprice, axis=1), rtol=1e-6, atol=1e-9
    )


@settings(max_examples=80, deadline=None)
@given(quote_rows())
def test_order_flow_imbalance_equals_the_direct_formula(rows):
    features = features_of(rows)
    previous = {}
    for i, (code, _, bid, bid_size, ask, ask_size) in enumerate(zip(*rows, strict=True)):
        if not (bid < ask and bid_size > 0 and ask_size > 0):
            previous.pop(code, None)
            assert features.missing[i].tolist() == [Missing.OUT_OF_SYNC] * len(NAMES)
            continue
        if code in previous:
            p_bid, p_bid_size, p_ask, p_ask_size = previous[code]
            flow = (bid >= p_bid) * bid_size - (bid <= p_bid) * p_bid_size
            flow += (ask >= p_ask) * p_ask_size - (ask <= p_ask) * ask_size
            assert features.values[i, FLOW] == flow
        else:
            assert features.missing[i, FLOW] == Missing.WARMING_UP
        previous[code] = bid, bid_size, ask, ask_size


@settings(max_examples=60, deadline=None)
@given(quote_rows(), st.data())
def test_book_features_cut_and_resumed_anywhere_are_the_same(rows, data):
    cuts = data.draw(st.lists(st.integers(0, len(rows[0])), max_size=5))
    whole, cut = features_of(rows), features_of(rows, cuts)
    np.testing.assert_array_equal(whole.values, cut.values)
    np.testing.assert_array_equal(whole.missing, cut.missing)
    assert ((whole.missing == Missing.OK) == np.isfinite(whole.values)).all()


@settings(max_examples=60, deadline=None)
@given(quote_rows())
def test_book_features_do_not_depend_on_other_instruments(rows):
    whole = features_of(rows)
    for code in range(N_CODES):
        own = rows[0] == code
        np.testing.assert_array_equal(features_of([array[own] for array in rows]).values, whole.values[own])


@st.composite
def decision_rows(draw):
    n = draw(st.integers(0, 15))
    ts = np.cumsum(draw(st.lists(st.integers(0, 7), min_size=n, max_size=n)), dtype=np.int64)
    code = draw(st.lists(st.integers(0, N_CODES - 1), min_size=n, max_size=n))
    interval = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    return np.array(code, dtype=np.int32), np.array(interval, dtype=np.int32), ts


def sampled(features, decisions, times=()):
    """Sample in calls that end before each of these times, through a snapshot each."""
    code, interval, ts = decisions
    sampler = BookSampler(2, MAX_AGE)
    parts = []
    low = -1
    for high in [*sorted(times), 10**9]:
        twin = BookSampler(2, MAX_AGE)
        twin.restore(sampler.snapshot(N_CODES))
        sampler = twin
        own = (ts >= low) & (ts < high)
        # Updates at the time of a decision may come with it or later, never before.
        updates = features.take((features.ts >= low) & (features.ts < high))
        parts.append(sampler.sample(updates, code[own], interval[own], ts[own]))
        low = high
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


@settings(max_examples=80, deadline=None)
@given(quote_rows(), decision_rows())
def test_book_sample_equals_a_look_at_all_updates_before(rows, decisions):
    features = features_of(rows)
    values, missing = sampled(features, decisions)
    before = {}
    for d, (code, interval, ts) in enumerate(zip(*(column.tolist() for column in decisions), strict=True)):
        seen = (features.code == code) & (features.ts < ts)
        for k in FLOWS:
            flows = features.values[seen & (np.arange(len(seen)) >= before.get((code, interval), 0)), k]
            flows = flows[np.isfinite(flows)]
            if len(flows):
                assert values[d, k] == math.fsum(flows)
            else:
                assert missing[d, k] == Missing.NO_INPUT
        before[code, interval] = int(np.flatnonzero(features.ts < ts)[-1]) + 1 if (features.ts < ts).any() else 0
        if not seen.any():
            assert (missing[d] == Missing.NO_INPUT).all()
            continue
        last = np.flatnonzero(seen)[-1]
        stale = ts - features.ts[last] > MAX_AGE
        for k in LEVELS:
            reason = features.missing[last, k]
            assert missing[d, k] == (Missing.STALE if stale and reason == Missing.OK else reason)
            assert missing[d, k] != Missing.OK or values[d, k] == features.values[last, k]
    assert ((missing == Missing.OK) == np.isfinite(values)).all()


@settings(max_examples=60, deadline=None)
@given(quote_rows(), decision_rows(), st.lists(st.integers(0, 60), max_size=5))
def test_book_sample_cut_and_resumed_anywhere_is_the_same(rows, decisions, times):
    features = features_of(rows)
    for whole, cut in zip(sampled(features, decisions), sampled(features, decisions, times), strict=True):
        np.testing.assert_array_equal(whole, cut)


@settings(max_examples=60, deadline=None)
@given(quote_rows(), quote_rows(), st.lists(st.integers(0, 60), max_size=4))
def test_top_of_book_equals_a_stable_merge_however_it_is_cut(book_rows, quotes_rows, times):
    books, quotes = quotes_top(*book_rows), quotes_top(*quotes_rows)
    state = TopOfBookState()
    found = []
    low = -1
    for high in [*sorted(times), 10**9]:
        twin = TopOfBookState()
        twin.restore(state.snapshot(N_CODES))
        state = twin
        part = [group.take((group.ts >= low) & (group.ts < high)) for group in (books, quotes)]
        found += plain(state.update(*part))
        low = high
    merged = [(ts, 0, code, row) for (code, ts, *_), row in zip(plain(books), plain(books), strict=True)]
    merged += [(ts, 1, code, row) for (code, ts, *_), row in zip(plain(quotes), plain(quotes), strict=True)]
    expected, begun = [], set()
    for _, source, code, row in sorted(merged, key=lambda item: item[:2]):
        if source == 0:
            begun.add(code)
        if source == 0 or code not in begun:
            expected.append(row)
    assert str(found) == str(expected)


def plain(top: BookColumns):
    return list(zip(*(getattr(top, field.name).tolist() for field in dataclasses.fields(top)), strict=True))
