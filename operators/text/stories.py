"""Which story an item tells, and how new it is."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from operators.columns import CodeArray, FloatArray, IntArray, frozen
from operators.state import Column
from operators.text.age import age
from operators.text.fingerprint import NO_SHINGLE, SKETCH, SketchArray
from operators.text.items import ClusterArray
from operators.text.sparse import SparseState

__all__ = ["StoryState"]

_STORIES: Final = 32
"""Stories of an instrument that are remembered, 4.9 kB where there are any; the one without an item for longest goes
first. Copies do not take the place of other stories, so this is days of news even of a large company."""
_NEVER: Final = -(2**63)


class StoryState(SparseState):
    r"""Leader clustering of an instrument's items by their words.

    The first item of a story is its leader. An item belongs to the story whose leader it is most similar to, by the
    Jaccard similarity of shingle sets $|A \cap B| / |A \cup B|$, if that is at least `similarity` and the story had
    an item within `window_ns`; otherwise it leads a new one. An item at $t$ whose story had items at $t_i$ before has

    $$ \mathrm{novelty} = f^{\,N}, \qquad N = \sum_i 2^{-(t - t_i) / h} $$

    with the `repeat_factor` $f$ and the half-life $h$ of a repeat, so that all items of a burst together count at
    most $1 / (1 - f)$, and what is said once a day stays worth hearing. The cluster of an item is the key of its
    leader: two instruments that have the same first item have the same cluster, wherever they are computed.

    Parameters
    ----------
    similarity
        In (0, 1]. With words and pairs of words as shingles, 0.5 joins headlines of which a word or two differ;
        numbers are words, and "raises forecast" and "cuts forecast" stay apart.
    window_ns
        Time after the last item of a story until it is forgotten, ns.
    repeat_factor
        In [0, 1].
    repeat_half_life_ns
        $h$, ns.

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Notes
    -----
    Items are compared with leaders and not with each other: a story cannot drift, word by word, into another one, but
    a chain that is rewritten at each step is several stories. Similarity is exact where both texts have fewer than 32
    shingles and otherwise estimated from the smallest 32 of both. Of equally similar stories the one that stands
    first in the state is taken. A story that was forgotten and is told again has the same cluster and is new again.
    About half a microsecond an item.

    Examples
    --------
    >>> from operators.text.fingerprint import fingerprints
    >>> texts = ["Acme profit beats on strong demand", "UPDATE 1-Acme profit beats on strong demand", "Acme CEO quits"]
    >>> state = StoryState(similarity=0.5, window_ns=100, repeat_factor=0.5, repeat_half_life_ns=10)
    >>> state.ensure(1)
    >>> novelty, cluster = state.update(np.zeros(3, np.int32), np.array([0, 0, 20]), *fingerprints(texts))
    >>> novelty.tolist(), bool(cluster[0] == cluster[1]), bool(cluster[0] == cluster[2])
    ([1.0, 0.5, 1.0], True, False)

    References
    ----------
    Broder, A. (1997). On the resemblance and containment of documents. SEQUENCES '97.
    Hartigan, J. (1975). Clustering Algorithms, chapter 3: quick partition (leader) algorithms. Wiley.
    """

    def __init__(self, *, similarity: float, window_ns: int, repeat_factor: float, repeat_half_life_ns: int) -> None:
        if not 0 < similarity <= 1 or min(window_ns, repeat_half_life_ns) <= 0 or not 0 <= repeat_factor <= 1:
            raise ValueError(
                "expected `similarity` in (0, 1], `window_ns` and `repeat_half_life_ns` above 0 and `repeat_factor` in "
                f"[0, 1], was {similarity}, {window_ns}, {repeat_half_life_ns} and {repeat_factor}"
            )
        self._similarity = similarity
        self._window_ns = window_ns
        self._repeat_factor = repeat_factor
        self._repeat_half_life_ns = repeat_half_life_ns
        columns = {
            "cluster": Column("u8", shape=(_STORIES,)),
            "sketch": Column("u4", fill=NO_SHINGLE, shape=(_STORIES, SKETCH)),
            "last_ts": Column("i8", fill=_NEVER, shape=(_STORIES,)),
            "repeats": Column("f8", shape=(_STORIES,)),
        }
        super().__init__(columns, version=1)

    def update(
        self, code: CodeArray, ts: IntArray, key: ClusterArray, sketch: SketchArray
    ) -> tuple[FloatArray, ClusterArray]:
        """Take the next items in arrival order.

        Parameters
        ----------
        code, ts
            Instrument and arrival (int64 UTC ns, never decreasing) of each item, shape `(n,)`.
        key, sketch
            What `operators.text.fingerprint.fingerprints` found, shapes `(n,)` and `(n, 32)`.

        Returns
        -------
        novelty
            In [0, 1], shape `(n,)`.
        cluster
            Story of each item, shape `(n,)`.
        """
        novelty = np.ones(len(code))
        cluster = np.zeros(len(code), dtype=np.uint64)
        if len(code):
            items = (frozen(self.slots(code)), frozen(ts), frozen(key), frozen(sketch))
            state = tuple(self._state[name] for name in ("cluster", "sketch", "last_ts", "repeats"))
            rule = (self._similarity, self._window_ns, self._repeat_factor, float(self._repeat_half_life_ns))
            _assign(items, state, rule, novelty, cluster)
        return novelty, cluster


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _jaccard(first: SketchArray, second: SketchArray) -> float:
    """Return the similarity of two sketches; of two empty ones it is 1."""
    whole = first[SKETCH - 1] == NO_SHINGLE and second[SKETCH - 1] == NO_SHINGLE
    i: Any = 0
    j: Any = 0
    union = common = 0
    while whole or union < SKETCH:
        a = first[i] if i < SKETCH else np.uint32(NO_SHINGLE)
        b = second[j] if j < SKETCH else np.uint32(NO_SHINGLE)
        if a == NO_SHINGLE and b == NO_SHINGLE:
            break
        union += 1
        common += a == b
        i += a <= b
        j += b <= a
    return 1.0 if union == 0 else common / union


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _find(i: int, items: Any, state: Any, similarity: float, window: int) -> tuple[int, int]:
    """Return the story of an item, or -1, and the place for a new one."""
    slot, ts, key, sketch = items
    cluster, leader, last_ts, _ = state
    s = slot[i]
    best, best_similarity, idle = -1, 0.0, 0
    for j in range(_STORIES):
        if last_ts[s, j] < last_ts[s, idle]:
            idle = j
        if last_ts[s, j] == _NEVER or age(ts[i], last_ts[s, j]) > window:
            continue
        found = 1.0 if cluster[s, j] == key[i] else _jaccard(leader[s, j], sketch[i])
        if found >= similarity and found > best_similarity:
            best, best_similarity = j, found
    return best, idle


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _assign(items: Any, state: Any, rule: Any, novelty: FloatArray, result: ClusterArray) -> None:
    slot, ts, key, sketch = items
    cluster, leader, last_ts, repeats = state
    similarity, window, factor, half_life = rule
    for i in range(len(slot)):
        s = slot[i]
        story, idle = _find(i, items, state, similarity, window)
        if story < 0:
            story = idle
            cluster[s, story] = key[i]
            leader[s, story, :] = sketch[i]
            repeats[s, story] = 0.0
        else:
            repeats[s, story] *= 2.0 ** (-age(ts[i], last_ts[s, story]) / half_life)
        novelty[i] = factor ** repeats[s, story]
        repeats[s, story] += 1.0
        last_ts[s, story] = ts[i]
        result[i] = cluster[s, story]
