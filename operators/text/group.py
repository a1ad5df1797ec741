"""The features of a text topic as a group: each item scored, weighed and clustered, sampled at decision times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

import numpy as np
import pyarrow as pa

from models.text.sentiment import FinanceSentiment
from operators.columns import CodeArray, FloatArray, MissingArray
from operators.duplicates import TextIdWindow
from operators.sampled import DecisionColumns, FeatureGroup, FrameInputs, InstrumentRows
from operators.sentiment import SentimentState
from operators.text.buzz import BuzzState
from operators.text.config import DampingConfig, NewsConfig, SocialConfig
from operators.text.damping import DampingState
from operators.text.fingerprint import FINGERPRINT_VERSION, fingerprints
from operators.text.items import ClusterArray, TextItems
from operators.text.posts import PostRules
from operators.text.sources import SourceWeights
from operators.text.stories import StoryState
from schemas.batches import symbols, times
from schemas.config import ComponentConfig
from schemas.enums import DeadLetterReason
from schemas.features import FeatureSpec, content_hash
from schemas.time import duration_ns

__all__ = ["TextGroup"]

_TEXTS: Final = {"news": ("news_id", "headline", "source"), "social": ("post_id", "text", "platform")}
_RULES_VERSION: Final = 1
"""Raised whenever the same post gets another weight."""


@lru_cache(maxsize=1)
def _scorer() -> FinanceSentiment:
    """Return the scorer that all shards of a process share; it keeps nothing but a cache."""
    return FinanceSentiment()


class TextGroup(FeatureGroup):
    r"""Sentiment, intensity, novelty and buzz of a text topic, and damping of posts.

    Each item is scored from its headline or text. Its weight is novelty times damping: see `StoryState` for novelty,
    `DampingState` and `PostRules` for damping, whose product it is; news are not damped. `SentimentState` blends the
    decayed means of sources. Novelty and damping are decayed means over all items, `BuzzState` counts all items.

    Parameters
    ----------
    topic
        `news` or `social`.
    config
        Of the topic: `NewsConfig` or `SocialConfig`.

    Raises
    ------
    ValueError
        The configuration is that of the other topic.

    Notes
    -----
    An item whose id was seen before is refused as a duplicate. One without words to score, without weight or from a
    source without weight moves no sentiment; it is in `items` and counts for novelty, damping and buzz all the same.
    About 25 microseconds an item, most of it for scoring, fingerprint and the form of posts.

    Examples
    --------
    >>> group = TextGroup("news", NewsConfig())
    >>> [spec.name for spec in group.specs()]
    ['news_sentiment', 'news_intensity', 'news_buzz', 'news_novelty']
    """

    def __init__(self, topic: str, config: NewsConfig | SocialConfig) -> None:
        damping = config.damping if isinstance(config, SocialConfig) else None
        if topic not in _TEXTS or (damping is None) != (topic == "news"):
            raise ValueError(f"expected `news` with `NewsConfig` or `social` with `SocialConfig`, was `{topic}`")
        self.items = TextItems.empty()
        """what was found about the items of the last update"""
        self.accounts_for = (topic,)
        self._topic = topic
        self._config = config
        self._scorer = _scorer()
        self._sources = SourceWeights(config.weights)
        self._ids = TextIdWindow()
        self._stories = StoryState(
            similarity=config.story.similarity,
            window_ns=duration_ns(config.story.window),
            repeat_factor=config.story.repeat_factor,
            repeat_half_life_ns=duration_ns(config.story.repeat_half_life),
        )
        half_life, least = duration_ns(config.half_life), config.min_weight
        self._sentiment = SentimentState(half_life_ns=half_life, min_weight=least, source_weights=self._sources.values)
        self._novelty = SentimentState(half_life_ns=half_life, min_weight=least)
        self._buzz = BuzzState(
            interval_ns=duration_ns(config.buzz.interval),
            half_life_ns=duration_ns(config.buzz.half_life),
            min_intervals=config.buzz.min_intervals,
            min_deviation=config.buzz.min_deviation,
        )
        self._posts = None if damping is None else _Posts(damping)
        self._damping = SentimentState(half_life_ns=half_life, min_weight=least)

    def specs(self) -> tuple[FeatureSpec, ...]:
        """Return what each column is, in order."""
        config, topic = self._config, self._topic
        decay: dict[str, Any] = {"half_life_ns": duration_ns(config.half_life), "min_weight": config.min_weight}
        stories = _parameters("story", config.story) | {"fingerprint": FINGERPRINT_VERSION}
        damping = (
            _parameters("damping", config.damping) | {"rules": _RULES_VERSION}
            if isinstance(config, SocialConfig)
            else {}
        )
        weighed = stories | damping | {"source_weights": dict(config.weights), "lexicon": self._scorer.version}
        sentiment, intensity = (
            replace(spec, parameters=spec.parameters | weighed) for spec in self._sentiment.specs(topic)
        )
        mean = "sum_i {0}_i 2^(-(T - t_i) / half_life) / sum_i 2^(-(T - t_i) / half_life), t_i < T; {0} = {1}"
        novelty = FeatureSpec(
            f"{topic}_novelty",
            "1",
            mean.format(
                "novelty",
                "story_repeat_factor^(sum_j 2^(-(t_i - t_j) / story_repeat_half_life)), j earlier items of its story",
            ),
            "definition",
            (topic,),
            decay | stories,
        )
        buzz = FeatureSpec(
            f"{topic}_buzz",
            "1",
            "(n - mean) / max(deviation, buzz_min_deviation) of items per interval, n in the last complete one, mean "
            "and deviation decayed over those before it",
            "definition",
            (topic,),
            _parameters("buzz", config.buzz),
            config.buzz.min_intervals,
        )
        if self._posts is None:
            return sentiment, intensity, buzz, novelty
        damped = FeatureSpec(
            f"{topic}_damping",
            "1",
            mean.format("damping", "what a post counts after copies, author, rate, retweet and doubtful ticker"),
            "definition",
            (topic,),
            decay | stories | damping,
        )
        return sentiment, intensity, buzz, novelty, damped

    def states(self) -> Mapping[str, InstrumentRows]:
        """Return every state of the group, by name."""
        found: dict[str, InstrumentRows] = {
            "ids": self._ids,
            "stories": self._stories,
            "sentiment": self._sentiment,
            "novelty": self._novelty,
            "buzz": self._buzz,
        }
        if self._posts is not None:
            found |= {"bursts": self._posts.bursts, "damping": self._damping}
        return found

    def update(self, frame: FrameInputs, decisions: DecisionColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next items and return the features at the next decisions; an id seen before is refused.

        What was found about each accepted item is in `items` until the next call.
        """
        batch, code = frame.batches.get(self._topic), frame.codes.get(self._topic)
        source: CodeArray = np.empty(0, dtype=np.int32)
        self.items = TextItems.empty()
        if batch is not None and code is not None:
            batch, code = self._accept(batch, code, frame)
            source = self._weigh(batch, code)
        return self._sample(self.items, source, decisions)

    def _accept(self, batch: pa.RecordBatch, code: CodeArray, frame: FrameInputs) -> tuple[pa.RecordBatch, CodeArray]:
        ident = _TEXTS[self._topic][0]
        repeated = self._ids.update(code, batch.column(ident).to_pylist())
        batch, code = frame.refusals.refuse(batch, code, repeated, DeadLetterReason.DUPLICATE, f"{ident} seen before")
        frame.refusals.accept(self._topic, batch.num_rows)
        return batch, code

    def _weigh(self, batch: pa.RecordBatch, code: CodeArray) -> CodeArray:
        """Find out all about the items, keep it in `items`, and return the source of each."""
        _, text_column, source_column = _TEXTS[self._topic]
        ts = times(batch, "ts_recv")
        texts = batch.column(text_column).to_pylist()
        source, source_weight = self._sources.of(batch, source_column)
        novelty, cluster = self._stories.update(code, ts, *fingerprints(texts))
        damping = np.ones(len(ts)) if self._posts is None else self._posts.damping(batch, code, texts, cluster)
        weight = np.where(source_weight > 0.0, novelty * damping, 0.0)
        score = self._scorer.scores(texts)
        self.items = TextItems(code, ts, score, weight, novelty, cluster, damping, source_weight)
        return source

    def _sample(
        self, items: TextItems, source: CodeArray, decisions: DecisionColumns
    ) -> tuple[FloatArray, MissingArray]:
        at, one = (decisions.code, decisions.ts), np.ones(len(items))
        means = [self._novelty.update_and_sample(items.code, items.ts, items.novelty, one, *at)]
        if self._posts is not None:
            means.append(self._damping.update_and_sample(items.code, items.ts, items.damping, one, *at))
        sentiment, why = self._sentiment.update_and_sample(
            items.code, items.ts, items.score, items.weight, *at, item_source=source
        )
        buzz, no_buzz = self._buzz.update_and_sample(items.code, items.ts, *at)
        values = [sentiment, buzz, *(mean[:, 0] for mean, _ in means)]
        missing = [why, no_buzz, *(no_mean[:, 0] for _, no_mean in means)]
        return np.column_stack(values), np.column_stack(missing)


class _Posts:
    """What posts count: by their form, and by the bursts that they are part of."""

    def __init__(self, config: DampingConfig) -> None:
        self._rules = PostRules(config)
        self.bursts = DampingState(
            window_ns=duration_ns(config.window),
            copies=config.copies,
            author_share=config.author_share,
            min_posts=config.min_posts,
            author_rate=config.author_rate,
            instrument_rate=config.instrument_rate,
        )

    def damping(
        self, batch: pa.RecordBatch, code: CodeArray, texts: list[str | None], cluster: ClusterArray
    ) -> FloatArray:
        """Return what each post counts, in [0, 1], shape `(n,)`."""
        authors = [crc32((author or "").encode()) for author in batch.column("author").to_pylist()]
        burst = self.bursts.update(code, times(batch, "ts_recv"), cluster, np.array(authors, dtype=np.uint32))
        index, names = symbols(batch, "instrument_id")
        tickers = [names[at] or "" for at in index.tolist()]
        form = [self._rules.factor(text or "", ticker) for text, ticker in zip(texts, tickers, strict=True)]
        return burst * np.array(form, dtype=np.float64)


def _parameters(section: str, config: ComponentConfig) -> dict[str, Any]:
    """Return the parameters of a section by distinct names; of the list of tickers its hash, as pages show them."""
    return {
        f"{section}_{name}": content_hash(value) if isinstance(value, list) else value
        for name, value in config.content().items()
    }
