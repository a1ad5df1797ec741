"""Books rebuilt from captured Binance feeds agree with the venue's own best prices."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from operators.book import BookState
from operators.book_features import NAMES, BookFeatureConfig, BookFeatureState
from operators.book_messages import BookMessages
from operators.book_sync import BookRefusal
from schemas.enums import BookKind, Missing
from tests.twins.books import BookTable, book_twin

pytestmark = pytest.mark.real


class _Data(msgspec.Struct):
    u: int
    U: int = -1
    pu: int = -1
    b: list[tuple[str, str]] | str = ""
    a: list[tuple[str, str]] | str = ""


class _Line(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    lastUpdateId: int = -1
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []


def _flat(sides):
    offsets = np.cumsum([0, *map(len, sides)])
    pairs = np.array([(float(price), float(size)) for side in sides for price, size in side]).reshape(-1, 2)
    return offsets, pairs[:, 0].copy(), pairs[:, 1].copy()


def _parse(files: list[Path]):
    """Return book messages in arrival order, and the number, bid and offer of each best-price message."""
    line_decoder, data_decoder = msgspec.json.Decoder(_Line), msgspec.json.Decoder(_Data)
    rows, bids, asks, tickers = [], [], [], []
    for path in files:
        for text in gzip.decompress(path.read_bytes()).splitlines():
            ts, _, body = text.partition(b" ")
            line = line_decoder.decode(body)
            if line.lastUpdateId >= 0:
                rows.append((int(ts), BookKind.SNAPSHOT, -1, line.lastUpdateId, -1))
                bids.append(line.bids)
                asks.append(line.asks)
            elif "@depth" in line.stream:
                data = data_decoder.decode(line.data)
                rows.append((int(ts), BookKind.DELTA, data.U, data.u, data.pu))
                bids.append(data.b)
                asks.append(data.a)
            elif line.stream.endswith("@bookTicker"):
                data = data_decoder.decode(line.data)
                tickers.append((data.u, float(data.b), float(data.a)))
    ts, kind, first, last, previous = np.array(rows, dtype=np.int64).T
    n = len(rows)
    messages = BookMessages(
        np.zeros(n, dtype=np.int32), ts, np.arange(n), kind.astype(np.int8), first, last, previous,
        *_flat(bids), *_flat(asks),
    )  # fmt: skip
    return messages, np.array(tickers)


def _compare(messages, top, row, tickers):
    """Count deltas whose best prices equal those of the last ticker not numbered above them, and all compared."""
    number, bid, ask = tickers.T
    at = np.searchsorted(number, messages.last_sequence[row], side="right") - 1
    comparable = (at >= 0) & (messages.kind[row] == BookKind.DELTA)
    equal = (top.bid_price == bid[at]) & (top.ask_price == ask[at]) & comparable
    return int(equal.sum()), int(comparable.sum())


def _run(messages, cuts=()):
    state = BookState(depth=10, max_levels=8192, max_pending=100)
    state.ensure(1)
    bounds = [0, *cuts, len(messages.code)]
    return state, [state.update(_part(messages, low, high)) for low, high in itertools.pairwise(bounds)]


def _part(messages, low, high):
    columns = messages._asdict()
    for name, array in columns.items():
        if not name.startswith(("bid_", "ask_")):
            columns[name] = array[low:high]
        elif name.endswith("offsets"):
            columns[name] = array[low : high + 1]
    return BookMessages(**columns)


@pytest.fixture(scope="module")
def feeds(real_data):
    folder = real_data / "binance_capture"
    return {name: _parse(sorted((folder / name).glob("*.gz"))) for name in ("spot", "usdm")}


@pytest.mark.parametrize(
    ("name", "n_refused", "n_replayed", "n_equal", "n_compared"),
    [("spot", 2, 1, 6490, 6492), ("usdm", 4, 2, 6545, 6545)],
)
def test_book_of_captured_feed_equals_the_best_prices_of_the_venue(
    feeds, name, n_refused, n_replayed, n_equal, n_compared
):
    messages, tickers = feeds[name]
    state, [update] = _run(messages)
    assert (update.top.missing == Missing.OK).all()
    assert (update.top.bid_price < update.top.ask_price).all()
    assert update.rejected_reason.tolist() == [BookRefusal.SUPERSEDED] * n_refused, "older than the snapshot, no gap"
    # Deltas that came before the snapshot and are not in it are applied in the snapshot's row.
    assert len(update.top) == len(messages.code) - n_refused - n_replayed
    assert len(state.held()) == state.dropped_levels == 0
    assert _compare(messages, update.top, update.row, tickers) == (n_equal, n_compared)


def test_book_of_captured_feed_cut_anywhere_is_the_same(feeds):
    messages, _ = feeds["usdm"]
    _, [whole] = _run(messages)
    cuts = np.sort(np.random.default_rng(7).choice(len(messages.code), 200))
    _, parts = _run(messages, cuts.tolist())
    for field in dataclasses.fields(whole.top):
        joined = np.concatenate([getattr(part.top, field.name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole.top, field.name))


def test_book_of_captured_feed_with_a_lost_message_is_lost_until_a_snapshot(feeds):
    messages, _ = feeds["spot"]
    lost = 3000
    before, after = _part(messages, 0, lost), _part(messages, lost + 1, len(messages.code))
    state = BookState(depth=10, max_levels=8192, max_pending=100)
    state.ensure(1)
    state.update(before)
    update = state.update(after)
    assert update.top.missing.tolist() == [Missing.OUT_OF_SYNC]
    assert update.rejected_ident.tolist() == list(range(lost + 1, len(messages.code) - 100))
    assert set(update.rejected_reason.tolist()) == {BookRefusal.SEQUENCE_GAP}
    assert state.held().tolist() == list(range(len(messages.code) - 100, len(messages.code)))


@pytest.fixture(scope="module")
def books(feeds):
    return {name: _run(messages)[1][0].top for name, (messages, _) in feeds.items()}


def _features(top, cuts=()):
    state = BookFeatureState(depth=10)
    state.ensure(1)
    parts = [state.update(top.take(part)) for part in np.split(np.arange(len(top)), cuts)]
    return np.concatenate([part.values for part in parts])


@pytest.mark.parametrize("name", ["spot", "usdm"])
def test_features_of_captured_books_equal_their_batch_twins(books, name):
    top = books[name]
    values = _features(top)
    twin = book_twin(
        BookTable(top.bid_price, top.bid_size, top.ask_price, top.ask_size, top.levels), BookFeatureConfig()
    )
    for k, feature in enumerate(NAMES):
        np.testing.assert_allclose(values[:, k], twin[feature], rtol=1e-9, atol=1e-9, err_msg=feature)
        assert np.isfinite(twin[feature]).mean() > 0.9, feature
    cuts = np.sort(np.random.default_rng(7).choice(len(top), 200))
    np.testing.assert_array_equal(_features(top, cuts), values)


@pytest.mark.parametrize(("name", "tick"), [("spot", 0.01), ("usdm", 0.1)])
def test_tick_of_captured_books_is_the_one_of_the_venue(books, name, tick):
    column = dict(zip(NAMES, _features(books[name]).T, strict=True))
    np.testing.assert_allclose(column["tick_size"][99:], tick, rtol=1e-6)
    assert (column["spread_ticks"][99:] % 1 == 0).all()


@pytest.mark.parametrize("name", ["spot", "usdm"])
def test_microprice_of_captured_books_foretells_the_mid_better_than_the_weighted_mid(books, name):
    column = dict(zip(NAMES, _features(books[name]).T, strict=True))
    mid = column["mid_price"]
    ahead = np.r_[mid[20:], np.full(20, np.nan)] - mid
    known = np.isfinite(column["microprice"] + ahead)
    assert known.sum() > 5_000
    found, weighted = (
        np.corrcoef((column[price] - mid)[known], ahead[known])[0, 1] for price in ("microprice", "weighted_mid")
    )
    assert found > 0.15
    assert found > 2 * weighted
