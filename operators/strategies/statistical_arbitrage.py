r"""Statistical arbitrage: pairs are found in the stream, traded while they are cointegrated, and dropped after that.

Every `test_every` frames the pairs whose returns correlate most are tested for cointegration over the last `window`
frames; see `operators.cointegration`. As many tests are made at once, a pair passes only by a level that accounts for
their number. A pair that passed is followed: hedge ratio and deviation of its spread move with decayed moments, and it
is tested again at each schedule. It is dropped when its probability rises above `drop_significance`, which is greater
than what it had to pass: pairs do not come and go on the edge. Both legs are opened and ended together, by the rules of
`pair_positions`; a position ends after `max_half_lives` half-lives of its spread at the latest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from operators.cointegration import Cointegration, accepted, critical_value, engle_granger
from operators.columns import FloatArray, IntArray
from operators.cross_section import CorrelationMatrix, CrossSection
from operators.strategies.decayed_spread import DecayedSpread
from operators.strategies.last_prices import LastPrices
from operators.strategies.pair_config import PairConfig
from operators.strategies.pair_positions import PAIR_EVIDENCE, PAIR_REASONS, Pair, PairPositions, Spread
from operators.strategies.universe_base import UniverseDecision, UniverseDecisions, UniverseStrategy
from operators.universe import UniverseFrame
from schemas.errors import VersionError

__all__ = ["StatisticalArbitrage", "StatisticalArbitrageConfig"]

_VERSION: Final = 1
_CRITICAL_LEVEL: Final = 0.05


class StatisticalArbitrageConfig(PairConfig):
    """Parameters of statistical arbitrage."""

    window: int = Field(
        250, ge=50, le=10_000, description="frames that a test reads; the correlation matrix holds them"
    )
    min_obs: int = Field(200, ge=50, le=10_000, description="least frames of these in which both legs closed a bar")
    test_every: int = Field(50, ge=1, le=100_000, description="frames between two schedules of tests")
    lags: int = Field(1, ge=0, le=20, description="lagged differences in the test")
    min_correlation: float = Field(
        0.3, ge=-1, le=1, description="least shrunk correlation of returns before a pair is tested"
    )
    max_candidates: int = Field(
        500, ge=1, le=100_000, description="most pairs tested at a schedule, the most correlated; some 5 us each"
    )
    significance: float = Field(0.05, gt=0, lt=0.5, description="level of the family of tests of a schedule")
    correction: Literal["bonferroni", "benjamini_hochberg"] = Field(
        "bonferroni", description="how the number of tests is accounted for"
    )
    drop_significance: float = Field(
        0.2, gt=0, lt=1, description="a followed pair whose probability is above this is dropped"
    )
    max_pairs: int = Field(20, ge=1, le=1_000, description="most pairs that are followed at a time")
    half_life: int = Field(
        120, ge=10, le=100_000, description="a frame's share of the hedge ratio and deviation halves, frames"
    )
    min_half_life: float = Field(1.0, gt=0, le=1e6, description="least half-life of a spread that is followed, frames")
    max_half_life: float = Field(
        100.0, gt=0, le=1e6, description="greatest half-life of a spread that is followed, frames"
    )
    max_half_lives: float = Field(4.0, gt=0, le=100, description="a position this old ends, half-lives of its spread")

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        pairs = (("min_obs", "window"), ("significance", "drop_significance"), ("min_half_life", "max_half_life"))
        for low, high in pairs:
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"expected `{low}` up to `{high}`, was {getattr(self, low)} and {getattr(self, high)}")
        return self


@dataclass(slots=True)
class _Followed:
    """A pair that passed, its spread, and its last test."""

    pair: Pair
    moments: DecayedSpread
    half_life: float
    statistic: float
    critical_value: float
    p_value: float
    p_threshold: float
    correlation: float
    broken: bool = False

    @property
    def evidence(self) -> dict[str, float]:
        return {
            "statistic": self.statistic,
            "critical_value": self.critical_value,
            "p_value": self.p_value,
            "p_threshold": self.p_threshold,
            "correlation": self.correlation,
        }

    def plain(self) -> list[Any]:
        tested = (self.half_life, *self.evidence.values())
        return [self.pair.first, self.pair.second, self.moments.plain(), list(tested), self.broken]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> _Followed:
        first, second, moments, tested, broken = plain
        found = cls(Pair(first, second), DecayedSpread(*moments), *tested)
        found.broken = broken
        return found


class StatisticalArbitrage(UniverseStrategy):
    """Finds cointegrated pairs and trades their spreads.

    Of two instruments the first in alphabetical order is explained by the other.

    Parameters
    ----------
    config
        A `StatisticalArbitrageConfig`.

    Notes
    -----
    The level holds for the tests of one schedule; over many schedules more false pairs pass, and are dropped when they
    are tested again. A pair found at a frame is opened at a later one at the earliest. A pair that can no longer be
    tested, because a leg left the correlation matrix or lacks bars, counts as broken and what is held in it ends.

    Costs 5 microseconds a test, at schedules, and about 6 a followed pair and frame.

    Examples
    --------
    >>> StatisticalArbitrage(StatisticalArbitrageConfig()).inactive
    'no cointegrated pair is known'

    References
    ----------
    Engle, R. and Granger, C. (1987). Co-integration and error correction. Econometrica 55(2). Vidyamurthy, G. (2004).
    Pairs Trading: Quantitative Methods and Analysis.
    """

    name: ClassVar[str] = "statistical_arbitrage"
    Config = StatisticalArbitrageConfig
    derived = (*PAIR_EVIDENCE, "statistic", "critical_value", "p_value", "p_threshold", "correlation")
    compares = ("entry_zscore", "exit_zscore", "stop_zscore", "max_holding", "max_price_age", "min_hedge_ratio",
                "max_hedge_ratio", "significance", "drop_significance", "min_correlation", "min_half_life",
                "max_half_life", "max_half_lives")  # fmt: skip
    reasons = PAIR_REASONS
    config: StatisticalArbitrageConfig

    def __init__(self, config: StatisticalArbitrageConfig) -> None:
        super().__init__(config)
        self._n_frames = 0
        self._followed: dict[str, _Followed] = {}
        self._prices = LastPrices()
        self._positions = PairPositions(config.rules)

    @property
    def inactive(self) -> str | None:
        """Why it decides nothing at present."""
        return None if self._followed else "no cointegrated pair is known"

    @property
    def min_history(self) -> int:
        """Frames of history that it reads from the correlation matrix."""
        return self.config.window

    @property
    def pairs(self) -> tuple[str, ...]:
        """Ids of the pairs that are followed, sorted."""
        return tuple(sorted(self._followed))

    def on_frame(self, frame: UniverseFrame, cross: CrossSection) -> UniverseDecisions:
        """Take the next frame: test if it is time, decide on the followed pairs, and follow them."""
        found: dict[str, _Followed] = {}
        if frame.complete:
            self._n_frames += 1
            if self._n_frames % self.config.test_every == 0:
                found = self._test(cross.matrix)
        legs = {name for item in self._followed.values() for name in (item.pair.first, item.pair.second)}
        self._prices.update(frame, legs)
        decisions: list[UniverseDecision] = []
        for ident in sorted(self._followed):
            decisions += self._step(self._followed[ident], frame)
        self._drop()
        self._followed |= found
        return tuple(decisions)

    def _step(self, item: _Followed, frame: UniverseFrame) -> UniverseDecisions:
        config, prices, pair = self.config, self._prices, item.pair
        alpha, beta, deviation = item.moments.coefficients()
        spread = Spread(alpha, beta, 0.0, deviation, item.half_life, config.max_half_lives * item.half_life)
        decided = self._positions.step(
            pair, frame.ts, prices, spread, may_open=frame.complete, broken=item.broken, more=item.evidence
        )
        if self._positions.is_observed(pair, frame.ts, prices):
            y, x = self._values(np.array([prices.price(pair.first), prices.price(pair.second)])).tolist()
            item.moments.update(y, x, config.half_life)
        return decided

    def _values(self, price: FloatArray) -> FloatArray:
        return np.log(price) if self.config.spread == "log" else price

    def _drop(self) -> None:
        """Forget broken pairs; what was held in them has ended."""
        broken = [item for item in self._followed.values() if item.broken]
        for item in broken:
            del self._followed[item.pair.id]
            self._positions.forget(item.pair)
        if broken:
            self._prices.keep(
                chain.from_iterable((item.pair.first, item.pair.second) for item in self._followed.values())
            )

    def _test(self, matrix: CorrelationMatrix) -> dict[str, _Followed]:
        """Test the followed pairs again and the candidates; return the pairs that passed."""
        history = matrix.log_close[-self.config.window :]
        series = history if self.config.spread == "log" else np.exp(history)
        column = {name: number for number, name in enumerate(matrix.instruments) if name}
        self._test_followed(matrix, series, column)
        first, second = self._candidates(matrix, column)
        result = self._engle_granger(series, first, second)
        config = self.config
        passed = accepted(result.p_value, config.significance, config.correction)
        threshold = self._threshold(result.p_value, passed)
        with np.errstate(invalid="ignore"):
            passed &= (result.half_life >= config.min_half_life) & (result.half_life <= config.max_half_life)
            passed &= (result.hedge_ratio >= config.min_hedge_ratio) & (result.hedge_ratio <= config.max_hedge_ratio)
        names = matrix.instruments
        best = sorted(
            np.flatnonzero(passed).tolist(),
            key=lambda row: (result.p_value[row], names[first[row]], names[second[row]]),
        )
        found = {}
        for row in best[: config.max_pairs - len(self._followed)]:
            pair = Pair(names[first[row]], names[second[row]])
            legs = series[:, [first[row], second[row]]]
            legs = legs[np.isfinite(legs).all(axis=1)]
            found[pair.id] = _Followed(
                pair, DecayedSpread.over(legs[:, 0], legs[:, 1], config.half_life), float(result.half_life[row]),
                *self._tested(result, row, threshold, float(matrix.correlation[first[row], second[row]])),
            )  # fmt: skip
        return found

    def _test_followed(self, matrix: CorrelationMatrix, series: FloatArray, column: dict[str, int]) -> None:
        items = [self._followed[ident] for ident in sorted(self._followed)]
        known = [item for item in items if item.pair.first in column and item.pair.second in column]
        for item in items:
            item.broken = True
        first, second = (
            np.array([column[getattr(item.pair, leg)] for item in known], dtype=np.int64) for leg in ("first", "second")
        )
        result = self._engle_granger(series, first, second)
        for row, item in enumerate(known):
            correlation = float(matrix.correlation[first[row], second[row]])
            item.statistic, item.critical_value, item.p_value, item.p_threshold, item.correlation = self._tested(
                result, row, self.config.drop_significance, correlation
            )
            half_life = float(result.half_life[row])
            item.broken = not (item.p_value <= self.config.drop_significance and half_life > 0.0)
            item.half_life = half_life

    def _tested(
        self, result: Cointegration, row: int, threshold: float, correlation: float
    ) -> tuple[float, float, float, float, float]:
        used = max(int(result.n_obs[row]) - self.config.lags - 1, 1)
        return (
            float(result.statistic[row]), critical_value(_CRITICAL_LEVEL, used), float(result.p_value[row]), threshold,
            correlation,
        )  # fmt: skip

    def _engle_granger(self, series: FloatArray, first: IntArray, second: IntArray) -> Cointegration:
        return engle_granger(series, first, second, lags=self.config.lags, min_obs=self.config.min_obs)

    def _threshold(self, p_values: FloatArray, passed: Any) -> float:
        """Return the probability that a pair of this schedule had to stay under."""
        if self.config.correction == "bonferroni" or not passed.any():
            return self.config.significance / max(len(p_values), 1)
        return self.config.significance * int(passed.sum()) / len(p_values)

    def _candidates(self, matrix: CorrelationMatrix, column: dict[str, int]) -> tuple[IntArray, IntArray]:
        """Return the columns of the most correlated pairs that are not followed, legs in alphabetical order."""
        ordered = np.array([column[name] for name in sorted(column)], dtype=np.int64)
        correlation = matrix.correlation[np.ix_(ordered, ordered)]
        first, second = np.triu_indices(len(ordered), k=1)
        strength = correlation[first, second]
        with np.errstate(invalid="ignore"):
            strong = np.flatnonzero(strength >= self.config.min_correlation)
        strong = strong[np.argsort(-strength[strong], kind="stable")]
        names = matrix.instruments
        followed = {(item.pair.first, item.pair.second) for item in self._followed.values()}
        chosen = [
            row
            for row in strong[: self.config.max_candidates + len(followed)].tolist()
            if (names[ordered[first[row]]], names[ordered[second[row]]]) not in followed
        ][: self.config.max_candidates]
        return ordered[first[chosen]], ordered[second[chosen]]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        return {
            "version": _VERSION,
            "n_frames": self._n_frames,
            "followed": [self._followed[ident].plain() for ident in sorted(self._followed)],
            "prices": self._prices.snapshot(),
            "positions": self._positions.snapshot(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            Another version wrote it, or it holds pairs that it does not follow.
        """
        if snapshot["version"] != _VERSION:
            raise VersionError(
                f"expected a statistical arbitrage snapshot of version {_VERSION}, found version "
                f"{snapshot['version']}; resume with the version that wrote it, or start a new run"
            )
        followed = {item.pair.id: item for item in map(_Followed.from_plain, snapshot["followed"])}
        orphans = sorted(set(snapshot["positions"]["held"]) - set(followed))
        if orphans:
            raise VersionError(
                f"expected a statistical arbitrage snapshot that follows what it holds, found {orphans[:9]} held and "
                "not followed; it is damaged: start a new run"
            )
        self._n_frames = snapshot["n_frames"]
        self._followed = followed
        self._prices.restore(snapshot["prices"])
        self._positions.restore(snapshot["positions"])
