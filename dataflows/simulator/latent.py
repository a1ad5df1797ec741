r"""Latent prices: what the instruments are worth before anyone trades.

The log price of a driving instrument follows, in steps of a tenth of a second,

$$\Delta p_i = \sigma_{r}\,(\beta_i m + \gamma_i s_{k(i)} + \delta_i e_i) + \text{jumps} + \text{planted drift},$$

with a market, a sector and an own shock, and volatility $\sigma_r$ of the regime, a Markov chain of three
states that all instruments share. The loadings make the variance of each instrument one.

The second leg of a pair has no shocks of its own: its price is the hedge ratio times the first leg's plus
an Ornstein-Uhlenbeck spread. Its news, earnings and order flow act on the first leg, so nothing breaks the
relation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from dataflows.simulator.config import STEP_NS, SimulatorConfig
from dataflows.simulator.streams import random_stream
from schemas.time import duration_ns

__all__ = ["REGIMES", "TICK", "Drift", "LatentPrices", "LatentSlice"]

FloatArray = npt.NDArray[np.float64]

TICK: Final = 0.01
REGIMES: Final = ("calm", "normal", "turbulent")
_REGIME_VOLATILITY: Final = np.array([0.6, 1.0, 2.0])
_REGIME_INTENSITY: Final = np.array([0.7, 1.0, 1.9])
_REGIME_NEXT: Final = np.array([[0.0, 1.0, 0.0], [0.6, 0.0, 0.4], [0.0, 1.0, 0.0]])
_REGIME_SHARE: Final = np.array([0.3, 0.5, 0.2])
"""Stationary distribution of the chain: its stays have one mean in every state."""
_SESSION_YEAR_SECONDS: Final = 252 * 6.5 * 3600
_STEP_SECONDS: Final = STEP_NS / 1e9


@dataclass(frozen=True, slots=True)
class Drift:
    """A planted move: its log return is spread evenly over the steps from `first` to `last`, exclusive."""

    instrument: int
    first: int
    last: int
    log_return: float


@dataclass(frozen=True, slots=True)
class LatentSlice:
    """Steps of the latent market, one after the other.

    Parameters
    ----------
    price
        Quote currency, shape `(steps, n)`.
    pressure
        In `(-1, 1)`, shape `(steps, n)`; what tilts the order flow.
    intensity
        Factor of the order rates, shape `(steps,)`; one on average.
    volatility
        Factor of the volatility, shape `(steps,)`.
    """

    price: FloatArray
    pressure: FloatArray
    intensity: FloatArray
    volatility: FloatArray


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _autoregression(values: Any, last: Any, decay: float) -> None:
    r"""Turn shocks, shape `(steps, n)`, into $x_t = a x_{t-1} + \epsilon_t$ in place; `last` is carried on."""
    for t in range(values.shape[0]):
        for i in range(values.shape[1]):
            values[t, i] += decay * last[i]
            last[i] = values[t, i]


def _decay(half_life_ns: int) -> float:
    return float(0.5 ** (STEP_NS / half_life_ns))


class LatentPrices:
    """The latent market, made slice by slice.

    Parameters
    ----------
    config
        The market.
    drifts
        Planted moves, in any order.
    """

    def __init__(self, config: SimulatorConfig, drifts: Sequence[Drift]) -> None:
        self._config = config
        n = config.instruments
        draw = random_stream(config.seed, "instruments")
        self.market_beta = draw.uniform(0.4, 0.7, n)
        self.sector_beta = draw.uniform(0.3, 0.5, n)
        self.own_beta = np.sqrt(1 - self.market_beta**2 - self.sector_beta**2)
        self.sector = np.arange(n) % config.sectors
        self.first_price = np.exp(draw.uniform(np.log(20), np.log(200), n)).round(2)
        self.hedge_ratio = np.round(draw.uniform(0.5, 1.5, config.n_pairs), 2)
        self.driver = np.arange(n)
        """instrument whose shocks move each instrument: itself, or the first leg of its pair"""
        self.driver[1 : 2 * config.n_pairs : 2] -= 1
        seconds = self.hedge_ratio * self.first_price[: 2 * config.n_pairs : 2]
        self.first_price[1 : 2 * config.n_pairs : 2] = seconds
        self.spread_deviation = seconds * config.pair_spread_bps / 1e4
        self.regime_changes: list[tuple[int, int]] = []
        """step and regime of every change, the first regime included"""
        self._draws = {name: random_stream(config.seed, name) for name in ("returns", "jumps", "pressure", "pairs")}
        self._drifts = sorted(drifts, key=lambda drift: (drift.first, drift.instrument))
        self._drift_ends = np.array([drift.last for drift in self._drifts], dtype=np.int64)
        self._drift_starts = np.array([drift.first for drift in self._drifts], dtype=np.int64)
        self._log_price = np.log(self.first_price)
        self._pressure = self._draws["pressure"].standard_normal(n)
        self._spread = self._draws["pairs"].standard_normal(config.n_pairs) * self.spread_deviation
        self._step = 0
        self._regime_draw = random_stream(config.seed, "regimes")
        self._regime = int(self._regime_draw.choice(len(REGIMES), p=_REGIME_SHARE))
        self._regime_ends = 0
        self._enter(self._regime)

    def _enter(self, regime: int) -> None:
        self._regime = regime
        self.regime_changes.append((self._regime_ends, regime))
        mean_steps = duration_ns(self._config.regime_dwell) / STEP_NS
        self._regime_ends += 1 + int(self._regime_draw.exponential(mean_steps))

    def _regimes(self, steps: int) -> npt.NDArray[np.int64]:
        regimes = np.empty(steps, dtype=np.int64)
        done = 0
        while done < steps:
            if self._regime_ends <= self._step + done:
                self._enter(int(self._regime_draw.choice(len(REGIMES), p=_REGIME_NEXT[self._regime])))
            stop = min(self._regime_ends - self._step, steps)
            regimes[done:stop] = self._regime
            done = stop
        return regimes

    def advance(self, steps: int) -> LatentSlice:
        """Return the next steps."""
        regimes = self._regimes(steps)
        volatility = _REGIME_VOLATILITY[regimes]
        pressure = self._pressures(steps)
        returns = self._shocks(steps) * volatility[:, None] + self._jumps(steps)
        returns += pressure * (self._config.imbalance_strength * 1e-4 * _STEP_SECONDS)
        self._add_drifts(returns)
        log_price = self._log_price + np.cumsum(returns, axis=0)
        self._log_price = log_price[-1].copy()
        price = np.exp(log_price)
        self._couple_pairs(price)
        self._step += steps
        mean_intensity = float(_REGIME_INTENSITY @ _REGIME_SHARE)
        return LatentSlice(price, pressure, _REGIME_INTENSITY[regimes] / mean_intensity, volatility)

    def _shocks(self, steps: int) -> FloatArray:
        n, sectors = self._config.instruments, self._config.sectors
        normal = self._draws["returns"].standard_normal((steps, 1 + sectors + n))
        mixed = (
            self.market_beta * normal[:, :1]
            + self.sector_beta * normal[:, 1 : 1 + sectors][:, self.sector]
            + self.own_beta * normal[:, 1 + sectors :]
        )
        step_volatility = self._config.volatility * np.sqrt(_STEP_SECONDS / _SESSION_YEAR_SECONDS)
        return np.asarray(mixed * step_volatility)

    def _jumps(self, steps: int) -> FloatArray:
        draw = self._draws["jumps"]
        n = self._config.instruments
        counts = draw.poisson(self._config.jump_rate / 3600 * _STEP_SECONDS, (steps, n))
        jumps = np.zeros((steps, n))
        at = np.nonzero(counts)
        jumps[at] = draw.standard_normal(len(at[0])) * self._config.jump_bps / 1e4
        return jumps

    def _pressures(self, steps: int) -> FloatArray:
        decay = _decay(duration_ns(self._config.imbalance_half_life))
        shocks = self._draws["pressure"].standard_normal((steps, self._config.instruments)) * np.sqrt(1 - decay**2)
        _autoregression(shocks, self._pressure, decay)
        return np.asarray(np.tanh(shocks)[:, self.driver])

    def _add_drifts(self, returns: FloatArray) -> None:
        start, stop = self._step, self._step + len(returns)
        for index in np.flatnonzero((self._drift_starts < stop) & (self._drift_ends > start)):
            drift = self._drifts[index]
            rows = slice(max(drift.first - start, 0), drift.last - start)
            returns[rows, self.driver[drift.instrument]] += drift.log_return / (drift.last - drift.first)

    def _couple_pairs(self, price: FloatArray) -> None:
        pairs = self._config.n_pairs
        decay = _decay(duration_ns(self._config.pair_half_life))
        shocks = self._draws["pairs"].standard_normal((len(price), pairs)) * np.sqrt(1 - decay**2)
        spread = shocks * self.spread_deviation
        _autoregression(spread, self._spread, decay)
        price[:, 1 : 2 * pairs : 2] = self.hedge_ratio * price[:, : 2 * pairs : 2] + spread
