"""Prices, deltas and implied volatilities of options against published values, scipy and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from models.options import MAX_VOLATILITY, black_scholes_delta, black_scholes_price, implied_volatility


def oracle(spot: float, strike: float, years: float, volatility: float, is_call: bool, rate: float) -> float:
    """Return the price by the formula of Black and Scholes as it is printed."""
    d1 = (math.log(spot / strike) + (rate + volatility**2 / 2) * years) / (volatility * math.sqrt(years))
    d2 = d1 - volatility * math.sqrt(years)
    if is_call:
        return spot * norm.cdf(d1) - strike * math.exp(-rate * years) * norm.cdf(d2)
    return strike * math.exp(-rate * years) * norm.cdf(-d2) - spot * norm.cdf(-d1)


def invert(price: float, spot: float, strike: float, years: float, is_call: bool, rate: float = 0.0) -> float:
    arrays = (np.array([value]) for value in (price, spot, strike, years))
    return float(implied_volatility(*arrays, np.array([is_call]), rate)[0])


def test_prices_are_those_of_hull():
    """Hull, Options, Futures and Other Derivatives, example 15.6: S = 42, K = 40, r = 10 %, half a year, 20 %."""
    assert black_scholes_price(42, 40, 0.5, 0.2, True, 0.1) == pytest.approx(4.76, abs=0.005)
    assert black_scholes_price(42, 40, 0.5, 0.2, False, 0.1) == pytest.approx(0.81, abs=0.005)
    assert black_scholes_delta(49, 50, 0.3846, 0.2, True, 0.05) == pytest.approx(0.522, abs=0.0005)  # example 19.1


OPTIONS = {
    "spot": st.floats(1, 1000), "moneyness": st.floats(-0.7, 0.7), "years": st.floats(0.003, 3),
    "volatility": st.floats(0.02, 4), "is_call": st.booleans(), "rate": st.floats(-0.05, 0.1),
}  # fmt: skip


@settings(max_examples=200)
@given(**OPTIONS)
def test_price_and_delta_equal_scipy(spot, moneyness, years, volatility, is_call, rate):
    strike = spot * math.exp(moneyness)
    expected = oracle(spot, strike, years, volatility, is_call, rate)
    price = black_scholes_price(spot, strike, years, volatility, is_call, rate)
    assert price == pytest.approx(expected, abs=1e-11 * spot)
    step = 1e-5 * spot
    up, down = (oracle(spot + sign * step, strike, years, volatility, is_call, rate) for sign in (1, -1))
    delta = black_scholes_delta(spot, strike, years, volatility, is_call, rate)
    assert delta == pytest.approx((up - down) / (2 * step), abs=1e-4)


@settings(max_examples=200)
@given(**OPTIONS)
def test_implied_volatility_is_the_root_that_scipy_finds(spot, moneyness, years, volatility, is_call, rate):
    strike = spot * math.exp(moneyness)
    price = oracle(spot, strike, years, volatility, is_call, rate)
    found = invert(price, spot, strike, years, is_call, rate)
    intrinsic = max(0.0, (1 if is_call else -1) * (spot - strike * math.exp(-rate * years)))
    if price - intrinsic < 1e-6 * spot:
        assert math.isnan(found) or black_scholes_price(spot, strike, years, found, is_call, rate) == pytest.approx(
            price, abs=1e-11 * spot
        )
        return
    root = brentq(lambda v: oracle(spot, strike, years, v, is_call, rate) - price, 1e-4, 10.0, xtol=1e-13)
    assert found == pytest.approx(root, rel=1e-7)
    assert found == pytest.approx(volatility, rel=1e-7)


@pytest.mark.parametrize(
    ("price", "spot", "strike", "years"),
    [
        (0.0, 100, 100, 1), (-1.0, 100, 100, 1), (math.nan, 100, 100, 1), (math.inf, 100, 100, 1), (5.0, 0, 100, 1),
        (5.0, 100, -3, 1), (5.0, 100, 100, 0), (5.0, 100, 100, -1), (20.0, 120, 100, 1), (19.0, 120, 100, 1),
        (100.0, 100, 100, 1), (101.0, 100, 100, 1), (1e308, 1e308, 1e308, 1), (5e-324, 5e-324, 5e-324, 1),
        (99.999, 100, 100, 0.01), (1e-13, 100, 100, 1), (5.0, 1e308, 1e-308, 1), (5.0, 100, 100, 1e308),
    ],
)  # fmt: skip
def test_there_is_no_volatility_where_no_price_has_one(price, spot, strike, years):
    assert math.isnan(invert(price, float(spot), float(strike), float(years), True))


def test_volatility_ends_at_its_maximum():
    for volatility, has_one in ((MAX_VOLATILITY - 1e-3, True), (MAX_VOLATILITY + 1e-3, False)):
        price = float(black_scholes_price(100.0, 90.0, 0.1, volatility, False))
        assert math.isfinite(invert(price, 100.0, 90.0, 0.1, False)) == has_one


def test_volatility_does_not_depend_on_the_neighbours():
    rng = np.random.default_rng(1)
    n = 257
    spot, strike, years = rng.uniform(50, 150, n), rng.uniform(50, 150, n), rng.uniform(0.01, 2, n)
    is_call = rng.random(n) < 0.5
    price = black_scholes_price(spot, strike, years, rng.uniform(0.05, 2, n), is_call, 0.03)
    price[::7] = np.nan
    arguments = (price, spot, strike, years, is_call)
    whole = implied_volatility(*arguments, 0.03)
    deltas = black_scholes_delta(spot, strike, years, 0.2, is_call)
    for cut in (1, 3, 8, 100):
        parts = [implied_volatility(*(a[i : i + cut] for a in arguments), 0.03) for i in range(0, n, cut)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        parts = [
            black_scholes_delta(spot[i : i + cut], strike[i : i + cut], years[i : i + cut], 0.2, is_call[i : i + cut])
            for i in range(0, n, cut)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), deltas)
