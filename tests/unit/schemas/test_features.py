"""Feature sets: an order, names that are distinct, and a hash of what they mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.features import FeatureSet, FeatureSpec, content_hash

SPEC = FeatureSpec("x", "1", "x", "definition", ("trades",), {"window": 3}, 2)
OTHER = replace(SPEC, name="y")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(content=st.dictionaries(st.text(max_size=4), JSON, max_size=5))
def test_hash_does_not_depend_on_the_order_of_keys(content):
    assert content_hash(dict(reversed(content.items()))) == content_hash(content)


def test_hash_is_sixteen_hexadecimal_digits_and_fixed():
    """Stored rows carry it: it must be the same in every process and release."""
    assert content_hash({"window": 20}) == "10310729ede8d5d8"


def test_hash_of_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        content_hash({"x": float("nan")})


@pytest.mark.parametrize(
    "change", [{"name": "z"}, {"unit": "s"}, {"formula": "2x"}, {"parameters": {"window": 4}}, {"warm_up": 3}]
)
def test_feature_set_hash_follows_what_the_values_depend_on(change):
    assert FeatureSet((replace(SPEC, **change), OTHER)).hash != FeatureSet((SPEC, OTHER)).hash


def test_feature_set_hash_follows_the_order():
    assert FeatureSet((SPEC, OTHER)).hash != FeatureSet((OTHER, SPEC)).hash


def test_feature_set_names_are_in_order():
    assert FeatureSet((OTHER, SPEC)).names == ("y", "x")


def test_feature_set_repeated_name_is_refused():
    with pytest.raises(ValueError, match="expected distinct feature names"):
        FeatureSet((SPEC, SPEC))
