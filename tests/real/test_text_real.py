"""Real headlines and tweets score as the reference implementation scores them with the same lexicon."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import re
from pathlib import Path

import msgspec
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from models.text.overlay import EMOJI
from models.text.phrases import join_phrases
from models.text.rules import ValenceRules
from models.text.sentiment import FinanceSentiment, finance_lexicon

pytestmark = pytest.mark.real

_NOISE = re.compile(r"https?://\S+|www\.\S+|[$@][A-Za-z_]\w*|&\w+;")
_HYPHEN = re.compile(r"(?<=\w)[-\u2010-\u2015/](?=[A-Za-z])")


class _Tweet(msgspec.Struct):
    tokens: list[str]


@pytest.fixture(scope="module")
def texts(real_data: Path) -> list[str]:
    """Return the distinct Reuters headlines and stocknet tweets, and posts with emojis made of them."""
    with (real_data / "reuters" / "news_2014_2015.csv").open(encoding="utf-8") as file:
        headlines = sorted({row[3] for row in csv.reader(file)})
    lines = gzip.decompress((real_data / "stocknet" / "tweets.jsonl.gz").read_bytes()).splitlines()
    tweets = sorted({" ".join(tweet.tokens) for tweet in map(msgspec.json.Decoder(_Tweet).decode, lines)})
    assert len(headlines) > 4_000
    assert len(tweets) > 30_000
    emojis = itertools.cycle(("\N{ROCKET}", "\N{POUTING FACE}!", "\N{BEAR FACE}\N{OX}"))
    return headlines + tweets + [f"{text} {emoji}" for text, emoji in zip(headlines, emojis, strict=False)]


def _reference(lexicon: dict[str, float]) -> SentimentIntensityAnalyzer:
    analyzer = SentimentIntensityAnalyzer()
    analyzer.lexicon = lexicon
    analyzer.emojis = {**analyzer.emojis, **EMOJI}
    return analyzer


def test_rules_over_everyday_words_equal_the_reference_on_real_texts(texts: list[str]) -> None:
    reference = _reference(SentimentIntensityAnalyzer().lexicon)
    rules = ValenceRules(reference.lexicon, reference.emojis)
    different = []
    for text in texts:
        words = rules.describe_emojis(text.split())
        score = rules.score(words, [word.lower() for word in words])
        if score != reference.polarity_scores(text)["compound"]:
            different.append(text)
    assert different == []


def test_finance_sentiment_equals_the_reference_on_real_texts(texts: list[str]) -> None:
    model = FinanceSentiment()
    reference = _reference(finance_lexicon(SentimentIntensityAnalyzer().lexicon))
    different, scored = [], 0
    for text in texts:
        words = _HYPHEN.sub(" ", _NOISE.sub(" ", text.replace("\u2019", "'"))).split()
        join_phrases(words, [word.lower() for word in words])
        score = model.score(text)
        if math.isnan(score):
            continue
        scored += score != 0.0
        if score != reference.polarity_scores(" ".join(words))["compound"]:
            different.append(text)
    assert different == []
    assert scored > len(texts) / 3
