"""What a post counts that is part of a burst: copies, one author, too many a minute."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from operators.columns import CodeArray, FloatArray, IntArray, frozen
from operators.state import Column
from operators.text.age import age
from operators.text.items import ClusterArray
from operators.text.sparse import SparseState

__all__ = ["DampingState"]

_POSTS: Final = 64
"""Posts of an instrument that are compared, 1.3 kB where there are any. In a burst of more, shares are those among the
last 64, and the rate of an instrument still counts all."""
_MINUTE: Final = 60_000_000_000
_NEVER: Final = -(2**63)


class DampingState(SparseState):
    r"""Damping of posts by how many like them there were just before, per instrument.

    A post counts in full up to an allowed number, and beyond it as the allowed part of what was found:

    $$ d = \min\Big(1, \frac{k}{c}\Big) \min\Big(1, \frac{s\,n}{a}\Big) \min\Big(1, \frac{r_a}{a_1}\Big)
    \min\Big(1, \frac{r}{R}\Big), \qquad R = \sum_i e^{-(t - t_i) / 1\,\mathrm{min}} $$

    Over the window before the post, with it: $n$ posts of the instrument, $a$ by its author, $c$ of its story. In
    the last minute of it $a_1$ by its author. $R$ is posts a minute of the instrument. The share of an author is
    looked at from `min_posts` in the window on. A burst of $m$ copies thus counts at most $k (1 + \ln(m / k))$.

    Parameters
    ----------
    window_ns
        Time over which posts are compared, ns.
    copies
        Allowed posts of one story, $k$.
    author_share
        Allowed share of an author, $s$, in (0, 1].
    min_posts
        Posts in the window before a share is looked at.
    author_rate, instrument_rate
        Allowed posts a minute, $r_a$ and $r$.

    Raises
    ------
    ValueError
        A parameter is not above 0.

    Notes
    -----
    Always finite, in (0, 1]. At most 64 posts are compared. A true event makes bursts too: then each post counts
    less, and their mean is the same. About 0.2 microseconds a post.

    Examples
    --------
    >>> state = DampingState(
    ...     window_ns=100, copies=1, author_share=1.0, min_posts=4, author_rate=9.0, instrument_rate=9.0
    ... )
    >>> state.ensure(1)
    >>> same = np.full(3, 7, np.uint64)
    >>> state.update(np.zeros(3, np.int32), np.array([0, 1, 200]), same, np.array([1, 2, 3], np.uint32)).tolist()
    [1.0, 0.5, 1.0]
    """

    def __init__(
        self,
        *,
        window_ns: int,
        copies: int,
        author_share: float,
        min_posts: int,
        author_rate: float,
        instrument_rate: float,
    ) -> None:
        self._rule = (window_ns, float(copies), author_share, min_posts, author_rate, instrument_rate)
        if not all(value > 0 for value in self._rule):
            raise ValueError(f"expected parameters of damping above 0, was {self._rule}")
        columns = {
            "ts": Column("i8", fill=_NEVER, shape=(_POSTS,)),
            "story": Column("u8", shape=(_POSTS,)),
            "author": Column("u4", shape=(_POSTS,)),
            "next": Column("i8"),
            "rate": Column("f8"),
            "rate_ts": Column("i8"),
        }
        super().__init__(columns, version=1)

    def update(self, code: CodeArray, ts: IntArray, story: ClusterArray, author: Any) -> FloatArray:
        """Return what each of the next posts counts, in (0, 1], shape `(n,)`.

        Parameters
        ----------
        code, ts
            Instrument and arrival (int64 UTC ns, never decreasing) of each post, shape `(n,)`.
        story
            Story of each post, shape `(n,)`.
        author
            Hash of its author, uint32, shape `(n,)`.
        """
        damping = np.ones(len(code))
        if len(code):
            posts = (frozen(self.slots(code)), frozen(ts), frozen(story), frozen(author))
            state = tuple(self._state[name] for name in ("ts", "story", "author", "next", "rate", "rate_ts"))
            _damp(posts, state, self._rule, damping)
        return damping


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _count(i: int, posts: Any, state: Any, window: int) -> tuple[int, int, int, int]:
    """Return how many posts are in the window, by the author, by the author in the last minute, of the story."""
    slot, ts, story, author = posts
    past_ts, past_story, past_author, following, _, _ = state
    s = slot[i]
    n = by_author = in_minute = copies = 1
    for back in range(1, _POSTS + 1):
        j = (following[s] - back) % _POSTS
        if past_ts[s, j] == _NEVER or age(ts[i], past_ts[s, j]) >= window:
            break
        n += 1
        copies += past_story[s, j] == story[i]
        if past_author[s, j] == author[i]:
            by_author += 1
            in_minute += age(ts[i], past_ts[s, j]) < _MINUTE
    return n, by_author, in_minute, copies


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _damp(posts: Any, state: Any, rule: Any, damping: FloatArray) -> None:
    slot, ts, story, author = posts
    past_ts, past_story, past_author, following, rate, rate_ts = state
    window, allowed, share, min_posts, author_rate, instrument_rate = rule
    for i in range(len(slot)):
        s = slot[i]
        n, by_author, in_minute, copies = _count(i, posts, state, window)
        rate[s] = 1.0 + (rate[s] * np.exp(-age(ts[i], rate_ts[s]) / _MINUTE) if rate[s] > 0.0 else 0.0)
        rate_ts[s] = ts[i]
        found = min(1.0, allowed / copies) * min(1.0, author_rate / in_minute) * min(1.0, instrument_rate / rate[s])
        if n >= min_posts:
            found *= min(1.0, share * n / by_author)
        damping[i] = found
        j = following[s]
        past_ts[s, j] = ts[i]
        past_story[s, j] = story[i]
        past_author[s, j] = author[i]
        following[s] = (j + 1) % _POSTS
