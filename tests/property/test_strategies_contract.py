"""What must hold for every registered strategy."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
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


def _channel(rng, n):
    middle = 100 + rng.normal(0, 0.5, n)
    return middle + 0.2, middle - 0.2, rng.uniform(0, 0.03, n), rng.uniform(0, 4, n)


def _regimes(rng, n):
    trend = rng.integers(-1, 2, n)
    efficiency = np.where(trend == 0, rng.uniform(-0.4, 0.4, n), trend * rng.uniform(0.3, 1, n))
    return rng.integers(-1, 2, n), trend, efficiency, rng.normal(0, 2.5, n)


def _texts(rng, n):
    intensity = rng.uniform(0, 1, (2, n))
    return (
        rng.uniform(-1, 1, n), intensity[0], rng.uniform(-1, 1, n), intensity[1], rng.uniform(0.5, 2, n),
        rng.uniform(20, 80, n),
    )  # fmt: skip


def _items(rng, n):
    item = rng.random(n) < 0.5
    columns = (rng.uniform(-1, 1, n), rng.uniform(0, 1, n), rng.uniform(0, 120, n))
    return tuple(np.where(item, column, np.nan) for column in columns)


INPUTS = {
    "breakout": _channel,
    "microstructure_alpha": lambda rng, n: (rng.uniform(-1, 1, n), rng.normal(0, 50, n), rng.uniform(0, 30, n)),
    "momentum": lambda rng, n: (rng.normal(0, 0.02, n), rng.uniform(0.001, 0.002, n), rng.uniform(0, 60, n)),
    "regime_adaptive": _regimes,
    "sentiment": _texts,
    "news_analytics": _items,
    "ml_classification": lambda rng, n: (rng.uniform(0, 1, n),),
    "ml_momentum": lambda rng, n: (rng.uniform(0, 1, n),),
    "ml_regression": lambda rng, n: (rng.normal(0, 0.001, n), rng.uniform(0.0002, 0.001, n)),
}
"""Columns around the thresholds, where plain normal numbers are not."""


def make(name: str, parameters: dict | None = None) -> Strategy:
    strategy = STRATEGIES[name](STRATEGIES[name].Config.model_validate(parameters or {}))
    strategy.state.ensure(CODES)
    return strategy


def make_view(name: str, seed: int, n: int, *, scale: float = 3.0, codes: int = CODES) -> StrategyView:
    """Return random rows with features around the thresholds, some missing."""
    rng = np.random.default_rng(seed)
    width = len(STRATEGIES[name].needs)
    values = rng.normal(0.0, scale, (n, width))
    if name in INPUTS:
        values = np.column_stack(INPUTS[name](rng, n))
    missing = np.where(rng.random((n, width)) < 0.05, Missing.WARMING_UP, Missing.OK).astype(np.uint8)
    values[missing != 0] = np.nan
    missing[np.isnan(values)] = np.where(missing[np.isnan(values)] == 0, Missing.NO_INPUT, missing[np.isnan(values)])
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


# --- every parameter

_COMMON = {"max_holding": "1s", "cooldown": "10m"}
_PROBABLE = {"entry_probability": 0.9, "cooldown": "10m"}
PARAMETERS = {
    "momentum": _COMMON | {"entry_scaled_return": 3.0, "exit_scaled_return": 0.9, "min_adx": 50.0},
    "sentiment": _COMMON | {
        "news_weight": {"news_weight": 0.9, "social_weight": 0.1},
        "social_weight": {"news_weight": 0.1, "social_weight": 0.9},
        "min_intensity": 0.8, "entry_sentiment": 0.6, "exit_sentiment": 0.29, "min_relative_volume": 1.8,
        "overbought": 55.0, "oversold": 45.0,
    },
    "news_analytics": _COMMON | {
        "half_life": "10s", "entry_level": 0.8, "exit_level": 0.35, "max_price_age": "10s", "coalesce": "5m",
        "reactions_per_hour": 1.0, "burst": 1.0,
    },
    "regime_adaptive": _COMMON | {
        f"{state}.{key}": {state: {key: value}}
        for state in ("low", "normal", "high")
        for key, value in (("trades", False), ("entry_zscore", 4.0), ("exit_zscore", 0.1), ("min_efficiency", 0.9))
    },
    "ml_classification": _COMMON | _PROBABLE | {"exit_probability": 0.3},
    "ml_regression": _COMMON | {"entry_ratio": 2.5, "exit_ratio": 0.9, "min_return_bps": 10.0},
    "ml_momentum": _PROBABLE | {"half_life": "9d", "max_sessions": 1, "cooldown": "9d"},
}  # fmt: skip
"""For each parameter a value that changes decisions. `interval` and `model` choose the rows and not what is decided;
`calendar` has a test of its own."""


def _leaves(content: dict, prefix: str = "") -> list[str]:
    found = []
    for key, value in content.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_has_a_value_that_changes_decisions(name):
    assert {*PARAMETERS[name], "interval", "model", "calendar"} >= set(_leaves(STRATEGIES[name].Config().content()))
    assert set(PARAMETERS[name]) <= set(_leaves(STRATEGIES[name].Config().content()))


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in PARAMETERS.items() for key in keys])
def test_parameter_changes_decisions(name, key):
    view = make_view(name, 11, 4_000)
    if name == "ml_momentum":  # sessions pass between its rows
        view = replace(view, ts=1_767_225_600 * 10**9 + view.ts * 3_000)
    value = PARAMETERS[name][key]
    changed = value if isinstance(value, dict) else {key: value}
    assert in_parts(make(name, changed), view, []) != in_parts(make(name), view, [])


# --- rules


def decisions_of(name: str, rows: list[tuple], parameters: dict | None = None, *, step: int = 60 * 10**9) -> list[str]:
    """Return reasons of decisions on rows of inputs, None where there is none, at prices of 10."""
    values = np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)
    view = StrategyView(
        np.zeros(len(rows), np.int32), np.arange(len(rows)) * step, np.full(len(rows), 10.0), values,
        np.where(np.isnan(values), Missing.NO_INPUT, Missing.OK).astype(np.uint8),
    )  # fmt: skip
    strategy = make(name, parameters)
    found = strategy.on_frame(view)
    return [f"{row} {strategy.reasons[reason]}" for row, reason in zip(found.row, found.reason, strict=True)]


def test_sentiment_weights_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="to sum to one"):
        make("sentiment", {"news_weight": 0.5})


def test_sentiment_absent_source_leaves_its_weight_to_the_other():
    rows = [(0.5, 1.0, None, None, 2.0, 50.0)]
    strategy = make("sentiment")
    values = np.array(rows, dtype=np.float64)
    view = StrategyView(np.zeros(1, np.int32), np.zeros(1, np.int64), np.ones(1), values, np.isnan(values).astype("u1"))
    assert strategy.on_frame(view).evidence.tolist() == [[0.5]]


def test_sentiment_ends_when_no_source_is_left():
    rows = [(0.5, 1.0, 0.5, 1.0, 2.0, 50.0), (None, None, None, None, None, None)]
    assert decisions_of("sentiment", rows) == ["0 sentiment is good", "1 no source of sentiment is left"]


def test_news_burst_is_one_reaction_with_all_its_items():
    rows = [(0.3, 1.0, 1.0)] * 4
    assert decisions_of("news_analytics", rows, step=10**9) == ["1 news are good"]
    mixed = [(0.5, 1.0, 1.0), (-0.9, 1.0, 1.0), (-0.6, 1.0, 1.0), (None, None, None)]
    found = decisions_of("news_analytics", mixed, {"coalesce": "3s"}, step=10**9)
    assert found == ["0 news are good", "1 news have grown old", "3 news are bad"]


def test_news_reactions_are_limited():
    rows = [(0.9, 1.0, 1.0), (-0.9, 1.0, 1.0), (-0.9, 1.0, 1.0), (0.9, 1.0, 1.0), (0.9, 1.0, 1.0), (0.9, 1.0, 1.0)]
    unlimited = decisions_of("news_analytics", rows, {"burst": 100.0, "reactions_per_hour": 3600.0})
    limited = decisions_of("news_analytics", rows, {"burst": 1.0, "reactions_per_hour": 0.1})
    assert len(unlimited) > len(limited)
    assert [text.split()[1] for text in limited] == ["news", "news"]


def test_news_at_an_old_price_open_nothing():
    assert decisions_of("news_analytics", [(0.9, 1.0, 61.0)]) == []


def test_regime_that_is_not_traded_ends_the_position():
    rows = [(0, 1, 0.9, 1.0), (1, 1, 0.9, 1.0)]
    found = decisions_of("regime_adaptive", rows, {"high": {"trades": False}})
    assert found == ["0 market trends upwards", "1 volatility is in a state that is not traded"]


def test_regime_turned_against_the_position_ends_it():
    rows = [(0, 1, 0.9, 1.0), (0, -1, -0.1, -1.0)]
    assert decisions_of("regime_adaptive", rows) == ["0 market trends upwards", "1 trend is against the position"]


def test_regression_without_an_error_opens_nothing():
    assert decisions_of("ml_regression", [(0.01, 0.0), (0.01, None), (0.01, -1.0)]) == []


@pytest.mark.parametrize(("calendar", "row"), [("XNYS", 32), ("24/7", 24)])
def test_ml_momentum_ends_after_its_sessions(calendar, row):
    """Opened on a Monday morning, looked at every six hours: the sixth close is that of Monday, or of Saturday."""
    rows, monday = [(None,), (0.9,), *[(None,)] * 60], 1_767_571_200 * 10**9
    values = np.array(rows, dtype=np.float64)
    n = len(rows)
    view = StrategyView(
        np.zeros(n, np.int32), monday + np.arange(n) * 6 * 3600 * 10**9, 10.0 + np.arange(n) * 0.1, values,
        np.where(np.isnan(values), Missing.NO_INPUT, Missing.OK).astype(np.uint8),
    )  # fmt: skip
    strategy = make("ml_momentum", {"half_life": "1d", "max_sessions": 6, "calendar": calendar})
    found = strategy.on_frame(view)
    assert found.row.tolist() == [1, row]
    assert strategy.reasons[found.reason[1]] == "held for as many sessions as allowed"
