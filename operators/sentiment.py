"""Sentiment of an instrument: the mean of its scored items, each fading with age, sampled at decisions.

Age is counted from arrival: an item counts from the moment we had it, and only for decisions after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import njit

from operators.columns import CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.state import Column, InstrumentState
from schemas.enums import Missing
from schemas.errors import InvariantError
from schemas.features import FeatureSpec

__all__ = ["SentimentState"]

_VERSION: Final = 2
_MAX_WEIGHT: Final = 1e9
"""With a weight of at most this, 10^290 items could pass before a sum overflows."""
_NEVER: Final = -(2**63)
_COLUMNS: Final = ("total", "weight", "ts", "total_before", "weight_before", "ts_before")
_NO_INPUT: Final = int(Missing.NO_INPUT)
_STALE: Final = int(Missing.STALE)


class SentimentState(InstrumentState):
    r"""Exponentially decayed mean of scores, and the weight behind it, per instrument, blended over sources.

    With scores $x_i \in [-1, 1]$, weights $w_i$ and half-life $h$, over the items of source $s$ with $t_i < T$:

    $$ W_s(T) = \sum_i w_i 2^{-(T - t_i)/h}, \qquad m_s(T) = \frac{1}{W_s(T)} \sum_i w_i x_i 2^{-(T - t_i)/h} $$

    A source is present while $W_s$ is at least `min_weight`. Over the sources present, with their weights $\omega_s$:

    $$ \mathrm{sentiment}(T) = \frac{\sum_s \omega_s m_s(T)}{\sum_s \omega_s}, \qquad
    \mathrm{intensity}(T) = \sum_s W_s(T) $$

    With weights of one, the intensity is the number of items, each counting half after every half-life.

    Parameters
    ----------
    half_life_ns
        Half-life, ns. Hours for news; shorter forgets before a slow reader has acted.
    min_weight
        Least intensity that supports a mean, above 0. With weights of one, 0.5 expires an item that
        stands alone after one half-life.
    source_weights
        Weight $\omega_s$ of each source, above 0. A source has the say that its weight gives it, however many items
        it sends: one item of a rare source may stand against a hundred of another.

    Notes
    -----
    An item whose score is NaN could not be scored: it counts nowhere, nor does one of weight 0. Before an
    instrument's first item both outputs are missing with `NO_INPUT`, and while no source is present
    with `STALE`. Sums are decayed from item to item, never at a decision, so the results do not
    depend on when, or whether, anyone looked. An item and a decision at the same nanosecond do not meet,
    whichever call brought them. About 40 ns an item or decision, and 10 more for each source after the first.

    Examples
    --------
    >>> state = SentimentState(half_life_ns=10, min_weight=0.4)
    >>> state.ensure(2)
    >>> items = np.zeros(2, "i4"), np.array([0, 10]), np.array([1.0, -1.0]), np.ones(2)
    >>> values, missing = state.update_and_sample(*items, np.zeros(3, "i4"), np.array([0, 10, 20]))
    >>> values.round(3).tolist(), missing[:, 0].tolist()
    ([[nan, nan], [1.0, 0.5], [-0.333, 0.75]], [2, 0, 0])

    Two sources, of which the second has a quarter of the say:

    >>> state = SentimentState(half_life_ns=10, min_weight=0.4, source_weights=(0.75, 0.25))
    >>> state.ensure(1)
    >>> decision = np.zeros(1, "i4"), np.array([11])
    >>> values, _ = state.update_and_sample(*items, *decision, item_source=np.array([0, 1], "i4"))
    >>> values.round(3).tolist()
    [[0.5, 1.4]]
    """

    def __init__(self, *, half_life_ns: int, min_weight: float, source_weights: Sequence[float] = (1.0,)) -> None:
        if half_life_ns <= 0 or not 0 < min_weight < float("inf"):
            raise ValueError(
                f"expected `half_life_ns` and `min_weight` above 0 and finite, was {half_life_ns} and {min_weight}"
            )
        if not source_weights or not all(0 < weight < float("inf") for weight in source_weights):
            raise ValueError(f"expected `source_weights` above 0 and finite, at least one, was {list(source_weights)}")
        self._half_life_ns = half_life_ns
        self._min_weight = min_weight
        self._source_weights = np.array(source_weights, dtype=np.float64)
        n = (len(source_weights),)
        super().__init__(
            {
                "total": Column("f8", shape=n),
                "weight": Column("f8", shape=n),
                "ts": Column("i8", fill=_NEVER),
                "total_before": Column("f8", shape=n),
                "weight_before": Column("f8", shape=n),
                "ts_before": Column("i8", fill=_NEVER),
            },
            version=_VERSION,
        )

    def specs(self, prefix: str) -> tuple[FeatureSpec, FeatureSpec]:
        """Return what the two outputs are, in order, for items of the topic `prefix`."""
        parameters = {"half_life_ns": self._half_life_ns, "min_weight": self._min_weight}
        return (
            FeatureSpec(
                f"{prefix}_sentiment",
                "1",
                "sum_s omega_s m_s / sum_s omega_s over sources with W_s >= min_weight; "
                "W_s = sum_i w_i 2^(-(T - t_i) / half_life), m_s = sum_i w_i x_i 2^(-(T - t_i) / half_life) / W_s, "
                "t_i < T",
                "definition",
                (prefix,),
                parameters,
            ),
            FeatureSpec(
                f"{prefix}_intensity",
                "1",
                "sum_s W_s over sources with W_s >= min_weight; W_s = sum_i w_i 2^(-(T - t_i) / half_life), t_i < T",
                "definition",
                (prefix,),
                parameters,
            ),
        )

    def update_and_sample(
        self,
        item_code: CodeArray,
        item_ts: IntArray,
        item_score: FloatArray,
        item_weight: FloatArray,
        decision_code: CodeArray,
        decision_ts: IntArray,
        *,
        item_source: CodeArray | None = None,
    ) -> tuple[FloatArray, MissingArray]:
        """Take the next items and return the features at the next decisions.

        Parameters
        ----------
        item_code, decision_code
            Instrument codes, int32, shapes `(n,)` and `(m,)`; the state has a row for each.
        item_ts
            Arrival of each item, int64 UTC ns, never decreasing.
        item_score
            Score in [-1, 1], or NaN where the item could not be scored.
        item_weight
            Weight in [0, 1e9].
        decision_ts
            Decision times, int64 UTC ns, never decreasing. A decision that an earlier call's item of its
            instrument is already past comes too late.
        item_source
            Index of each item's source among `source_weights`, int32, shape `(n,)`; the first source by default.

        Returns
        -------
        values
            Sentiment and intensity, shape `(m, 2)`; NaN where there is no value.
        missing
            A `Missing` code for each, shape `(m, 2)`.

        Raises
        ------
        InvariantError
            Times decrease, a score, weight or source is out of its range, or a decision comes too late.
        """
        source = np.zeros(len(item_code), dtype=np.int32) if item_source is None else item_source
        _check_items(item_ts, item_score, item_weight)
        _check_source(source, len(self._source_weights))
        _check_order("decision_ts", decision_ts)
        values = np.full((len(decision_ts), 2), np.nan)
        missing = np.zeros((len(decision_ts), 2), dtype=np.uint8)
        late = _update_and_sample(
            (frozen(item_code), frozen(source), frozen(item_ts), frozen(item_score), frozen(item_weight)),
            (frozen(decision_code), frozen(decision_ts)),
            (frozen(self._source_weights), float(self._half_life_ns), self._min_weight),
            tuple(self._state[name] for name in _COLUMNS),
            values,
            missing,
        )
        if late >= 0:
            raise InvariantError(
                f"expected decisions not older than the items of earlier calls, found one at {int(decision_ts[late])}; "
                "give each decision with, or before, the items that follow it"
            )
        return values, missing


def _check_order(name: str, ts: IntArray) -> None:
    if np.any(ts[1:] < ts[:-1]):
        raise InvariantError(f"expected `{name}` in order of time, found a step back; sort by arrival")


def _check_items(ts: IntArray, score: FloatArray, weight: FloatArray) -> None:
    _check_order("item_ts", ts)
    if np.any(np.abs(score) > 1.0):
        raise InvariantError(
            f"expected scores in [-1, 1] or NaN, found {score[np.abs(score) > 1.0][0]}; scale the scores"
        )
    if not np.all((weight >= 0.0) & (weight <= _MAX_WEIGHT)):
        raise InvariantError(
            f"expected weights in [0, {_MAX_WEIGHT:g}], found {weight[~((weight >= 0.0) & (weight <= _MAX_WEIGHT))][0]}"
        )


def _check_source(source: CodeArray, n: int) -> None:
    bad = (source < 0) | (source >= n)
    if np.any(bad):
        raise InvariantError(f"expected sources from 0 to {n - 1}, found {source[bad][0]}; map unknown ones to one")


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add(code: int, source: int, ts_item: int, score: float, item_weight: float, half_life: float, state: Any) -> None:
    """Add an item; keep what stood before its moment, for a later call's decision at that very moment."""
    total, weight, ts, total_before, weight_before, ts_before = state
    if ts_item != ts[code]:
        total_before[code, :] = total[code, :]
        weight_before[code, :] = weight[code, :]
        ts_before[code] = ts[code]
        if ts[code] != _NEVER:
            factor = 2.0 ** (-float(ts_item - ts[code]) / half_life)
            for s in range(total.shape[1]):
                total[code, s] *= factor
                weight[code, s] *= factor
        ts[code] = ts_item
    total[code, source] += item_weight * score
    weight[code, source] += item_weight


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _blend(total: FloatArray, weight: FloatArray, factor: float, rule: Any) -> tuple[float, float]:
    """Return sentiment and intensity of one instrument; an intensity of 0 says that no source is present."""
    source_weights, _, min_weight = rule
    blended = said = intensity = 0.0
    for s in range(len(source_weights)):
        present = weight[s] * factor
        if present >= min_weight:
            blended += source_weights[s] * (total[s] / weight[s])
            said += source_weights[s]
            intensity += present
    return (blended / said, intensity) if said > 0.0 else (np.nan, 0.0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sample(code: int, now: int, rule: Any, state: Any, values: FloatArray, missing: MissingArray) -> bool:
    """Fill one decision; return whether it comes too late."""
    total, weight, ts, total_before, weight_before, ts_before = state
    then, totals, weights = ts[code], total[code], weight[code]
    late = bool(then > now)
    if then >= now:
        then, totals, weights = ts_before[code], total_before[code], weight_before[code]
    if then == _NEVER:
        missing[:] = _NO_INPUT
        return late
    sentiment, intensity = _blend(totals, weights, 2.0 ** (-float(now - then) / rule[1]), rule)
    if intensity > 0.0:
        values[0] = sentiment
        values[1] = intensity
    else:
        missing[:] = _STALE
    return late


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _update_and_sample(
    items: Any, decisions: Any, rule: Any, state: Any, values: FloatArray, missing: MissingArray
) -> int:
    """Walk items and decisions by time; return the first decision that comes too late, or -1."""
    item_code, item_source, item_ts, item_score, item_weight = items
    decision_code, decision_ts = decisions
    late = -1
    item = 0
    for decision in range(len(decision_ts) + 1):
        last = decision == len(decision_ts)
        while item < len(item_ts) and (last or item_ts[item] < decision_ts[decision]):
            if item_weight[item] > 0.0 and not np.isnan(item_score[item]):
                _add(
                    item_code[item], item_source[item], item_ts[item], item_score[item], item_weight[item], rule[1],
                    state,
                )  # fmt: skip
            item += 1
        if last:
            break
        code, now = decision_code[decision], decision_ts[decision]
        if _sample(code, now, rule, state, values[decision], missing[decision]) and late < 0:
            late = decision
    return late
