"""What must hold for every registered strategy."""

from __future__ import annotations

import importlib
import pkgutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import operators.strategies as package
from operators.strategies import STRATEGIES, register
from operators.strategies.base import Decisions, Strategy, StrategyView
from schemas.enums import Direction, Intent, Missing
from schemas.errors import ConfigError

EVERY = pytest.mark.parametrize("name", sorted(STRATEGIES))
CODES = 3
HOSTILE = (0.0, -1.0, 1e308, -1e308, 5e-324, np.inf, -np.inf, np.nan)


def make(name: str) -> Strategy:
    strategy = STRATEGIES[name](STRATEGIES[name].Config())
    strategy.state.ensure(CODES)
    return strategy


def make_view(name: str, seed: int, n: int, *, scale: float = 3.0, codes: int = CODES) -> StrategyView:
    """Return random rows with features around the thresholds, some missing."""
    rng = np.random.default_rng(seed)
    width = len(STRATEGIES[name].needs)
    values = rng.normal(0.0, scale, (n, width))
    if name == "breakout":
        middle = 100 + rng.normal(0, 0.5, n)
        values = np.column_stack([middle + 0.2, middle - 0.2, rng.uniform(0, 0.03, n), rng.uniform(0, 4, n)])
    if name == "microstructure_alpha":
        values = np.column_stack([rng.uniform(-1, 1, n), rng.normal(0, 50, n), rng.uniform(0, 30, n)])
    missing = np.where(rng.random((n, width)) < 0.05, Missing.WARMING_UP, Missing.OK).astype(np.uint8)
    values[missing != 0] = np.nan
    view = StrategyView(
        rng.integers(0, codes, n).astype(np.int32), np.sort(rng.integers(0, 10**13, n)),
        100 + rng.normal(0, 0.6, n), values, missing,
    )  # fmt: skip
    for array in (view.code, view.ts, view.price, view.values, view.missing):
        array.flags.writeable = False
    return view


def cut(view: StrategyView, rows) -> StrategyView:
    return StrategyView(view.code[rows], view.ts[rows], view.price[rows], view.values[rows], view.missing[rows])


def rows_of(view: StrategyView, decisions: Decisions) -> list[tuple]:
    columns = (view.code[decisions.row], view.ts[decisions.row], decisions.direction, decisions.intent)
    return list(zip(*(c.tolist() for c in (*columns, decisions.confidence, decisions.reason)), strict=True))


def in_parts(strategy: Strategy, view: StrategyView, cuts) -> list[tuple]:
    edges = [0, *sorted(cuts), len(view.code)]
    found = []
    for start, stop in pairwise(edges):
        part = cut(view, slice(start, stop))
        found += rows_of(part, strategy.on_frame(part))
    return found


@EVERY
def test_strategy_random_rows_decides_and_holds_its_contract(name):
    view = make_view(name, 1, 4_000)
    strategy = make(name)
    decisions = strategy.on_frame(view)
    assert len(decisions) > 20
    assert set(decisions.direction.tolist()) <= {d.value for d in Direction}
    assert set(decisions.intent.tolist()) <= {i.value for i in Intent}
    assert np.isfinite(decisions.confidence).all()
    assert ((decisions.confidence >= 0) & (decisions.confidence <= 1)).all()
    assert ((decisions.reason >= 0) & (decisions.reason < len(strategy.reasons))).all()
    assert (np.diff(decisions.row) >= 0).all()


@EVERY
def test_strategy_positions_open_from_flat_and_end(name):
    view = make_view(name, 2, 6_000)
    held = np.zeros(CODES, dtype=int)
    for code, _, direction, intent, _, _ in rows_of(view, make(name).on_frame(view)):
        if intent == Intent.ENTER:
            assert held[code] == 0
            held[code] = direction
        else:
            assert held[code] == direction
            held[code] = 0


@EVERY
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_strategy_any_cut_decides_the_same(name, seed, cuts):
    view = make_view(name, seed, 400)
    assert in_parts(make(name), view, cuts) == in_parts(make(name), view, [])


@EVERY
@pytest.mark.parametrize("at", [0, 1, 57, 200])
def test_strategy_restored_decides_the_same(name, at):
    view = make_view(name, 3, 400)
    first, second = make(name), make(name)
    found = in_parts(first, cut(view, slice(0, at)), [])
    snapshot = first.state.snapshot(CODES)
    first.on_frame(cut(view, slice(at, 400)))
    second.state.restore(snapshot)
    assert found + in_parts(second, cut(view, slice(at, 400)), []) == in_parts(make(name), view, [])


@EVERY
def test_strategy_instruments_are_independent(name):
    view = make_view(name, 4, 900)
    together = in_parts(make(name), view, [])
    for code in range(CODES):
        alone = in_parts(make(name), cut(view, np.flatnonzero(view.code == code)), [])
        assert alone == [row for row in together if row[0] == code]


@EVERY
def test_strategy_prefix_decides_the_prefix(name):
    view = make_view(name, 5, 500)
    whole = make(name).on_frame(view)
    part = make(name).on_frame(cut(view, slice(0, 250)))
    assert rows_of(view, part) == [row for row, at in zip(rows_of(view, whole), whole.row, strict=True) if at < 250]


@EVERY
def test_strategy_missing_features_open_nothing(name):
    view = make_view(name, 6, 500)
    blind = StrategyView(
        view.code, view.ts, view.price, np.full_like(view.values, np.nan), np.full_like(view.missing, Missing.NO_INPUT)
    )
    assert len(make(name).on_frame(blind)) == 0


@EVERY
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_strategy_hostile_numbers_give_no_hostile_confidence(name, data):
    n, width = 60, len(STRATEGIES[name].needs)
    flat = data.draw(st.lists(st.sampled_from((*HOSTILE, 1.0, 3.0, -3.0)), min_size=n * width, max_size=n * width))
    values = np.array(flat).reshape(n, width)
    view = StrategyView(
        np.zeros(n, np.int32), np.arange(n), np.full(n, 100.0), values, np.zeros((n, width), dtype=np.uint8)
    )
    confidence = make(name).on_frame(view).confidence
    assert ((confidence >= 0) & (confidence <= 1)).all()


@EVERY
def test_strategy_empty_view_decides_nothing(name):
    assert len(make(name).on_frame(make_view(name, 7, 0))) == 0


@EVERY
def test_strategy_memory_does_not_grow_with_rows(name):
    strategy = make(name)
    before = strategy.state.nbytes
    strategy.on_frame(make_view(name, 8, 5_000))
    assert strategy.state.nbytes == before


@EVERY
def test_strategy_thresholds_are_finite_numbers(name):
    strategy = make(name)
    assert len(strategy.thresholds()) == len(strategy.compares) > 0
    assert all(np.isfinite(value) for value in strategy.thresholds().values())


@EVERY
def test_strategy_entries_carry_finite_evidence(name):
    strategy = make(name)
    decisions = strategy.on_frame(make_view(name, 9, 3_000))
    assert decisions.evidence.shape == (len(decisions), len(strategy.derived))
    assert np.isfinite(decisions.evidence[decisions.intent == Intent.ENTER]).all()


def test_microstructure_evidence_justifies_the_decision():
    strategy = make("microstructure_alpha")
    decisions = strategy.on_frame(make_view("microstructure_alpha", 10, 3_000))
    entry = strategy.thresholds()["entry_zscore"]
    zscore, flow = decisions.evidence.T
    long = (decisions.intent == Intent.ENTER) & (decisions.direction == Direction.LONG)
    short = (decisions.intent == Intent.ENTER) & (decisions.direction == Direction.SHORT)
    assert long.any()
    assert short.any()
    assert (zscore[long] >= entry).all()
    assert (flow[long] > 0).all()
    assert (zscore[short] <= -entry).all()
    assert (flow[short] < 0).all()


def test_every_strategy_class_is_registered():
    classes = set()
    for module in pkgutil.iter_modules(package.__path__):
        for item in vars(importlib.import_module(f"operators.strategies.{module.name}")).values():
            if isinstance(item, type) and issubclass(item, Strategy) and item is not Strategy:
                classes.add(item)
    assert classes == set(STRATEGIES.values())


def test_register_taken_name_is_refused():
    with pytest.raises(ConfigError, match="expected a new strategy name, was `breakout`"):
        register(STRATEGIES["breakout"])


def test_register_nameless_is_refused():
    with pytest.raises(ConfigError, match="expected a strategy with `name`"):
        register(type("Nameless", (Strategy,), {}))


def test_confidence_of_mean_reversion_grows_with_distance():
    strategy = make("mean_reversion")
    z = np.array([[-2.0], [-3.0], [-4.0], [-9.0]])
    view = StrategyView(
        np.arange(4, dtype=np.int32) % CODES, np.arange(4), np.full(4, 10.0), z, np.zeros((4, 1), dtype=np.uint8)
    )
    assert strategy.on_frame(view).confidence[:3].tolist() == [0.5, 0.75, 1.0]


def test_held_too_long_ends_the_position():
    config = STRATEGIES["mean_reversion"].Config(max_holding="1s")
    strategy = STRATEGIES["mean_reversion"](config)
    view = StrategyView(
        np.zeros(2, np.int32), np.array([0, 10**9]), np.full(2, 10.0), np.array([[-2.5], [-2.5]]),
        np.zeros((2, 1), dtype=np.uint8),
    )  # fmt: skip
    decisions = strategy.on_frame(view)
    assert [strategy.reasons[reason] for reason in decisions.reason] == [
        "close is far below its rolling mean",
        "held as long as allowed",
        "close is far below its rolling mean",
    ]
