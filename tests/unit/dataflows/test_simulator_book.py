from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.simulator import FaultConfig, SimulatorConfig, generate_topics

Levels = dict[float, float]


def collect(config: SimulatorConfig) -> dict[str, list[dict[str, object]]]:
    parts: dict[str, list[pa.RecordBatch]] = {}
    for batches in generate_topics(config):
        for topic, batch in batches.items():
            parts.setdefault(topic, []).append(batch)
    return {topic: pa.Table.from_batches(batches).to_pylist() for topic, batches in parts.items()}


@pytest.fixture(scope="module", params=["plain", "jumpy"])
def market(request: pytest.FixtureRequest) -> dict[str, list[dict[str, object]]]:
    wild = {"volatility": 2.0, "jump_rate": 600, "jump_bps": 80, "spread_bps": 1.0}
    settings = wild if request.param == "jumpy" else {}
    return collect(SimulatorConfig(instruments=4, duration="80s", seed=11, snapshot_interval="20s", **settings))


def apply(book: tuple[Levels, Levels], message: dict[str, object]) -> None:
    for side, name in zip(book, ("bid", "ask"), strict=True):
        if message["kind"] == 0:
            side.clear()
        for price, size in zip(message[f"{name}_prices"], message[f"{name}_sizes"], strict=True):
            side[price] = size
            if size == 0:
                del side[price]


def check_rebuilt(market: dict[str, list[dict[str, object]]]) -> None:
    """Check that the messages follow each other, and that every quote is the top of the rebuilt book."""
    quotes = {(row["instrument_id"], row["sequence"]): row for row in market["quotes"]}
    books: dict[str, tuple[Levels, Levels]] = {}
    last: dict[str, int] = {}
    tops: dict[str, tuple[float, ...]] = {}
    matched = set()
    for message in market["books"]:
        name = message["instrument_id"]
        book = books.setdefault(name, ({}, {}))
        if message["kind"] == 1:
            assert message["previous_sequence"] == last[name]
            assert message["first_sequence"] == last[name] + 1
            levels = len(message["bid_prices"]) + len(message["ask_prices"])
            assert message["last_sequence"] - last[name] == levels
        else:
            assert message["last_sequence"] == last.get(name, message["last_sequence"])
            snapshot: tuple[Levels, Levels] = ({}, {})
            apply(snapshot, message)
            assert not book[0] or snapshot == book
        apply(book, message)
        last[name] = message["last_sequence"]
        bid, ask = max(book[0]), min(book[1])
        assert bid < ask
        assert 1 <= len(book[0]) <= 10
        assert 1 <= len(book[1]) <= 10
        top = (bid, book[0][bid], ask, book[1][ask])
        quote = quotes.get((name, last[name]))
        if quote is None:
            assert top == tops[name]
        else:
            assert top == tuple(quote[key] for key in ("bid_price", "bid_size", "ask_price", "ask_size"))
            assert quote["ts_event"] <= message["ts_event"]
            matched.add((name, last[name]))
        tops[name] = top
    assert matched == set(quotes)


def test_book_rebuilt_from_deltas_equals_quotes_by_sequence(market) -> None:
    check_rebuilt(market)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**62),
    volatility=st.sampled_from([0.001, 0.3, 5.0]),
    jump_rate=st.sampled_from([0, 3600]),
    spread_bps=st.sampled_from([0.01, 2.0, 100.0]),
    trade_rate=st.sampled_from([0.001, 5.0, 200.0]),
    book_rate=st.sampled_from([0.01, 20.0, 500.0]),
    imbalance_strength=st.sampled_from([0, 50]),
)
def test_book_rebuilt_whatever_the_market_equals_quotes(seed, **settings) -> None:
    check_rebuilt(collect(SimulatorConfig(instruments=2, duration="2s", jump_bps=1000, seed=seed, **settings)))


def test_books_snapshots_at_the_start_and_every_interval(market) -> None:
    for name in ("SIM000", "SIM003"):
        own = [row for row in market["books"] if row["instrument_id"] == name]
        assert own[0]["kind"] == 0
        assert sum(row["kind"] == 0 for row in own) == 4


def test_quotes_change_each_time_and_rise_in_sequence(market) -> None:
    last: dict[str, tuple[object, ...]] = {}
    for row in market["quotes"]:
        values = tuple(row[key] for key in ("bid_price", "bid_size", "ask_price", "ask_size"))
        before = last.get(row["instrument_id"])
        if before is not None:
            assert row["sequence"] > before[0]
            assert values != before[1]
        last[row["instrument_id"]] = (row["sequence"], values)


def test_trades_take_from_the_best_quote_before_them(market) -> None:
    trades = [row for row in market["trades"] if row["instrument_id"] == "SIM001"]
    quotes = [row for row in market["quotes"] if row["instrument_id"] == "SIM001"]
    times = np.array([row["ts_event"].value for row in quotes])
    assert len(trades) > 50
    for trade in trades:
        at = int(np.searchsorted(times, trade["ts_event"].value, side="left"))
        side = "ask" if trade["side"] == 1 else "bid"
        before, after = quotes[at - 1], quotes[at]
        assert trade["price"] == before[f"{side}_price"]
        assert trade["size"] <= before[f"{side}_size"]
        assert after["ts_event"] == trade["ts_event"]
        if trade["size"] < before[f"{side}_size"]:
            assert after[f"{side}_size"] == before[f"{side}_size"] - trade["size"]


def test_trades_are_on_the_grid_with_rising_ids(market) -> None:
    ids: dict[str, list[int]] = {}
    for row in market["trades"]:
        ids.setdefault(row["instrument_id"], []).append(row["trade_id"])
        assert row["price"] == round(row["price"] * 100) / 100
        assert row["size"] == int(row["size"]) > 0
        assert row["venue"] == "XSIM"
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in ids.values())


def test_l2_share_limits_the_books() -> None:
    market = collect(SimulatorConfig(instruments=4, duration="5s", l2_instruments=2))
    assert {row["instrument_id"] for row in market["books"]} == {"SIM000", "SIM001"}
    assert {row["instrument_id"] for row in market["quotes"]} == {f"SIM00{i}" for i in range(4)}


def test_gaps_lose_one_delta_and_end_with_a_snapshot() -> None:
    faults = FaultConfig(sequence_gaps=30)
    config = SimulatorConfig(instruments=3, duration="60s", l2_instruments=2, seed=3, faults=faults)
    in_gap: dict[str, list[int]] = {}
    last: dict[str, int] = {}
    lengths: list[int] = []
    for row in collect(config)["books"]:
        name = row["instrument_id"]
        lost = in_gap.get(name)
        if row["kind"] == 0:
            if lost:
                lengths.append(len(lost))
            in_gap[name] = []
        elif lost or row["previous_sequence"] != last[name]:
            in_gap[name].append(row["offset"])
            continue
        last[name] = row["last_sequence"]
    assert len(lengths) == 30
    assert set(lengths) <= set(range(3, 11))
