"""Text features equal plain Python that reads the definitions: stories, damping, buzz, and the group as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.text.sentiment import FinanceSentiment
from operators.book_features import NAMES, BookFeatureColumns
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs
from operators.text.config import NewsConfig, SocialConfig
from operators.text.group import TextGroup
from schemas.batches import make_batch
from schemas.enums import Missing

_MINUTE = 60 * 10**9
_CODES = 2
_TICKERS = ("ACME", "CAT")
_LAW = settings(max_examples=120, deadline=None)
_TEXTS = (
    "profit beats forecast", "profit beats street forecast", "profit misses forecast", "shares plunge", "shares soar",
    "RT @a shares plunge", "$CAT soars", "$CAT $A $B $C $ACME up", "cat", "", "board meets on monday",
)  # fmt: skip


@dataclass(frozen=True)
class _Item:
    ts: int
    code: int
    text: str
    source: str
    author: str


@st.composite
def _items(draw: st.DrawFn) -> list[_Item]:
    rows = st.tuples(
        st.integers(0, 40) | st.integers(0, 4), st.integers(0, _CODES - 1), st.sampled_from(_TEXTS),
        st.sampled_from("abc"), st.sampled_from("xyz"),
    )  # fmt: skip
    drawn = sorted(draw(st.lists(rows, max_size=40)), key=lambda row: row[0])
    return [_Item(ts * _MINUTE // 4, *rest) for ts, *rest in drawn]


_DECISIONS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, _CODES - 1)), max_size=12).map(
    lambda rows: [(ts * _MINUTE // 4, code) for ts, code in sorted(rows)]
)


def _no_book() -> BookFeatureColumns:
    none = np.empty((0, len(NAMES)))
    return BookFeatureColumns(np.empty(0, np.int32), np.empty(0, np.int64), none, none.astype(np.uint8))


def _run(topic: str, config: Any, items: list[_Item], decisions: list[tuple[int, int]]) -> tuple[Any, Any, TextGroup]:
    group = TextGroup(topic, config)
    for state in group.states().values():
        state.ensure(_CODES)
    ident, text, origin = {"news": ("news_id", "headline", "source"), "social": ("post_id", "text", "platform")}[topic]
    columns: dict[str, Any] = {
        "instrument_id": [_TICKERS[item.code] for item in items],
        "ts_recv": np.array([item.ts for item in items], dtype=np.int64),
        ident: [str(row) for row in range(len(items))],
        text: [item.text for item in items],
        origin: [item.source for item in items],
    }
    if topic == "social":
        columns["author"] = [item.author for item in items]
    codes = np.array([item.code for item in items], dtype=np.int32)
    batch = make_batch(topic, columns, len(items))
    at = np.array(decisions, dtype=np.int64).reshape(-1, 2)
    code = at[:, 1].astype(np.int32)
    frame = FrameInputs({topic: batch}, {topic: codes}, 2**62, _no_book(), Refusals())
    values, missing = group.update(frame, DecisionColumns(code, np.zeros_like(code), at[:, 0].copy()))
    return values, missing, group


def _words(text: str) -> list[str]:
    return text.lower().removeprefix("rt @a ").replace("$", "").split()


def _shingles(text: str) -> frozenset[Any]:
    words = _words(text)
    return frozenset(words) | frozenset(pairwise(words))


def _novelty(
    items: list[_Item], similarity: float, window: int, factor: float, half_life: int
) -> tuple[list[float], list[int]]:
    """Return the novelty of each item, and which item leads its story."""
    stories: dict[int, list[list[int]]] = {code: [] for code in range(_CODES)}
    novelty, leaders = [], []
    for row, item in enumerate(items):
        best, best_similarity = None, 0.0
        for story in stories[item.code]:
            first, second = _shingles(item.text), _shingles(items[story[0]].text)
            found = len(first & second) / len(first | second) if first | second else 1.0
            if item.ts - items[story[-1]].ts <= window and found >= similarity and found > best_similarity:
                best, best_similarity = story, found
        if best is None:
            best = []
            stories[item.code].append(best)
        novelty.append(factor ** sum(2.0 ** (-(item.ts - items[j].ts) / half_life) for j in best))
        best.append(row)
        leaders.append(best[0])
    return novelty, leaders


def _burst(items: list[_Item], leaders: list[int], config: SocialConfig) -> list[float]:
    rule = config.damping
    window = int(rule.window.total_seconds() * 1e9)
    found = []
    for row, item in enumerate(items):
        earlier = [j for j in range(row + 1) if items[j].code == item.code]
        near = [j for j in earlier if j == row or item.ts - items[j].ts < window]
        own = [j for j in near if items[j].author == item.author]
        minute = [j for j in own if j == row or item.ts - items[j].ts < _MINUTE]
        words = _words(items[leaders[row]].text)
        copies = [j for j in near if _words(items[leaders[j]].text) == words]
        rate = sum(math.exp(-(item.ts - items[j].ts) / _MINUTE) for j in earlier)
        damping = min(1.0, rule.copies / len(copies)) * min(1.0, rule.author_rate / len(minute))
        damping *= min(1.0, rule.instrument_rate / rate)
        if len(near) >= rule.min_posts:
            damping *= min(1.0, rule.author_share * len(near) / len(own))
        found.append(damping)
    return found


_FORMS = {
    "RT @a shares plunge": (0.5, 0.5), "$CAT $A $B $C $ACME up": (0.8, 0.8), "$CAT soars": (1.0, 1.0),
}  # fmt: skip
"""What the form of a post leaves, for `ACME` and for `CAT`."""


def _form(item: _Item) -> float:
    factor = _FORMS.get(item.text, (1.0, 1.0))[item.code]
    return factor if item.code == 0 or "$CAT" in item.text else factor * 0.25


def _mean(rows: list[tuple[int, float, float]], now: int, half_life: int, least: float) -> tuple[float, float] | int:
    """Return decayed mean and weight of (time, value, weight), or why there is none."""
    seen = [(2.0 ** (-(now - ts) / half_life) * weight, value) for ts, value, weight in rows if ts < now and weight > 0]
    if not seen:
        return int(Missing.NO_INPUT)
    total = sum(weight for weight, _ in seen)
    if total < least:
        return int(Missing.STALE)
    return sum(weight * value for weight, value in seen) / total, total


def _buzz(times: list[int], now: int, config: Any) -> float | int:
    length, half_life = (int(d.total_seconds() * 1e9) for d in (config.buzz.interval, config.buzz.half_life))
    seen = [ts // length for ts in times if ts < now]
    if not seen:
        return int(Missing.NO_INPUT)
    last = now // length - 1
    counts = [seen.count(k) for k in range(min(seen), last + 1)]
    *usual, found = counts or [0]
    if len(usual) < config.buzz.min_intervals:
        return int(Missing.WARMING_UP)
    weights = [2.0 ** (-(len(usual) - 1 - j) * length / half_life) for j in range(len(usual))]
    mean = float(np.average(usual, weights=weights))
    deviation = math.sqrt(np.average((np.array(usual) - mean) ** 2, weights=weights))
    return (found - mean) / max(deviation, config.buzz.min_deviation)


def _same(value: float, missing: int, expected: float | int) -> None:
    if isinstance(expected, int):
        assert missing == expected
        assert math.isnan(value)
    else:
        assert missing == Missing.OK
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)


_COMMON: dict[str, Any] = {
    "half_life": "2m",
    "min_weight": 0.02,
    "story": {"window": "20m", "similarity": 0.4, "repeat_factor": 0.6, "repeat_half_life": "4m"},
    "buzz": {"interval": "1m", "half_life": "3m", "min_intervals": 3},
}
_SOCIAL = SocialConfig(
    platforms={"a": 0.6, "b": 0.4},
    damping={
        "window": "2m", "copies": 1, "author_share": 0.6, "min_posts": 3, "author_rate": 1.5, "instrument_rate": 3.0,
        "max_cashtags": 4, "ambiguous": ["CAT"], "ambiguous_factor": 0.25,
    },
    **_COMMON,
)  # fmt: skip
_NEWS = NewsConfig(sources={"a": 0.7, "other": 0.3}, **_COMMON)
_SCORER = FinanceSentiment()


def _blend(rows: dict[str, list[Any]], weights: dict[str, float], now: int, config: Any) -> Any:
    half_life = int(config.half_life.total_seconds() * 1e9)
    means = {name: _mean(rows[name], now, half_life, config.min_weight) for name in weights}
    present = {name: mean for name, mean in means.items() if not isinstance(mean, int)}
    if not present:
        return int(Missing.STALE if Missing.STALE in means.values() else Missing.NO_INPUT), None
    said = sum(weights[name] for name in present)
    blended = sum(weights[name] * mean[0] for name, mean in present.items()) / said
    return blended, sum(mean[1] for mean in present.values())


def _check(topic: str, config: Any, items: list[_Item], decisions: list[tuple[int, int]]) -> None:
    values, missing, group = _run(topic, config, items, decisions)
    novelty, leaders = _novelty(items, 0.4, 20 * _MINUTE, 0.6, 4 * _MINUTE)
    damping = [1.0] * len(items)
    if topic == "social":
        damping = [burst * _form(item) for burst, item in zip(_burst(items, leaders, config), items, strict=True)]
    weights = dict(config.weights)
    found = group.items
    assert found.novelty.tolist() == pytest.approx(novelty)
    assert found.damping.tolist() == pytest.approx(damping)
    names = [item.source if item.source in weights else "other" for item in items]
    expected = [n * d if name in weights else 0.0 for n, d, name in zip(novelty, damping, names, strict=True)]
    assert found.weight.tolist() == pytest.approx(expected)
    score = [_SCORER.score(item.text) for item in items]
    half_life = int(config.half_life.total_seconds() * 1e9)
    for row, (now, code) in enumerate(decisions):
        own = [at for at, item in enumerate(items) if item.code == code]
        rows: dict[str, list[Any]] = {name: [] for name in weights}
        for at in own:
            if names[at] in weights and not math.isnan(score[at]):
                rows[names[at]].append((items[at].ts, score[at], expected[at]))
        sentiment, intensity = _blend(rows, weights, now, config)
        _same(values[row, 0], missing[row, 0], sentiment)
        _same(values[row, 1], missing[row, 1], sentiment if intensity is None else intensity)
        _same(values[row, 2], missing[row, 2], _buzz([items[at].ts for at in own], now, config))
        for column, column_values in enumerate([novelty, damping][: values.shape[1] - 3], start=3):
            plain = _mean([(items[at].ts, column_values[at], 1.0) for at in own], now, half_life, config.min_weight)
            _same(values[row, column], missing[row, column], plain if isinstance(plain, int) else plain[0])


@_LAW
@given(items=_items(), decisions=_DECISIONS)
def test_news_features_equal_the_definitions(items: list[_Item], decisions: list[tuple[int, int]]) -> None:
    _check("news", _NEWS, items, decisions)


@_LAW
@given(items=_items(), decisions=_DECISIONS)
def test_social_features_equal_the_definitions(items: list[_Item], decisions: list[tuple[int, int]]) -> None:
    _check("social", _SOCIAL, items, decisions)


@_LAW
@given(items=_items())
def test_clusters_are_those_of_an_instrument_alone_in_another_shard(items: list[_Item]) -> None:
    _, _, both = _run("social", _SOCIAL, items, [])
    for code in range(_CODES):
        _, _, alone = _run("social", _SOCIAL, [item for item in items if item.code == code], [])
        own = both.items.take(both.items.code == code)
        for name in ("cluster", "novelty", "damping", "weight", "score", "source_weight"):
            np.testing.assert_array_equal(getattr(alone.items, name), getattr(own, name))


@_LAW
@given(items=_items())
def test_item_weights_are_in_bounds_and_every_item_is_there(items: list[_Item]) -> None:
    _, _, group = _run("social", _SOCIAL, items, [])
    found = group.items
    assert found.ts.tolist() == [item.ts for item in items]
    for column in (found.weight, found.novelty, found.damping, found.source_weight):
        assert ((column >= 0) & (column <= 1)).all()
    assert (found.weight <= found.novelty * found.damping).all()
