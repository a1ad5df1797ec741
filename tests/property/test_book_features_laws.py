"""Book features and their samples equal a direct formula, however rows are cut into calls."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.book_features import NAMES, BookFeatureColumns, BookFeatureState
from operators.book_sampler import BookSampler
from operators.book_top import TopOfBookState, quotes_top
from operators.columns import BookColumns
from schemas.enums import Missing

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


def features_of(rows, cuts=()):
    state = BookFeatureState()
    state.ensure(N_CODES)
    parts = []
    for part in np.split(np.arange(len(rows[0])), sorted(cuts)):
        twin = BookFeatureState()
        twin.restore(state.snapshot(N_CODES))
        state = twin
        parts.append(state.update(quotes_top(*(array[part] for array in rows))))
    names = [field.name for field in dataclasses.fields(BookFeatureColumns)]
    return BookFeatureColumns(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


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
        flows = features.values[seen & (np.arange(len(seen)) >= before.get((code, interval), 0)), FLOW]
        flows = flows[np.isfinite(flows)]
        if len(flows):
            assert values[d, FLOW] == math.fsum(flows)
        else:
            assert missing[d, FLOW] == Missing.NO_INPUT
        before[code, interval] = int(np.flatnonzero(features.ts < ts)[-1]) + 1 if (features.ts < ts).any() else 0
        if not seen.any():
            assert (missing[d] == Missing.NO_INPUT).all()
            continue
        last = np.flatnonzero(seen)[-1]
        stale = ts - features.ts[last] > MAX_AGE
        for k in range(FLOW):
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
