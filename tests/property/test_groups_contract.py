"""The contract of feature groups, run over every one of them.

A group is fed with a stream: records, book updates and decisions in order of time. `GROUPS` says how each group is
made with parameters short enough for a random stream to get through its warm-up, and how a stream for it is drawn.
To add a group, add an entry; a group of `operators.feature_groups` that has none fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.options import black_scholes_price
from operators import feature_groups
from operators.book_features import NAMES, BookFeatureColumns
from operators.book_group import BookGroup
from operators.events.config import EarningsConfig, OptionsConfig
from operators.events.earnings import EarningsGroup
from operators.events.options import OptionsGroup
from operators.events.sessions import SessionTable
from operators.flow import FlowConfig, FlowGroup
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FeatureGroup, FrameInputs
from operators.shard_config import BookConfig
from operators.text.config import NewsConfig, SocialConfig
from operators.text.group import TextGroup
from schemas.batches import make_batch, times
from schemas.enums import Missing
from schemas.features import FeatureSet

CODES = 3
ALL_CODES = np.arange(CODES, dtype=np.int32)
INTERVALS = 2
MS = 1_000_000
HOSTILE = [0.0, -0.0, -1.0, 1.0, 100.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e-160, 1e200]


@dataclass(frozen=True)
class Stream:
    """Records of each topic with their codes, book updates and decisions, each in order of time."""

    batches: dict[str, pa.RecordBatch]
    codes: dict[str, np.ndarray]
    book: BookFeatureColumns
    decisions: DecisionColumns

    def part(self, low: int, high: int, codes: np.ndarray = ALL_CODES) -> tuple[FrameInputs, np.ndarray]:
        """Return the records with `low <= ts < high`, and which decisions have `low < ts <= high`, of these codes."""
        batches, kept = {}, {}
        for topic, batch in self.batches.items():
            ts, code = times(batch, "ts_recv"), self.codes[topic]
            rows = np.flatnonzero((ts >= low) & (ts < high) & np.isin(code, codes))
            if len(rows):
                batches[topic], kept[topic] = batch.take(pa.array(rows)), read_only(code[rows])
        book = self.book.take((self.book.ts >= low) & (self.book.ts < high) & np.isin(self.book.code, codes))
        book = BookFeatureColumns(*(read_only(getattr(book, field.name)) for field in fields(book)))
        at = self.decisions
        chosen = (at.ts > low) & (at.ts <= high) & np.isin(at.code, codes)
        return FrameInputs(batches, kept, high, book, Refusals()), chosen

    @property
    def end(self) -> int:
        return 1 + max(int(ts.max(initial=0)) for ts in self.all_times())

    def all_times(self) -> list[np.ndarray]:
        return [*(times(batch, "ts_recv") for batch in self.batches.values()), self.book.ts, self.decisions.ts]


@dataclass(frozen=True)
class GroupCase:
    """How a group is made, and how a stream for it is drawn; the flag asks for hostile numbers in it."""

    make: Callable[[], FeatureGroup]
    stream: Callable[[np.random.Generator, bool], Stream]


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def random_times(rng: np.random.Generator, n: int, mean_step: int = 4 * MS) -> np.ndarray:
    """Return `n` times that never decrease, every third equal to the one before."""
    return (np.cumsum(rng.choice([0, 1, 2], n)) * mean_step).astype(np.int64)


def random_decisions(rng: np.random.Generator, end: int, step: int = 20 * MS) -> DecisionColumns:
    """Return decisions on two grids, `step` and twice it, as bars would make them: not all codes at each time."""
    rows = [
        (ts, interval, code)
        for ts in range(0, end + 2 * step, step)
        for interval in range(INTERVALS)
        if ts % (step << interval) == 0
        for code in range(CODES)
        if rng.random() < 0.8
    ]
    ts, interval, code = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return DecisionColumns(read_only(code.astype(np.int32)), read_only(interval.astype(np.int32)), read_only(ts.copy()))


def spoil(rng: np.random.Generator, values: np.ndarray, hostile: bool) -> np.ndarray:
    """Return the values, one in six of them hostile if asked for."""
    return np.where(rng.random(values.shape) < hostile / 6, rng.choice(HOSTILE, values.shape), values)


def random_book(rng: np.random.Generator, n: int, hostile: bool) -> BookFeatureColumns:
    """Return book features whose mid walks in half ticks; some updates lost."""
    mid = 100.0 + np.cumsum(rng.integers(-1, 2, n)) * 0.005
    values = rng.normal(0.0, 1.0, (n, len(NAMES)))
    for name, column in (("bid_price", mid - 0.005), ("ask_price", mid + 0.005), ("mid_price", mid)):
        values[:, NAMES.index(name)] = column
    values = spoil(rng, values, hostile)
    missing = np.zeros(values.shape, dtype=np.uint8)
    missing[rng.random(n) < 0.05] = Missing.OUT_OF_SYNC
    missing[~np.isfinite(values) & (missing == Missing.OK)] = Missing.NOT_FINITE
    values[missing != Missing.OK] = np.nan
    ts = random_times(rng, n, 2 * MS)
    return BookFeatureColumns(rng.integers(0, CODES, n).astype(np.int32), ts, values, missing)


def no_book() -> BookFeatureColumns:
    return random_book(np.random.default_rng(0), 0, hostile=False)


def records(topic: str, code: np.ndarray, ts: np.ndarray, **columns: Any) -> pa.RecordBatch:
    """Return records that happened when they arrived, one after the other in one partition."""
    n = len(code)
    where = {"ts_recv": ts, "partition": np.zeros(n, np.int32), "offset": np.arange(n)}
    names = [f"I{value}" for value in code.tolist()]
    return make_batch(topic, {"instrument_id": names, "ts_event": ts} | columns | where, n)


def random_codes(rng: np.random.Generator, n: int) -> np.ndarray:
    return read_only(rng.integers(0, CODES, n).astype(np.int32))


def trade_stream(rng: np.random.Generator, hostile: bool, n: int = 160) -> Stream:
    """Return trades around a book's mid, half of them without the exchange's flag."""
    book = random_book(rng, n, hostile)
    code, ts = random_codes(rng, n), random_times(rng, n, 2 * MS)
    price = spoil(rng, 100.0 + rng.integers(-3, 4, n) * 0.005, hostile)
    size = spoil(rng, rng.integers(1, 5, n).astype(float), hostile)
    side = rng.choice([-1, 0, 0, 1], n).astype(np.int8)
    trades = records(
        "trades", code, ts, price=price, size=size, side=side, ts_event=ts - rng.integers(0, 3, n) * MS // 2
    )
    return Stream({"trades": trades}, {"trades": code}, book, random_decisions(rng, int(ts.max(initial=0))))


def book_stream(rng: np.random.Generator, hostile: bool) -> Stream:
    book = random_book(rng, 120, hostile)
    return Stream({}, {}, book, random_decisions(rng, int(book.ts[-1])))


def text_stream(topic: str) -> Callable[[np.random.Generator, bool], Stream]:
    ident, text, origin = {"news": ("news_id", "headline", "source"), "social": ("post_id", "text", "platform")}[topic]
    sentences = np.array(
        ["profit beats forecast", "RT @a: shares plunge on fraud", "$I1 board meets", "", "\x00 \u202e $$$"]
    )

    def draw(rng: np.random.Generator, hostile: bool) -> Stream:
        n = 60
        code, ts = random_codes(rng, n), random_times(rng, n)
        chosen = rng.integers(0, 5 if hostile else 3, n)
        columns: dict[str, Any] = {ident: [str(i // 2) for i in range(n)], text: sentences[chosen].tolist()}
        columns[origin] = rng.choice(["a", "b", "c"], n).tolist()
        if topic == "social":
            columns["author"] = rng.choice(["x", "y", ""], n).tolist()
        batch = records(topic, code, ts, **columns)
        return Stream({topic: batch}, {topic: code}, no_book(), random_decisions(rng, int(ts[-1])))

    return draw


_TEXT: dict[str, Any] = {
    "half_life": "20ms",
    "story": {"window": "30ms"},
    "buzz": {"interval": "10ms", "half_life": "50ms", "min_intervals": 2},
}
EVENT_SESSIONS = SessionTable(np.arange(-1, 4000) * 50 * MS)


def earnings_stream(rng: np.random.Generator, hostile: bool) -> Stream:
    """Return announcements, updates, figures and corrections of a few reports a code, and trades."""
    base = trade_stream(rng, hostile)
    n = 60
    code, ts = random_codes(rng, n), random_times(rng, n)
    due = ts + rng.integers(-20, 120, n) * MS
    figures = np.where(rng.random(n) < 0.4, rng.normal(1.0, 0.2, n), np.nan)
    batch = records(
        "earnings",
        code,
        ts,
        report_id=[str(number) for number in rng.integers(0, 12, n).tolist()],
        ts_report=rng.choice([-(2**63), 2**63 - 1, 0], n) if hostile else due,
        eps_estimate=spoil(rng, np.where(rng.random(n) < 0.8, rng.normal(1.0, 0.1, n), np.nan), hostile),
        eps_actual=spoil(rng, figures, hostile),
    )
    batches, codes = base.batches | {"earnings": batch}, base.codes | {"earnings": code}
    return Stream(batches, codes, no_book(), random_decisions(rng, int(ts[-1])))


def options_stream(rng: np.random.Generator, hostile: bool, n: int = 400) -> Stream:
    """Return states of contracts around a spot of 100, some without volatility or delta; expiries come and go."""
    code, ts = random_codes(rng, n), np.sort(random_times(rng, n, MS // 2))
    right = rng.choice([-1, 1], n).astype(np.int8)
    strike = rng.choice([92.0, 96.0, 100.0, 104.0, 108.0], n)
    expiry = (ts // (300 * MS) + rng.integers(1, 4, n)) * 300 * MS
    volatility = np.where(rng.random(n) < 0.7, 0.2 + rng.uniform(0, 0.05, n), np.nan)
    is_call = right > 0
    years = 1e-12 + (expiry - ts) / (365 * 86_400e9)
    price = black_scholes_price(100.0, strike, years, 2e3, is_call)
    ident = [f"{e}/{k}/{r}" for e, k, r in zip(expiry.tolist(), strike.tolist(), right.tolist(), strict=True)]
    if hostile:
        expiry = np.where(rng.random(n) < 0.1, rng.choice([-(2**63), 2**63 - 1, 0], n), expiry)
    batch = records(
        "options",
        code,
        ts,
        contract_id=ident,
        ts_expiry=expiry,
        strike=spoil(rng, strike, hostile),
        right=right,
        price=spoil(rng, price, hostile),
        volume=spoil(rng, np.round(rng.exponential(50, n)), hostile),
        open_interest=spoil(rng, np.round(rng.exponential(60, n)), hostile),
        implied_volatility=spoil(rng, volatility, hostile),
        delta=spoil(rng, right * (12 - right * (strike - 100)) / 24, hostile),
        underlying_price=spoil(rng, np.full(n, 100.0), hostile),
    )
    return Stream({"options": batch}, {"options": code}, no_book(), random_decisions(rng, int(ts[-1])))


_EARNINGS = {"window": "40ms", "max_age": "100ms", "max_overdue": "40ms", "n_reports": 2, "max_reports": 2}
_OPTIONS = {
    "maturity": "300ms", "far_maturity": "600ms", "maturity_tolerance": 0.9, "window": 4, "min_sessions": 2,
    "min_volume_sessions": 2, "max_contracts": 24, "max_age": "60ms",
}  # fmt: skip
_FLOW: dict[str, Any] = {
    "max_quote_age": "30ms",
    "max_trade_age": "40ms",
    "half_life": "9ms",
    "spread": {"half_life": "15ms", "horizon": "12ms", "horizon_steps": 3},
    "vpin": {"buckets": 4, "bucket_share": 1e-8, "volume_half_life": "60ms", "volume_warm_up": "20ms"},
    "kyle": {"bucket": "7ms", "buckets": 8, "min_buckets": 4},
    "roll": {"trades": 5},
    "intensity": {"half_life": "10ms", "baseline_half_life": "60ms"},
    "sweep": {"window": "15ms", "levels": 2, "half_life": "20ms"},
}
_BULK: dict[str, Any] = _FLOW | {
    "vpin": {"classification": "bulk", "buckets": 4, "bucket_size": 7.0, "bar": "9ms", "bars": 3},
    "kyle": {"price": "trade", "bucket": "7ms", "buckets": 8, "min_buckets": 4},
}

GROUPS: list[tuple[str, Callable[[], FeatureGroup], Callable[[np.random.Generator, bool], Stream]]] = [
    ("book", lambda: BookGroup(BookConfig(max_age="30ms"), INTERVALS), book_stream),
    ("news", lambda: TextGroup("news", NewsConfig(sources={"a": 0.75, "other": 0.25}, **_TEXT)), text_stream("news")),
    (
        "social",
        lambda: TextGroup("social", SocialConfig(platforms={"a": 0.5, "b": 0.5}, **_TEXT)),
        text_stream("social"),
    ),
    ("flow", lambda: FlowGroup(FlowConfig(**_FLOW), INTERVALS), trade_stream),
    ("flow in bulk", lambda: FlowGroup(FlowConfig(**_BULK), INTERVALS), trade_stream),
    ("earnings", lambda: EarningsGroup(EarningsConfig(**_EARNINGS), EVENT_SESSIONS), earnings_stream),
    ("options", lambda: OptionsGroup(OptionsConfig(**_OPTIONS), INTERVALS, EVENT_SESSIONS), options_stream),
]
"""Name, maker of the group, and maker of a random stream for it."""

CASES = {name: GroupCase(make, stream) for name, make, stream in GROUPS}
EVERY = pytest.mark.parametrize("name", CASES)
LAW = settings(max_examples=10, deadline=None)
SEEDS = st.integers(0, 2**32)
CUTS = st.lists(st.integers(0, 10_000), max_size=5)


def fresh(name: str) -> FeatureGroup:
    group = CASES[name].make()
    for state in group.states().values():
        state.ensure(CODES)
    return group


def stream_of(name: str, seed: int, hostile: bool | None = None) -> Stream:
    rng = np.random.default_rng(seed)
    return CASES[name].stream(rng, seed % 2 == 1 if hostile is None else hostile)


def edges_of(stream: Stream, cuts: list[int]) -> list[int]:
    """Return frontiers among the times of a stream, and the end."""
    known = np.unique(np.concatenate(stream.all_times()))
    return [-1, *sorted({int(known[cut % len(known)]) for cut in cuts}), stream.end]


def kept(group: FeatureGroup) -> dict[str, Any]:
    return {part: state.snapshot(CODES) for part, state in group.states().items()}


def resumed(name: str, snapshot: dict[str, Any]) -> FeatureGroup:
    group = CASES[name].make()
    for part, state in group.states().items():
        state.restore(snapshot[part])
    return group


def feed(group: FeatureGroup, stream: Stream, low: int, high: int, codes: np.ndarray = ALL_CODES) -> Any:
    frame, chosen = stream.part(low, high, codes)
    return group.update(frame, stream.decisions.take(chosen))


def run(name: str, stream: Stream, cuts: list[int], *, resume: bool = False, group: FeatureGroup | None = None) -> Any:
    group = group or fresh(name)
    parts = []
    for low, high in pairwise(edges_of(stream, cuts)):
        if resume:
            group = resumed(name, kept(group))
        parts.append(feed(group, stream, low, high))
    return np.concatenate([values for values, _ in parts]), np.concatenate([missing for _, missing in parts])


def assert_same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_every_registered_group_has_a_case():
    assert set(feature_groups.GROUPS) <= set(CASES)
    assert len(CASES) == len(GROUPS)


@EVERY
def test_group_columns_are_what_the_specs_say_and_each_has_values(name):
    """Otherwise every law below would hold of nothing."""
    specs = fresh(name).specs()
    assert FeatureSet(specs).hash
    assert all(spec.unit and spec.formula and spec.reference and spec.inputs for spec in specs)
    found = np.zeros(len(specs), dtype=bool)
    for seed in range(8):
        _, missing = run(name, stream_of(name, seed, hostile=False), [])
        found |= (missing == Missing.OK).any(axis=0)
    assert found.all(), [spec.name for spec, has in zip(specs, found, strict=True) if not has]


@EVERY
@LAW
@given(seed=SEEDS)
def test_group_missing_is_ok_exactly_where_the_value_is_finite(name, seed):
    stream = stream_of(name, seed)
    values, missing = run(name, stream, [])
    assert values.shape == missing.shape == (len(stream.decisions), len(fresh(name).specs()))
    assert (values.dtype, missing.dtype) == (np.float64, np.uint8)
    np.testing.assert_array_equal(missing == Missing.OK, np.isfinite(values))
    assert np.isnan(values[missing != Missing.OK]).all()
    assert set(np.unique(missing)) <= set(map(int, Missing))


@EVERY
@LAW
@given(seed=SEEDS, cuts=CUTS)
def test_group_values_do_not_depend_on_the_cuts(name, seed, cuts):
    stream = stream_of(name, seed)
    assert_same(run(name, stream, cuts), run(name, stream, []))


@EVERY
@LAW
@given(seed=SEEDS, cuts=CUTS)
def test_group_resumed_at_every_cut_gives_the_same_values(name, seed, cuts):
    stream = stream_of(name, seed)
    assert_same(run(name, stream, cuts, resume=True), run(name, stream, []))


@EVERY
@LAW
@given(seed=SEEDS, cut=st.integers(0, 10_000))
def test_group_snapshot_is_not_changed_by_later_records(name, seed, cut):
    stream = stream_of(name, seed)
    _, middle, end = edges_of(stream, [cut])
    group = fresh(name)
    feed(group, stream, -1, middle)
    snapshot = kept(group)
    before = repr(snapshot)
    feed(group, stream, middle, end)
    assert repr(snapshot) == before


@EVERY
@LAW
@given(seed=SEEDS, cut=st.integers(0, 10_000))
def test_group_later_records_do_not_change_earlier_decisions(name, seed, cut):
    stream, other = stream_of(name, seed), stream_of(name, seed + 1)
    _, middle, _ = edges_of(stream, [cut])
    early = stream.decisions.ts <= middle
    values, missing = run(name, stream, [])
    assert_same(feed(fresh(name), stream, -1, middle), (values[early], missing[early]))
    group = fresh(name)
    first, chosen = stream.part(-1, middle)
    found = group.update(first, stream.decisions.take(chosen))
    corrupted, _ = other.part(middle, 2**62)
    group.update(corrupted, stream.decisions.take(np.zeros(len(early), dtype=bool)))
    assert_same(found, (values[early], missing[early]))


@EVERY
@LAW
@given(seed=SEEDS)
def test_group_decision_does_not_see_records_of_its_own_time_or_later(name, seed):
    """Decisions and later records in one call: what follows a decision must not reach it."""
    stream = stream_of(name, seed)
    values, missing = run(name, stream, [])
    moments = np.unique(stream.decisions.ts)
    for moment in moments[:: max(len(moments) // 3, 1)].tolist():
        frame, _ = stream.part(-1, moment)
        rows = stream.decisions.ts <= moment
        found = fresh(name).update(replace(frame, frontier=moment), stream.decisions.take(rows))
        assert_same(found, (values[rows], missing[rows]))


@EVERY
@LAW
@given(seed=SEEDS)
def test_group_instruments_do_not_affect_each_other(name, seed):
    stream = stream_of(name, seed)
    values, missing = run(name, stream, [])
    for code in range(CODES):
        own = stream.decisions.code == code
        alone = feed(fresh(name), stream, -1, stream.end, np.array([code]))
        assert_same(alone, (values[own & (stream.decisions.ts > -1)], missing[own]))


@EVERY
def test_group_inputs_are_not_written(name):
    stream = stream_of(name, 3)
    frame, chosen = stream.part(-1, stream.end)
    decisions = stream.decisions.take(chosen)
    decisions = DecisionColumns(*(read_only(getattr(decisions, field.name)) for field in fields(decisions)))
    before = {topic: batch.to_pydict() for topic, batch in frame.batches.items()}
    fresh(name).update(frame, decisions)
    assert repr(before) == repr({topic: batch.to_pydict() for topic, batch in frame.batches.items()})


@EVERY
def test_group_empty_frame_gives_no_rows_and_changes_nothing(name):
    stream = stream_of(name, 4)
    group = fresh(name)
    middle = stream.end // 2
    feed(group, stream, -1, middle)
    before = repr(kept(group))
    frame, chosen = stream.part(middle, middle)
    values, missing = group.update(frame, stream.decisions.take(chosen))
    assert values.shape == missing.shape == (0, len(group.specs()))
    assert repr(kept(group)) == before


@EVERY
def test_group_topic_without_rows_is_as_no_topic(name):
    stream = stream_of(name, 4)
    none = {topic: batch.slice(0, 0) for topic, batch in stream.batches.items()}
    no_codes = dict.fromkeys(none, np.zeros(0, dtype=np.int32))
    frame, chosen = stream.part(-1, -1)
    found = fresh(name).update(replace(frame, batches=none, codes=no_codes), stream.decisions.take(~chosen))
    expected = fresh(name).update(frame, stream.decisions.take(~chosen))
    assert_same(found, expected)


@EVERY
def test_group_without_records_has_a_reason_for_every_value(name):
    stream = stream_of(name, 5)
    frame, _ = stream.part(-1, -1)
    values, missing = fresh(name).update(frame, stream.decisions)
    assert (np.isfinite(values) == (missing == Missing.OK)).all()


@EVERY
def test_group_forgotten_instruments_start_anew(name):
    stream = stream_of(name, 6)
    middle = stream.end // 2
    group, anew = fresh(name), fresh(name)
    feed(group, stream, -1, middle)
    for state in group.states().values():
        state.reset(ALL_CODES)
    assert_same(feed(group, stream, middle, stream.end), feed(anew, stream, middle, stream.end))


@EVERY
def test_group_snapshot_holds_plain_values_only_and_restores_before_the_first_record(name):
    group = fresh(name)
    twin = resumed(name, kept(group))
    assert repr(kept(twin)) == repr(kept(group))
    stream = stream_of(name, 7)
    feed(group, stream, -1, stream.end)
    assert_plain(kept(group), name)


def assert_plain(value: Any, path: str) -> None:
    assert value is None or type(value) in (bool, int, float, str, bytes, list, tuple, dict), f"{path}: {type(value)}"
    if isinstance(value, dict):
        for key, part in value.items():
            assert_plain(key, f"{path} key {key!r}")
            assert_plain(part, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            assert_plain(part, f"{path}[{position}]")


@EVERY
def test_group_state_stays_bounded_as_records_go_on(name):
    group = fresh(name)
    sizes = []
    offset = 0
    for wave in range(24):
        stream = shifted(stream_of(name, 2 * (wave % 3)), offset)
        feed(group, stream, offset - 1, stream.end)
        sizes.append(len(repr(kept(group))))
        offset = stream.end + 1
    assert max(sizes[12:]) <= 1.2 * max(sizes[6:12]) + 64


def shifted(stream: Stream, offset: int) -> Stream:
    batches = {}
    for topic, batch in stream.batches.items():
        for column in ("ts_recv", "ts_event"):
            at = batch.schema.get_field_index(column)
            moved = pa.array(times(batch, column) + offset).view(batch.schema.field(at).type)
            batch = batch.set_column(at, batch.schema.field(at), moved)
        batches[topic] = batch
    book = replace(stream.book, ts=stream.book.ts + offset)
    decisions = replace(stream.decisions, ts=stream.decisions.ts + offset)
    return Stream(batches, stream.codes, book, decisions)
