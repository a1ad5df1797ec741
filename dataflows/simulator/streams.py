"""Random streams: one for each purpose, so that what one draws changes no other."""

from __future__ import annotations

from typing import Final

import numpy as np

__all__ = ["PURPOSES", "random_stream"]

PURPOSES: Final = (
    "instruments",
    "regimes",
    "returns",
    "jumps",
    "pressure",
    "pairs",
    "books",
    "news",
    "social",
    "earnings",
    "options",
    "faults",
    "latency.books",
    "latency.earnings",
    "latency.news",
    "latency.options",
    "latency.quotes",
    "latency.social",
    "latency.trades",
)
"""Names of the streams. The place in the list is part of the seed: add at the end."""


def random_stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the stream of a purpose.

    Examples
    --------
    >>> random_stream(7, "news").integers(100) == random_stream(7, "news").integers(100)
    np.True_
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose),))))
