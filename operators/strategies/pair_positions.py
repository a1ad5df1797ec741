r"""Positions in pairs: both legs are opened together and ended together, by the z-score of their spread.

With $y$ and $x$ the two legs (prices, or their logarithms), the spread is $s = y - \alpha - \beta x$ and
$z = (s - \mu) / \sigma$. From flat, $z \le -e$ opens the spread long (first leg long, second short), $z \ge e$ opens it
short, unless $|z|$ is at the stop already. All of $\alpha, \beta, \mu, \sigma$ stay as they were at the entry until the
position has ended: what is watched is what was traded. It ends

- at the mean: $|z|$ at or within the exit level, or $z$ on the other side;
- at the stop: $z$ as far out as the stop level;
- when it was held too long, in time or in frames;
- when a leg had no bar for too long, or the pair is no longer one.

After an end the pair is opened again only once $|z|$ was below the entry level: a pair that was stopped does not open
again on the way.

Both legs need a bar at the frame to be opened, and a move that can be believed. An exit never waits for one: a leg
without a bar is taken at its last close. Unknown is not flat: a pair whose position a snapshot does not tell is never
opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from math import inf, isfinite, log, nan
from typing import Any, Final

from operators.strategies.last_prices import LastPrices
from operators.strategies.universe_base import UniverseDecision, UniverseDecisions, pair_number
from schemas.enums import Direction, Intent

__all__ = ["PAIR_EVIDENCE", "PAIR_REASONS", "Pair", "PairPositions", "PairRules", "Spread"]

PAIR_REASONS: Final = (
    "spread is far below its mean",
    "spread is far above its mean",
    "spread came back to its mean",
    "spread went on to the stop",
    "held as long as allowed",
    "a leg had no bar for too long",
    "the pair is no longer cointegrated, or can no longer be tested",
)
"""Sentences of a strategy on pairs; the indices below point into them."""
_FAR_BELOW, _FAR_ABOVE, _AT_MEAN, _AT_STOP, _TOO_LONG, _NO_BAR, _BROKEN = range(7)

PAIR_EVIDENCE: Final = (
    "pair_id",
    "leg",
    "zscore",
    "hedge_ratio",
    "intercept",
    "spread_mean",
    "spread_deviation",
    "first_price",
    "second_price",
    "first_price_age_seconds",
    "second_price_age_seconds",
    "half_life",
    "frames_held",
)
"""What every decision on a pair is made from; `first_price` and `second_price` give the spread."""
_NANOSECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Pair:
    """Two instruments.

    Examples
    --------
    >>> Pair("BKD", "ESC").id
    'BKD/ESC'
    """

    first: str
    second: str

    @property
    def id(self) -> str:
        """Both names, the dependent one first."""
        return f"{self.first}/{self.second}"


@dataclass(frozen=True, slots=True)
class PairRules:
    """When pairs are opened and ended.

    Parameters
    ----------
    entry, exit, stop
        Distances from the mean, standard deviations.
    max_holding_ns
        A position as old as this ends, ns.
    cooldown_ns
        Least time from an end to the next entry, ns.
    max_price_age_ns
        A leg without a bar for longer ends the position, ns.
    max_abs_return
        A leg that moved further since its close before, in logarithms, is taken for a split or a fault.
    min_hedge_ratio, max_hedge_ratio
        Bounds of a hedge ratio that is traded.
    logarithmic
        Whether the spread is of logarithms.
    """

    entry: float
    exit: float
    stop: float
    max_holding_ns: int
    cooldown_ns: int
    max_price_age_ns: int
    max_abs_return: float
    min_hedge_ratio: float
    max_hedge_ratio: float
    logarithmic: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """What is known of a pair's spread before a frame; NaN where there is no value.

    Parameters
    ----------
    intercept, hedge_ratio
        Of the second leg in the first.
    mean, deviation
        Of the spread.
    half_life
        Of its return to the mean, frames.
    max_frames
        A position held for as many frames ends.
    """

    intercept: float
    hedge_ratio: float
    mean: float
    deviation: float
    half_life: float = nan
    max_frames: float = inf

    def zscore(self, y: float, x: float) -> float:
        """Return the distance of the spread from its mean; NaN where it has none."""
        if not self.deviation > 0.0:
            return nan
        z = (y - self.intercept - self.hedge_ratio * x - self.mean) / self.deviation
        return z if isfinite(z) else nan


@dataclass(slots=True)
class _Held:
    """An open position and the spread that it was opened on."""

    direction: int
    ts_entered: int
    frames: int
    spread: Spread


class PairPositions:
    """Positions in pairs.

    Parameters
    ----------
    rules
        When they are opened and ended.

    Examples
    --------
    >>> rules = PairRules(2.0, 0.5, 4.0, 10**9, 0, 10**9, 1.0, 0.1, 10.0, logarithmic=False)
    >>> positions, prices, pair = PairPositions(rules), LastPrices(), Pair("A", "B")
    >>> spread = Spread(0.0, 1.0, 0.0, 1.0)
    >>> prices.restore({"A": [7.0, 1, 0.0], "B": [10.0, 1, 0.0]})
    >>> [(d.instrument, d.direction.name) for d in positions.step(pair, 1, prices, spread, may_open=True)]
    [('A', 'LONG'), ('B', 'SHORT')]
    >>> prices.restore({"A": [10.0, 2, 0.0], "B": [10.0, 1, 0.0]})
    >>> [PAIR_REASONS[d.reason] for d in positions.step(pair, 2, prices, spread, may_open=True)]
    ['spread came back to its mean', 'spread came back to its mean']
    """

    def __init__(self, rules: PairRules) -> None:
        self._rules = rules
        self._held: dict[str, _Held] = {}
        self._ended: dict[str, int] = {}
        self._waiting: set[str] = set()
        self._unknown: set[str] = set()

    @property
    def open(self) -> tuple[str, ...]:
        """Ids of the pairs that are held, sorted."""
        return tuple(sorted(self._held))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Ids of the pairs whose position is not known, sorted."""
        return tuple(sorted(self._unknown))

    def step(
        self, pair: Pair, ts: int, prices: LastPrices, spread: Spread | None, *, may_open: bool, broken: bool = False,
        more: Mapping[str, float] | None = None,
    ) -> UniverseDecisions:  # fmt: skip
        """Return what is decided on a pair at a frame: nothing, or both legs.

        Parameters
        ----------
        pair
            The pair.
        ts
            Decision time, ns.
        prices
            Last closes, those of the frame included.
        spread
            The spread as estimated before this frame; None where there is none yet.
        may_open
            Whether the frame is complete and the pair still one.
        broken
            Whether the pair is no longer one: what is held ends.
        more
            Further evidence.
        """
        legs = tuple(self._value(prices.price(name)) for name in (pair.first, pair.second))
        held = self._held.get(pair.id)
        if held is not None:
            held.frames += 1
            z = held.spread.zscore(*legs)
            reason = self._end(pair, held, z, ts, prices, broken)
            if reason is None:
                return ()
            del self._held[pair.id]
            self._ended[pair.id] = ts
            self._waiting.add(pair.id)
            evidence = self._evidence(pair, held.spread, z, ts, prices, held.frames) | dict(more or {})
            return self._legs(pair, held.direction, Intent.EXIT, 1.0, reason, prices, evidence)
        if spread is None or not may_open or broken or not self.is_observed(pair, ts, prices):
            return ()
        z = spread.zscore(*legs)
        if abs(z) < self._rules.entry:
            self._waiting.discard(pair.id)
        if not self._opens(pair, spread, z, ts):
            return ()
        direction = 1 if z < 0 else -1
        self._held[pair.id] = _Held(direction, ts, 0, spread)
        evidence = self._evidence(pair, spread, z, ts, prices, 0) | dict(more or {})
        confidence = min(abs(z) / (2 * self._rules.entry), 1.0)
        reason = _FAR_BELOW if z < 0 else _FAR_ABOVE
        return self._legs(pair, direction, Intent.ENTER, confidence, reason, prices, evidence)

    def _value(self, price: float) -> float:
        return log(price) if self._rules.logarithmic and price > 0.0 else price

    def is_observed(self, pair: Pair, ts: int, prices: LastPrices) -> bool:
        """Return whether both legs have a bar at a frame, and neither moved further than `max_abs_return`.

        Only such a frame is an observation of the spread, and opens a pair.
        """
        return all(
            prices.age(name, ts) == 0 and abs(prices.move(name)) <= self._rules.max_abs_return
            for name in (pair.first, pair.second)
        )

    def _opens(self, pair: Pair, spread: Spread, z: float, ts: int) -> bool:
        rules = self._rules
        sane = rules.min_hedge_ratio <= spread.hedge_ratio <= rules.max_hedge_ratio
        far = rules.entry <= abs(z) < rules.stop
        ended = self._ended.get(pair.id)
        rested = ended is None or ts - ended >= rules.cooldown_ns
        return sane and far and rested and pair.id not in self._waiting and pair.id not in self._unknown

    def _end(self, pair: Pair, held: _Held, z: float, ts: int, prices: LastPrices, broken: bool) -> int | None:
        rules = self._rules
        # how far the spread is towards the mean, seen from the side that it was opened on
        inward = z * held.direction
        oldest = max(prices.age(name, ts) or 0 for name in (pair.first, pair.second))
        ends = (
            (inward >= -rules.exit, _AT_MEAN),
            (inward <= -rules.stop, _AT_STOP),
            (broken, _BROKEN),
            (ts - held.ts_entered >= rules.max_holding_ns or held.frames >= held.spread.max_frames, _TOO_LONG),
            (oldest > rules.max_price_age_ns, _NO_BAR),
        )
        return next((reason for is_so, reason in ends if is_so), None)

    def _evidence(
        self, pair: Pair, spread: Spread, z: float, ts: int, prices: LastPrices, frames: int
    ) -> dict[str, float]:
        ages = [age / _NANOSECONDS for name in (pair.first, pair.second) if (age := prices.age(name, ts)) is not None]
        numbers = (
            pair_number(pair.id), nan, z, spread.hedge_ratio, spread.intercept, spread.mean, spread.deviation,
            prices.price(pair.first), prices.price(pair.second), *ages, spread.half_life, float(frames),
        )  # fmt: skip
        return dict(zip(PAIR_EVIDENCE, numbers, strict=True))

    def _legs(
        self, pair: Pair, direction: int, intent: Intent, confidence: float, reason: int, prices: LastPrices,
        evidence: dict[str, float],
    ) -> UniverseDecisions:  # fmt: skip
        sides = ((pair.first, direction), (pair.second, -direction))
        return tuple(
            UniverseDecision(
                name, Direction(side), intent, confidence, prices.price(name), reason, evidence | {"leg": float(leg)},
                pair.id, leg,
            )
            for leg, (name, side) in enumerate(sides, start=1)
        )  # fmt: skip

    def forget(self, pair: Pair) -> None:
        """Forget a pair that is not held: when it ended last, and whether it waits."""
        if pair.id not in self._held:
            self._ended.pop(pair.id, None)
            self._waiting.discard(pair.id)

    def snapshot(self) -> dict[str, Any]:
        """Return the positions as plain values, copied."""
        return {
            "held": {
                pair: [held.direction, held.ts_entered, held.frames, list(astuple(held.spread))]
                for pair, held in sorted(self._held.items())
            },
            "ended": dict(sorted(self._ended.items())),
            "waiting": sorted(self._waiting),
            "unknown": sorted(self._unknown),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot."""
        self._held = {
            pair: _Held(direction, ts, frames, Spread(*spread))
            for pair, (direction, ts, frames, spread) in snapshot["held"].items()
        }
        self._ended = dict(snapshot["ended"])
        self._waiting = set(snapshot["waiting"])
        self._unknown = set(snapshot["unknown"])

    def distrust(self, pairs: Iterable[str]) -> None:
        """Never open these pairs: their position is not known."""
        self._unknown |= set(pairs)
