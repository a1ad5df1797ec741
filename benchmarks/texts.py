"""Seeded headlines and posts: mostly distinct, as real ones are, with words that a finance lexicon knows."""

from __future__ import annotations

import numpy as np

__all__ = ["headlines", "posts"]

_COMPANIES = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel", "Juniper", "Larch", "Maple", "Oak")
_KINDS = ("Energy", "Health", "Logistics", "Materials", "Mobility", "Networks", "Robotics", "Semiconductor")
_EVENTS = (
    "beats earnings estimates by {n} cents",
    "misses revenue estimates by {n} percent",
    "raises guidance for the year to {n} million",
    "cuts its dividend by {n} percent",
    "shares plunge {n} percent after downgrade",
    "surges {n} percent on strong demand",
    "files for bankruptcy protection owing {n} million",
    "wins a contract worth {n} million",
    "faces a lawsuit over {n} faulty deliveries",
    "announces a buyback of {n} million shares",
    "names a new chief financial officer, {n} roles affected",
    "reports record profit of {n} million, outlook upgraded",
    "recalls {n} thousand units over safety fears",
    "settles with the regulator for {n} million",
)
_OPINIONS = (
    "this is a great quarter, buying {n} more!!!",
    "terrible guidance... sold all {n} shares :(",
    "not bad at all, up {n}% since monday",
    "huge fraud risk here, stay away from anything above {n}",
    "bullish. love the chart, target {n}",
    "bearish divergence on the {n} minute chart",
    "who else is still holding {n} of these?",
    "VERY strong volume today, {n}x the average :)",
    "margins are collapsing, short with a stop at {n}",
    "I don't like this management, but {n} is cheap",
)


def _texts(rng: np.random.Generator, n: int, subjects: list[str], endings: tuple[str, ...]) -> list[str]:
    subject = rng.integers(len(subjects), size=n).tolist()
    ending = rng.integers(len(endings), size=n).tolist()
    number = rng.integers(1, 400, size=n).tolist()
    return [f"{subjects[s]} {endings[e].format(n=value)}" for s, e, value in zip(subject, ending, number, strict=True)]


def headlines(rng: np.random.Generator, n: int) -> list[str]:
    """Return `n` headlines."""
    return _texts(rng, n, [f"{company} {kind}" for company in _COMPANIES for kind in _KINDS], _EVENTS)


def posts(rng: np.random.Generator, n: int) -> list[str]:
    """Return `n` posts."""
    return _texts(rng, n, [f"${company.upper()[:4]}" for company in _COMPANIES], _OPINIONS)
