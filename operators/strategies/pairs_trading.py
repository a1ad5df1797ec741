r"""Pairs trading: configured pairs, traded on the distance of their spread from its mean.

The hedge ratio is estimated online, by rolling least squares or a Kalman filter; see `hedge`. Both legs are opened and
ended together, by the rules of `pair_positions`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from operators.columns import FloatArray
from operators.cross_section import CrossSection
from operators.strategies.hedge import HedgeState
from operators.strategies.last_prices import LastPrices
from operators.strategies.pair_config import PairConfig
from operators.strategies.pair_positions import PAIR_EVIDENCE, PAIR_REASONS, Pair, PairPositions, Spread
from operators.strategies.universe_base import UniverseDecision, UniverseDecisions, UniverseStrategy
from operators.universe import UniverseFrame
from schemas.errors import VersionError

__all__ = ["PairsTrading", "PairsTradingConfig"]

_VERSION: Final = 1
_Names = Annotated[tuple[str, str], Field(description="dependent and explaining instrument")]


class PairsTradingConfig(PairConfig):
    """Parameters of pairs trading."""

    pairs: Annotated[tuple[_Names, ...], Field(max_length=10_000)] = Field(
        (), description="the pairs; of each, the first is explained by the second"
    )
    hedge: Literal["rolling", "kalman"] = Field("rolling", description="how the hedge ratio is estimated")
    window: int = Field(
        120, ge=10, le=10_000, description="frames with both legs that the spread is measured over, and the warm-up"
    )
    process_variance: float = Field(
        1e-5, gt=0, le=1, description="how fast a `kalman` hedge ratio may move, in units of the observation's variance"
    )

    @model_validator(mode="after")
    def _pairs_are_distinct(self) -> Self:
        sorted_pairs = [tuple(sorted(pair)) for pair in self.pairs]
        if any(first == second for first, second in self.pairs) or len(set(sorted_pairs)) != len(sorted_pairs):
            raise ValueError(f"expected distinct `pairs` of two instruments, was {list(self.pairs)[:9]}")
        return self


class PairsTrading(UniverseStrategy):
    """Trades the spreads of configured pairs.

    Parameters
    ----------
    config
        A `PairsTradingConfig`.

    Notes
    -----
    Only frames in which both legs closed a bar, neither far from its last one, are observations. A degenerate spread is
    no spread: it opens and ends nothing, and what is held then ends by time at the latest. Without pairs it is inactive
    and says so. Costs about 10 microseconds a pair and frame.

    Examples
    --------
    >>> PairsTrading(PairsTradingConfig()).inactive
    'no pairs are configured'

    References
    ----------
    Gatev, E., Goetzmann, W. and Rouwenhorst, K. (2006). Pairs trading: performance of a relative-value arbitrage rule.
    Review of Financial Studies 19(3).
    """

    name: ClassVar[str] = "pairs_trading"
    Config = PairsTradingConfig
    derived = PAIR_EVIDENCE
    compares = ("entry_zscore", "exit_zscore", "stop_zscore", "max_holding", "max_price_age", "min_hedge_ratio",
                "max_hedge_ratio")  # fmt: skip
    reasons = PAIR_REASONS
    config: PairsTradingConfig

    def __init__(self, config: PairsTradingConfig) -> None:
        super().__init__(config)
        self._pairs = tuple(Pair(first, second) for first, second in config.pairs)
        self._legs = tuple(sorted({name for names in config.pairs for name in names}))
        self._hedge = HedgeState(len(self._pairs), config.window, config.hedge, config.process_variance)
        self._prices = LastPrices()
        self._positions = PairPositions(config.rules)

    @property
    def inactive(self) -> str | None:
        """Why it decides nothing at present."""
        if not self._pairs:
            return "no pairs are configured"
        unknown = self._positions.unknown
        return f"the position of {', '.join(unknown[:9])} is not known" if unknown else None

    def on_frame(self, frame: UniverseFrame, cross: CrossSection) -> UniverseDecisions:
        """Take the next frame; see `pair_positions` for the rule."""
        if not self._pairs:
            return ()
        self._prices.update(frame, self._legs)
        spreads = self._hedge.spreads()
        usable = np.isfinite(spreads[:, 3])
        decisions: list[UniverseDecision] = []
        for row, pair in enumerate(self._pairs):
            spread = Spread(*spreads[row].tolist()) if usable[row] else None
            decisions += self._positions.step(pair, frame.ts, self._prices, spread, may_open=frame.complete)
        self._observe(frame.ts)
        return tuple(decisions)

    def _observe(self, ts: int) -> None:
        """Take the pairs that were observed at this time into the estimates."""
        prices = self._prices
        fresh = [
            (row, prices.price(pair.first), prices.price(pair.second))
            for row, pair in enumerate(self._pairs)
            if self._positions.is_observed(pair, ts, prices)
        ]
        if not fresh:
            return
        rows, y, x = (np.array(column) for column in zip(*fresh, strict=True))
        self._hedge.update(rows, self._value(y), self._value(x))

    def _value(self, price: FloatArray) -> FloatArray:
        return np.log(price) if self.config.spread == "log" else price

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        return {
            "version": _VERSION,
            "pairs": [pair.id for pair in self._pairs],
            "hedge": self._hedge.snapshot(),
            "prices": self._prices.snapshot(),
            "positions": self._positions.snapshot(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot. A pair that it does not tell of is never opened.

        Raises
        ------
        VersionError
            Another version wrote it, or it holds pairs that are no longer configured.
        """
        pairs = [pair.id for pair in self._pairs]
        orphans = sorted(set(snapshot["positions"]["held"]) - set(pairs)) if snapshot["version"] == _VERSION else []
        if snapshot["version"] != _VERSION or orphans:
            raise VersionError(
                f"expected a pairs trading snapshot of version {_VERSION} that holds configured pairs, found version "
                f"{snapshot['version']} and {orphans[:9]}; resume with the configuration that wrote it, or start a new "
                "run"
            )
        self._prices.restore(snapshot["prices"])
        self._positions.restore(snapshot["positions"])
        if snapshot["pairs"] == pairs:
            self._hedge.restore(snapshot["hedge"])
        self._positions.distrust(set(pairs) - set(snapshot["pairs"]))
