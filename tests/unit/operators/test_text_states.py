"""Stories, damping, buzz and the form of posts: values by hand, bounds, refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from operators.text.buzz import BuzzState
from operators.text.config import DampingConfig
from operators.text.damping import DampingState
from operators.text.fingerprint import fingerprints
from operators.text.posts import PostRules
from operators.text.stories import StoryState
from schemas.enums import Missing
from schemas.errors import InvariantError

_SECOND = 10**9


_STORY = {"similarity": 0.5, "window_ns": 100, "repeat_factor": 0.5, "repeat_half_life_ns": 2**62}


def _stories(**changes: Any) -> StoryState:
    state = StoryState(**_STORY | changes)
    state.ensure(4)
    return state


def _tell(state: StoryState, texts: list[str], ts: list[int] | None = None, code: int = 0) -> tuple[list[float], Any]:
    codes = np.full(len(texts), code, dtype=np.int32)
    at = np.arange(len(texts)) if ts is None else np.array(ts)
    novelty, cluster = state.update(codes, at, *fingerprints(texts))
    return novelty.tolist(), cluster.tolist()


def test_update_chain_is_one_story_of_falling_novelty() -> None:
    headline = "Acme to buy Globex for $3 billion"
    novelty, cluster = _tell(_stories(), [headline, f"UPDATE 1-{headline}", f"UPDATE 2-{headline} in cash"])
    assert novelty == [1.0, 0.5, 0.25]
    assert len(set(cluster)) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Acme raises full-year forecast on strong demand", "Acme cuts full-year forecast on weak demand"),
        ("Acme wins appeal in patent case against Globex", "Acme sues Globex over unpaid fees"),
        ("Acme Q1 EPS 0.53 vs 0.49", "Acme CEO to speak at conference"),
        ("Globex to buy Acme", "Acme rejects Globex bid"),
    ],
)
def test_another_story_about_the_same_company_is_new(first: str, second: str) -> None:
    novelty, cluster = _tell(_stories(), [first, second])
    assert novelty == [1.0, 1.0]
    assert cluster[0] != cluster[1]


def test_story_of_two_instruments_has_one_cluster_wherever_it_is_computed() -> None:
    texts = ["Google unveils new phone in New York", "UPDATE 1-Google unveils new phone"]
    here, elsewhere = _tell(_stories(), texts, code=0)[1], _tell(_stories(), texts, code=3)[1]
    assert here == elsewhere
    assert len(set(here)) == 1


def test_story_is_new_again_after_its_window_and_alive_while_it_is_repeated() -> None:
    text = "Acme halts production"
    novelty, cluster = _tell(_stories(), [text] * 4, [0, 100, 200, 301])
    assert novelty == [1.0, 0.5, 0.25, 1.0]
    assert len(set(cluster)) == 1


def test_memory_of_stories_drops_the_one_silent_for_longest() -> None:
    state = _stories(window_ns=10**6)
    others = [f"w{n} x{n} y{n}" for n in range(31)]
    _tell(state, ["first story told", *others], list(range(32)))
    assert _tell(state, ["first story told"], [40])[0] == [0.5]
    assert _tell(state, ["one more story altogether"], [41])[0] == [1.0]
    novelty, _ = _tell(state, ["first story told", others[1], others[0]], [42, 43, 44])
    assert novelty == [0.25, 0.5, 1.0]


def test_thousand_copies_count_no_more_than_the_geometric_sum() -> None:
    novelty, _ = _tell(_stories(window_ns=10**6), ["pump it"] * 2000)
    assert sum(novelty) <= 2.0
    assert novelty[-1] == 0.0


def test_repeat_counts_half_after_every_half_life() -> None:
    novelty, _ = _tell(_stories(repeat_half_life_ns=10), ["pump it"] * 3, [0, 10, 30])
    assert novelty == pytest.approx([1.0, 0.5**0.5, 0.5 ** (1.5 / 4)])


def test_repeat_factor_of_one_and_of_zero() -> None:
    assert _tell(_stories(repeat_factor=1.0), ["a b"] * 3)[0] == [1.0, 1.0, 1.0]
    assert _tell(_stories(repeat_factor=0.0), ["a b"] * 3)[0] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [{"similarity": 0.0}, {"similarity": 1.5}, {"window_ns": 0}, {"repeat_half_life_ns": 0}, {"repeat_factor": -1}],
)
def test_stories_out_of_bounds_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected `similarity`"):
        _stories(**change)


_LOOSE = {
    "window_ns": 600 * _SECOND, "copies": 64, "author_share": 1.0, "min_posts": 64, "author_rate": 64.0,
    "instrument_rate": 1e6,
}  # fmt: skip


def _damped(posts: list[tuple[float, int, int]], **changes: Any) -> list[float]:
    """Return the damping of posts of one instrument: seconds, story, author."""
    state = DampingState(**_LOOSE | changes)
    state.ensure(1)
    ts, story, author = (list(column) for column in zip(*posts, strict=True))
    at = np.array([int(t * _SECOND) for t in ts])
    code = np.zeros(len(ts), dtype=np.int32)
    return state.update(code, at, np.array(story, dtype=np.uint64), np.array(author, dtype=np.uint32)).tolist()


def test_copies_of_a_story_share_what_is_allowed() -> None:
    posts = [(0, 1, 1), (1, 1, 2), (2, 2, 3), (3, 1, 4), (603, 1, 5)]
    assert _damped(posts, copies=1) == [1.0, 0.5, 1.0, 1 / 3, 1.0]
    assert _damped(posts, copies=2) == [1.0, 1.0, 1.0, 2 / 3, 1.0]


def test_author_with_more_than_a_share_is_damped_once_there_are_enough_posts() -> None:
    posts = [(t, t, author) for t, author in enumerate([1, 1, 1, 2, 1])]
    assert _damped(posts, author_share=0.5, min_posts=3) == pytest.approx([1, 1, 0.5, 1, 0.5 * 5 / 4])


def test_author_is_held_to_posts_a_minute() -> None:
    posts = [(0.0, 1, 1), (10, 2, 1), (20, 3, 1), (59, 4, 1), (119.5, 5, 1)]
    assert _damped(posts, author_rate=2.0) == [1.0, 1.0, 2 / 3, 0.5, 1.0]


def test_instrument_is_held_to_its_decayed_posts_a_minute() -> None:
    found = _damped([(0, 1, 1), (0, 2, 2), (60, 3, 3)], instrument_rate=1.0)
    assert found == pytest.approx([1.0, 0.5, 1 / (1 + 2 / math.e)])


def test_burst_of_copies_counts_its_logarithm() -> None:
    n = 1000
    burst = _damped([(i / 100, 1, i) for i in range(n)], copies=1, instrument_rate=30.0)
    assert sum(burst) < 2 * (1 + math.log(n))


def test_damping_survives_extreme_times() -> None:
    state = DampingState(**_LOOSE)
    state.ensure(1)
    ts = np.array([-(2**63) + 1, 0, 2**63 - 1])
    found = state.update(np.zeros(3, np.int32), ts, np.zeros(3, np.uint64), np.zeros(3, np.uint32))
    assert found.tolist() == [1.0, 1.0, 1.0]


def test_damping_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="expected parameters of damping above 0"):
        DampingState(**_LOOSE | {"author_rate": 0.0})


_RULES = PostRules(DampingConfig(max_cashtags=2, ambiguous_factor=0.25, retweet_factor=0.5))


@pytest.mark.parametrize(
    ("text", "ticker", "factor"),
    [
        ("profits up at Acme", "ACME", 1.0),
        ("$ACME and $acme", "ACME", 1.0),
        ("$ACME $B $C $D", "ACME", 0.5),
        ("RT @a: $ACME up", "ACME", 0.5),
        ("rt AT_USER acme up", "ACME", 0.5),
        ("MT @a acme up", "ACME", 0.5),
        ("MT Bank up", "ACME", 1.0),
        ("smart RT @a", "ACME", 1.0),
        ("a cat on a mat", "CAT", 0.25),
        ("buy $CAT.", "CAT", 1.0),
        ("buy $cat", "cat", 1.0),
        ("$CATX soars, all on it", "CAT", 0.25),
        ("it cost 80 U$D", "D", 0.25),
        ("for $40 a share", "A", 0.25),
        ("RT @a $A $B $C $D", "CAT", 0.5 * 0.5 * 0.25),
        ("", "CAT", 0.25),
    ],
)
def test_form_of_a_post_gives_its_factor(text: str, ticker: str, factor: float) -> None:
    assert _RULES.factor(text, ticker) == factor


def _buzz(items: list[int], decisions: list[int], **changes: Any) -> tuple[list[float], list[int]]:
    rule = {"interval_ns": 10, "half_life_ns": 10**9, "min_intervals": 2, "min_deviation": 0.5} | changes
    state = BuzzState(**rule)
    state.ensure(1)
    code = np.zeros(len(items), dtype=np.int32), np.zeros(len(decisions), dtype=np.int32)
    values, missing = state.update_and_sample(code[0], np.array(items), code[1], np.array(decisions))
    return values.tolist(), missing.tolist()


def test_buzz_is_a_z_score_against_the_intervals_before() -> None:
    counts = [2, 4, 2, 4, 7]
    items = [10 * k + i for k, n in enumerate(counts) for i in range(n)]
    values, _ = _buzz(items, [45, 50, 59, 60])
    assert values == pytest.approx([(4 - 8 / 3) / math.sqrt(8 / 9), 4.0, 4.0, (0 - 3.8) / np.std(counts)], rel=1e-6)


def test_buzz_before_items_and_before_enough_intervals_is_missing() -> None:
    assert _buzz([5], [3, 15, 29, 30]) == (
        pytest.approx([math.nan, math.nan, math.nan, -1.0], nan_ok=True),
        [Missing.NO_INPUT, Missing.WARMING_UP, Missing.WARMING_UP, Missing.OK],
    )


def test_buzz_of_silence_is_bounded_by_the_least_deviation() -> None:
    values, _ = _buzz([0, 10**6, 10**6 + 1], [10**6 + 10], half_life_ns=100)
    assert values == pytest.approx([4.0])


def test_buzz_with_a_half_life_beyond_any_interval_is_a_plain_mean() -> None:
    values, _ = _buzz([5, 55], [60], half_life_ns=2**62)
    assert values == pytest.approx([0.8 / 0.5])


def test_buzz_decision_that_would_look_ahead_is_refused() -> None:
    state = BuzzState(interval_ns=10, half_life_ns=10, min_intervals=1, min_deviation=1.0)
    state.ensure(1)
    code, none = np.zeros(1, np.int32), np.zeros(0, np.int32)
    state.update_and_sample(code, np.array([50]), none, np.zeros(0, np.int64))
    with pytest.raises(InvariantError, match="found one at 50"):
        state.update_and_sample(none, np.zeros(0, np.int64), code, np.array([50]))


@pytest.mark.parametrize(
    "change", [{"interval_ns": 0}, {"half_life_ns": 0}, {"min_intervals": 0}, {"min_deviation": 0}]
)
def test_buzz_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected `interval_ns`"):
        _buzz([], [], **change)
