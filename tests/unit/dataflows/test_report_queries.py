"""Questions of the report, asked of a real store, with plain Python as oracle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.report.drift import feature_drifts
from dataflows.report.queries import Queries
from schemas.tables import BARS, DEAD_LETTERS, FEATURES, LATE_EVENTS, SIGNALS
from sinks.store import Run, Store

_MINUTE = 60 * 10**9
_RUNS = count()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("report_queries")
    with Store.open(str(folder / "db")) as opened:
        yield opened


def _start(store: Store, features: tuple[str, ...] = ("x",)) -> Queries:
    run_id = f"run {next(_RUNS)}"
    store.start_run(Run(run_id, "1", "c", "f", features, "{}", "test"))
    return Queries(store, run_id)


def _insert_features(queries: Queries, values: list[float | None], instrument: str = "A") -> None:
    rows = [
        {"run_id": queries.run_id, "instrument_id": instrument, "interval_ns": _MINUTE, "ts": position * _MINUTE,
         "feature_set": "f", "missing": [0 if value is not None else 3], "x": value}
        for position, value in enumerate(values)
    ]  # fmt: skip
    schema = pa.schema([*FEATURES.arrow, pa.field("x", pa.float64())])
    queries.store.insert("features", pa.Table.from_pylist(rows, schema=schema))


def _insert_signals(queries: Queries, times: list[int], **more: Any) -> None:
    row = {
        "run_id": queries.run_id, "instrument_id": "A", "strategy": "s", "direction": 1, "intent": 1,
        "confidence": 0.5, "price": 1.0, "parameters_hash": "p", "feature_set": "f", "reason": "why", "inputs": [],
        "thresholds": [],
    }  # fmt: skip
    rows = [row | {"ts": ts, "signal_id": str(position)} | more for position, ts in enumerate(times)]
    queries.store.insert("signals", pa.Table.from_pylist(rows, schema=SIGNALS.arrow))


def _insert_bars(queries: Queries, instrument: str, interval: int, n: int) -> None:
    numbers = dict.fromkeys(("open", "high", "low", "close", "volume", "notional", "vwap", "buy_volume"), 1.0)
    rows = [
        {"run_id": queries.run_id, "instrument_id": instrument, "interval_ns": interval, "ts_start": i * interval,
         "ts_end": (i + 1) * interval, "ts": (i + 1) * interval, "trade_count": 1, **numbers}
        for i in range(n)
    ]  # fmt: skip
    queries.store.insert("bars", pa.Table.from_pylist(rows, schema=BARS.arrow))


_VALUES = st.lists(st.one_of(st.none(), st.integers(-5, 5).map(float)), min_size=1, max_size=90)


@settings(max_examples=15, deadline=None)
@given(_VALUES)
def test_series_of_more_rows_than_points_keeps_the_extremes_of_each_bucket(
    store: Store, values: list[float | None]
) -> None:
    queries, points = _start(store), 8
    _insert_features(queries, values)
    found = queries.series("features", ["x"], _MINUTE, "A", points)["x"]
    if len(values) <= points:
        expected = values
    else:
        width = -(-((len(values) - 1) * _MINUTE + 1) // (points // 2))
        buckets: dict[int, list[tuple[float, int]]] = {}
        for position, value in enumerate(values):
            known = buckets.setdefault(position * _MINUTE // width, [])
            if value is not None:
                known.append((value, position))
        expected = []
        for known in buckets.values():
            kept = sorted({min(known), max(known)}, key=lambda pair: pair[1]) if known else [(None, 0)]
            expected.extend(value for value, _ in kept)
        assert len(found.values) <= points
    assert [None if np.isnan(value) else value for value in found.values.tolist()] == expected
    assert np.all(np.diff(found.ts) >= 0)


def test_series_of_another_instrument_or_run_is_empty(store: Store) -> None:
    queries = _start(store)
    _insert_features(queries, [1.0])
    assert queries.series("features", ["x"], _MINUTE, "B", 8) == {}
    assert Queries(store, "other").series("features", ["x"], _MINUTE, "A", 8) == {}


@pytest.mark.parametrize(("n", "limit", "step"), [(0, 5, 1), (5, 5, 1), (6, 5, 2), (23, 5, 5)])
def test_signals_of_thins_evenly_and_says_how(store: Store, n: int, limit: int, step: int) -> None:
    queries = _start(store)
    _insert_signals(queries, list(range(n)))
    rows, found = queries.signals_of("A", limit)
    assert found == step
    assert [row["ts"] for row in rows] == list(range(0, n, step))


@pytest.mark.parametrize(
    "instrument", ["it's", "back\\slash", "tab\tnew\nline", "nul\x00", "ünï‮", "{run:String}", "%s"]
)
def test_signals_of_an_odd_instrument_are_found(store: Store, instrument: str) -> None:
    queries = _start(store)
    _insert_signals(queries, [1], instrument_id=instrument)
    assert [row["instrument_id"].decode() for row in queries.signals_of(instrument, 5)[0]] == [instrument]


def test_latest_signals_come_last_first_with_their_inputs(store: Store) -> None:
    queries = _start(store)
    _insert_signals(queries, [3, 1, 2], inputs=[("z", 1.5)])
    rows = queries.latest_signals(2)
    assert [row["ts"] for row in rows] == [3, 2]
    assert (rows[0]["input_names"], rows[0]["input_values"]) == ([b"z"], [1.5])


def test_strategies_count_by_action(store: Store) -> None:
    queries = _start(store)
    for position, (direction, intent) in enumerate([(1, 1), (-1, 1), (1, 2), (-1, 3)]):
        _insert_signals(queries, [position], direction=direction, intent=intent, confidence=position / 4)
    [row] = queries.strategies(5)
    assert [row[name] for name in ("signals", "enter_long", "enter_short", "exits", "reductions")] == [4, 1, 1, 1, 1]
    assert (row["mean_confidence"], row["first_ts"], row["last_ts"]) == (0.375, 0, 3)


def test_signals_over_time_counts_every_signal_once(store: Store) -> None:
    queries = _start(store)
    _insert_signals(queries, [0, 9, 10, 35])
    rows = queries.signals_over_time(["s"], 0, 10)
    assert [(row["bucket"], row["n"]) for row in rows] == [(0, 2), (1, 1), (3, 1)]
    assert queries.signals_over_time(["other"], 0, 10) == []


def test_busiest_instruments_rank_by_signals_then_bars(store: Store) -> None:
    queries = _start(store)
    _insert_bars(queries, "many bars", _MINUTE, 5)
    _insert_bars(queries, "few bars", _MINUTE, 2)
    _insert_bars(queries, "other length", 10**9, 9)
    _insert_signals(queries, [1], instrument_id="signal")
    found = [(row["instrument_id"], row["signals"], row["bars"]) for row in queries.busiest_instruments(_MINUTE, 3)]
    assert found == [(b"signal", 1, 0), (b"many bars", 0, 5), (b"few bars", 0, 2)]
    assert queries.intervals() == [10**9, _MINUTE]
    assert queries.instrument_total() == 4
    assert queries.span() == (1, 5 * _MINUTE)


def test_span_of_an_empty_run_is_none(store: Store) -> None:
    queries = _start(store)
    assert (queries.span(), queries.feature_span(_MINUTE), queries.instrument_total()) == (None, None, 0)


def test_missing_codes_count_by_position(store: Store) -> None:
    queries = _start(store)
    _insert_features(queries, [1.0, None, None])
    found = [(row["position"], row["code"], row["n"]) for row in queries.missing_codes(_MINUTE)]
    assert found == [(1, 0, 1), (1, 3, 2)]


def test_late_counts_a_record_once_and_its_rows_by_bar_length(store: Store) -> None:
    queries = _start(store)
    rows = [
        {"run_id": queries.run_id, "topic": "trades", "partition": 0, "offset": offset, "interval_ns": interval,
         "ts_event": 0, "ts_recv": 1 + offset, "instrument_id": "A", "reason": "bar_closed", "payload": b"p" * 99}
        for offset in range(3) for interval in (10**9, _MINUTE)
    ]  # fmt: skip
    store.insert("late_events", pa.Table.from_pylist(rows, schema=LATE_EVENTS.arrow))
    assert queries.late_records() == 3
    assert [(row["interval_ns"], row["n"], row["delay"]) for row in queries.late()] == [
        (10**9, 3, 2.0),
        (_MINUTE, 3, 2.0),
    ]
    assert {(row["payload"], row["size"]) for row in queries.late_examples(20, 10)} == {(b"p" * 10, 99)}


def test_refused_examples_take_turns_by_topic_and_reason(store: Store) -> None:
    queries = _start(store)
    rows = [
        {"run_id": queries.run_id, "topic": topic, "partition": 0, "offset": offset, "ts_recv": 1,
         "instrument_id": None, "reason": "malformed", "detail": "d", "payload": b"\xff\x00" * 9}
        for topic, n in (("books", 50), ("news", 1), ("trades", 2)) for offset in range(n)
    ]  # fmt: skip
    store.insert("dead_letters", pa.Table.from_pylist(rows, schema=DEAD_LETTERS.arrow))
    found = [(row["topic"], row["offset"]) for row in queries.refused_examples(5, 4)]
    assert found == [(b"books", 0), (b"books", 1), (b"news", 0), (b"trades", 0), (b"trades", 1)]
    assert {(row["payload"], row["size"]) for row in queries.refused_examples(20, 4)} == {(b"\xff\x00\xff\x00", 18)}
    assert [(row["topic"], row["n"]) for row in queries.refused()] == [(b"books", 50), (b"trades", 2), (b"news", 1)]


def test_feature_drifts_compare_each_instrument_with_itself(store: Store) -> None:
    queries = _start(store)
    rng = np.random.default_rng(1)
    steady = rng.normal(size=300)
    _insert_features(queries, steady.tolist(), "steady")
    _insert_features(queries, (1000 + steady + np.repeat([0, 5, 10], 100)).tolist(), "moving")
    _insert_features(queries, [1.0] * 10 + [None] * 290, "short")
    [drift] = feature_drifts(queries, ["x"], _MINUTE, ["steady", "moving", "short"])
    assert (drift.largest, drift.instrument, drift.instruments) == (1.0, "moving", 2)
    assert drift.statistic is not None
    assert 0.5 < drift.statistic < 0.65
    assert drift.median_first == pytest.approx(1000, abs=0.5)
    assert drift.median_last == pytest.approx(1010, abs=0.5)


def test_feature_drifts_of_an_empty_run_have_no_statistic(store: Store) -> None:
    assert feature_drifts(_start(store), ["x"], _MINUTE, [])[0].statistic is None


def test_feature_sample_of_many_rows_is_thinned_and_repeats(store: Store) -> None:
    queries = _start(store)
    _insert_features(queries, [float(value) for value in range(2_000)])
    sample = queries.feature_sample(["x"], _MINUTE, "A", 200)
    assert 120 < sample.num_rows < 280
    assert sorted(sample.column("t").to_pylist()) == sorted(
        queries.feature_sample(["x"], _MINUTE, "A", 200).column("t").to_pylist()
    )
