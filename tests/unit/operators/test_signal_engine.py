"""Strategies over frames: what is written about a decision, and when none may be taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.book_features import NAMES, BookFeatureColumns
from operators.columns import BarColumns
from operators.feature_engine import FeatureFrame, feature_set
from operators.shard_config import ShardConfig
from operators.signal_engine import SignalEngine
from schemas.enums import Direction, Intent, Missing
from schemas.errors import ConfigError
from schemas.features import FeatureSet
from schemas.tables import SIGNALS

SECOND = 10**9


def config(enabled: list[str], **parameters: dict[str, Any]) -> ShardConfig:
    return ShardConfig.model_validate({"strategies": {"enabled": enabled} | parameters})


def engine(shape: ShardConfig) -> SignalEngine:
    found = SignalEngine(shape, feature_set(shape), NAMES)
    found.ensure(3)
    return found


def bars(code: list[int], ts: list[int], interval: int = 60 * SECOND, close: float = 10.0) -> BarColumns:
    n = len(code)
    ints = [np.array(ts, dtype=np.int64)] * 3
    prices = [np.full(n, close)] * 7
    return BarColumns(
        np.array(code, dtype=np.int32), np.full(n, interval), *ints, *prices, np.ones(n, np.int64), np.ones(n)
    )


def book(ts: list[int], **columns: list[float]) -> BookFeatureColumns:
    n = len(ts)
    values = np.full((n, len(NAMES)), np.nan)
    for name, column in ({"mid_price": [100.5] * n, "spread_bps": [1.0] * n} | columns).items():
        values[:, NAMES.index(name)] = column
    missing = np.where(np.isfinite(values), Missing.OK, Missing.OUT_OF_SYNC).astype(np.uint8)
    return BookFeatureColumns(np.zeros(n, np.int32), np.array(ts, dtype=np.int64), values, missing)


def frame(
    shape: ShardConfig, rows: BarColumns | None = None, updates: Any = None, **features: list[float]
) -> FeatureFrame:
    rows = rows if rows is not None else bars([], [])
    names = feature_set(shape).names
    values = np.full((len(rows), len(names)), np.nan)
    missing = np.full(values.shape, Missing.WARMING_UP, dtype=np.uint8)
    for name, column in features.items():
        values[:, names.index(name)] = column
        missing[:, names.index(name)] = np.where(np.isfinite(column), Missing.OK, Missing.WARMING_UP)
    return FeatureFrame(rows, values, missing, updates if updates is not None else book([]))


REVERT = config(["mean_reversion"])


def signals(found: SignalEngine, what: FeatureFrame) -> list[dict[str, Any]]:
    return [row for batch in found.update(what, ["A", "B", "C"]) for row in batch.to_pylist()]


def test_signal_says_what_it_was_made_from():
    shape = config(["mean_reversion"], mean_reversion={"entry_zscore": 2.5})
    [row] = signals(engine(shape), frame(shape, bars([1], [60 * SECOND]), zscore=[-3.0]))
    assert row["instrument_id"] == "B"
    assert row["strategy"] == "mean_reversion"
    assert (row["direction"], row["intent"]) == (Direction.LONG, Intent.ENTER)
    assert row["price"] == 10.0
    assert row["confidence"] == pytest.approx(0.6)
    assert dict(row["inputs"]) == {"zscore": -3.0}
    assert dict(row["thresholds"]) == {"entry_zscore": 2.5, "exit_zscore": 0.5, "max_holding_seconds": 14_400.0}
    assert row["parameters_hash"] == shape.strategies.mean_reversion.content_hash()  # type: ignore[attr-defined]
    assert row["feature_set"] == feature_set(shape).hash
    assert row["reason"] == "close is far below its rolling mean"
    assert len(row["signal_id"]) == 32


def test_signal_columns_are_those_of_the_table_without_the_run():
    [batch] = engine(REVERT).update(frame(REVERT, bars([0], [60 * SECOND]), zscore=[-3.0]), ["A"])
    assert batch.schema.names == [field.name for field in SIGNALS.computed]
    assert [field.type for field in batch.schema] == [field.arrow.type for field in SIGNALS.computed]


def test_signal_id_is_the_same_again_and_differs_by_what_it_names():
    def ids(shape: ShardConfig, code: int = 0, ts: int = 60, z: float = -3.0) -> str:
        [row] = signals(engine(shape), frame(shape, bars([code], [ts * SECOND]), zscore=[z]))
        return str(row["signal_id"])

    assert ids(REVERT) == ids(REVERT)
    other = config(["mean_reversion"], mean_reversion={"entry_zscore": 2.5})
    assert len({ids(REVERT), ids(REVERT, code=1), ids(REVERT, ts=120), ids(REVERT, z=3.0), ids(other)}) == 5


def test_signal_only_on_bars_of_the_strategys_interval():
    assert signals(engine(REVERT), frame(REVERT, bars([0], [SECOND], interval=SECOND), zscore=[-3.0])) == []


def test_signal_missing_feature_opens_nothing():
    assert signals(engine(REVERT), frame(REVERT, bars([0], [60 * SECOND]), zscore=[np.nan])) == []


def test_signal_inputs_leave_out_what_is_missing():
    """An exit after the longest holding is taken without any feature: nothing may stand in for it."""
    shape = config(["mean_reversion"], mean_reversion={"max_holding": "1m"})
    found = engine(shape)
    rows = signals(found, frame(shape, bars([0, 0], [60 * SECOND, 120 * SECOND]), zscore=[-3.0, np.nan]))
    assert [dict(row["inputs"]) for row in rows] == [{"zscore": -3.0}, {}]
    assert rows[1]["reason"] == "held as long as allowed"


ALPHA = config(
    ["microstructure_alpha"],
    microstructure_alpha={"warm_up": 2, "half_life": 1, "max_holding": "2s", "cooldown": "0s", "entry_zscore": 1.0},
)


def test_signal_on_the_book_has_the_mid_as_its_price():
    updates = book(
        [1, 2, 3], depth_imbalance=[0.1, -0.1, 0.9], order_flow_imbalance=[1.0, 1.0, 5.0], mid_price=[9.0, 9.5, 10.5]
    )
    [row] = signals(engine(ALPHA), frame(ALPHA, updates=updates))
    assert (row["ts"].value, row["price"]) == (3, 10.5)


def test_signal_without_a_price_waits_for_the_next_one():
    """A lost book has no mid: a position that was held too long ends at the first price after it, not at none."""
    nan = float("nan")
    updates = book(
        [0, SECOND, 2 * SECOND, 6 * SECOND, 7 * SECOND],
        depth_imbalance=[0.1, -0.1, 0.9, nan, nan],
        order_flow_imbalance=[1.0, 1.0, 5.0, nan, nan],
        mid_price=[100.0, 100.0, 100.0, nan, 101.0],
    )
    rows = signals(engine(ALPHA), frame(ALPHA, updates=updates))
    assert [(row["ts"].value // SECOND, row["intent"], row["price"]) for row in rows] == [
        (2, Intent.ENTER, 100.0),
        (7, Intent.EXIT, 101.0),
    ]


def test_signal_frame_without_rows_gives_none():
    assert engine(config(["mean_reversion", "microstructure_alpha"])).update(frame(REVERT), []) == []


def test_signal_strategies_that_are_not_enabled_decide_nothing():
    shape = config([])
    assert signals(engine(shape), frame(shape, bars([0], [60 * SECOND]), zscore=[-9.0])) == []


def test_engine_feature_that_nothing_computes_is_refused():
    with pytest.raises(ConfigError, match="expected strategy `mean_reversion` to need features among"):
        SignalEngine(REVERT, FeatureSet(()), NAMES)


def test_engine_forgotten_instrument_starts_flat():
    found = engine(REVERT)
    first = frame(REVERT, bars([0, 1], [60 * SECOND] * 2), zscore=[-3.0, -3.0])
    assert len(signals(found, first)) == 2
    found.reset(np.array([0], dtype=np.int32))
    again = signals(found, frame(REVERT, bars([0, 1], [120 * SECOND] * 2), zscore=[-3.0, -3.0]))
    assert [row["instrument_id"] for row in again] == ["A"]


def test_engine_restored_holds_the_same_positions():
    found, twin = engine(REVERT), engine(REVERT)
    signals(found, frame(REVERT, bars([0], [60 * SECOND]), zscore=[-3.0]))
    twin.restore(found.snapshot(3))
    later = frame(REVERT, bars([0, 1], [120 * SECOND] * 2), zscore=[0.0, -3.0])
    assert signals(found, later) == signals(twin, later)
