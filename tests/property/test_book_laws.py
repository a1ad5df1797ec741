"""Books equal a slow reference at every message, however messages are cut into calls, kept and resumed."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.book import BookState
from operators.book_messages import BookMessages
from operators.book_sync import BookRefusal
from schemas.enums import BookKind, Missing

N_CODES, DEPTH, MAX_LEVELS, MAX_PENDING = 3, 3, 4, 3


class Reference:
    """One book after the rules of the feed, message by message, in dictionaries."""

    def __init__(self):
        self.sides = ({}, {})
        self.status, self.last, self.anchor = "new", None, None
        self.held = []

    def take(self, message):
        """Return the top if the message gives a row, and `(ident, reason)` of each refusal."""
        if message["kind"] == BookKind.SNAPSHOT:
            return self.snapshot(message)
        if self.status == "synchronised":
            return self.delta(message)
        if not sane(message):
            return None, [(message["ident"], BookRefusal.OUT_OF_RANGE)]
        self.held.append(message)
        if len(self.held) > MAX_PENDING:
            return None, [(self.held.pop(0)["ident"], BookRefusal.SEQUENCE_GAP)]
        return None, []

    def snapshot(self, message):
        sides = tuple({price: size for price, size in side if size > 0} for side in (message["bids"], message["asks"]))
        refusal = None
        if not sane(message):
            refusal = BookRefusal.OUT_OF_RANGE
        elif sides[0] and sides[1] and max(sides[0]) >= min(sides[1]):
            refusal = BookRefusal.CROSSED_BOOK
        elif self.status == "synchronised" and self.anchor <= message["last"] < self.last:
            refusal = BookRefusal.SUPERSEDED
        if refusal:
            return None, [(message["ident"], refusal)]
        contained = BookRefusal.SEQUENCE_GAP if self.status == "lost" else BookRefusal.SUPERSEDED
        self.sides, self.last, self.anchor, self.status = sides, message["last"], message["last"], "synchronised"
        self.trim()
        waiting, self.held = self.held, []
        refused = []
        for held in waiting:
            _, more = self.take(held)
            refused += [(i, contained if why == BookRefusal.SUPERSEDED else why) for i, why in more]
        return self.top(), refused

    def delta(self, message):
        if message["last"] <= self.last:
            old = BookRefusal.DUPLICATE if message["last"] > self.anchor else BookRefusal.SUPERSEDED
            return None, [(message["ident"], old)]
        refusal = None
        if not sane(message):
            refusal = BookRefusal.OUT_OF_RANGE
        elif not self.follows(message):
            refusal = BookRefusal.SEQUENCE_GAP
        else:
            for side, levels in zip(self.sides, (message["bids"], message["asks"]), strict=True):
                for price, size in levels:
                    if size > 0:
                        side[price] = size
                        self.trim()
                    else:
                        side.pop(price, None)
            self.last = message["last"]
            if self.sides[0] and self.sides[1] and max(self.sides[0]) >= min(self.sides[1]):
                refusal = BookRefusal.CROSSED_BOOK
        if refusal:
            self.status = "lost"
            return self.top(), [(message["ident"], refusal)]
        return self.top(), []

    def follows(self, message):
        if message["previous"] >= 0:
            return message["previous"] == self.last or (self.last == self.anchor and message["previous"] < self.last)
        return (message["first"] if message["first"] >= 0 else message["last"]) <= self.last + 1

    def trim(self):
        bids, asks = self.sides
        while len(bids) > MAX_LEVELS:
            del bids[min(bids)]
        while len(asks) > MAX_LEVELS:
            del asks[max(asks)]

    def top(self):
        row = [math.nan] * 6
        below = [[math.nan] * 4 for _ in range(DEPTH - 1)]
        if self.status == "synchronised":
            for s, best in ((0, max), (1, min)):
                side = self.sides[s]
                ranked = sorted(side, reverse=s == 0)
                for k, level in enumerate(below, start=1):
                    exists = k < len(side)
                    level[2 * s : 2 * s + 2] = [ranked[k], side[ranked[k]]] if exists else [math.nan, 0.0]
                if side:
                    price = best(side)
                    row[2 * s : 2 * s + 2] = [price, side[price]]
                    row[4 + s] = sum(side[p] for p in ranked[:DEPTH])
        sound = not any(map(math.isnan, row))
        return [*row, Missing.OK if sound else Missing.OUT_OF_SYNC, *itertools.chain(*below)]


def sane(message):
    levels = [*message["bids"], *message["asks"]]
    finite = all(0 < price < math.inf and 0 <= size < math.inf for price, size in levels)
    return finite and 0 <= message["last"] >= message["first"]


SIZES = st.sampled_from([0.0, 1.0, 2.0, 5.0])
BID = st.tuples(st.integers(90, 99).map(float), SIZES)
ASK = st.tuples(st.integers(100, 109).map(float), SIZES)
CROSSING = st.tuples(st.sampled_from([95.0, 99.0, 100.0, 104.0]), SIZES)
BROKEN_PRICE = st.sampled_from([0.0, -1.0, math.nan, math.inf, 95.0])
BROKEN = st.tuples(BROKEN_PRICE, st.sampled_from([-1.0, math.nan, math.inf, 1.0]))


@st.composite
def streams(draw, max_size=30):
    """Draw messages of a few instruments: mostly in order, with gaps, repeats, stale snapshots and bad values."""
    by_previous = draw(st.booleans())
    number = [10] * N_CODES
    messages = []
    for ident in range(draw(st.integers(1, max_size))):
        code = draw(st.integers(0, N_CODES - 1))
        kind = BookKind.SNAPSHOT if draw(st.integers(0, 9)) < (3 if ident < 6 else 1) else BookKind.DELTA
        fault = draw(st.sampled_from(["none"] * 12 + ["gap", "repeat", "crossing", "broken", "numbers"]))
        bids, asks = draw(st.lists(BID, max_size=4)), draw(st.lists(ASK, max_size=4))
        if fault in ("crossing", "broken"):
            (bids if draw(st.booleans()) else asks).append(draw(CROSSING if fault == "crossing" else BROKEN))
        previous = number[code]
        if fault == "gap":
            previous += draw(st.integers(1, 3))
        elif fault == "repeat":
            previous -= draw(st.integers(1, 5))
        last = previous + draw(st.integers(1, 3))
        first = last + 1 if fault == "numbers" else draw(st.sampled_from([previous + 1, previous, -1]))
        if kind == BookKind.SNAPSHOT:
            last, first, previous = previous + draw(st.integers(-4, 2)), -1, -1
        elif fault != "repeat":
            number[code] = last
        if not by_previous:
            previous = -1
        messages.append(
            {"code": code, "ident": ident, "kind": kind, "first": first, "last": last, "previous": previous,
             "bids": bids, "asks": asks}
        )  # fmt: skip
    return messages


def columns(messages):
    arrays = [np.array([m["code"] for m in messages], dtype=np.int32)]
    idents = np.array([m["ident"] for m in messages], dtype=np.int64)
    arrays += [1_000 + idents, idents, np.array([m["kind"] for m in messages], dtype=np.int8)]
    arrays += [np.array([m[name] for m in messages], dtype=np.int64) for name in ("first", "last", "previous")]
    for side in ("bids", "asks"):
        levels = np.array([level for m in messages for level in m[side]], dtype=np.float64).reshape(-1, 2)
        arrays += [np.cumsum([0, *(len(m[side]) for m in messages)]), levels[:, 0].copy(), levels[:, 1].copy()]
    for array in arrays:
        array.flags.writeable = False
    return BookMessages(*arrays)


def fresh():
    state = BookState(depth=DEPTH, max_levels=MAX_LEVELS, max_pending=MAX_PENDING)
    state.ensure(N_CODES)
    return state


def rows(update, messages):
    """Return an update as plain values: tops by message, and refusals."""
    top = update.top
    flat = [getattr(top, field.name) for field in dataclasses.fields(top)[2:-1]]
    values = np.column_stack([*flat, top.levels.reshape(len(top), 4 * (DEPTH - 1))])
    tops = [
        (messages[row]["ident"], int(code), int(ts), str(list(map(float, value))))
        for row, code, ts, value in zip(update.row.tolist(), top.code, top.ts, values, strict=True)
    ]
    return tops, list(zip(update.rejected_ident.tolist(), update.rejected_reason.tolist(), strict=True))


def run(state, messages, cuts=()):
    tops, refused = [], []
    bounds = [0, *sorted(cuts), len(messages)]
    for low, high in itertools.pairwise(bounds):
        part = messages[low:high]
        more_tops, more_refused = rows(state.update(columns(part)), part)
        tops += more_tops
        refused += more_refused
    return tops, refused


@settings(max_examples=150, deadline=None)
@given(streams())
def test_book_equals_the_reference_at_every_message(messages):
    state, references = fresh(), [Reference() for _ in range(N_CODES)]
    tops, refused = run(state, messages)
    expected_tops, expected_refused = [], []
    for message in messages:
        top, refusals = references[message["code"]].take(message)
        if top is not None:
            values = str(list(map(float, top)))
            expected_tops.append((message["ident"], message["code"], 1_000 + message["ident"], values))
        expected_refused += refusals
    assert tops == expected_tops
    assert refused == expected_refused
    for code, reference in enumerate(references):
        bid_prices, bid_sizes, ask_prices, ask_sizes = (side.tolist() for side in state.levels(code))
        if reference.status == "synchronised":
            assert list(zip(bid_prices, bid_sizes, strict=True)) == sorted(reference.sides[0].items(), reverse=True)
            assert list(zip(ask_prices, ask_sizes, strict=True)) == sorted(reference.sides[1].items())


@settings(max_examples=60, deadline=None)
@given(streams(), st.data())
def test_book_cut_into_calls_gives_the_same(messages, data):
    cuts = data.draw(st.lists(st.integers(0, len(messages)), max_size=8))
    assert run(fresh(), messages, cuts) == run(fresh(), messages)


@settings(max_examples=60, deadline=None)
@given(streams(), st.data())
def test_book_resumed_from_a_snapshot_gives_the_same(messages, data):
    cut = data.draw(st.integers(0, len(messages)))
    whole, first = fresh(), fresh()
    expected = run(whole, messages, [cut])
    before = run(first, messages[:cut])
    kept = first.snapshot(N_CODES)
    resumed = BookState(depth=DEPTH, max_levels=MAX_LEVELS, max_pending=MAX_PENDING)
    resumed.restore(kept)
    run(first, messages[cut:])
    after = run(resumed, messages[cut:])
    assert (before[0] + after[0], before[1] + after[1]) == expected
    assert resumed.snapshot(N_CODES) == whole.snapshot(N_CODES) == first.snapshot(N_CODES)
    assert_plain(kept)
    twin = fresh()
    run(twin, messages[:cut])
    assert kept == twin.snapshot(N_CODES), "later updates must not reach a snapshot"


def assert_plain(value):
    assert type(value) in (dict, list, str, int, float, bytes)
    if isinstance(value, dict | list):
        for part in [*value, *(value.values() if isinstance(value, dict) else ())]:
            assert_plain(part)


@settings(max_examples=50, deadline=None)
@given(streams())
def test_book_does_not_depend_on_other_instruments(messages):
    tops, refused = run(fresh(), messages)
    for code in range(N_CODES):
        alone = [message for message in messages if message["code"] == code]
        idents = {message["ident"] for message in alone}
        expected = [top for top in tops if top[1] == code], [r for r in refused if r[0] in idents]
        assert (run(fresh(), alone) if alone else ([], [])) == expected


@settings(max_examples=50, deadline=None)
@given(streams())
def test_book_accounts_for_every_message_once(messages):
    state = fresh()
    tops, refused = run(state, messages)
    held = state.held().tolist()
    at_end = state.flush().rejected_ident.tolist()
    gone = [ident for ident, _ in refused]
    assert held == at_end
    assert len(state.held()) == 0
    assert len(set(gone + held)) == len(gone) + len(held)
    rejected_deltas_that_lost_a_book = {ident for ident, *_ in tops} & set(gone)
    applied = {ident for ident, *_ in tops} - rejected_deltas_that_lost_a_book
    silent = {message["ident"] for message in messages} - applied - set(gone) - set(held)
    assert all(messages[ident]["kind"] == BookKind.DELTA for ident in silent), "only held deltas are applied silently"


def test_book_memory_stays_bounded_under_a_long_wild_stream():
    rng = np.random.default_rng(5)
    state = BookState(depth=5, max_levels=50, max_pending=20)
    n_codes, n = 8, 2_000
    state.ensure(n_codes)
    sizes = []
    for call in range(30):
        kind = (rng.random(n) < 0.9).astype(np.int8)
        counts = rng.integers(0, 30, (2, n))
        offsets = [np.concatenate([[0], np.cumsum(count)]) for count in counts]
        levels = [
            (rng.integers(low, low + 400, o[-1]) / 4.0, rng.integers(0, 3, o[-1]) * 1.0)
            for low, o in zip((1, 402), offsets, strict=True)
        ]
        last = call * n + np.arange(n) + rng.integers(0, 3, n)
        messages = BookMessages(
            rng.integers(0, n_codes, n).astype(np.int32), last, last, kind, np.full(n, 0), last, np.full(n, -1),
            offsets[0], *levels[0], offsets[1], *levels[1],
        )  # fmt: skip
        state.update(messages)
        if rng.random() < 0.5:
            state.reset(rng.integers(0, n_codes, 3).astype(np.int32))
        sizes.append(state.nbytes)
        assert len(state.held()) <= n_codes * 20
    most = n_codes * 2 * 50 * 16
    assert max(sizes) <= 4 * most


def test_book_that_shrinks_gives_its_room_back_to_others():
    state = BookState(depth=1, max_levels=4096, max_pending=1)
    state.ensure(1)
    grown = []
    for _ in range(3):
        prices = np.arange(1.0, 3001.0)
        messages = BookMessages(
            np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1), [-1], [7], [-1],
            np.array([0, 3000]), prices, prices, np.zeros(2), np.empty(0), np.empty(0),
        )  # fmt: skip
        state.update(messages)
        grown.append(state.nbytes)
        state.reset(np.zeros(1, dtype=np.int32))
    assert grown[0] == grown[-1]


@pytest.mark.parametrize("order", ["rising", "falling", "shuffled"])
def test_book_levels_of_a_large_snapshot_are_sorted(order):
    prices = np.arange(1.0, 501.0)
    if order == "falling":
        prices = prices[::-1].copy()
    elif order == "shuffled":
        prices = np.random.default_rng(3).permutation(prices)
    state = BookState(depth=1, max_levels=300, max_pending=1)
    state.ensure(1)
    messages = BookMessages(
        np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1), [-1], [7], [-1],
        np.array([0, 500]), prices, prices, np.array([0, 500]), 1_000 + prices, prices,
    )  # fmt: skip
    state.update(messages)
    bids, bid_sizes, asks, _ = state.levels(0)
    assert bids.tolist() == list(np.arange(500.0, 200.0, -1.0))
    assert bid_sizes.tolist() == bids.tolist()
    assert asks.tolist() == list(np.arange(1_001.0, 1_301.0))
    assert state.dropped_levels == 400
