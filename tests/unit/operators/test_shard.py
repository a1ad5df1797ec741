"""The shard: expiry, the cap on instruments, and counters that add up, however frames are cut."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.arrival import Frame
from operators.shard import ShardState
from operators.shard_config import ShardConfig
from schemas.batches import make_batch, times
from schemas.errors import VersionError
from schemas.time import END_OF_TIME
from schemas.wire import encode

US = 1_000
EXPIRY = 40 * US
CONTENT: dict[str, Any] = {
    "idle_expiry": "40us",
    "decode": {"max_ahead": "0s"},
    "bars": {"intervals": ["5us", "20us"], "grace": "2us"},
    "book": {"max_pending": 4, "max_age": "10us"},
    "news": {"half_life": "30us"},
    "features": {"zscore": {"window": 2}, "channel": {"window": 2}, "relative_volume": {"window": 2}},
    "strategies": {
        "enabled": ["mean_reversion", "breakout", "microstructure_alpha"],
        "mean_reversion": {"interval": "5us", "entry_zscore": 0.2, "exit_zscore": 0.1},
        "breakout": {"interval": "5us", "max_range": 1.0, "min_relative_volume": 0.0},
        "microstructure_alpha": {"warm_up": 2, "half_life": 2, "entry_zscore": 0.1, "max_spread_bps": 10_000},
    },
}


def config(**changes: Any) -> ShardConfig:
    return ShardConfig.model_validate(CONTENT | changes)


Record = tuple[int, str, str]
"""Time in microseconds, topic, instrument."""


def batches_of(records: list[Record], low: int, high: int) -> dict[str, pa.RecordBatch]:
    """Return the records with `low <= ts_recv < high` by topic; the place of a record in the list is its content."""
    found = {}
    for topic in ("books", "news", "options", "quotes", "trades"):
        own = [(n, ts * US, name) for n, (ts, kind, name) in enumerate(records) if kind == topic]
        own = [row for row in own if low <= row[1] < high]
        if own:
            found[topic] = _batch(topic, own)
    return found


def _batch(topic: str, rows: list[tuple[int, int, str]]) -> pa.RecordBatch:
    number, ts, names = (list(column) for column in zip(*rows, strict=True))
    n = len(rows)
    price = np.array([100.0 + i * 7 % 5 for i in number])
    size = np.array([1.0 + i % 3 for i in number])
    columns: dict[str, Any] = {
        "instrument_id": names, "ts_event": ts, "ts_recv": ts, "partition": [0] * n, "offset": number,
    }  # fmt: skip
    if topic == "trades":
        # an id repeats after a few others: forgetting an instrument forgets its ids
        columns |= {"price": price, "size": size, "side": [1] * n, "trade_id": [i % 11 for i in number]}
    elif topic == "quotes":
        columns |= {"bid_price": price, "bid_size": size, "ask_price": price + 1, "ask_size": 4.0 - size}
    elif topic == "news":
        columns |= {"news_id": [str(i % 7) for i in number], "headline": ["profit beats forecast"] * n}
    elif topic == "books":
        levels = {"bid_prices": price - 1, "bid_sizes": size, "ask_prices": price + 1, "ask_sizes": 4.0 - size}
        columns |= {"kind": [int(i % 4 > 0) for i in number], "last_sequence": number}
        columns |= {name: [[value] for value in values] for name, values in levels.items()}
    return make_batch(topic, columns, n)


class Result:
    """Rows of every table in a fixed order, and the sum of the counters."""

    def __init__(self, state: ShardState) -> None:
        self.state = state
        self.tables: dict[str, list[str]] = {}
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def feed(self, frame: Frame) -> None:
        for output in self.state.update(frame):
            if isinstance(output, dict):
                self.counts.update(output)
            else:
                self.tables.setdefault(output.table, []).extend(str(row) for row in output.batch.to_pylist())

    def content(self) -> tuple[dict[str, list[str]], dict[Any, int]]:
        return {name: sorted(rows) for name, rows in self.tables.items()}, dict(self.counts)


def run(
    records: list[Record],
    edges: list[int] | None = None,
    *,
    resume: bool = False,
    end: int = END_OF_TIME,
    **changes: Any,
) -> Result:
    """Feed the records in frames that end at these times (microseconds), the last one at `end`."""
    shape = config(**changes)
    result = Result(ShardState(shape))
    bounds = [-1, *sorted({edge * US for edge in edges or []} - {0}), end]
    for low, high in pairwise(bounds):
        result.feed(Frame(high, batches_of(records, low, high)))
        if resume:
            kept = result.state.snapshot()
            result.state = ShardState(shape)
            result.state.restore(kept)
    return result


def assert_adds_up(records: list[Record], result: Result) -> None:
    """Every record was taken or refused, once, and every refusal is a dead letter."""
    read = Counter(topic for _, topic, _ in records)
    known = Counter()
    for (kind, topic, _), n in result.counts.items():
        if kind in ("decoded", "dead_lettered"):
            known[topic] += n
    assert known == read
    letters = result.tables.get("dead_letters", [])
    assert len(letters) == len(set(letters))
    assert len(letters) == sum(n for (kind, *_), n in result.counts.items() if kind == "dead_lettered")


TOPICS = st.sampled_from(["books", "news", "options", "quotes", "trades", "trades"])
GAPS = st.sampled_from([0, 1, 1, 2, 3, 7, 11, 39, 40, 41, 42, 90])


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    names = "ABCDE"[: draw(st.integers(1, 5))]
    rows = draw(st.lists(st.tuples(GAPS, TOPICS, st.sampled_from(names)), min_size=1, max_size=40))
    times_us = np.cumsum([gap for gap, *_ in rows]).tolist()
    return [(ts, topic, name) for ts, (_, topic, name) in zip(times_us, rows, strict=True)]


EDGES = st.lists(st.integers(1, 1_500), max_size=12)


@settings(max_examples=60, deadline=None)
@given(records=logs(), edges=EDGES)
def test_shard_any_frames_around_the_expiry_give_the_same(records, edges):
    whole, cut = run(records), run(records, edges)
    assert cut.content() == whole.content()
    assert_adds_up(records, cut)


@settings(max_examples=60, deadline=None)
@given(records=logs(), edges=EDGES, cap=st.integers(1, 3))
def test_shard_any_frames_at_the_cap_give_the_same(records, edges, cap):
    whole, cut = run(records, max_instruments=cap), run(records, edges, max_instruments=cap)
    assert cut.content() == whole.content()
    assert_adds_up(records, cut)
    assert len(cut.state._directory) <= cap


@settings(max_examples=30, deadline=None)
@given(records=logs(), edges=EDGES, cap=st.integers(1, 5))
def test_shard_resumed_after_every_frame_gives_the_same(records, edges, cap):
    whole = run(records, max_instruments=cap)
    assert run(records, edges, resume=True, max_instruments=cap).content() == whole.content()


def admitted(records: list[Record], cap: int) -> list[bool]:
    """Return which records find room, record by record: the rule in a few lines."""
    seen: dict[str, int] = {}
    found = []
    for ts, _, name in sorted(records, key=lambda record: record[:2]):
        seen = {other: last for other, last in seen.items() if ts - last <= EXPIRY // US}
        if name in seen or len(seen) < cap:
            seen[name] = ts
            found.append(True)
        else:
            found.append(False)
    return found


@settings(max_examples=60, deadline=None)
@given(records=logs(), edges=EDGES, cap=st.integers(1, 3))
def test_shard_cap_refuses_exactly_who_finds_no_room(records, edges, cap):
    result = run(records, edges, max_instruments=cap)
    refused = sum(n for (_, _, reason), n in result.counts.items() if reason == "too_many_instruments")
    assert refused == admitted(records, cap).count(False)


def life(start: int, name: str) -> list[Record]:
    """Return records of one instrument that exercise every topic, from a time on."""
    topics = ("books", "books", "trades", "news", "trades", "books", "quotes", "trades", "books", "trades", "trades")
    return [(start + 3 * n, topic, name) for n, topic in enumerate(topics)]


def plain_rows(state: ShardState, frame: Frame) -> dict[str, list[dict[str, Any]]]:
    """Return rows without what says when: times, places and identities."""
    found: dict[str, list[dict[str, Any]]] = {}
    for output in state.update(frame):
        if not isinstance(output, dict):
            rows = output.batch.to_pylist()
            for row in rows:
                for name in ("ts", "ts_start", "ts_end", "ts_recv", "signal_id", "offset", "payload"):
                    row.pop(name, None)
            found.setdefault(output.table, []).extend(rows)
    return found


def frame_of(records: list[Record], frontier: int, start: int) -> Frame:
    return Frame(frontier, batches_of(records, start, frontier))


def test_shard_instrument_back_after_its_expiry_equals_a_fresh_one():
    again = 10_000  # a multiple of every interval, so that both lives fall alike into their bars
    both = [*life(0, "A"), *life(again, "A")]
    # the content of a record is its place in the list: both lives begin at an even number of repeats
    second = [(ts, topic, "A") for ts, topic, _ in life(again, "A")]
    state, fresh = ShardState(config()), ShardState(config())
    state.update(frame_of(both[:11], 9_000 * US, -1))
    old = plain_rows(state, Frame(END_OF_TIME, batches_of(second, -1, END_OF_TIME)))
    new = plain_rows(fresh, Frame(END_OF_TIME, batches_of(second, -1, END_OF_TIME)))
    assert len(new["bars"]) > 3
    assert new["signals"]
    assert str(old) == str(new)


def test_shard_instrument_back_within_its_expiry_goes_on():
    second = life(70, "A")
    state, fresh = ShardState(config()), ShardState(config())
    state.update(frame_of(life(0, "A"), 60 * US, -1))
    rows = [plain_rows(one, Frame(END_OF_TIME, batches_of(second, -1, END_OF_TIME))) for one in (state, fresh)]
    assert any(row["reason"] == "duplicate" for row in rows[0]["dead_letters"]), "the ids of its trades are remembered"
    assert not any(row["reason"] == "duplicate" for row in rows[1].get("dead_letters", []))


@pytest.mark.parametrize("comes_back", [False, True])
@pytest.mark.parametrize("resume", [False, True])
def test_shard_held_book_messages_of_an_expired_instrument_become_dead_letters(comes_back, resume):
    # deltas of a book without a snapshot are held; only other instruments go on
    held = [(n, "options" if n % 4 == 0 else "books", "HELD") for n in range(4)]
    others = [(10 * n, "quotes", "OTHER") for n in range(1, 30)]
    records = sorted([*held, *others, *([(290, "trades", "HELD")] if comes_back else [])])
    result = run(records, [5, 100, 200, 250], resume=resume, end=280 * US if not comes_back else END_OF_TIME)
    letters = [row for row in result.tables["dead_letters"] if "'HELD'" in row]
    assert len(letters) == 3
    assert all("'sequence_gap'" in row and "b'{" in row for row in letters)
    if comes_back:
        assert_adds_up(records, result)
    assert result.counts["dead_lettered", "books", "sequence_gap"] == 3


def test_shard_beyond_the_cap_every_record_is_a_dead_letter_with_its_bytes():
    records = [(n, "trades", f"I{n % 5}") for n in range(1, 30)]
    result = run(records, list(range(1, 30)), max_instruments=2)
    assert_adds_up(records, result)
    expected = batches_of(records, -1, END_OF_TIME)["trades"]
    payload_of = dict(enumerate(encode("trades", expected), start=0))
    letters = [row for row in result.tables["dead_letters"] if "too_many_instruments" in row]
    assert len(letters) == sum(name not in ("I1", "I2") for _, _, name in records)
    for row in letters:
        assert any(repr(payload) in row for payload in payload_of.values())
    assert "raise `max_instruments` or add shards" in letters[0]


def test_shard_frame_of_nothing_but_refused_records_is_taken():
    state = ShardState(config(max_instruments=1))
    state.update(Frame(10 * US, batches_of([(1, "trades", "A")], -1, 10 * US)))
    for topic in ("books", "news", "options", "quotes", "trades"):
        [letters, counts] = state.update(Frame(20 * US, batches_of([(12, topic, "B")], -1, 20 * US)))
        assert letters.table == "dead_letters"
        assert counts == {("dead_lettered", topic, "too_many_instruments"): 1}


def test_shard_frame_is_not_written():
    state = ShardState(config(max_instruments=1))
    batches = batches_of([(1, "trades", "A"), (2, "trades", "B"), (90, "quotes", "A")], -1, END_OF_TIME)
    before = dict(batches)
    state.update(Frame(100 * US, batches))
    assert batches.keys() == before.keys()
    assert all(batches[topic] is before[topic] for topic in batches)


def test_shard_memory_is_flat_over_fifty_times_more_instruments_than_the_cap():
    cap = 8
    state = ShardState(config(max_instruments=cap))
    refused, sizes, names = 0, [], []
    for wave in range(50):
        start = 200 * wave
        records = [
            (start + 2 * n, topic, f"I{wave}-{i}")
            for n, topic in enumerate(("books", "trades", "quotes", "news", "trades"))
            for i in range(cap)
        ]
        for output in state.update(Frame((start + 100) * US, batches_of(records, -1, END_OF_TIME))):
            if isinstance(output, dict):
                refused += sum(n for (_, _, reason), n in output.items() if reason == "too_many_instruments")
        sizes.append(len(repr(state.snapshot())))
        names.append(len(state._directory))
    assert refused == 0
    assert max(names) == cap
    assert max(sizes[5:]) <= 1.1 * max(sizes[2:5])


def test_shard_snapshot_of_another_feature_set_is_refused():
    state = ShardState(config())
    other = ShardState(config(book={"depth": 7, "max_pending": 4, "max_age": "10us"}))
    with pytest.raises(VersionError, match="expected a shard snapshot of version 2 for feature set"):
        other.restore(state.snapshot())


def test_shard_decision_times_are_after_every_record_they_used():
    records = sorted([*life(0, "A"), *life(5, "B")])
    for at in range(1, 60):
        frame = Frame(at * US, batches_of(records, -1, at * US))
        for output in ShardState(config()).update(frame):
            if not isinstance(output, dict) and output.table in ("bars", "features"):
                assert max(times(output.batch, "ts")) <= at * US
