r"""Hedge ratios and spreads of many pairs, estimated online: by rolling least squares or by a Kalman filter.

Each pair keeps its last $w$ joint observations $(y, x)$. Its hedge ratio is either the slope of least squares over
them, or the state $\theta = (\alpha, \beta)$ of

$$\theta_t = \theta_{t-1} + \eta_t, \quad y_t = \alpha_t + \beta_t x_t + \varepsilon_t, \quad
\mathrm{cov}(\eta) = q\, I, \; \mathrm{var}(\varepsilon) = 1$$

in units of the observation's variance, which cancels from the filter's gain. In both cases the spread's mean and
deviation are those of $y - \alpha - \beta x$ over the window, with the newest coefficients. What is asked for before an
observation is taken has not seen it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from operators.columns import FloatArray, IntArray
from operators.state import ArrayState, Column

__all__ = ["HedgeState"]

_DIFFUSE = 1e6
"""Variance of the first state, in units of the observation's: any start is forgotten within a few observations."""


class HedgeState:
    """Rolling observations and coefficients of `p` pairs.

    Parameters
    ----------
    pairs
        Number of pairs.
    window
        Joint observations that spreads are measured over; there is nothing before as many.
    method
        `rolling` for least squares over the window, `kalman` for the filter.
    process_variance
        $q$: how fast the filter's coefficients may move.
    relative_floor
        A spread whose deviation is at or below this share of its legs' size is constant, and so is a second leg whose
        own deviation is: there is no value then.

    Notes
    -----
    Costs some 5 microseconds a pair and frame for a window of 120. An observation that makes a pair's filter overflow
    is dropped and its pair begins anew; in the rolling window such a value stays until it leaves, and until then
    there is no spread.

    Examples
    --------
    >>> state = HedgeState(1, window=3, method="rolling")
    >>> for x in (1.0, 2.0, 4.0):
    ...     state.update(np.array([0]), np.array([1.0 + 2.0 * x + 0.01 * (-1.0) ** x]), np.array([x]))
    >>> state.spreads()[0].round(1).tolist()
    [1.0, 2.0, 0.0, 0.0]

    References
    ----------
    Kalman, R. E. (1960). A new approach to linear filtering and prediction problems. Journal of Basic Engineering
    82(1). For hedge ratios: Chan, E. (2013). Algorithmic Trading, chapter 3.
    """

    def __init__(
        self,
        pairs: int,
        window: int,
        method: Literal["rolling", "kalman"],
        process_variance: float = 1e-5,
        relative_floor: float = 1e-10,
    ) -> None:
        self._pairs = pairs
        self._window = window
        self._method = method
        self._q = process_variance
        self._floor = relative_floor
        self._state = ArrayState(
            {
                "n_obs": Column("i8"),
                "ring": Column("f8", shape=(2, window)),
                "theta": Column("f8", shape=(2,)),
                "covariance": Column("f8", shape=(3,)),
            },
            version=1,
        )
        self._state.ensure(pairs)

    def update(self, rows: IntArray, y: FloatArray, x: FloatArray) -> None:
        """Take a joint observation of some pairs, all finite, shape `(n,)` each."""
        state = self._state
        slot = state["n_obs"][rows] % self._window
        state["ring"][rows, 0, slot] = y
        state["ring"][rows, 1, slot] = x
        state["n_obs"][rows] += 1
        if self._method == "kalman":
            self._filter(rows, y, x)

    def _filter(self, rows: IntArray, y: FloatArray, x: FloatArray) -> None:
        state = self._state
        theta, (aa, ab, bb) = state["theta"][rows], state["covariance"][rows].T
        first = state["n_obs"][rows] == 1
        aa = np.where(first, _DIFFUSE, aa + self._q)
        bb = np.where(first, _DIFFUSE, bb + self._q)
        ab = np.where(first, 0.0, ab)
        with np.errstate(over="ignore", invalid="ignore"):
            along_a, along_b = aa + ab * x, ab + bb * x
            variance = along_a + along_b * x + 1.0
            error = y - theta[:, 0] - theta[:, 1] * x
            gain_a, gain_b = along_a / variance, along_b / variance
            moved = np.stack((theta[:, 0] + gain_a * error, theta[:, 1] + gain_b * error), axis=1)
            covariance = np.stack((aa - gain_a * along_a, ab - gain_a * along_b, bb - gain_b * along_b), axis=1)
        sane = np.isfinite(moved).all(axis=1) & np.isfinite(covariance).all(axis=1)
        state["theta"][rows] = np.where(sane[:, None], moved, 0.0)
        state["covariance"][rows] = np.where(sane[:, None], covariance, 0.0)
        state["n_obs"][rows[~sane]] = 0

    def spreads(self) -> FloatArray:
        """Return intercept, hedge ratio, mean and deviation of each spread, shape `(p, 4)`; NaN where there is none."""
        state, n = self._state, self._pairs
        y, x = state["ring"][:n, 0], state["ring"][:n, 1]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            alpha, beta = self._least_squares(y, x) if self._method == "rolling" else state["theta"][:n].T
            residual = y - alpha[:, None] - beta[:, None] * x
            mean = residual.mean(axis=1)
            deviation = np.sqrt(((residual - mean[:, None]) ** 2).mean(axis=1))
            size_y, size_x = (np.abs(values).max(axis=1, initial=0.0) for values in (y, x))
            found = np.stack((alpha, beta, mean, deviation), axis=1)
            has = (state["n_obs"][:n] >= self._window) & (x.std(axis=1) > self._floor * size_x)
            has &= deviation > self._floor * (size_y + np.abs(beta) * size_x)
        has &= np.isfinite(found).all(axis=1)
        return np.where(has[:, None], found, np.nan)

    @staticmethod
    def _least_squares(y: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean_y, mean_x = y.mean(axis=1), x.mean(axis=1)
        from_mean = x - mean_x[:, None]
        beta: npt.NDArray[np.float64] = (from_mean * (y - mean_y[:, None])).sum(axis=1) / (from_mean**2).sum(axis=1)
        return mean_y - beta * mean_x, beta

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        return self._state.snapshot(self._pairs)

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot; `VersionError` where it is of another version or window."""
        self._state.restore(snapshot)
        self._state.ensure(self._pairs)
