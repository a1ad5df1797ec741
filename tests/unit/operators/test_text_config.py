"""Parameters of text features: weights on the simplex, bounds, spelling."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from operators.text.config import DampingConfig, NewsConfig, SocialConfig


@pytest.mark.parametrize("weights", [{}, {"wire": 1.0}, {"wire": 0.6, "blog": 0.1, "other": 0.3}, {"a": 0.1, "b": 0.9}])
def test_weights_that_sum_to_one_are_taken(weights: dict[str, float]) -> None:
    assert NewsConfig(sources=weights).weights == (weights or {"other": 1.0})
    assert SocialConfig(platforms=weights).weights == (weights or {"other": 1.0})


@pytest.mark.parametrize("weights", [{"wire": 0.9}, {"wire": 0.5, "blog": 0.6}, {"a": 1.0, "b": 1e-6}])
def test_weights_that_do_not_sum_to_one_are_refused_with_their_sum(weights: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=r"sources\n.*expected weights that sum to 1, was"):
        NewsConfig(sources=weights)
    with pytest.raises(ValidationError, match=r"platforms\n.*expected weights that sum to 1, was"):
        SocialConfig(platforms=weights)


@pytest.mark.parametrize(
    "weights", [{"a": 0.0, "b": 1.0}, {"a": -0.5, "b": 1.5}, {"a": float("nan")}, {"": 1.0}, {"a": "1"}]
)
def test_weight_out_of_range_is_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        NewsConfig.model_validate({"sources": weights}, strict=True)


@pytest.mark.parametrize(
    "content",
    [
        {"window": "59s"},
        {"author_share": 0.0},
        {"copies": 0},
        {"ambiguous": ["text"]},
        {"ambiguous": ["$T"]},
        {"retweet_factor": 1.1},
        {"copys": 1},
    ],
)
def test_damping_out_of_bounds_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DampingConfig.model_validate(content)


def test_content_reads_back_as_the_same_configuration() -> None:
    for config in (NewsConfig(sources={"wire": 1.0}), SocialConfig(platforms={"x": 0.5, "other": 0.5})):
        assert type(config).model_validate(config.content()) == config
