"""Content words, keys and sketches of texts."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.text.fingerprint import NO_SHINGLE, SKETCH, content_words, fingerprint, fingerprints
from operators.text.stories import _jaccard

_SAME = [
    ("Acme profit beats", "UPDATE 1-Acme profit beats"),
    ("Acme profit beats", "CORRECTED-UPDATE 12-ACME PROFIT BEATS"),
    ("Acme profit beats", "BREAKING: Acme profit beats!"),
    ("Acme profit beats", "RPT-EXCLUSIVE-Acme profit beats https://a.b/c?d=e"),
    ("great quarter $ACME", "RT @someone: Great quarter, $ACME @other"),
    ("great quarter $ACME", "rt AT_USER great quarter $acme"),
    ("great quarter", "great \u2014 quarter\u2026"),
]
_DIFFERENT = [
    ("Acme raises forecast", "Acme cuts forecast"),
    ("Acme Q1 EPS 0.53", "Acme Q1 EPS 0.49"),
    ("updates on Acme", "on Acme"),
    ("https://a.b/c", "https://a.b/d"),
    ("", "a"),
    ("株価が急落", "株価が急騰"),
]


@pytest.mark.parametrize(("first", "second"), _SAME)
def test_texts_that_say_the_same_have_one_fingerprint(first: str, second: str) -> None:
    assert content_words(first) == content_words(second)
    assert fingerprint(first) == fingerprint(second)


@pytest.mark.parametrize(("first", "second"), _DIFFERENT)
def test_texts_that_say_another_thing_have_another_key(first: str, second: str) -> None:
    assert fingerprint(first)[0] != fingerprint(second)[0]


def test_key_is_the_published_digest() -> None:
    digest = hashlib.blake2b(b"acme s profit beats", digest_size=8).digest()
    assert fingerprint("UPDATE 2-Acme's profit beats")[0] == int.from_bytes(digest, "little")
    assert fingerprint("Acme profit beats")[0] == 15_929_326_713_332_937_459


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_fingerprint_of_any_text_is_a_sorted_sketch(text: str) -> None:
    key, sketch = fingerprint(text)
    values = np.frombuffer(sketch, dtype=np.uint32)
    assert 0 <= key < 2**64
    assert len(values) == SKETCH
    assert (np.diff(values.astype(np.int64))[values[1:] != NO_SHINGLE] > 0).all()


def test_fingerprints_of_none_and_of_nothing_are_well_formed() -> None:
    keys, sketches = fingerprints([None, ""])
    assert keys[0] == keys[1]
    assert (sketches == NO_SHINGLE).all()
    assert fingerprints([])[1].shape == (0, SKETCH)


def _exact(first: str, second: str) -> float:
    sets = [set(words) | set(pairwise(words)) for words in (first.split(), second.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if sets[0] | sets[1] else 1.0


def _similarity(first: str, second: str) -> float:
    _, sketches = fingerprints([first, second])
    return float(_jaccard(sketches[0], sketches[1]))


_VOCABULARY = ["acme", "beats", "misses", "profit", "loss", "q1", "q2", "ceo", "quits", "hires", "sues"]
_WORDS = st.lists(st.sampled_from(_VOCABULARY), max_size=16)


@given(_WORDS, _WORDS)
@settings(max_examples=200, deadline=None)
def test_similarity_of_short_texts_is_exact(first: list[str], second: list[str]) -> None:
    assert _similarity(" ".join(first), " ".join(second)) == _exact(" ".join(first), " ".join(second))


def test_similarity_of_long_texts_is_estimated_within_its_error() -> None:
    rng = np.random.default_rng(7)
    errors = []
    for _ in range(300):
        first = [f"w{n}" for n in rng.integers(0, 400, 60)]
        second = [word if rng.random() < 0.8 else f"v{rng.integers(400)}" for word in first]
        errors.append(_similarity(" ".join(first), " ".join(second)) - _exact(" ".join(first), " ".join(second)))
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.1
