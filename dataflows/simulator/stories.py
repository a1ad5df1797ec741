"""News items and posts: when, about whom, in which words, and what they say of the price.

An item with words of one sign at time $t$ is followed by a move of that sign that starts at $t$ plus the
lead and lasts for the configured time. With a negative lead the move comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dataflows.simulator.config import STEP_NS, SimulatorConfig
from dataflows.simulator.latent import Drift
from dataflows.simulator.streams import random_stream
from dataflows.simulator.texts import AUTHORS, BODIES, BOT_TEXT, HEADLINES, PLATFORMS, POSTS, SOURCES
from schemas.time import duration_ns

__all__ = ["SOCIAL_SHARE", "Stories", "plan_news", "plan_social"]

SOCIAL_SHARE: Final = 0.2
"""Strength of a post, as a share of a news item's."""
_BURST_POSTS: Final = 20
_BURST_NS: Final = 10 * 10**9
_SIGN_SHARES: Final = (0.35, 0.3, 0.35)


@dataclass(frozen=True, slots=True)
class Stories:
    """Items in the order of their times.

    Parameters
    ----------
    ts
        Time of publication, UTC ns, shape `(n,)`.
    instrument
        Number of the instrument, shape `(n,)`.
    sentiment
        Sign of the words: -1, 0, 1; shape `(n,)`.
    moves
        Whether the price follows, shape `(n,)`; not for bots.
    columns
        The other columns of the topic, a list of `n` each.
    """

    ts: npt.NDArray[np.int64]
    instrument: npt.NDArray[np.int64]
    sentiment: npt.NDArray[np.int64]
    moves: npt.NDArray[np.bool_]
    columns: dict[str, list[str]]

    def drifts(self, config: SimulatorConfig, share: float) -> list[Drift]:
        """Return the moves that belong to the items."""
        size = config.sentiment_strength * share / 1e4
        if not size:
            return []
        lead, steps = duration_ns(config.news_lead), duration_ns(config.news_impact) // STEP_NS
        first = np.ceil((self.ts + lead - config.start_ns) / STEP_NS).astype(np.int64)
        return [
            Drift(int(self.instrument[row]), int(first[row]), int(first[row] + steps), size * int(self.sentiment[row]))
            for row in np.flatnonzero(self.moves & (self.sentiment != 0))
        ]


def _moments(
    config: SimulatorConfig, rate: float, draw: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return time, instrument and sentiment of Poisson items; what a lag would put before the start is left out."""
    length = config.n_steps * STEP_NS
    count = int(draw.poisson(rate / 3600e9 * length * config.instruments))
    ts = np.sort(draw.integers(0, length, count))
    instrument = draw.integers(0, config.instruments, count)
    sentiment = draw.choice(np.array([-1, 0, 1]), count, p=_SIGN_SHARES)
    kept = ts + duration_ns(config.news_lead) >= 0
    return ts[kept] + config.start_ns, instrument[kept], sentiment[kept]


def plan_news(config: SimulatorConfig) -> Stories:
    """Return every news item of the market."""
    draw = random_stream(config.seed, "news")
    ts, instrument, sentiment = _moments(config, config.news_rate, draw)
    names = config.instrument_ids
    picks = draw.integers(0, 2**31, (len(ts), 3))
    columns: dict[str, list[str]] = {"news_id": [], "source": [], "headline": [], "body": []}
    for number, (who, sign, (first, second, third)) in enumerate(
        zip(instrument.tolist(), sentiment.tolist(), picks.tolist(), strict=True)
    ):
        columns["news_id"].append(f"news-{number:06d}")
        columns["source"].append(SOURCES[first % len(SOURCES)])
        columns["headline"].append(HEADLINES[sign][second % len(HEADLINES[sign])].format(name=names[who]))
        columns["body"].append(BODIES[sign][third % len(BODIES[sign])])
    return Stories(ts, instrument, sentiment, np.ones(len(ts), dtype=np.bool_), columns)


def plan_social(config: SimulatorConfig) -> Stories:
    """Return every post of the market, bots among them."""
    draw = random_stream(config.seed, "social")
    ts, instrument, sentiment = _moments(config, config.social_rate, draw)
    n_people = len(ts)
    burst_ts, burst_instrument = _bursts(config, draw)
    ts = np.concatenate([ts, burst_ts])
    instrument = np.concatenate([instrument, burst_instrument])
    sentiment = np.concatenate([sentiment, np.ones(len(burst_ts), dtype=np.int64)])
    picks = draw.integers(0, 2**31, (len(ts), 3))
    order = np.argsort(ts, kind="stable")
    columns: dict[str, list[str]] = {"post_id": [], "platform": [], "author": [], "text": []}
    for number, row in enumerate(order.tolist()):
        name = config.instrument_ids[instrument[row]]
        first, second, third = picks[row].tolist()
        bot = (row - n_people) // _BURST_POSTS
        texts = POSTS[int(sentiment[row])] if row < n_people else (BOT_TEXT,)
        columns["post_id"].append(f"post-{number:06d}")
        columns["platform"].append(PLATFORMS[first % len(PLATFORMS)])
        columns["author"].append(AUTHORS[second % len(AUTHORS)] if row < n_people else f"bot{bot:03d}")
        columns["text"].append(texts[third % len(texts)].format(name=name))
    return Stories(ts[order], instrument[order], sentiment[order], order < n_people, columns)


def _bursts(config: SimulatorConfig, draw: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    length = config.n_steps * STEP_NS
    burst = min(_BURST_NS, length)
    first = draw.integers(0, max(length - burst, 1), config.bot_bursts)
    instrument = draw.integers(0, config.instruments, config.bot_bursts)
    ts = first[:, None] + draw.integers(0, burst, (config.bot_bursts, _BURST_POSTS))
    return ts.ravel() + config.start_ns, np.repeat(instrument, _BURST_POSTS)
