"""Tone of posts, how many there are against what is usual, and how broad the crowd is."""

from __future__ import annotations

from typing import ClassVar

from models.specialists.inputs import Bounded, ModelInput, Product
from models.specialists.online import OnlineSpecialist, features_of

__all__ = ["SocialSpecialist"]

_TONE = Bounded("social_sentiment", scale=0.5)
INPUTS: tuple[ModelInput, ...] = (
    _TONE,
    Bounded("social_intensity", scale=1.0, log=True),
    Bounded("social_buzz", scale=2.0),
    Bounded("social_novelty", centre=0.5, scale=0.5),
    Product("tone_by_intensity", _TONE, Bounded("social_intensity", centre=-1.0, scale=2.0, log=True)),
    Bounded("social_damping", centre=0.5, scale=0.5),
    Product("tone_by_damping", _TONE, Bounded("social_damping", scale=0.5)),
    Product("tone_by_buzz", _TONE, Bounded("social_buzz", scale=2.0)),
)
"""Tone alone, its backing, and tone by its backing. Bots and bursts are damped before, in the features; how much was
damped says whether a crowd or a machine speaks."""


class SocialSpecialist(OnlineSpecialist):
    """What the crowd says. No answer for an instrument without posts in memory.

    Examples
    --------
    >>> SocialSpecialist.required
    ('social_sentiment',)
    """

    name: ClassVar[str] = "social"
    inputs: ClassVar[tuple[ModelInput, ...]] = INPUTS
    required: ClassVar[tuple[str, ...]] = ("social_sentiment",)
    needs: ClassVar[tuple[str, ...]] = features_of(INPUTS)
