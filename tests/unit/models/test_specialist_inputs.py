"""Inputs of specialists: bounded, and missing where their feature is."""

from __future__ import annotations

import numpy as np
import pytest

from models.specialists.inputs import Bounded, Product

HOSTILE = np.array([0.0, -0.0, -1.0, 1e308, -1e308, 5e-324, np.nan, np.inf, -np.inf])


@pytest.mark.parametrize(
    "item", [Bounded("x", 3.0, 0.5), Bounded("x", 1e300, 1e-300), Bounded("x", -1.0, 2.0, log=True)]
)
def test_bounded_hostile_numbers_are_within_one_or_missing(item):
    found = item.compute({"x": HOSTILE})
    usable = np.isfinite(HOSTILE) & ((HOSTILE > 0) | (not item.log))
    assert (np.isfinite(found) == usable).all()
    assert (np.abs(found[usable]) <= 1).all()


def test_bounded_value_is_the_hyperbolic_tangent_of_the_scaled_logarithm():
    found = Bounded("x", centre=1.0, scale=2.0, log=True).compute({"x": np.array([2.0, np.e])})
    np.testing.assert_allclose(found, np.tanh((np.log([2.0, np.e]) - 1.0) / 2.0))


def test_product_is_missing_where_a_factor_is():
    item = Product("both", Bounded("x"), Bounded("y"))
    columns = {"x": np.array([1.0, np.nan, 1.0]), "y": np.array([2.0, 2.0, np.inf])}
    assert np.isfinite(item.compute(columns)).tolist() == [True, False, False]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_bounded_scale_that_is_not_above_zero_is_refused(scale):
    with pytest.raises(ValueError, match="input `x`: expected a `scale` above 0"):
        Bounded("x", scale=scale)


def test_content_tells_inputs_apart():
    items = [Bounded("x"), Bounded("x", 1.0), Bounded("x", 0.0, 2.0), Bounded("x", log=True), Bounded("y")]
    assert len({str(item.content()) for item in items}) == len(items)
