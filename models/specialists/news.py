"""Tone of the news, how much of it there is, and how new."""

from __future__ import annotations

from typing import ClassVar

from models.specialists.inputs import Bounded, ModelInput, Product
from models.specialists.online import OnlineSpecialist, features_of

__all__ = ["NewsSpecialist"]

_TONE = Bounded("news_sentiment", scale=0.5)
INPUTS: tuple[ModelInput, ...] = (
    _TONE,
    Bounded("news_intensity", scale=1.0, log=True),
    Bounded("news_buzz", scale=2.0),
    Bounded("news_novelty", centre=0.5, scale=0.5),
    Product("tone_by_intensity", _TONE, Bounded("news_intensity", centre=-1.0, scale=2.0, log=True)),
    Product("tone_by_novelty", _TONE, Bounded("news_novelty", centre=0.0, scale=0.5)),
    Product("tone_by_buzz", _TONE, Bounded("news_buzz", scale=2.0)),
)
"""Tone alone, its backing, and tone by its backing: repeated old news moves prices less than a new story."""


class NewsSpecialist(OnlineSpecialist):
    """What the news says. No answer for an instrument without news in memory.

    Examples
    --------
    >>> NewsSpecialist.required
    ('news_sentiment',)
    """

    name: ClassVar[str] = "news"
    inputs: ClassVar[tuple[ModelInput, ...]] = INPUTS
    required: ClassVar[tuple[str, ...]] = ("news_sentiment",)
    needs: ClassVar[tuple[str, ...]] = features_of(INPUTS)
