"""The top of the book from quotes, and from quotes and books together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from operators.book_top import TopOfBookState, no_levels, quotes_top
from schemas.enums import Missing


def top(ts, bid=9.0, ask=10.0, code=None, bid_size=1.0, ask_size=2.0):
    n = len(ts)
    codes = np.zeros(n, dtype=np.int32) if code is None else np.array(code, dtype=np.int32)
    return quotes_top(
        codes, np.array(ts, dtype=np.int64), *(np.full(n, value) for value in (bid, bid_size, ask, ask_size))
    )


def test_quotes_top_of_two_sided_quotes_is_the_input_uncopied():
    size = np.array([1.0, 2.0])
    columns = quotes_top(np.zeros(2, dtype=np.int32), np.arange(2), np.full(2, 9.0), size, np.full(2, 10.0), size)
    assert np.shares_memory(columns.bid_depth, size)
    assert columns.missing.tolist() == [Missing.OK, Missing.OK]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["bid", "bid_size"])
def test_quotes_top_without_bid_shows_the_offer_only(name, value):
    columns = top([1], **{name: value})
    assert columns.missing.tolist() == [Missing.OUT_OF_SYNC]
    assert np.isnan([columns.bid_price[0], columns.bid_size[0], columns.bid_depth[0]]).all()
    assert (columns.ask_price[0], columns.ask_size[0], columns.ask_depth[0]) == (10.0, 2.0, 2.0)


@pytest.mark.parametrize("bid", [10.0, 11.0])
def test_quotes_top_locked_or_crossed_is_out_of_sync(bid):
    assert top([1], bid=bid).missing.tolist() == [Missing.OUT_OF_SYNC]


def test_quotes_top_with_one_bad_row_keeps_the_good_ones():
    columns = quotes_top(
        np.zeros(2, dtype=np.int32), np.arange(2), np.array([9.0, 0.0]), np.ones(2), np.full(2, 10.0), np.ones(2)
    )
    assert columns.missing.tolist() == [Missing.OK, Missing.OUT_OF_SYNC]
    assert columns.bid_price[0] == 9.0


@pytest.fixture
def state():
    fresh = TopOfBookState()
    fresh.ensure(2)
    return fresh


def test_top_of_book_takes_quotes_until_the_book_begins(state):
    merged = state.update(top([3, 8], bid=8.0), top([1, 3, 4, 9]))
    assert merged.ts.tolist() == [1, 3, 8]
    assert merged.bid_price.tolist() == [9.0, 8.0, 8.0], "the book stands before the quote of the same time"


def test_top_of_book_of_other_instruments_stays_with_quotes(state):
    merged = state.update(top([3]), top([1, 4, 5], code=[0, 1, 0]))
    assert (merged.code.tolist(), merged.ts.tolist()) == ([0, 0, 1], [1, 3, 4])


def test_top_of_book_keeps_the_levels_of_books_beside_quotes_that_have_none(state):
    book, quote = top([3]), top([4], code=[1])
    book = dataclasses.replace(book, levels=np.arange(8.0).reshape(1, 2, 4))
    quote = dataclasses.replace(quote, levels=no_levels(1, 3))
    merged = state.update(book, quote)
    np.testing.assert_array_equal(merged.levels, [np.arange(8.0).reshape(2, 4), np.full((2, 4), np.nan)])


def test_top_of_book_with_one_feed_passes_it_through(state):
    nothing, some = top([]), top([1, 2])
    assert state.update(nothing, some) is some
    assert state.update(some, nothing) is some
    assert state.update(nothing, top([5, 6], code=[0, 1])).code.tolist() == [1]


def test_top_of_book_snapshot_keeps_and_reset_forgets_that_there_is_a_book(state):
    state.update(top([1]), top([]))
    twin = TopOfBookState()
    twin.restore(state.snapshot(2))
    assert len(twin.update(top([]), top([2]))) == 0
    twin.reset(np.array([0], dtype=np.int32))
    assert len(twin.update(top([]), top([2]))) == 1
