"""Sentiment of an instrument: the mean of its scored items, each fading with age, sampled at decisions.

Age is counted from arrival: an item counts from the moment we had it, and only for decisions after it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from operators.columns import CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.state import Column, InstrumentState
from schemas.enums import Missing
from schemas.errors import InvariantError
from schemas.features import FeatureSpec

__all__ = ["SentimentState"]

_VERSION: Final = 1
_MAX_WEIGHT: Final = 1e9
"""With a weight of at most this, 10^290 items could pass before a sum overflows."""
_NO_INPUT: Final = int(Missing.NO_INPUT)
_STALE: Final = int(Missing.STALE)


class SentimentState(InstrumentState):
    r"""Exponentially decayed mean of scores, and the weight behind it, per instrument.

    With scores $x_i \in [-1, 1]$, weights $w_i$ and half-life $h$, over the items with $t_i < T$:

    $$ W(T) = \sum_i w_i 2^{-(T - t_i)/h}, \qquad \mathrm{sentiment}(T) = \frac{1}{W(T)}
    \sum_i w_i x_i 2^{-(T - t_i)/h} $$

    $W$ is the intensity: with weights of one, the number of items, each counting half after every half-life.

    Parameters
    ----------
    half_life_ns
        Half-life, ns. Hours for news; shorter forgets before a slow reader has acted.
    min_weight
        Least intensity that supports a mean, above 0. With weights of one, 0.5 expires an item that
        stands alone after one half-life.

    Notes
    -----
    An item whose score is NaN could not be scored: it counts nowhere, nor does one of weight 0. Before an
    instrument's first item both outputs are missing with `NO_INPUT`, and while the intensity is below
    `min_weight` with `STALE`. Sums are decayed from item to item, never at a decision, so the results do not
    depend on when, or whether, anyone looked. An item and a decision at the same nanosecond do not meet,
    whichever call brought them. About 40 ns an item or decision.

    Examples
    --------
    >>> state = SentimentState(half_life_ns=10, min_weight=0.4)
    >>> state.ensure(2)
    >>> items = np.zeros(2, "i4"), np.array([0, 10]), np.array([1.0, -1.0]), np.ones(2)
    >>> values, missing = state.update_and_sample(*items, np.zeros(3, "i4"), np.array([0, 10, 20]))
    >>> values.round(3).tolist(), missing[:, 0].tolist()
    ([[nan, nan], [1.0, 0.5], [-0.333, 0.75]], [2, 0, 0])
    """

    def __init__(self, *, half_life_ns: int, min_weight: float) -> None:
        if half_life_ns <= 0 or not 0 < min_weight < float("inf"):
            raise ValueError(
                f"expected `half_life_ns` and `min_weight` above 0 and finite, was {half_life_ns} and {min_weight}"
            )
        self._half_life_ns = half_life_ns
        self._min_weight = min_weight
        super().__init__(
            {
                "total": Column("f8"),
                "weight": Column("f8"),
                "ts": Column("i8"),
                "total_before": Column("f8"),
                "weight_before": Column("f8"),
                "ts_before": Column("i8"),
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
                "sum_i w_i x_i 2^(-(T - t_i) / half_life) / sum_i w_i 2^(-(T - t_i) / half_life), t_i < T",
                "definition",
                (prefix,),
                parameters,
            ),
            FeatureSpec(
                f"{prefix}_intensity",
                "1",
                "sum_i w_i 2^(-(T - t_i) / half_life), t_i < T",
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

        Returns
        -------
        values
            Sentiment and intensity, shape `(m, 2)`; NaN where there is no value.
        missing
            A `Missing` code for each, shape `(m, 2)`.

        Raises
        ------
        InvariantError
            Times decrease, a score or weight is out of its range, or a decision comes too late.
        """
        _check_items(item_ts, item_score, item_weight)
        _check_order("decision_ts", decision_ts)
        values = np.full((len(decision_ts), 2), np.nan)
        missing = np.zeros((len(decision_ts), 2), dtype=np.uint8)
        late = _update_and_sample(
            frozen(item_code),
            frozen(item_ts),
            frozen(item_score),
            frozen(item_weight),
            frozen(decision_code),
            frozen(decision_ts),
            float(self._half_life_ns),
            self._min_weight,
            self._state["total"],
            self._state["weight"],
            self._state["ts"],
            self._state["total_before"],
            self._state["weight_before"],
            self._state["ts_before"],
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


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add(
    code: int,
    ts_item: int,
    score: float,
    item_weight: float,
    half_life: float,
    total: FloatArray,
    weight: FloatArray,
    ts: IntArray,
    total_before: FloatArray,
    weight_before: FloatArray,
    ts_before: IntArray,
) -> None:
    """Add an item; keep what stood before its moment, for a later call's decision at that very moment."""
    if weight[code] == 0.0 or ts_item != ts[code]:
        total_before[code] = total[code]
        weight_before[code] = weight[code]
        ts_before[code] = ts[code]
        if weight[code] > 0.0:
            factor = 2.0 ** (-float(ts_item - ts[code]) / half_life)
            total[code] *= factor
            weight[code] *= factor
        ts[code] = ts_item
    total[code] += item_weight * score
    weight[code] += item_weight


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _update_and_sample(
    item_code: CodeArray,
    item_ts: IntArray,
    item_score: FloatArray,
    item_weight: FloatArray,
    decision_code: CodeArray,
    decision_ts: IntArray,
    half_life: float,
    min_weight: float,
    total: FloatArray,
    weight: FloatArray,
    ts: IntArray,
    total_before: FloatArray,
    weight_before: FloatArray,
    ts_before: IntArray,
    values: FloatArray,
    missing: MissingArray,
) -> int:
    """Walk items and decisions by time; return the first decision that comes too late, or -1."""
    late = -1
    item = 0
    for decision in range(len(decision_ts) + 1):
        last = decision == len(decision_ts)
        while item < len(item_ts) and (last or item_ts[item] < decision_ts[decision]):
            if item_weight[item] > 0.0 and not np.isnan(item_score[item]):
                _add(
                    item_code[item], item_ts[item], item_score[item], item_weight[item], half_life,
                    total, weight, ts, total_before, weight_before, ts_before,
                )  # fmt: skip
            item += 1
        if last:
            break
        code = decision_code[decision]
        now = decision_ts[decision]
        total_then, weight_then, then = total[code], weight[code], ts[code]
        if weight_then > 0.0 and then >= now:
            late = decision if then > now and late < 0 else late
            total_then, weight_then, then = total_before[code], weight_before[code], ts_before[code]
        intensity = 0.0 if weight_then == 0.0 else weight_then * 2.0 ** (-float(now - then) / half_life)
        if intensity >= min_weight:
            values[decision, 0] = total_then / weight_then
            values[decision, 1] = intensity
        else:
            missing[decision, :] = _NO_INPUT if weight_then == 0.0 else _STALE
    return late
