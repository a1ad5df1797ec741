"""The group of a text topic: what it refuses, what it says of each item, what its configuration changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from operators.book_features import NAMES, BookFeatureColumns
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs
from operators.text.config import NewsConfig, SocialConfig
from operators.text.group import TextGroup
from schemas.batches import make_batch
from schemas.enums import Missing
from schemas.features import FeatureSet

_SECOND = 10**9
_BOOK = BookFeatureColumns(
    np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, len(NAMES))), np.empty((0, len(NAMES)), np.uint8)
)


def _group(topic: str, config: Any = None) -> TextGroup:
    group = TextGroup(topic, config or {"news": NewsConfig, "social": SocialConfig}[topic]())
    for state in group.states().values():
        state.ensure(2)
    return group


def _update(group: TextGroup, topic: str, columns: dict[str, Any], decisions: Sequence[int] = ()) -> Any:
    """Feed items of `ACME`, a second apart from 0, and decide about it."""
    n = len(next(iter(columns.values())))
    ident, origin = {"news": ("news_id", "source"), "social": ("post_id", "platform")}[topic]
    ts = np.arange(n) * _SECOND
    filled = {"instrument_id": ["ACME"] * n, "ts_recv": ts, ident: [str(i) for i in range(n)], origin: ["a"] * n}
    if topic == "social":
        filled["author"] = [str(i) for i in range(n)]
    batch = make_batch(topic, filled | columns, n)
    refusals = Refusals()
    frame = FrameInputs({topic: batch}, {topic: np.zeros(n, np.int32)}, 2**62, _BOOK, refusals)
    at = np.zeros(len(decisions), np.int32), np.array(decisions, dtype=np.int64) * _SECOND
    values, missing = group.update(frame, DecisionColumns(at[0], at[0], at[1]))
    return values, missing, refusals


def test_item_seen_before_is_refused_and_in_no_column() -> None:
    group = _group("news")
    _, _, refusals = _update(group, "news", {"news_id": ["1", "1", "2"], "headline": ["Acme soars", "x", "y"]})
    assert len(group.items) == 2
    assert refusals.counts == {("decoded", "news", ""): 2, ("dead_lettered", "news", "duplicate"): 1}


def test_items_are_those_of_the_last_update_only() -> None:
    group = _group("news")
    _update(group, "news", {"headline": ["Acme soars"]})
    assert len(group.items) == 1
    empty = DecisionColumns(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64))
    group.update(FrameInputs({}, {}, 2**62, _BOOK, Refusals()), empty)
    assert len(group.items) == 0


def test_features_of_one_item_are_its_own() -> None:
    group = _group("social")
    values, missing, _ = _update(group, "social", {"text": ["RT @b: Acme soars"]}, [1])
    assert values[0] == pytest.approx([group.items.score[0], 0.5, np.nan, 1.0, 0.5], rel=2e-3, nan_ok=True)
    assert missing[0].tolist() == [0, 0, Missing.WARMING_UP, 0, 0]


def test_text_without_words_moves_no_sentiment_and_is_counted() -> None:
    group = _group("news", NewsConfig(buzz={"interval": "1s", "min_intervals": 2}))
    values, missing, _ = _update(group, "news", {"headline": ["株価", "", "$X"]}, [4])
    assert missing[0].tolist() == [Missing.NO_INPUT, Missing.NO_INPUT, 0, 0]
    assert np.isfinite(values[0, 2:]).all()
    assert len(group.items) == 3
    assert np.isnan(group.items.score).all()


def test_source_without_weight_moves_no_sentiment_and_is_in_the_items() -> None:
    columns = {"headline": ["Acme soars", "Acme plunges"], "source": ["wire", None]}
    group = _group("news", NewsConfig(sources={"wire": 1.0}))
    values, _, _ = _update(group, "news", columns, [2])
    assert group.items.weight.tolist() == group.items.source_weight.tolist() == [1.0, 0.0]
    assert values[0, 0] == group.items.score[0]
    other = _group("news", NewsConfig(sources={"wire": 0.5, "other": 0.5}))
    values, _, _ = _update(other, "news", columns, [2])
    assert values[0, 0] == pytest.approx(np.mean(other.items.score))


def test_post_about_an_ambiguous_ticker_without_cashtag_is_kept_without_weight() -> None:
    columns = {"text": ["my cat is great", "great $CAT"], "instrument_id": ["CAT", "CAT"]}
    group = _group("social")
    values, _, refusals = _update(group, "social", columns, [2])
    assert group.items.weight.tolist() == [0.0, 1.0]
    assert values[0, 0] == group.items.score[1]
    assert refusals.counts == {("decoded", "social", ""): 2}


def test_bot_burst_hardly_moves_the_sentiment() -> None:
    texts = ["bearish on margins", "weak demand and falling sales"] + ["ACME to the moon!!!"] * 200
    columns: dict[str, Any] = {"text": texts, "author": ["p", "q"] + ["bot"] * 200}
    group = _group("social")
    values, _, _ = _update(group, "social", columns, [203])
    assert values[0, 0] < 0
    assert group.items.weight[2:].sum() < 2
    assert values[0, 4] < 0.2
    off = {"copies": 64, "author_share": 1.0, "min_posts": 64, "author_rate": 64.0, "instrument_rate": 1e6}
    plain = _group("social", SocialConfig(story={"repeat_factor": 1.0}, damping=off))
    values, _, _ = _update(plain, "social", columns, [203])
    assert values[0, 0] > 0.5


@pytest.mark.parametrize("topic", ["news", "social"])
def test_copies_of_another_source_join_the_cluster(topic: str) -> None:
    text = {"news": "headline", "social": "text"}[topic]
    origin = {"news": "source", "social": "platform"}[topic]
    group = _group(topic)
    _update(group, topic, {text: ["Acme profit beats", "ACME PROFIT BEATS!"], origin: ["a", "b"]})
    assert group.items.cluster[0] == group.items.cluster[1]
    assert group.items.novelty.tolist() == pytest.approx([1.0, 0.5], abs=1e-3)


def test_specs_follow_what_they_depend_on_and_nothing_else() -> None:
    def hashes(config: Any) -> list[str]:
        return [FeatureSet((spec,)).hash for spec in TextGroup("social", config).specs()]

    base = hashes(SocialConfig())
    changes: list[tuple[dict[str, Any], list[int]]] = [
        ({"half_life": "5m"}, [0, 1, 3, 4]),
        ({"min_weight": 0.5}, [0, 1, 3, 4]),
        ({"platforms": {"a": 1.0}}, [0, 1]),
        ({"story": {"similarity": 0.9}}, [0, 1, 3, 4]),
        ({"story": {"window": "1h"}}, [0, 1, 3, 4]),
        ({"buzz": {"min_intervals": 9}}, [2]),
        ({"damping": {"window": "1h"}}, [0, 1, 4]),
        ({"damping": {"ambiguous": ["CAT"]}}, [0, 1, 4]),
    ]
    for change, expected in changes:
        changed = hashes(SocialConfig.model_validate(change))
        assert [at for at in range(5) if changed[at] != base[at]] == expected, change


@pytest.mark.parametrize(
    ("topic", "config"), [("news", SocialConfig()), ("social", NewsConfig()), ("tv", NewsConfig())]
)
def test_configuration_of_another_topic_is_refused(topic: str, config: Any) -> None:
    with pytest.raises(ValueError, match="expected `news` with `NewsConfig`"):
        TextGroup(topic, config)


def test_items_can_be_taken_and_are_of_one_length() -> None:
    group = _group("news")
    _update(group, "news", {"headline": ["Acme soars", "Acme plunges"]})
    assert len(group.items.take(np.array([1]))) == 1
    assert replace(group.items).cluster.dtype == np.uint64
