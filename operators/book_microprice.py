r"""Stoikov's micro-price: where the mid is expected to end up, given imbalance and spread.

The state $x$ of a book is its queue imbalance, in one of $n$ buckets, and its spread in ticks. With $M$ the mid and
$\tau_i$ the updates at which it changes, the micro-price is $\lim_i E[M_{\tau_i} \mid x] = M + g(x)$. From update to
update, with $r$ the mean change of the mid out of each state, $Q$ the probabilities of transitions at which the mid
stays and $R$ of those at which it moves, the paper computes

$$ g = \sum_{i \ge 0} B^i G^1, \qquad G^1 = (I - Q)^{-1} r, \qquad B = (I - Q)^{-1} R. $$

So $g = G^1 + B g$, and multiplied by $I - Q$ this is $(I - P)\, g = r$ with $P = Q + R$, the transition
probabilities whatever the mid does: what is counted is only $P$ and $r$.

Symmetrised as in the paper, each transition counts together with its mirror image (bid and offer exchanged, the
move of the mid negated). Then $g(\bar x) = -g(x)$ for mirrored states, and the system is one of half the states:
for $x$ with more on the bid, with $\bar y$ the mirror image of $y$,

$$ g(x) = r(x) + \sum_y (P_{xy} - P_{x \bar y})\, g(y), $$

whose rows sum to less than one where the two sides mix, so that the limit exists. A book with equal quantities is
its own mirror image: $g = 0$.

References
----------
Stoikov, S. (2018). The micro-price: a high-frequency estimator of future prices. Quantitative Finance 18(12),
1959-1966.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from operators.book_feature_table import NAMES, BookFeatureConfig
from operators.state import Column
from schemas.enums import Missing

__all__ = ["follow_microprice", "microprice_columns", "microprice_rules"]

_MICROPRICE: Final = NAMES.index("microprice")
_MID: Final = NAMES.index("mid_price")
_IMBALANCE: Final = NAMES.index("queue_imbalance")
_TICK: Final = NAMES.index("tick_size")
_TICKS: Final = NAMES.index("spread_ticks")
_BUCKETS, _SPREADS, _REFRESH, _FADE, _MIN_VISITS = range(5)
"""positions in the rules: buckets of one side, spreads, transitions between estimates, what is left of the counts
after an estimate, least transitions out of a state"""
_STATE, _SIGN, _LAST_MID, _COUNT, _UNIT, _READY = range(6)
"""of an instrument: state plus 1 at the update before (0: none), its sign, its mid, transitions since the estimate, the
tick that spreads are counted in, 1 once there is an estimate"""
_ADJUSTMENT, _SUPPORT, _VISITS, _MOVES = range(4)
"""of a state: g as last estimated, transitions behind it, transitions out of the state, sum of their moves of the mid;
then the transitions to each state less those to its mirror image"""
_TO: Final = 4
_LEAST_PIVOT: Final = 1e-9
"""Below it the system is singular: the two sides do not mix, and the expected move has no limit."""
_LARGEST_MOVE: Final = 0.01
"""Moves of the mid above this share of it are jumps or bad prices; the chain is one of small moves, and does not count
them."""
_SAME_TICK: Final = 1e-6
"""Relative change of the tick that is rounding."""
_OK: Final = int(Missing.OK)
_WARMING_UP: Final = int(Missing.WARMING_UP)
_DEGENERATE: Final = int(Missing.DEGENERATE)
_NOT_FINITE: Final = int(Missing.NOT_FINITE)


def microprice_columns(config: BookFeatureConfig) -> dict[str, Column]:
    """Return the state: where each instrument stands, and its chain."""
    n = config.imbalance_states // 2 * config.spread_states
    return {"place": Column("f8", shape=(6,)), "chain": Column("f8", shape=(n, _TO + n))}


def microprice_rules(config: BookFeatureConfig) -> tuple[float, ...]:
    """Return the parameters of the kernel."""
    fade = 2.0 ** (-config.microprice_refresh / config.microprice_half_life)
    buckets = config.imbalance_states // 2
    return tuple(
        map(float, (buckets, config.spread_states, config.microprice_refresh, fade, config.microprice_min_visits))
    )


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _state_of(imbalance: float, ticks: float, n_buckets: float, n_spreads: float) -> int:
    """Return the state with more on the bid: that of the book, or of its mirror image."""
    bucket = abs(imbalance) * n_buckets
    bucket = bucket if bucket < n_buckets - 1.0 else n_buckets - 1.0
    spread = ticks - 0.5 if ticks > 1.0 else 0.0
    spread = spread if spread < n_spreads - 1.0 else n_spreads - 1.0
    return int(spread) * int(n_buckets) + int(bucket)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _reason(ready: float, sign: float, support: float, min_visits: float, adjustment: float) -> int:
    """Return why there is no micro-price; a book with equal quantities needs no adjustment."""
    if ready == 0.0 or (sign != 0.0 and support < min_visits):
        return _WARMING_UP
    return _DEGENERATE if sign != 0.0 and np.isnan(adjustment) else _OK


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def follow_microprice(
    code: Any, top_missing: Any, rules: Any, place: Any, chain: Any, values: Any, missing: Any
) -> None:
    """Count the transitions, estimate on schedule, and fill the column of the micro-price.

    Mid, queue imbalance, tick and spread in ticks stand in `values` already.
    """
    system = np.empty((chain.shape[1], chain.shape[1] + 1))
    n_buckets, n_spreads = rules[_BUCKETS], rules[_SPREADS]
    for i in range(len(code)):
        c = np.uint64(code[i])
        before = int(place[c, _STATE]) - 1
        place[c, _STATE] = 0.0
        mid, imbalance, ticks = values[i, _MID], values[i, _IMBALANCE], values[i, _TICKS]
        if top_missing[i] != _OK:
            continue
        if not np.isfinite(mid + imbalance + ticks):
            values[i, _MICROPRICE] = np.nan
            missing[i, _MICROPRICE] = missing[i, _TICKS] if missing[i, _TICKS] != _OK else _NOT_FINITE
            continue
        if abs(values[i, _TICK] - place[c, _UNIT]) > _SAME_TICK * values[i, _TICK]:
            # What was counted had other units.
            place[c, _UNIT] = values[i, _TICK]
            place[c, _COUNT] = 0.0
            place[c, _READY] = 0.0
            chain[c] = 0.0
            before = -1
        sign = (1.0 if imbalance > 0.0 else 0.0) - (1.0 if imbalance < 0.0 else 0.0)
        state = _state_of(imbalance, ticks, n_buckets, n_spreads)
        move = mid - place[c, _LAST_MID]
        if before >= 0 and abs(move) <= _LARGEST_MOVE * mid:
            sign_before = place[c, _SIGN]
            chain[c, before, _VISITS] += abs(sign_before)
            chain[c, before, _MOVES] += sign_before * move
            chain[c, before, _TO + state] += sign_before * sign
            place[c, _COUNT] += 1.0
            if place[c, _COUNT] >= rules[_REFRESH]:
                place[c, _COUNT] = 0.0
                place[c, _READY] = 1.0
                _estimate(chain, c, rules[_FADE], system)
        place[c, _STATE] = state + 1.0
        place[c, _SIGN] = sign
        place[c, _LAST_MID] = mid
        adjustment = chain[c, state, _ADJUSTMENT]
        reason = _reason(place[c, _READY], sign, chain[c, state, _SUPPORT], rules[_MIN_VISITS], adjustment)
        missing[i, _MICROPRICE] = reason
        shift = sign * adjustment if sign != 0.0 else 0.0
        values[i, _MICROPRICE] = mid + shift if reason == _OK else np.nan


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _estimate(chain: Any, c: int, fade: float, system: Any) -> None:
    """Solve for g, NaN where it does not exist, and let the counts fade.

    `system` is room for one system, shape `(n, n + 1)`.
    """
    n = chain.shape[1]
    for x in range(n):
        visits = chain[c, x, _VISITS]
        for y in range(n):
            share = chain[c, x, _TO + y] / visits if visits > 0.0 else 0.0
            system[x, y] = (1.0 if x == y else 0.0) - share
        system[x, n] = chain[c, x, _MOVES] / visits if visits > 0.0 else 0.0
    solved = _solve(system)
    for x in range(n):
        chain[c, x, _ADJUSTMENT] = system[x, n] if solved else np.nan
        chain[c, x, _SUPPORT] = chain[c, x, _VISITS]
        for k in range(_VISITS, chain.shape[2]):
            chain[c, x, k] *= fade


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _solve(system: Any) -> bool:
    """Eliminate with partial pivoting; the solution replaces the last column. Return whether there is one."""
    n = len(system)
    for k in range(n):
        if not _pivot(system, k) > _LEAST_PIVOT:
            return False
        for row in range(k + 1, n):
            factor = system[row, k] / system[k, k]
            if factor != 0.0:
                for column in range(k, n + 1):
                    system[row, column] -= factor * system[k, column]
    for k in range(n - 1, -1, -1):
        total = system[k, n]
        for column in range(k + 1, n):
            total -= system[k, column] * system[column, n]
        system[k, n] = total / system[k, k]
    return True


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _pivot(system: Any, k: int) -> float:
    """Bring the row with the largest entry of column `k` to row `k`; return that entry without its sign."""
    pivot = k
    for row in range(k + 1, len(system)):
        if abs(system[row, k]) > abs(system[pivot, k]):
            pivot = row
    for column in range(k, len(system) + 1):
        swapped = system[k, column]
        system[k, column] = system[pivot, column]
        system[pivot, column] = swapped
    return float(abs(system[k, k]))
