"""What must hold for every registered strategy over several instruments, and for the engine around them."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given, settings
from hypothesis import strategies as st

import operators.strategies as package
from benchmarks.universe_market import frames_of, names, walks, with_lags, with_pair
from operators.arrival import Rows
from operators.cross_section import CrossSectionConfig, CrossSectionState
from operators.strategies.universe_base import UniverseDecision, UniverseStrategy
from operators.strategies.universe_registry import UNIVERSE_STRATEGIES, register_universe
from operators.universe import UNIVERSE_KEY, UniverseFrame
from operators.universe_engine import UniverseEngine, decide
from operators.universe_engine_config import UniverseEngineConfig
from schemas.enums import Direction, Intent, Missing
from schemas.errors import ConfigError, InvariantError, VersionError
from schemas.tables import CROSS_SECTION, SIGNALS
from sinks.conform import conform

EVERY = pytest.mark.parametrize("name", sorted(UNIVERSE_STRATEGIES))
INSTRUMENTS = names(12)
CROSS = CrossSectionConfig(window=80, min_overlap=20, max_correlated=12, select_every=40, correlate_every=5,
                           min_instruments=5)  # fmt: skip
PARAMETERS: dict[str, dict[str, Any]] = {
    "pairs_trading": {"pairs": [INSTRUMENTS[:2], INSTRUMENTS[2:4]], "window": 30, "entry_zscore": 1.5},
    "statistical_arbitrage": {
        "window": 80, "min_obs": 60, "test_every": 20, "min_correlation": 0.2, "significance": 0.45,
        "drop_significance": 0.6, "entry_zscore": 1.2, "min_half_life": 0.1, "max_candidates": 30,
    },
    "correlation": {"min_peer_correlation": 0.3, "entry_zscore": 1.5, "cooldown": "2m"},
}  # fmt: skip
HOSTILE = (0.0, -1.0, 1e308, 5e-324, np.inf, -np.inf)


def make(name: str) -> UniverseStrategy:
    cls = UNIVERSE_STRATEGIES[name]
    return cls(cls.Config.model_validate(PARAMETERS[name]))


def market(seed: int, n: int = 260, absent: float = 0.05) -> list[UniverseFrame]:
    rng = np.random.default_rng(seed)
    closes = with_pair(with_lags(seed, n, 12, reverts=True), seed, half_life=1.0)
    closes[rng.random(closes.shape) < absent] = np.nan
    return frames_of(closes, INSTRUMENTS, incomplete=(120, 121, 180))


def run(
    strategy: UniverseStrategy, frames: list[UniverseFrame], cross: CrossSectionState | None = None
) -> list[tuple[int, UniverseDecision]]:
    cross = cross or CrossSectionState(CROSS, 30, 10**18)
    return [(frame.ts, item) for frame in frames for item in strategy.on_frame(frame, cross.update(frame))]


def texts(found: list[tuple[int, UniverseDecision]]) -> list[str]:
    return [repr(row) for row in found]


def assert_plain(value: Any, path: str) -> None:
    assert value is None or type(value) in (bool, int, float, str, bytes, list, tuple, dict), f"{path}: {type(value)}"
    if isinstance(value, dict):
        for key, part in value.items():
            assert_plain(key, f"{path} key")
            assert_plain(part, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            assert_plain(part, f"{path}[{position}]")


@EVERY
def test_universe_strategy_decides_and_holds_its_contract(name):
    strategy = make(name)
    found = run(strategy, market(3))
    assert len(found) > 10
    for _, item in found:
        assert item.direction in set(Direction)
        assert item.intent in {Intent.ENTER, Intent.EXIT}
        assert 0 <= item.confidence <= 1
        assert 0 <= item.reason < len(strategy.reasons)
        assert np.isfinite(item.price)
        assert item.price > 0
        assert set(item.evidence) == set(strategy.derived)
    assert strategy.inactive is None
    assert all(np.isfinite(value) for value in strategy.thresholds().values())
    assert len(strategy.thresholds()) == len(strategy.compares) > 0


@EVERY
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_universe_strategy_positions_open_from_flat_and_legs_move_together(name, seed):
    held: dict[tuple[str, str], int] = {}
    incomplete = {frame.ts for frame in market(seed) if not frame.complete}
    found = run(make(name), market(seed))
    for ts, item in found:
        key = (item.pair, item.instrument)
        if item.intent is Intent.ENTER:
            assert key not in held
            assert ts not in incomplete
            held[key] = item.direction
        else:
            assert held.pop(key) == item.direction
    pairs = [(ts, item.pair, item.intent, item.leg) for ts, item in found if item.pair]
    assert pairs[::2] == [(ts, pair, intent, 1) for ts, pair, intent, _ in pairs[1::2]]
    assert {leg for *_, leg in pairs[1::2]} <= {2}


@EVERY
@settings(max_examples=6)
@given(seed=st.integers(0, 20), at=st.sets(st.integers(1, 150), max_size=4))
def test_universe_strategy_restored_anywhere_decides_the_same(name, seed, at):
    frames = market(seed, 160)
    expected = texts(run(make(name), frames))
    strategy, cross, found = make(name), CrossSectionState(CROSS, 30, 10**18), []
    for number, frame in enumerate(frames):
        if number in at:
            kept, kept_cross = strategy.snapshot(), cross.snapshot()
            before = repr(kept)
            run(strategy, frames[number : number + 3], cross)
            assert repr(kept) == before, "later frames must not change a snapshot"
            assert_plain(kept, name)
            strategy, cross = make(name), CrossSectionState(CROSS, 30, 10**18)
            strategy.restore(kept)
            cross.restore(kept_cross)
        found += run(strategy, [frame], cross)
    assert texts(found) == expected


@EVERY
def test_universe_strategy_prefix_decides_the_prefix(name):
    frames = market(5)
    whole = run(make(name), frames)
    assert whole
    cut = frames[170].ts
    assert texts(run(make(name), frames[:171])) == texts([row for row in whole if row[0] <= cut])


@EVERY
def test_universe_strategy_frames_without_instruments_open_nothing(name):
    frames = frames_of(np.full((50, 12), np.nan), INSTRUMENTS)
    assert run(make(name), frames) == []


@EVERY
@settings(max_examples=8)
@given(seed=st.integers(0, 99))
def test_universe_strategy_hostile_closes_give_no_hostile_decision(name, seed):
    rng = np.random.default_rng(seed)
    closes = walks(seed, 150, 12)
    hit = rng.random(closes.shape) < 0.02
    closes[hit] = rng.choice(HOSTILE, hit.sum())
    for _, item in run(make(name), frames_of(closes, INSTRUMENTS)):
        assert 0 <= item.confidence <= 1
        assert np.isfinite(item.price)
        assert item.price > 0
        if item.intent is Intent.ENTER:
            assert np.isfinite(item.evidence["zscore"])


@EVERY
def test_universe_strategy_constant_market_decides_nothing(name):
    assert run(make(name), frames_of(np.full((200, 12), 50.0), INSTRUMENTS)) == []


@EVERY
def test_universe_strategy_state_is_bounded(name):
    strategy, cross, sizes = make(name), CrossSectionState(CROSS, 30, 10**18), []
    for wave in range(6):
        for frame in market(wave, 120):
            later = UniverseFrame(
                frame.ts + wave * 10**15, frame.interval_ns, frame.instruments, frame.close, frame.volume, (),
                frame.values, frame.missing, frame.live, frame.complete,
            )  # fmt: skip
            strategy.on_frame(later, cross.update(later))
        sizes.append(len(repr(strategy.snapshot())))
    assert max(sizes[3:]) <= 1.5 * max(sizes[:3]) + 2_000


@EVERY
def test_universe_strategy_snapshot_of_another_version_is_refused(name):
    kept = make(name).snapshot() | {"version": 99}
    with pytest.raises(VersionError, match="found version 99"):
        make(name).restore(kept)


def test_every_universe_strategy_class_is_registered_and_tested():
    classes = set()
    for module in pkgutil.iter_modules(package.__path__):
        for item in vars(importlib.import_module(f"operators.strategies.{module.name}")).values():
            if isinstance(item, type) and issubclass(item, UniverseStrategy) and item is not UniverseStrategy:
                classes.add(item)
    assert classes == set(UNIVERSE_STRATEGIES.values())
    assert set(PARAMETERS) == set(UNIVERSE_STRATEGIES)


def test_register_universe_taken_name_is_refused():
    with pytest.raises(ConfigError, match="expected a new strategy name, was `correlation`"):
        register_universe(UNIVERSE_STRATEGIES["correlation"])


def test_register_universe_nameless_is_refused():
    with pytest.raises(ConfigError, match="expected a strategy with `name`"):
        register_universe(type("Nameless", (UniverseStrategy,), {}))


# --- the engine

ENGINE = UniverseEngineConfig.model_validate(
    {
        "members": {"max_instruments": 12},
        "cross_section": CROSS.content() | {"ranked": ["bar_return"]},
        "strategies": PARAMETERS,
    }
)


def rows_of(engine: UniverseEngine, frames: list[UniverseFrame]) -> list[tuple[str, dict[str, Any]]]:
    return [(rows.table, row) for frame in frames for rows in engine.update(frame) for row in rows.batch.to_pylist()]


def test_universe_engine_rows_are_what_the_tables_store():
    for frame in market(6, 150):
        for rows in (engine_rows for engine_rows in ENGINE_ONCE.update(frame)):
            schema = {"cross_section": CROSS_SECTION, "signals": SIGNALS}[rows.table]
            assert conform(schema, rows.batch, "run").num_rows == rows.batch.num_rows


ENGINE_ONCE = UniverseEngine(ENGINE)


def test_universe_engine_keys_are_distinct_and_ids_stable():
    rows = rows_of(UniverseEngine(ENGINE), market(7))
    signals = [row for table, row in rows if table == "signals"]
    assert len({row["strategy"] for row in signals}) == 3
    assert len({row["signal_id"] for row in signals}) == len(signals)
    again = rows_of(UniverseEngine(ENGINE), market(7))
    assert repr(again) == repr(rows)


def test_universe_engine_signal_carries_its_evidence_and_pair():
    rows = rows_of(UniverseEngine(ENGINE), market(8))
    for row in (row for table, row in rows if table == "signals" and row["strategy"] == "pairs_trading"):
        inputs = dict(row["inputs"])
        assert {"pair_id", "leg", "zscore", "hedge_ratio", "spread_deviation"} <= set(inputs)
        assert dict(row["thresholds"])["entry_zscore"] == 1.5
        pair, _, reason = row["reason"].partition(": ")
        assert row["instrument_id"] in pair.split("/")
        assert reason in UNIVERSE_STRATEGIES["pairs_trading"].reasons


def test_universe_engine_feature_rows_say_what_is_missing():
    engine = UniverseEngine(ENGINE)
    for frame in market(9, 130):
        rows = engine.update(frame)[0].batch
        n = len(frame.instruments)
        assert rows.column("instrument_id").to_pylist() == list(frame.instruments)
        assert rows.column("present").to_pylist() == [n] * n
        assert rows.column("live").to_pylist() == [12] * n
        codes = np.array(rows.column("missing").to_pylist())
        for at, name in enumerate(CROSS_SECTION.names[8:-1]):
            assert [value is None for value in rows.column(name).to_pylist()] == (codes[:, at] != 0).tolist()
        if not frame.complete:
            assert (codes == Missing.NO_INPUT).all()
            assert rows.column("ranks").to_pylist() == [[]] * n


@settings(max_examples=5)
@given(at=st.sets(st.integers(1, 100), max_size=3))
def test_universe_engine_restored_anywhere_gives_the_same_rows(at):
    frames = market(10, 110)
    engine, found = UniverseEngine(ENGINE), []
    for number, frame in enumerate(frames):
        if number in at:
            kept = engine.snapshot()
            assert_plain(kept, "engine")
            engine = UniverseEngine(ENGINE)
            engine.restore(kept)
        found += rows_of(engine, [frame])
    assert repr(found) == repr(rows_of(UniverseEngine(ENGINE), frames))


def test_universe_engine_operator_gives_rows_in_a_dataflow():
    frames = market(11, 100)
    out: list[tuple[str, Rows]] = []
    flow = Dataflow("engine")
    keyed = op.map("key", op.input("in", flow, TestingSource(frames)), lambda frame: (UNIVERSE_KEY, frame))
    op.output("out", decide("decide", keyed, config=ENGINE), TestingSink(out))
    run_main(flow)
    found = [(rows.table, row) for _, rows in out for row in rows.batch.to_pylist()]
    assert repr(found) == repr(rows_of(UniverseEngine(ENGINE), frames))


def test_universe_engine_without_instruments_gives_no_rows():
    assert UniverseEngine(ENGINE).update(frames_of(np.full((1, 12), np.nan), INSTRUMENTS)[0]) == []


def test_universe_engine_confidence_out_of_bounds_stops(monkeypatch):
    engine = UniverseEngine(ENGINE)
    bad = UniverseDecision("A", Direction.LONG, Intent.ENTER, float("nan"), 1.0, 0)
    monkeypatch.setattr(UNIVERSE_STRATEGIES["correlation"], "on_frame", lambda *_: (bad,))
    with pytest.raises(InvariantError, match=r"expected confidence in \[0, 1\] from strategy `correlation`"):
        engine.update(market(1, 1)[0])


def test_universe_engine_snapshot_for_other_parameters_is_refused():
    kept = UniverseEngine(ENGINE).snapshot()
    with pytest.raises(VersionError, match="expected a snapshot of version 1 for strategies"):
        UniverseEngine(UniverseEngineConfig()).restore(kept)


def test_universe_engine_config_names_what_slices_must_carry():
    config = UniverseEngineConfig.model_validate(
        {"members": {"filters": {"max_spread_bps": 5}}, "cross_section": {"ranked": ["zscore", "bar_return"]}}
    )
    assert config.needs == ("spread_bps", "zscore")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"strategies": {"enabled": ["nothing"]}}, "expected distinct names among"),
        ({"cross_section": {"window": 100}}, "expected `cross_section.window` of at least the 250 frames"),
    ],
)
def test_universe_engine_config_inconsistent_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        UniverseEngineConfig.model_validate(parameters)
