"""The base of configuration: frozen, strict about keys, the same in and out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.config import ComponentConfig, Duration


class Window(ComponentConfig):
    length: Duration
    """how long it is"""
    share: float = 0.5


def test_config_unknown_key_is_refused():
    with pytest.raises(ValidationError, match="lenght"):
        Window.model_validate({"length": "1s", "lenght": "2s"})


def test_config_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Window(length=timedelta(seconds=1)).share = 0.1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_config_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValidationError, match="finite"):
        Window(length=timedelta(seconds=1), share=value)


@pytest.mark.parametrize("value", [5, 5.0, None, True, ["1s"]])
def test_duration_bare_number_is_refused(value):
    with pytest.raises(ValidationError, match="expected a duration as text such as `1m`"):
        Window.model_validate({"length": value})


@pytest.mark.parametrize("value", ["1e20d", "1e400s", "99999999999d", "1ns"])
def test_duration_that_cannot_be_held_is_refused(value):
    with pytest.raises(ValidationError, match="length"):
        Window.model_validate({"length": value})


@given(microseconds=st.integers(0, 10**15), share=st.floats(0, 1))
def test_config_content_read_again_is_the_same(microseconds, share):
    window = Window(length=timedelta(microseconds=microseconds), share=share)
    again = Window.model_validate(window.content())
    assert again == window
    assert again.content_hash() == window.content_hash()


def test_config_hash_tells_values_apart():
    hashes = {Window(length=timedelta(seconds=n), share=share).content_hash() for n in (1, 2) for share in (0.1, 0.2)}
    assert len(hashes) == 4


def test_duration_pattern_of_the_schema_admits_what_is_read():
    import re

    schema = Window.model_json_schema()["properties"]["length"]
    for text in ("1s", "1.5m", "-30m", "250ms", "1000ns"):
        assert re.search(schema["pattern"], text)
        Window.model_validate({"length": text})
    for text in ("5", "1..5s", "s", "1e3s"):
        assert not re.search(schema["pattern"], text)


def test_docstring_of_a_key_is_its_description():
    assert Window.model_json_schema()["properties"]["length"]["description"] == "how long it is"
