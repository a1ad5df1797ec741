"""Trade flow equals its batch twin: on random records, and on a simulated market."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.simulator import SimulatorConfig
from dataflows.simulator.market import Market
from operators.book_features import NAMES, BookFeatureColumns, BookFeatureState
from operators.book_intake import BookIntake
from operators.directory import Directory
from operators.flow import FlowConfig, FlowGroup
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs
from operators.shard_config import BookConfig
from schemas.batches import floats, int8s, make_batch, times
from schemas.enums import Missing
from tests.twins.flow import flow_twin

MS = 1_000_000
SHORT: dict[str, Any] = {
    "max_quote_age": "40ms",
    "max_trade_age": "60ms",
    "half_life": "9ms",
    "spread": {"half_life": "15ms", "horizon": "12ms", "horizon_steps": 3},
    "vpin": {"buckets": 4, "bucket_size": 7.5},
    "kyle": {"bucket": "10ms", "buckets": 12, "min_buckets": 5},
    "roll": {"trades": 6},
    "intensity": {"half_life": "10ms", "baseline_half_life": "60ms"},
    "sweep": {"window": "4ms", "levels": 2, "half_life": "20ms"},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "signs": SHORT,
    "bulk": SHORT
    | {
        "vpin": {"classification": "bulk", "buckets": 4, "bucket_size": 7.5, "bar": "6ms", "bars": 4},
        "kyle": SHORT["kyle"] | {"price": "trade"},
    },
    "day": SHORT
    | {"vpin": {"buckets": 4, "bucket_share": 1.3e-7, "volume_half_life": "90ms", "volume_warm_up": "20ms"}},
}


def columns_of(frame: pd.DataFrame, names: tuple[str, ...]) -> list[np.ndarray]:
    return [np.ascontiguousarray(frame[name].to_numpy()) for name in names]


def book_of(quotes: pd.DataFrame) -> BookFeatureColumns:
    values = np.full((len(quotes), len(NAMES)), np.nan)
    values[:, NAMES.index("mid_price")] = quotes.mid
    missing = np.where(np.isnan(values), Missing.OUT_OF_SYNC, Missing.OK).astype(np.uint8)
    return BookFeatureColumns(quotes.code.to_numpy(np.int32), quotes.ts.to_numpy(), values, missing)


def stream(
    group: FlowGroup, trades: pd.DataFrame, book: BookFeatureColumns, decisions: pd.DataFrame, edges: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Feed a group in stretches that end at these times; return its values and reasons at the decisions."""
    for state in group.states().values():
        state.ensure(1 + max(trades.code.max(), book.code.max(initial=0)))
    parts = []
    for low, high in pairwise([-(2**62), *edges, 2**62]):
        own = trades[(trades.ts >= low) & (trades.ts < high)]
        names = ("price", "size", "side", "ts_event")
        columns = dict(zip(names, columns_of(own, names), strict=True)) | {"ts_recv": own.ts.to_numpy()}
        batches = {"trades": make_batch("trades", columns, len(own))}
        codes = {"trades": own.code.to_numpy(np.int32)}
        updates = book.take((book.ts >= low) & (book.ts < high))
        at = decisions[(decisions.ts > low) & (decisions.ts <= high)]
        chosen = DecisionColumns(at.code.to_numpy(np.int32), at.interval.to_numpy(np.int32), at.ts.to_numpy())
        parts.append(group.update(FrameInputs(batches, codes, high, updates, Refusals()), chosen))
    return np.concatenate([values for values, _ in parts]), np.concatenate([missing for _, missing in parts])


def assert_equals_twin(
    found: np.ndarray,
    trades: pd.DataFrame,
    quotes: pd.DataFrame,
    decisions: pd.DataFrame,
    config: FlowConfig,
    chosen: Any = slice(None),
) -> np.ndarray:
    """Compare the decisions of every code, or some of them; return which columns had a value."""
    has = np.zeros(found.shape[1], dtype=bool)
    specs = [spec.name for spec in FlowGroup(config, 1).specs()]
    for code in range(int(decisions.code.max()) + 1):
        rows = np.flatnonzero(decisions.code == code)
        tables = [table[table.code == code].reset_index(drop=True) for table in (trades, quotes)]
        expected, names = flow_twin(*tables, decisions.iloc[rows], config)
        assert names == specs
        for k, name in enumerate(names):
            scale = np.nanmax(np.abs(expected[:, k]), initial=1e-12)
            np.testing.assert_allclose(
                found[rows, k][chosen], expected[:, k][chosen], rtol=1e-8, atol=1e-9 * scale, err_msg=name
            )
        has |= np.isfinite(expected).any(axis=0)
    return has


def random_case(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return trades, quotes and decisions of two instruments; sizes are odd so that no bucket is filled exactly."""
    rng = np.random.default_rng(seed)
    n = 200
    ts = np.cumsum(rng.choice([0, 0, 1, 2], n)) * MS
    quote_ts = np.cumsum(rng.choice([0, 1, 2, 60], n, p=[0.3, 0.4, 0.29, 0.01])) * MS
    mid = 100.0 + np.cumsum(rng.integers(-1, 2, n)) * 0.005
    quotes = pd.DataFrame({"code": rng.integers(0, 2, n), "ts": quote_ts})
    quotes["mid"] = np.where(rng.random(n) < 0.04, np.nan, mid)
    trades = pd.DataFrame({"code": rng.integers(0, 2, n), "ts": ts})
    trades["ts_event"] = ts - rng.integers(0, 3, n) * MS // 2
    trades["price"] = mid[np.searchsorted(quote_ts, ts).clip(max=n - 1)] + rng.integers(-3, 4, n) * 0.005
    trades["size"] = rng.integers(1, 5, n) + rng.random(n)
    trades["side"] = rng.choice([-1, 0, 0, 0, 1], n).astype(np.int8)
    at = np.arange(0, int(ts[-1]) + 70 * MS, 13 * MS)
    grid = [(t, interval, code) for t in at.tolist() for interval in (0, 1) for code in (0, 1) if rng.random() < 0.5]
    return trades, quotes, pd.DataFrame(grid, columns=["ts", "interval", "code"])


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_flow_of_random_records_equals_the_batch_twin(variant, seed):
    config = FlowConfig(**VARIANTS[variant])
    trades, quotes, decisions = random_case(seed)
    edges = np.random.default_rng(seed).integers(0, int(trades.ts.iloc[-1]), 4)
    values, missing = stream(FlowGroup(config, 2), trades, book_of(quotes), decisions, sorted(edges.tolist()))
    assert ((missing == Missing.OK) == np.isfinite(values)).all()
    assert_equals_twin(values, trades, quotes, decisions, config)


def simulated() -> tuple[pd.DataFrame, BookFeatureColumns, pd.DataFrame, list[int]]:
    """Return trades (every second without flag), book updates, quotes as a table, and edges of slices."""
    config = SimulatorConfig(instruments=3, duration="4m", l2_instruments=1, trade_rate=3.0, news_rate=0, social_rate=0)
    intake, features, directory = BookIntake(BookConfig()), BookFeatureState(), Directory(10, 10**18)
    intake.ensure(3)
    features.ensure(3)
    trades, books, edges = [], [], []
    for batches in Market(config).slices():
        taken = {topic: batches[topic] for topic in ("books", "quotes", "trades") if topic in batches}
        codes = directory.codes(taken)
        edge = max(int(times(batch, "ts_recv")[-1]) for batch in taken.values()) + 1
        edges.append(edge)
        books.append(features.update(intake.update(taken, codes, edge, Refusals())))
        trades.append(trade_table(taken["trades"], codes["trades"]))
    book = BookFeatureColumns(
        *(np.concatenate([getattr(part, name) for part in books]) for name in ("code", "ts", "values", "missing"))
    )
    table = pd.concat(trades, ignore_index=True)
    table.loc[table.index % 2 == 0, "side"] = 0
    quotes = pd.DataFrame({"code": book.code, "ts": book.ts, "mid": book.values[:, NAMES.index("mid_price")]})
    return table, book, quotes, edges


def trade_table(batch: pa.RecordBatch, code: np.ndarray) -> pd.DataFrame:
    columns = {name: times(batch, name) for name in ("ts_event", "ts_recv")}
    columns |= {name: floats(batch, name) for name in ("price", "size")}
    return pd.DataFrame(columns | {"code": code, "side": int8s(batch, "side")}).rename(columns={"ts_recv": "ts"})


def test_flow_of_a_simulated_market_equals_the_batch_twin():
    trades, book, quotes, edges = simulated()
    config = FlowConfig(
        vpin={"buckets": 10, "bucket_share": 1e-4, "volume_warm_up": "30s"},
        intensity={"baseline_half_life": "1m"},
        sweep={"levels": 2},
    )
    begin = int(trades.ts.iloc[0])
    grid = [(begin + k * 13 * 10**9, 0, code) for k in range(1, 19) for code in range(3)]
    decisions = pd.DataFrame(grid, columns=["ts", "interval", "code"])
    values, _ = stream(FlowGroup(config, 1), trades, book, decisions, edges)
    has = assert_equals_twin(values, trades, quotes, decisions, config)
    assert has.all()


def test_flow_one_hostile_trade_leaves_no_trace():
    trades, quotes, decisions = random_case(5)
    config = FlowConfig(**SHORT)
    edges = [30 * MS]
    expected = stream(FlowGroup(config, 2), trades, book_of(quotes), decisions, edges)
    for price, size in ((np.nan, 1.0), (1e308, 1.0), (100.0, np.inf), (100.0, 0.0), (-1.0, 1.0), (100.0, 1e-200)):
        bad = trades.iloc[[40]].assign(price=price, size=size)
        spoilt = pd.concat([trades.iloc[:41], bad, trades.iloc[41:]], ignore_index=True)
        found = stream(FlowGroup(config, 2), spoilt, book_of(quotes), decisions, edges)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_flow_after_the_largest_trade_that_counts_recovers():
    trades, quotes, decisions = random_case(6)
    config = FlowConfig(**SHORT)
    big = trades.iloc[[40]].assign(price=1e30, size=1e30)
    spoilt = pd.concat([trades.iloc[:41], big, trades.iloc[41:]], ignore_index=True)
    later = spoilt.assign(ts=spoilt.ts + 10**10, ts_event=spoilt.ts_event + 10**10).iloc[42:]
    again = pd.concat([spoilt, later], ignore_index=True)
    quotes = pd.concat([quotes, quotes.assign(ts=quotes.ts + 10**10)], ignore_index=True)
    decisions = decisions.assign(ts=decisions.ts + 10**10)
    values, missing = stream(FlowGroup(config, 2), again, book_of(quotes), decisions, [10**10])
    clean = pd.concat([trades, later], ignore_index=True)
    expected, _ = stream(FlowGroup(config, 2), clean, book_of(quotes), decisions, [10**10])
    assert ((missing == Missing.OK) == np.isfinite(values)).all()
    late = decisions.ts > 10**10 + 150 * MS
    for k, spec in enumerate(FlowGroup(config, 1).specs()):
        if spec.name != "vpin":  # its buckets begin elsewhere
            np.testing.assert_allclose(values[late, k], expected[late, k], rtol=1e-6, err_msg=spec.name)
