"""Real posts and headlines replayed through the text features: bursts are damped, stories cluster."""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from operators.book_features import NAMES, BookFeatureColumns
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs
from operators.text.config import NewsConfig, SocialConfig
from operators.text.group import TextGroup
from operators.text.items import TextItems
from schemas.batches import make_batch
from schemas.enums import Missing

pytestmark = pytest.mark.real

_DAY = 86_400 * 10**9
_BOOK = BookFeatureColumns(
    np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, len(NAMES))), np.empty((0, len(NAMES)), np.uint8)
)


class _Tweet(msgspec.Struct):
    ts: datetime
    ticker: str
    user: str
    tokens: list[str]


@dataclass(frozen=True)
class _Replay:
    """What came out, and what went in: time, instrument, text and author of each item."""

    ts: np.ndarray
    names: list[str]
    texts: list[str]
    items: TextItems
    values: np.ndarray
    missing: np.ndarray

    def where(self, name: str, holds: Callable[[str], bool], first: str, last: str) -> np.ndarray:
        """Return which items about an instrument, from one day up to another, hold a text like this."""
        low, high = (int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9 for day in (first, last))
        about = np.array([name == own and holds(text) for own, text in zip(self.names, self.texts, strict=True)])
        return about & (self.ts >= low) & (self.ts < high)


def _replay(group: TextGroup, topic: str, columns: dict[str, Any], names: list[str], cuts: int) -> _Replay:
    """Feed items in as many calls, with a decision about each instrument at the end of each day."""
    code_of = {name: code for code, name in enumerate(sorted(set(names)))}
    codes = np.array([code_of[name] for name in names], dtype=np.int32)
    for state in group.states().values():
        state.ensure(len(code_of))
    ts = columns["ts_recv"]
    batch = make_batch(topic, columns | {"instrument_id": names}, len(names))
    days = np.arange(ts[0] // _DAY * _DAY + _DAY, ts[-1] + 2 * _DAY, _DAY)
    edges = [int(ts[0]), *np.sort(np.unique(np.random.default_rng(3).choice(ts, cuts))).tolist(), int(days[-1])]
    parts, found = [], []
    for low, high in pairwise(edges):
        rows = slice(*np.searchsorted(ts, [low, high]).tolist())
        due = np.repeat(days[(days > low) & (days <= high)], len(code_of))
        decided = np.tile(np.arange(len(code_of), dtype=np.int32), len(due) // len(code_of))
        frame = FrameInputs({topic: batch[rows]}, {topic: codes[rows]}, high, _BOOK, Refusals())
        parts.append(group.update(frame, DecisionColumns(decided, np.zeros_like(decided), due)))
        found.append(group.items)
        assert not frame.refusals.rows
    items = TextItems(*(np.concatenate([getattr(part, field.name) for part in found]) for field in fields(TextItems)))
    text = "headline" if topic == "news" else "text"
    values, missing = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return _Replay(ts, names, columns[text], items, values, missing)


@pytest.fixture(scope="module")
def posts(real_data: Path) -> _Replay:
    """Replay the tweets; their published tokens separate the sign of a cashtag from its name."""
    lines = gzip.decompress((real_data / "stocknet" / "tweets.jsonl.gz").read_bytes()).splitlines()
    tweets = [msgspec.json.decode(line, type=_Tweet) for line in lines]
    ts = np.array([int(tweet.ts.timestamp()) * 10**9 for tweet in tweets])
    columns = {
        "ts_recv": ts,
        "post_id": [str(row) for row in range(len(tweets))],
        "platform": ["twitter"] * len(tweets),
        "author": [tweet.user for tweet in tweets],
        "text": [re.sub(r"\$ (?=[a-z])", "$", " ".join(tweet.tokens)) for tweet in tweets],
    }
    return _replay(TextGroup("social", SocialConfig()), "social", columns, [tweet.ticker for tweet in tweets], 40)


@pytest.fixture(scope="module")
def news(real_data: Path) -> _Replay:
    with (real_data / "reuters" / "news_2014_2015.csv").open(encoding="utf-8") as file:
        rows = sorted(csv.reader(file), key=lambda row: row[2])
    ends = [int(datetime.strptime(row[2], "%Y%m%d").replace(tzinfo=UTC).timestamp()) * 10**9 + _DAY - 1 for row in rows]
    columns = {
        "ts_recv": np.array(ends),
        "news_id": [str(row) for row in range(len(rows))],
        "source": ["reuters"] * len(rows),
        "headline": [row[3] for row in rows],
    }
    return _replay(TextGroup("news", NewsConfig()), "news", columns, [row[0] for row in rows], 40)


def _check(replay: _Replay, n: int, width: int) -> None:
    assert len(replay.items) == len(replay.texts) == n
    assert replay.items.ts.tolist() == replay.ts.tolist()
    assert replay.values.shape[1] == width
    np.testing.assert_array_equal(replay.missing == Missing.OK, np.isfinite(replay.values))
    assert ((replay.missing == Missing.OK).sum(axis=0) > 100).all()
    assert (np.abs(replay.values[replay.missing[:, 0] == Missing.OK, 0]) <= 1.0).all()
    for column in (replay.items.weight, replay.items.novelty, replay.items.damping):
        assert ((column >= 0) & (column <= 1)).all()


def test_posts_replay_end_to_end(posts: _Replay) -> None:
    _check(posts, 43_649, 5)


def test_news_replay_end_to_end(news: _Replay) -> None:
    _check(news, 6_701, 4)


_BURSTS = [
    # one retweet about a takeover, by hundreds of accounts, up to eight within a minute and a hundred in an hour
    ("AMZN", "in talks to buy $grpn", "2014-05-20", "2014-05-30", 599),
    ("GOOG", "in talks to buy $grpn", "2014-05-20", "2014-05-30", 599),
    # an Arabic advertisement retweeted by accounts that were opened one after the other: 15 in one minute
    ("GOOG", "بعض الصفقات المحققه", "2015-01-03", "2015-01-04", 40),
]


@pytest.mark.parametrize(("name", "fragment", "first", "last", "at_least"), _BURSTS)
def test_known_bot_burst_is_damped(
    posts: _Replay, name: str, fragment: str, first: str, last: str, at_least: int
) -> None:
    burst = posts.where(name, lambda text: fragment in text, first, last)
    assert burst.sum() >= at_least
    assert posts.items.weight[burst].sum() <= 0.1 * burst.sum()


def test_known_bot_burst_of_minutes_counts_less_than_one_post(posts: _Replay) -> None:
    burst = posts.where("GOOG", lambda text: "بعض الصفقات المحققه" in text, "2015-01-03", "2015-01-04")
    assert burst.sum() >= 40
    assert posts.items.weight[burst].sum() < 1.0


def test_campaign_of_two_posts_a_day_is_not_seen_as_a_burst(posts: _Replay) -> None:
    """The limit of what is compared over hours: one text in 71 posts of 60 accounts, spread over 32 days."""
    slow = posts.where("AAPL", lambda text: "hope i win this ipad mini" in text, "2015-02-25", "2015-04-08")
    assert slow.sum() == 71
    assert posts.items.weight[slow].sum() > 0.5 * slow.sum()


def test_busy_day_of_many_voices_is_not_taken_for_a_burst(posts: _Replay) -> None:
    """The day that Alibaba's shares began to trade: 324 posts, nearly all of their own words."""
    day = posts.where("BABA", lambda _: True, "2014-09-19", "2014-09-20")
    assert day.sum() > 300
    assert posts.items.weight[day].sum() > 0.6 * day.sum()


def test_repeated_text_weighs_a_fraction_of_what_is_said_once(posts: _Replay) -> None:
    counts = Counter(zip(posts.names, posts.texts, strict=True))
    repeated = np.array([counts[key] > 1 for key in zip(posts.names, posts.texts, strict=True)])
    assert repeated.mean() > 0.2
    assert posts.items.weight[~repeated].mean() > 0.8
    assert posts.items.weight[repeated].mean() < 0.4 * posts.items.weight[~repeated].mean()


def test_twin_headlines_of_two_share_classes_have_one_cluster(news: _Replay) -> None:
    clusters: dict[tuple[int, str], dict[str, int]] = defaultdict(dict)
    for ts, name, text, cluster in zip(news.ts, news.names, news.texts, news.items.cluster.tolist(), strict=True):
        if name in ("GOOG", "GOOGL"):
            clusters[ts, text][name] = cluster
    twins = [both for both in clusters.values() if len(both) == 2]
    assert len(twins) > 700
    assert all(both["GOOG"] == both["GOOGL"] for both in twins)


_PREFIX = re.compile(r"^(?:(?:UPDATE|WRAPUP|RPT|REFILE|CORRECTED|BRIEF|EXCLUSIVE|REPEAT)\b[\s\d]*)+")


def test_update_chain_is_one_cluster_and_only_its_first_item_is_new(news: _Replay) -> None:
    chains: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (name, text) in enumerate(zip(news.names, news.texts, strict=True)):
        chains[name, _PREFIX.sub("", text)].append(row)
    found = 0
    for rows in chains.values():
        if len({news.texts[row] for row in rows}) == 1 or news.ts[rows[-1]] - news.ts[rows[0]] > 2 * _DAY:
            continue
        found += 1
        assert len(set(news.items.cluster[rows].tolist())) == 1
        assert (news.items.novelty[rows][1:] < 1.0).all()
        same_day = np.diff(news.ts[rows]) == 0
        assert (np.diff(news.items.novelty[rows])[same_day] < 0).all()
    assert found > 600


def _shingles(text: str) -> frozenset[Any]:
    words = re.findall(r"\w+", _PREFIX.sub("", text).lower())
    return frozenset(words) | frozenset(pairwise(words))


def _stories(names: Sequence[str], texts: Sequence[str], ts: np.ndarray) -> list[int]:
    """Return which item leads the story of each, by sets and without a limit to the stories remembered."""
    stories: dict[str, list[list[int]]] = defaultdict(list)
    shingles = [_shingles(text) for text in texts]
    leaders = []
    for row, name in enumerate(names):
        alive = [story for story in stories[name] if ts[row] - ts[story[-1]] <= 2 * _DAY]
        near = [len(shingles[row] & shingles[s[0]]) / len(shingles[row] | shingles[s[0]]) for s in alive]
        if near and max(near) >= 0.5:
            story = alive[near.index(max(near))]
        else:
            story = []
            alive.append(story)
        story.append(row)
        stories[name] = alive
        leaders.append(story[0])
    return leaders


def test_clusters_of_headlines_are_those_of_plain_sets(news: _Replay) -> None:
    """Compared as pairs of neighbours in a story; few differ, where a large company fills the memory of stories."""
    leaders = np.array(_stories(news.names, news.texts, news.ts))
    expected = leaders != np.arange(len(leaders))
    assert (expected == (news.items.novelty < 1.0)).mean() > 0.99
    same = news.items.cluster == news.items.cluster[leaders]
    assert same.mean() > 0.99
