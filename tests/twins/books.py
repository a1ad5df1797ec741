"""Batch twin of the features of a book: from whole columns of one instrument, by the papers' formulas and numpy alone.

A book is a table of its updates: `bid, bid_size, ask, ask_size` (NaN where the book has no top), and `levels` of shape
`(n, depth - 1, 4)` with price and size of bid and offer below the best, or no level at all. Flows are those since the
update before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.book_feature_table import BookFeatureConfig

__all__ = ["BookTable", "book_twin", "microprice_adjustments", "resiliency"]

Floats = npt.NDArray[np.float64]
SPAN = 65_536


@dataclass(frozen=True)
class BookTable:
    """Updates of one book."""

    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats
    levels: Floats

    def __len__(self) -> int:
        return len(self.bid)

    def sides(self) -> tuple[list[list[tuple[float, float]]], list[list[tuple[float, float]]]]:
        """Return the levels of bids and of offers at each update, the best first."""
        found: tuple[list[list[tuple[float, float]]], ...] = ([], [])
        for i in range(len(self)):
            for s, (price, size) in enumerate(((self.bid[i], self.bid_size[i]), (self.ask[i], self.ask_size[i]))):
                below = [(float(level[2 * s]), float(level[2 * s + 1])) for level in self.levels[i]]
                found[s].append([(float(price), float(size)), *((p, q) for p, q in below if q > 0)])
        return found[0], found[1]


def book_twin(table: BookTable, config: BookFeatureConfig) -> dict[str, Floats]:
    """Return every feature by name, NaN where it has no value."""
    known = np.isfinite(table.bid) & np.isfinite(table.ask) & (table.bid < table.ask)
    before = np.r_[False, known[:-1]]
    bid, bid_size, ask, ask_size = (
        np.where(known, column, np.nan) for column in (table.bid, table.bid_size, table.ask, table.ask_size)
    )
    mid, spread = (bid + ask) / 2, ask - bid
    found = {
        "bid_price": bid, "ask_price": ask, "bid_size": bid_size, "ask_size": ask_size, "mid_price": mid,
        "spread": spread, "spread_bps": 1e4 * spread / mid,
        "weighted_mid": (ask * bid_size + bid * ask_size) / (bid_size + ask_size),
        "queue_imbalance": (bid_size - ask_size) / (bid_size + ask_size),
    }  # fmt: skip
    found |= _flows(bid, bid_size, ask, ask_size)
    found |= _depths(table, known, mid)
    tick = _ticks(bid, ask, spread, known, config.tick_warm_up)
    found["tick_size"], found["spread_ticks"] = tick, _snapped(spread / tick)
    found["microprice"] = mid + microprice_adjustments(
        mid, found["queue_imbalance"], found["spread_ticks"], tick, config
    )
    found["spread_resiliency"] = resiliency(np.log(spread), before, config.resiliency_half_life)
    found["depth_resiliency"] = resiliency(found.pop("log_depth"), before, config.resiliency_half_life)
    return found


def _snapped(ticks: Floats) -> Floats:
    whole = np.round(ticks)
    return np.where(np.abs(ticks - whole) <= 1e-6 * ticks, whole, ticks)


def _flows(bid: Floats, bid_size: Floats, ask: Floats, ask_size: Floats) -> dict[str, Floats]:
    """Cont, Kukanov and Stoikov (2014), equation 1, and its parts."""
    b, qb, a, qa = (np.r_[np.nan, column[:-1]] for column in (bid, bid_size, ask, ask_size))
    known = np.isfinite(bid) & np.isfinite(b)
    flow = (bid >= b) * bid_size - (bid <= b) * qb - (ask <= a) * ask_size + (ask >= a) * qa
    parts = {
        "order_flow_imbalance": flow,
        "bid_size_added": np.select([bid > b, bid == b], [bid_size, np.maximum(bid_size - qb, 0)], 0.0),
        "bid_size_removed": np.select([bid < b, bid == b], [qb, np.maximum(qb - bid_size, 0)], 0.0),
        "ask_size_added": np.select([ask < a, ask == a], [ask_size, np.maximum(ask_size - qa, 0)], 0.0),
        "ask_size_removed": np.select([ask > a, ask == a], [qa, np.maximum(qa - ask_size, 0)], 0.0),
        "touch_up_moves": (bid > b) + 1.0 * (ask > a),
        "touch_down_moves": (bid < b) + 1.0 * (ask < a),
    }
    return {name: np.where(known, part, np.nan) for name, part in parts.items()}


def _level_flow(now: list[tuple[float, float]], before: list[tuple[float, float]], rank: int, sign: int) -> float:
    """Return what came to a level of a side less what left it; `sign` is 1 where higher prices are better."""
    if len(now) <= rank:
        return -before[rank][1] if len(before) > rank else 0.0
    if len(before) <= rank:
        return now[rank][1]
    (price, size), (price_before, size_before) = now[rank], before[rank]
    if price == price_before:
        return size - size_before
    return size if sign * (price - price_before) > 0 else -size_before


def _side_slope(side: list[tuple[float, float]], mid: float) -> float:
    """Naes and Skjeltorp (2006), equation 2 or 3, with ln(1 + V) for ln V."""
    prices = [price for price, _ in side]
    logs = np.log(1 + np.cumsum([size for _, size in side]))
    below = [(logs[k + 1] / logs[k] - 1) / abs(prices[k + 1] / prices[k] - 1) for k in range(len(side) - 1)]
    return float(logs[0] / abs(prices[0] / mid - 1) + sum(below)) / len(side)


def _depths(table: BookTable, known: npt.NDArray[np.bool_], mid: Floats) -> dict[str, Floats]:
    n, (bids, asks) = len(table), table.sides()
    depth = table.levels.shape[1] + 1
    names = ("depth_imbalance", "weighted_depth_imbalance", "book_slope", "multi_level_order_flow_imbalance",
             "log_depth")  # fmt: skip
    found = {name: np.full(n, np.nan) for name in names}
    deep = np.isfinite(table.levels[:, :1, 1]).all(axis=1)
    for i in np.flatnonzero(known):
        sums = [sum(size for _, size in side) for side in (bids[i], asks[i])]
        weighted = [sum(size / rank for rank, (_, size) in enumerate(side, 1)) for side in (bids[i], asks[i])]
        found["depth_imbalance"][i] = (sums[0] - sums[1]) / (sums[0] + sums[1])
        found["weighted_depth_imbalance"][i] = (weighted[0] - weighted[1]) / (weighted[0] + weighted[1])
        found["book_slope"][i] = (_side_slope(bids[i], mid[i]) + _side_slope(asks[i], mid[i])) / 2
        found["log_depth"][i] = np.log(1 + sums[0]) + np.log(1 + sums[1])
        if i and known[i - 1] and deep[i] == deep[i - 1]:
            found["multi_level_order_flow_imbalance"][i] = sum(
                _level_flow(bids[i], bids[i - 1], rank, 1) - _level_flow(asks[i], asks[i - 1], rank, -1)
                for rank in range(depth)
            )
    return found


def _ticks(bid: Floats, ask: Floats, spread: Floats, known: npt.NDArray[np.bool_], warm_up: int) -> Floats:
    found = np.full(len(bid), np.nan)
    steps = np.column_stack([spread, np.r_[np.nan, np.abs(np.diff(bid))], np.r_[np.nan, np.abs(np.diff(ask))]])
    least = np.fmin.reduce(np.where(steps > 1e-9 * ask[:, None], steps, np.inf), axis=1)[known]
    smallest = np.full(len(least), np.inf)
    for start in range(0, len(least), SPAN):
        span = np.minimum.accumulate(least[start : start + SPAN])
        before = least[max(start - SPAN, 0) : start].min(initial=np.inf)
        smallest[start : start + SPAN] = np.minimum(span, before)
    smallest[: warm_up - 1] = np.nan
    found[known] = np.where(np.isinf(smallest), np.nan, smallest)
    return found


def resiliency(liquidity: Floats, before: npt.NDArray[np.bool_], half_life: int) -> Floats:
    """Kempf et al. (2015): minus the weighted least-squares slope of the change on the value before."""
    found = np.full(len(liquidity), np.nan)
    changes = np.r_[np.nan, np.diff(liquidity)]
    x, y = np.r_[np.nan, liquidity[:-1]], changes
    pairs = np.flatnonzero(before & np.isfinite(changes))
    for i in np.flatnonzero(np.isfinite(liquidity)):
        own = pairs[pairs <= i]
        if len(own) < half_life:
            continue
        weights = 0.5 ** ((len(own) - 1 - np.arange(len(own))) / half_life)
        recent = weights > 1e-12
        own, weights = own[recent], weights[recent]
        dx, dy = x[own] - np.average(x[own], weights=weights), y[own] - np.average(y[own], weights=weights)
        if np.average(dx**2, weights=weights) > 1e-12:
            found[i] = -np.sum(weights * dx * dy) / np.sum(weights * dx**2)
    return found


def microprice_adjustments(
    mid: Floats, imbalance: Floats, ticks: Floats, tick: Floats, config: BookFeatureConfig
) -> Floats:
    """Stoikov (2018), section 3: the limit of the expected mid less the mid, re-estimated on the schedule."""
    found = np.full(len(mid), np.nan)
    half, n_spreads = config.imbalance_states // 2, config.spread_states
    fade = 2.0 ** (-config.microprice_refresh / config.microprice_half_life)

    def state(i: int) -> tuple[int, int]:
        """Return imbalance bucket (0 balanced, mirrored by its sign) and spread."""
        bucket = min(int(abs(imbalance[i]) * half), half - 1) + 1
        spread = min(max(int(np.floor(ticks[i] + 0.5)), 1), n_spreads)
        return int(np.sign(imbalance[i])) * bucket, spread

    unit = np.nan
    transitions: list[tuple[tuple[int, int], tuple[int, int], float, float]] = []
    adjustments: dict[tuple[int, int], float] | None = None
    count, last = 0, -1
    for i in range(len(mid)):
        if not np.isfinite(mid[i] + imbalance[i] + ticks[i]):
            last = -1
            continue
        if not abs(tick[i] - unit) <= 1e-6 * tick[i]:
            unit, transitions, adjustments, count, last = tick[i], [], None, 0, -1
        if last >= 0 and abs(mid[i] - mid[last]) <= 0.01 * mid[i]:
            transitions.append((state(last), state(i), float(mid[i] - mid[last]), 1.0))
            count += 1
            if count == config.microprice_refresh:
                count = 0
                adjustments = _limit(transitions, half, n_spreads, config.microprice_min_visits)
                transitions = [(x, y, move, weight * fade) for x, y, move, weight in transitions]
        last = i
        if adjustments is not None:
            found[i] = adjustments.get(state(i), np.nan)
    return found


def _limit(
    transitions: list[tuple[tuple[int, int], tuple[int, int], float, float]], half: int, n_spreads: int, least: float
) -> dict[tuple[int, int], float]:
    """Return the sum of B^i G1 for each state that enough transitions left."""
    states = [(bucket, spread) for bucket in range(-half, half + 1) for spread in range(1, n_spreads + 1)]
    index = {state: k for k, state in enumerate(states)}
    moves = sorted({sign * move for _, _, move, _ in transitions for sign in (1, -1)})
    n = len(states)
    stays, jumps, changes = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, len(moves)))
    for (bucket, spread), (next_bucket, next_spread), move, weight in transitions:
        for sign in (1, -1):
            x, y = index[sign * bucket, spread], index[sign * next_bucket, next_spread]
            if move == 0:
                stays[x, y] += weight
            else:
                jumps[x, y] += weight
                changes[x, moves.index(sign * move)] += weight
    visits = (stays + jumps).sum(axis=1)
    shares = np.where(visits > 0, visits, 1.0)[:, None]
    q, r2, r1 = stays / shares, jumps / shares, changes / shares
    inverse = np.linalg.inv(np.eye(n) - q)
    b, term = inverse @ r2, inverse @ r1 @ np.array(moves)
    total = np.zeros(n)
    for _ in range(100_000):
        total += term
        term = b @ term
        if np.abs(term).max() < 1e-13:
            break
    one_sided = {s: visits[index[s]] for s in states}
    balanced = {(0, spread): 0.0 for spread in range(1, n_spreads + 1)}
    return balanced | {s: total[index[s]] for s in states if s[0] and one_sided[s] >= least * (1 - 1e-12)}
