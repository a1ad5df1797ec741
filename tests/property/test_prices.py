"""The last price of each instrument, against a search through everything that came before."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.prices import PriceState

CODES = 3


def log(seed: int, n: int) -> list[tuple[np.ndarray, ...]]:
    """Return mids, trades and questions: codes, times and prices."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(3):
        price = rng.choice([9.5, 10.0, 10.5, np.nan, 0.0, -1.0, np.inf], n)
        parts.append((rng.integers(0, CODES, n).astype(np.int32), np.sort(rng.integers(0, 50, n)), price))
    return parts


def expected(mids, trades, code: int, ts: int) -> tuple[float, float]:
    """Return price and age by search: of equal times a trade is later than a mid, and a later row than an earlier."""
    known = [
        (at, rank, row, price)
        for rank, (codes, times, prices) in enumerate((mids, trades))
        for row, (c, at, price) in enumerate(zip(codes, times, prices, strict=True))
        if c == code and at < ts and 0 < price < np.inf
    ]
    if not known:
        return np.nan, np.nan
    at, _, _, price = max(known)
    return price, ts - at


def between(part, low: int, high: int):
    rows = slice(*np.searchsorted(part[1], [low, high]))
    return tuple(column[rows] for column in part)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 50), max_size=4), resume=st.booleans())
def test_price_is_the_last_before_the_question(seed, cuts, resume):
    mids, trades, questions = log(seed, 30)
    state = PriceState()
    found = []
    edges = [0, *sorted(cuts), 51]
    for low, high in pairwise(edges):
        if resume:
            kept = state.snapshot(CODES)
            state = PriceState()
            state.restore(kept)
        state.ensure(CODES)
        code, ts, _ = between(questions, low, high)
        found += zip(*state.update(between(mids, low, high), between(trades, low, high), code, ts), strict=True)
    wanted = [expected(mids, trades, *question) for question in zip(*questions[:2], strict=True)]
    np.testing.assert_array_equal(np.array(found).reshape(-1, 2), np.array(wanted).reshape(-1, 2))


def test_instrument_that_is_forgotten_has_no_price():
    state = PriceState()
    state.ensure(1)
    code, none = np.zeros(1, np.int32), (np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0))
    state.update((code, np.array([1]), np.array([5.0])), none, code, np.array([2]))
    state.reset(code)
    assert np.isnan(state.update(none, none, code, np.array([3]))[0][0])


@pytest.mark.parametrize("seed", [1, 2])
def test_inputs_are_left_as_they_are(seed):
    mids, trades, questions = log(seed, 20)
    copies = [[column.copy() for column in part] for part in (mids, trades, questions)]
    state = PriceState()
    state.ensure(CODES)
    state.update(mids, trades, *questions[:2])
    for part, copy in zip((mids, trades, questions), copies, strict=True):
        for column, before in zip(part, copy, strict=True):
            np.testing.assert_array_equal(column, before)
