"""The contract of bar features, run over every registered one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.columns import BarColumns
from operators.features import BAR_FEATURES
from operators.features.base import BarFeature
from schemas.enums import Missing

_N_CODES = 3
_LAW = settings(deadline=None, max_examples=25)
_SHORT: dict[str, dict[str, Any]] = {
    "ewma_volatility": {"half_life": 3.0, "min_returns": 4},
    "realized_volatility": {"window": 5},
    "zscore": {"window": 5},
    "rsi": {"period": 4},
    "relative_volume": {"window": 5},
    "channel": {"window": 5},
    "moving_averages": {"sma_fast": 2, "sma_slow": 5, "ema_fast": 2, "ema_slow": 4},
    "macd": {"fast": 2, "slow": 4, "signal": 2},
    "stochastic": {"window": 4, "slow_k": 2, "slow_d": 2},
    "bollinger": {"window": 5},
    "atr": {"period": 4},
    "adx": {"period": 3},
    "keltner": {"span": 4, "atr_period": 3},
    "donchian": {"window": 5},
    "rate_of_change": {"period": 4},
    "vwap": {"window": 5},
    "on_balance_volume": {"window": 4},
    "money_flow": {"period": 4},
    "returns": {"horizons": (2, 4)},
    "range_volatility": {"window": 4},
    "bipower_variation": {"window": 4},
    "autocorrelation": {"window": 6, "lags": (1, 2)},
    "hurst": {"segment": 4, "doublings": 1},
    "variance_ratio": {"window": 6, "period": 2},
    "return_moments": {"window": 5},
    "amihud": {"window": 4},
    "roll_spread": {"window": 5},
    "volatility_regime": {"short": 2, "long": 6, "min_dwell": 2},
    "trend_regime": {"window": 4, "min_dwell": 2},
}
"""Parameters short enough for a random case to get through the warm-up; a feature with a long one needs an entry."""
_REACHED = 12
"""Bars of one instrument that most random cases have: the warm-up of every output must be within."""
_ABSOLUTE = ("price", "base units")
"""Units in which an input of nothing but zeros may give the value zero; a pure number of it has no meaning."""
_HOSTILE = [0.0, -0.0, -1.0, 1.0, 1.0, 100.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e-160, 1e200]

every_feature = pytest.mark.parametrize("cls", BAR_FEATURES.values(), ids=BAR_FEATURES)


def _make(cls: type[BarFeature]) -> BarFeature:
    feature = cls(cls.Config(**_SHORT.get(cls.name, {})))
    feature.state.ensure(_N_CODES)
    return feature


def _bars(code: npt.NDArray[np.int32], prices: npt.NDArray[np.float64], volume: npt.NDArray[np.float64]) -> BarColumns:
    """Return read-only bars; `prices` has a column each for open, high, low and close."""
    n = len(code)
    ts = np.arange(n, dtype=np.int64)
    floats = [np.ascontiguousarray(prices[:, k]) for k in range(4)]
    with np.errstate(over="ignore", invalid="ignore"):
        notional = volume * floats[3]
    columns = [code, np.ones(n, np.int64), ts, ts + 1, ts + 1, *floats, volume, notional, floats[3], ts, volume]
    for column in columns:
        column.flags.writeable = False
    return BarColumns(*columns)


@st.composite
def _cases(draw: st.DrawFn) -> BarColumns:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 80))
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, n)))
    if draw(st.booleans()):
        close = np.round(close)
    spread = draw(st.sampled_from([0.0, 0.01]))
    high, low = close * (1.0 + spread * rng.random(n)), close * (1.0 - spread * rng.random(n))
    prices = np.stack([close, high, low, close], axis=1)
    volume = rng.integers(0, 4, n).astype(np.float64)
    share = draw(st.sampled_from([0.0, 0.1, 0.8]))
    prices = np.where(rng.random(prices.shape) < share, rng.choice(_HOSTILE, prices.shape), prices)
    volume = np.where(rng.random(n) < share, rng.choice(_HOSTILE, n), volume)
    return _bars(rng.integers(0, _N_CODES, n).astype(np.int32), prices, volume)


def _equal(first: tuple[Any, Any], second: tuple[Any, Any]) -> None:
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_short_parameters_are_of_registered_features() -> None:
    assert set(_SHORT) <= set(BAR_FEATURES)


@every_feature
def test_random_cases_reach_the_warm_up_of_every_output(cls: type[BarFeature]) -> None:
    """Fails for a feature that `_SHORT` leaves out though its own parameters are longer than a random case."""
    late = {spec.name: spec.warm_up for spec in cls.specs(_make(cls).config) if spec.warm_up > _REACHED}
    assert not late, f"expected an entry of `{cls.name}` in `_SHORT` with warm-up within {_REACHED} bars, found {late}"


@every_feature
@_LAW
@given(bars=_cases(), cuts=st.lists(st.integers(0, 80), max_size=6))
def test_values_do_not_depend_on_the_cuts(cls: type[BarFeature], bars: BarColumns, cuts: list[int]) -> None:
    whole = _make(cls).update(bars)
    feature = _make(cls)
    edges = [0, *sorted(min(cut, len(bars)) for cut in cuts), len(bars)]
    parts = [feature.update(bars.take(np.arange(a, b))) for a, b in itertools.pairwise(edges)]
    _equal((np.concatenate([v for v, _ in parts]), np.concatenate([m for _, m in parts])), whole)


@every_feature
@_LAW
@given(bars=_cases(), cut=st.integers(0, 80))
def test_restored_state_continues_and_snapshots_do_not_change(
    cls: type[BarFeature], bars: BarColumns, cut: int
) -> None:
    feature, twin = _make(cls), _make(cls)
    feature.update(bars.take(slice(0, cut)))
    snapshot = feature.state.snapshot(_N_CODES)
    copy = repr(snapshot)
    rest = bars.take(slice(cut, None))
    expected = feature.update(rest)
    assert repr(snapshot) == copy
    twin.state.restore(snapshot)
    _equal(twin.update(rest), expected)


@every_feature
@_LAW
@given(bars=_cases(), cut=st.integers(0, 80))
def test_later_bars_do_not_change_earlier_values(cls: type[BarFeature], bars: BarColumns, cut: int) -> None:
    values, missing = _make(cls).update(bars)
    _equal(_make(cls).update(bars.take(slice(0, cut))), (values[:cut], missing[:cut]))


@every_feature
@_LAW
@given(bars=_cases())
def test_instruments_do_not_affect_each_other(cls: type[BarFeature], bars: BarColumns) -> None:
    values, missing = _make(cls).update(bars)
    for code in range(_N_CODES):
        own = bars.code == code
        _equal(_make(cls).update(bars.take(own)), (values[own], missing[own]))


@every_feature
@_LAW
@given(bars=_cases())
def test_missing_is_ok_exactly_where_the_value_is_finite(cls: type[BarFeature], bars: BarColumns) -> None:
    feature = _make(cls)
    values, missing = feature.update(bars)
    assert values.shape == missing.shape == (len(bars), len(cls.specs(feature.config)))
    assert (values.dtype, missing.dtype) == (np.float64, np.uint8)
    np.testing.assert_array_equal(missing == Missing.OK, np.isfinite(values))
    assert np.isnan(values[missing != Missing.OK]).all()
    assert set(np.unique(missing)) <= {Missing.OK, Missing.WARMING_UP, Missing.DEGENERATE, Missing.NOT_FINITE}


@every_feature
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf])
def test_input_without_content_gives_no_value(cls: type[BarFeature], value: float) -> None:
    n = 50
    bars = _bars(np.zeros(n, np.int32), np.full((n, 4), value), np.full(n, value))
    feature = _make(cls)
    values, _ = feature.update(bars)
    for spec, column in zip(cls.specs(feature.config), values.T, strict=True):
        nothing = np.isnan(column)
        if value == 0.0 and spec.unit in _ABSOLUTE:
            nothing |= column == 0.0
        assert nothing.all(), spec.name


@every_feature
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0, 5e-324, 1e308, -1e308])
def test_one_hostile_bar_is_forgotten(cls: type[BarFeature], value: float) -> None:
    rng = np.random.default_rng(13)
    n = 4000
    close = 100.0 + np.cumsum(rng.normal(0.0, 0.1, n))
    prices = np.stack([close, close + rng.random(n), close - rng.random(n), close], axis=1)
    volume = rng.random(n) + 1.0
    hostile_prices, hostile_volume = prices.copy(), volume.copy()
    hostile_prices[30], hostile_volume[30] = value, value
    code = np.zeros(n, np.int32)
    values, missing = _make(cls).update(_bars(code, hostile_prices, hostile_volume))
    expected, _ = _make(cls).update(_bars(code, prices, volume))
    assert (missing[-100:] == Missing.OK).all()
    np.testing.assert_allclose(values[-100:], expected[-100:], rtol=1e-9, atol=1e-9)


@every_feature
def test_first_value_comes_exactly_at_the_stated_warm_up(cls: type[BarFeature]) -> None:
    rng = np.random.default_rng(11)
    n = 2000
    close = 100.0 + np.cumsum(rng.normal(0.0, 1.0, n))
    high, low = close + rng.random(n), close - rng.random(n)
    bars = _bars(np.zeros(n, np.int32), np.stack([close, high, low, close], axis=1), rng.random(n) + 1.0)
    for feature in (_make(cls), cls(cls.Config())):
        feature.state.ensure(1)
        _, missing = feature.update(bars)
        for spec, column in zip(cls.specs(feature.config), missing.T, strict=True):
            assert spec.warm_up < n
            assert (column[: spec.warm_up - 1] == Missing.WARMING_UP).all()
            assert (column[spec.warm_up - 1 :] == Missing.OK).all()


@every_feature
def test_state_keeps_its_size_and_reset_makes_an_instrument_new(cls: type[BarFeature]) -> None:
    rng = np.random.default_rng(12)
    n = 3000
    close = 100.0 + np.cumsum(rng.normal(0.0, 0.1, n))
    code = rng.integers(0, _N_CODES, n).astype(np.int32)
    bars = _bars(code, np.stack([close] * 4, axis=1), rng.random(n) + 1.0)
    feature = _make(cls)
    size = feature.state.nbytes
    first = feature.update(bars)
    assert feature.state.nbytes == size
    feature.state.reset(np.arange(_N_CODES, dtype=np.int32))
    _equal(feature.update(bars), first)


@every_feature
def test_no_bars_give_no_rows_and_change_nothing(cls: type[BarFeature]) -> None:
    feature = _make(cls)
    before = feature.state.snapshot(_N_CODES)
    values, missing = feature.update(_bars(np.zeros(0, np.int32), np.zeros((0, 4)), np.zeros(0)))
    assert values.shape == missing.shape == (0, len(cls.specs(feature.config)))
    assert feature.state.snapshot(_N_CODES) == before
