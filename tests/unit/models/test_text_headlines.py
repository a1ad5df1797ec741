"""Accuracy on headlines labelled by hand, beside plain VADER's.

`tests/data/headlines.csv` was written and labelled before any of it was scored: what a headline means for a holder of
the shares it is about, or for the market. A fixed hash splits it. Words were added to the lexicon after reading the
errors of one half; the other half was read by nobody since and says how well the lexicon does on what it was not
made for.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from zlib import crc32

import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from models.text.sentiment import FinanceSentiment

_FILE = Path(__file__).parents[2] / "data" / "headlines.csv"
_THRESHOLD = 0.05
"""VADER's own bound between neutral and not."""


@pytest.fixture(scope="module")
def halves() -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {"read": [], "held out": []}
    with _FILE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            half = "held out" if crc32(row["headline"].encode()) % 2 else "read"
            found[half].append((row["headline"], int(row["label"])))
    return found


def _label(score: float) -> int:
    return int(score > _THRESHOLD) - int(score < -_THRESHOLD)


def _accuracies(rows: list[tuple[str, int]]) -> tuple[float, float]:
    ours, plain = FinanceSentiment(), SentimentIntensityAnalyzer()
    right = sum(_label(ours.score(text)) == label for text, label in rows)
    plain_right = sum(_label(plain.polarity_scores(text)["compound"]) == label for text, label in rows)
    return right / len(rows), plain_right / len(rows)


def test_headlines_are_many_distinct_and_of_every_label(halves: dict[str, list[tuple[str, int]]]) -> None:
    rows = [row for half in halves.values() for row in half]
    assert len({text for text, _ in rows}) == len(rows) >= 160
    assert min(len(half) for half in halves.values()) >= 80
    assert min(Counter(label for _, label in rows).values()) >= 40


def test_accuracy_on_the_held_out_half_is_better_than_plain_vader(
    halves: dict[str, list[tuple[str, int]]], record_property: pytest.RecordProperty
) -> None:
    """Measured: 0.67 against 0.57 of 83; on the half that was read 0.98 against 0.54 of 91."""
    for half, rows in halves.items():
        record_property(half, _accuracies(rows))
    ours, plain = _accuracies(halves["held out"])
    assert ours >= 0.66
    assert ours >= plain + 0.1


def test_accuracy_on_all_is_far_better_than_plain_vader(halves: dict[str, list[tuple[str, int]]]) -> None:
    """Measured: 0.83 against 0.55 of 174, flattered by the half that was read."""
    ours, plain = _accuracies([row for half in halves.values() for row in half])
    assert ours >= 0.8
    assert ours >= plain + 0.25


def test_sign_is_seldom_the_opposite_of_the_label(halves: dict[str, list[tuple[str, int]]]) -> None:
    model = FinanceSentiment()
    opposite = [text for text, label in halves["held out"] if _label(model.score(text)) * label < 0]
    assert len(opposite) <= 0.08 * len(halves["held out"])
