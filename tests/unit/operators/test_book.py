"""What each message does to a book, case by case."""

from __future__ import annotations

import numpy as np
import pytest

from operators.book import BookState
from operators.book_messages import BookMessages
from operators.book_sync import BookRefusal, BookStatus
from schemas.enums import BookKind, DeadLetterReason, Missing
from schemas.errors import VersionError

SNAPSHOT, DELTA = BookKind.SNAPSHOT, BookKind.DELTA
BIDS, ASKS = [(99.0, 1.0), (98.0, 2.0)], [(101.0, 3.0), (102.0, 4.0)]


def snapshot(last, bids=BIDS, asks=ASKS):
    return SNAPSHOT, -1, last, -1, bids, asks


def delta(first, last, bids=(), asks=(), previous=-1):
    return DELTA, first, last, previous, bids, asks


def batch(*rows, ident=0, code=0):
    n = len(rows)
    kind, first, last, previous, bids, asks = zip(*rows, strict=True)
    columns = []
    for sides in (bids, asks):
        levels = np.array([level for side in sides for level in side], dtype=np.float64).reshape(-1, 2)
        columns += [np.cumsum([0, *map(len, sides)]), levels[:, 0].copy(), levels[:, 1].copy()]
    idents = np.arange(ident, ident + n)
    integers = [np.array(values, dtype=np.int64) for values in (first, last, previous)]
    kinds = np.array(kind, dtype=np.int8)
    return BookMessages(np.full(n, code, dtype=np.int32), 1_000 + idents, idents, kinds, *integers, *columns)


def refusals(update):
    return list(zip(update.rejected_ident.tolist(), map(BookRefusal, update.rejected_reason.tolist()), strict=True))


@pytest.fixture
def book():
    state = BookState(depth=2, max_levels=64, max_pending=3)
    state.ensure(2)
    return state


def test_book_snapshot_gives_the_top_and_the_depth(book):
    update = book.update(batch(snapshot(7, bids=[(99.0, 1.0), (98.0, 2.0), (97.0, 4.0)])))
    top = update.top
    assert (top.bid_price[0], top.bid_size[0], top.ask_price[0], top.ask_size[0]) == (99.0, 1.0, 101.0, 3.0)
    assert (top.bid_depth[0], top.ask_depth[0]) == (3.0, 7.0)
    assert (top.missing[0], top.ts[0], update.row[0]) == (Missing.OK, 1_000, 0)


@pytest.mark.parametrize("bids", [BIDS, BIDS[::-1], [(98.0, 5.0), *BIDS], [(99.0, 5.0), (98.0, 2.0), (99.0, 1.0)]])
def test_book_snapshot_in_any_order_gives_the_same_book_and_the_last_of_equal_prices(book, bids):
    book.update(batch(snapshot(7, bids=bids)))
    prices, sizes, _, _ = book.levels(0)
    assert (prices.tolist(), sizes.tolist()) == ([99.0, 98.0], [1.0, 2.0])


def test_book_snapshot_replaces_what_stood_there(book):
    book.update(batch(snapshot(7), snapshot(9, bids=[(90.0, 5.0)], asks=[(110.0, 6.0), (120.0, 0.0)])))
    assert [side.tolist() for side in book.levels(0)] == [[90.0], [5.0], [110.0], [6.0]]


def test_book_delta_sets_inserts_and_removes_levels(book):
    update = book.update(batch(snapshot(7), delta(8, 9, bids=[(99.0, 0.0), (98.5, 9.0), (98.0, 3.0), (50.0, 0.0)])))
    assert [side.tolist() for side in book.levels(0)[:2]] == [[98.5, 98.0], [9.0, 3.0]]
    assert update.top.bid_price.tolist() == [99.0, 98.5]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (snapshot(9, bids=[(101.0, 1.0)]), BookRefusal.CROSSED_BOOK),
        (snapshot(9, bids=[(101.5, 1.0)]), BookRefusal.CROSSED_BOOK),
        (snapshot(9, bids=[(0.0, 1.0)]), BookRefusal.OUT_OF_RANGE),
        (snapshot(9, bids=[(float("nan"), 1.0)]), BookRefusal.OUT_OF_RANGE),
        (snapshot(9, asks=[(float("inf"), 1.0)]), BookRefusal.OUT_OF_RANGE),
        (snapshot(9, asks=[(101.0, -1.0)]), BookRefusal.OUT_OF_RANGE),
        (snapshot(9, asks=[(101.0, float("nan"))]), BookRefusal.OUT_OF_RANGE),
        (snapshot(-5), BookRefusal.OUT_OF_RANGE),
    ],
)
def test_book_bad_snapshot_is_refused_and_leaves_the_book(book, bad, reason):
    book.update(batch(snapshot(7)))
    before = [side.tolist() for side in book.levels(0)]
    update = book.update(batch(bad, delta(8, 8), ident=1))
    assert refusals(update) == [(1, reason)]
    assert [side.tolist() for side in book.levels(0)] == before
    assert update.row.tolist() == [1], "the delta after it follows the book that stayed"


def test_book_late_snapshot_is_superseded_and_a_restarted_feed_is_not(book):
    book.update(batch(snapshot(100), delta(101, 120)))
    late = book.update(batch(snapshot(110, bids=[(1.0, 1.0)]), ident=2))
    assert refusals(late) == [(2, BookRefusal.SUPERSEDED)]
    restarted = book.update(batch(snapshot(3, bids=[(90.0, 1.0)]), delta(4, 4), ident=3))
    assert not refusals(restarted)
    assert restarted.top.bid_price.tolist() == [90.0, 90.0]


@pytest.mark.parametrize(("first", "last"), [(8, 8), (8, 20), (3, 9), (-1, 8)])
def test_book_delta_that_reaches_over_the_next_number_follows(book, first, last):
    update = book.update(batch(snapshot(7), delta(first, last)))
    assert not refusals(update)


@pytest.mark.parametrize(("first", "last", "previous"), [(9, 9, -1), (-1, 9, -1), (8, 9, 8)])
def test_book_delta_after_a_gap_is_refused_and_the_book_is_lost(book, first, last, previous):
    update = book.update(batch(snapshot(7), delta(first, last, previous=previous)))
    assert refusals(update) == [(1, BookRefusal.SEQUENCE_GAP)]
    assert update.top.missing.tolist() == [Missing.OK, Missing.OUT_OF_SYNC]
    assert np.isnan(update.top.bid_price[1])
    assert np.isnan(update.top.ask_depth[1])
    assert book.status(0) == BookStatus.LOST


def test_book_delta_by_previous_number_follows_although_numbers_have_holes(book):
    rows = (snapshot(7), delta(30, 40, previous=5), delta(60, 70, previous=40), delta(90, 95, previous=60))
    assert refusals(book.update(batch(*rows))) == [(3, BookRefusal.SEQUENCE_GAP)]


def test_book_old_delta_is_a_duplicate_or_superseded(book):
    update = book.update(batch(snapshot(7), delta(8, 9), delta(10, 12), delta(10, 12), delta(8, 9), delta(6, 7)))
    reasons = [BookRefusal.DUPLICATE, BookRefusal.DUPLICATE, BookRefusal.SUPERSEDED]
    assert refusals(update) == list(zip([3, 4, 5], reasons, strict=True))
    assert len(update.row) == 3


@pytest.mark.parametrize("bids", [[(101.0, 1.0)], [(105.0, 1.0)]])
def test_book_delta_that_crosses_loses_the_book_until_a_snapshot(book, bids):
    update = book.update(batch(snapshot(7), delta(8, 8, bids=bids), delta(9, 9), snapshot(9)))
    assert refusals(update) == [(1, BookRefusal.CROSSED_BOOK), (2, BookRefusal.SEQUENCE_GAP)]
    assert update.top.missing.tolist() == [Missing.OK, Missing.OUT_OF_SYNC, Missing.OK]


def test_book_delta_that_is_crossed_only_inside_the_message_is_applied(book):
    update = book.update(batch(snapshot(7), delta(8, 8, bids=[(101.0, 1.0)], asks=[(101.0, 0.0)])))
    assert update.top.bid_price[1] == 101.0
    assert update.top.ask_price[1] == 102.0


@pytest.mark.parametrize("bids", [[(-1.0, 1.0)], [(float("nan"), 0.0)], [(99.0, float("inf"))]])
def test_book_delta_out_of_range_loses_the_book(book, bids):
    update = book.update(batch(snapshot(7), delta(8, 8, bids=bids)))
    assert refusals(update) == [(1, BookRefusal.OUT_OF_RANGE)]
    assert update.top.missing.tolist() == [Missing.OK, Missing.OUT_OF_SYNC]


def test_book_with_an_empty_side_shows_the_other_one(book):
    top = book.update(batch(snapshot(7), delta(8, 8, asks=[(101.0, 0.0), (102.0, 0.0)]))).top
    assert top.missing.tolist() == [Missing.OK, Missing.OUT_OF_SYNC]
    assert (top.bid_price[1], top.bid_depth[1]) == (99.0, 3.0)
    assert np.isnan([top.ask_price[1], top.ask_size[1], top.ask_depth[1]]).all()
    assert book.status(0) == BookStatus.SYNCHRONISED


def test_book_deltas_before_the_snapshot_are_held_then_refused_or_applied(book):
    first = book.update(batch(delta(1, 4), delta(5, 8), delta(9, 10, bids=[(99.5, 6.0)])))
    assert (len(first.top), refusals(first), book.held().tolist()) == (0, [], [0, 1, 2])
    second = book.update(batch(snapshot(6), ident=3))
    assert refusals(second) == [(0, BookRefusal.SUPERSEDED)]
    assert second.rejected_row.tolist() == [0]
    assert (second.row.tolist(), second.top.ts.tolist()) == ([0], [1_003])
    assert second.top.bid_price.tolist() == [99.5]
    assert len(book.held()) == 0


def test_book_futures_delta_straddles_the_snapshot_by_its_previous_number(book):
    update = book.update(batch(delta(10, 20, previous=8), delta(25, 30, previous=20), snapshot(12)))
    assert (refusals(update), len(update.top)) == ([], 1)
    assert book.status(0) == BookStatus.SYNCHRONISED


def test_book_snapshot_too_old_for_the_held_deltas_stays_lost(book):
    update = book.update(batch(delta(10, 12), delta(13, 14), snapshot(5)))
    assert refusals(update) == [(0, BookRefusal.SEQUENCE_GAP)]
    assert update.top.missing.tolist() == [Missing.OUT_OF_SYNC]
    assert book.held().tolist() == [1]


def test_book_deltas_held_after_a_gap_are_refused_as_lost_to_it(book):
    update = book.update(batch(snapshot(7), delta(10, 11), delta(12, 13), delta(14, 15), snapshot(13)))
    assert refusals(update) == [(1, BookRefusal.SEQUENCE_GAP), (2, BookRefusal.SEQUENCE_GAP)]
    assert update.rejected_row.tolist() == [1, 4]
    assert update.top.missing.tolist() == [Missing.OK, Missing.OUT_OF_SYNC, Missing.OK]


def test_book_holds_no_more_than_its_cap(book):
    update = book.update(batch(*(delta(n, n) for n in range(10))))
    assert refusals(update) == [(n, BookRefusal.SEQUENCE_GAP) for n in range(7)]
    assert update.rejected_row.tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert (book.held().tolist(), book.held_overflow) == ([7, 8, 9], 7)


def test_book_flush_refuses_what_is_held(book):
    book.update(batch(delta(1, 1), code=1))
    book.update(batch(delta(1, 1), delta(2, 2), ident=5))
    flushed = book.flush()
    assert refusals(flushed) == [(ident, BookRefusal.SEQUENCE_GAP) for ident in (5, 6, 0)]
    assert flushed.rejected_row.tolist() == [-1, -1, -1]
    assert len(flushed.top) == len(book.held()) == len(book.flush().rejected_ident) == 0
    assert not refusals(book.update(batch(snapshot(1), ident=9)))


def test_book_reset_forgets_and_refuses_what_is_held(book):
    book.update(batch(snapshot(7), delta(9, 9), delta(10, 10)))
    assert refusals(book.reset(np.array([0], dtype=np.int32))) == [(2, BookRefusal.SEQUENCE_GAP)]
    assert book.status(0) == BookStatus.NEW
    assert len(book.levels(0)[0]) == 0
    assert book.update(batch(snapshot(3))).top.bid_price.tolist() == [99.0]


def test_book_beyond_its_cap_drops_the_worst_levels_and_counts_them():
    state = BookState(depth=9, max_levels=3, max_pending=1)
    state.ensure(1)
    state.update(batch(snapshot(1, bids=[(price, 1.0) for price in (9.0, 8.0, 7.0, 6.0)])))
    assert (state.levels(0)[0].tolist(), state.dropped_levels) == ([9.0, 8.0, 7.0], 1)
    state.update(batch(delta(2, 2, bids=[(8.5, 1.0), (1.0, 1.0)])))
    assert (state.levels(0)[0].tolist(), state.dropped_levels) == ([9.0, 8.5, 8.0], 3)
    state.update(batch(delta(3, 3, bids=[(8.2, 1.0)])))
    assert state.levels(0)[0].tolist() == [9.0, 8.5, 8.2]


def test_book_restored_with_other_caps_is_refused(book):
    other = BookState(depth=2, max_levels=65, max_pending=3)
    with pytest.raises(VersionError, match=r"\[max_levels, max_pending\] \(1, \[65, 3\]\), found \(1, \[64, 3\]\)"):
        other.restore(book.snapshot(2))


@pytest.mark.parametrize("name", ["depth", "max_levels", "max_pending"])
def test_book_with_a_parameter_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"expected `{name}` of at least 1, was 0"):
        BookState(**({"depth": 1, "max_levels": 1, "max_pending": 1} | {name: 0}))


def test_book_messages_of_unequal_length_are_refused(book):
    messages = batch(snapshot(7))
    with pytest.raises(ValueError, match="expected arrays of one length, found"):
        book.update(messages._replace(ts=np.arange(2)))
    with pytest.raises(ValueError, match="expected `ask_offsets` to be 2 rising positions"):
        book.update(messages._replace(ask_offsets=np.array([0, 5])))
    with pytest.raises(ValueError, match="expected `bid_offsets` to be 2 rising positions"):
        book.update(messages._replace(bid_offsets=np.array([0, 2, 2])))


def test_book_refusals_are_dead_letter_reasons():
    assert {refusal.dead_letter for refusal in BookRefusal} <= set(DeadLetterReason)
    assert BookRefusal.CROSSED_BOOK.dead_letter is DeadLetterReason.CROSSED_BOOK


def test_book_empty_batch_changes_nothing(book):
    book.update(batch(snapshot(7)))
    before = book.snapshot(2)
    update = book.update(batch(snapshot(7))._replace(
        **{name: np.empty(0) for name in BookMessages._fields if "offsets" not in name},
        bid_offsets=np.zeros(1), ask_offsets=np.zeros(1),
    ))  # fmt: skip
    assert len(update.top) == len(update.rejected_ident) == 0
    assert book.snapshot(2) == before
