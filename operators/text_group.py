"""Decayed sentiment of the items of one text topic, sampled at decision times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from models.text.sentiment import FinanceSentiment
from operators.columns import CodeArray, FloatArray, IntArray, MissingArray
from operators.duplicates import TextIdWindow
from operators.sampled import DecisionColumns, FeatureGroup, FrameInputs, InstrumentRows
from operators.sentiment import SentimentState
from operators.shard_config import SentimentConfig
from schemas.batches import times
from schemas.enums import DeadLetterReason
from schemas.features import FeatureSpec
from schemas.time import duration_ns

__all__ = ["TextGroup"]

_TEXTS = {"news": ("news_id", "headline"), "social": ("post_id", "text")}


@lru_cache(maxsize=1)
def _scorer() -> FinanceSentiment:
    """Return the scorer that all shards of a process share; it keeps nothing but a cache."""
    return FinanceSentiment()


class TextGroup(FeatureGroup):
    """Sentiment and intensity of a text topic.

    Parameters
    ----------
    topic
        `news` or `social`.
    config
        How long an item counts.
    """

    def __init__(self, topic: str, config: SentimentConfig) -> None:
        self._topic = topic
        self.accounts_for = (topic,)
        self._ids = TextIdWindow()
        self._sentiment = SentimentState(half_life_ns=duration_ns(config.half_life), min_weight=config.min_weight)
        self._scorer = _scorer()

    def specs(self) -> tuple[FeatureSpec, ...]:
        """Return what each column is, in order."""
        sentiment, intensity = self._sentiment.specs(self._topic)
        scored = replace(sentiment, parameters=sentiment.parameters | {"lexicon": self._scorer.version})
        return scored, intensity

    def states(self) -> Mapping[str, InstrumentRows]:
        """Return every state of the group, by name."""
        found: dict[str, Any] = {"ids": self._ids, "sentiment": self._sentiment}
        return found

    def update(self, frame: FrameInputs, decisions: DecisionColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next items and return the features at the next decisions; an id seen before is refused."""
        batch, code = frame.batches.get(self._topic), frame.codes.get(self._topic)
        item_code: CodeArray = np.empty(0, dtype=np.int32)
        item_ts: IntArray = np.empty(0, dtype=np.int64)
        score: FloatArray = np.empty(0)
        if batch is not None and code is not None:
            ident, text = _TEXTS[self._topic]
            repeated = self._ids.update(code, batch.column(ident).to_pylist())
            batch, item_code = frame.refusals.refuse(
                batch, code, repeated, DeadLetterReason.DUPLICATE, f"{ident} seen before"
            )
            frame.refusals.accept(self._topic, batch.num_rows)
            item_ts = times(batch, "ts_recv")
            score = self._scorer.scores(batch.column(text).to_pylist())
        return self._sentiment.update_and_sample(
            item_code, item_ts, score, np.ones(len(score)), decisions.code, decisions.ts
        )
