r"""Decayed means, variances and covariance of two series, slot by slot.

With $\lambda = 2^{-1/h}$ and the weight $W' = \lambda W + 1$, each pair of observations $(x, y)$ moves

$$\delta_x = x - m_x, \quad m_x' = m_x + \delta_x / W', \quad
S_{xy}' = \lambda S_{xy} + \frac{\lambda W}{W'} \delta_x \delta_y .$$

$S_{xy} / W$ is the covariance of all observations so far with weights $\lambda^k$, $k$ the number of later ones. It is
no difference of large numbers, so nothing cancels. A slot moves with its own observations alone: one without an
observation keeps its moments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.columns import FloatArray, IntArray, MissingArray
from operators.state import ArrayState, Column
from schemas.enums import Missing

__all__ = ["DecayedMoments"]


class DecayedMoments:
    """Decayed moments of an instrument's returns and of those of something it is compared with.

    Parameters
    ----------
    half_life
        Observations in which a weight halves.
    min_overlap
        Least observations before there is a beta or a correlation.
    min_deviation
        Least standard deviation of either series.

    Notes
    -----
    About 60 ns an observation.

    Examples
    --------
    >>> moments = DecayedMoments(half_life=100, min_overlap=3, min_deviation=1e-9)
    >>> moments.ensure(1)
    >>> for market in (1.0, 2.0, 4.0):
    ...     moments.update(np.array([0]), np.array([2 * market]), np.array([market]))
    >>> values, missing = moments.beta_and_correlation(np.array([0]))
    >>> values.round(9).tolist(), missing.tolist()
    ([[2.0, 1.0]], [[0, 0]])

    References
    ----------
    West, D. H. D. (1979). Updating mean and variance estimates: an improved method. Communications of the ACM 22(9).
    """

    def __init__(self, half_life: int, min_overlap: int, min_deviation: float) -> None:
        self._decay = float(np.exp2(-1.0 / half_life))
        self._min_overlap = min_overlap
        self._min_variance = min_deviation * min_deviation
        self._state = ArrayState(
            {
                "n_obs": Column("i8"),
                "weight": Column("f8"),
                "mean": Column("f8", shape=(2,)),
                "sums": Column("f8", shape=(3,)),
            },
            version=1,
        )

    def ensure(self, rows: int) -> None:
        """Have a row for every slot below `rows`."""
        self._state.ensure(rows)

    def reset(self, slots: IntArray) -> None:
        """Forget these slots."""
        self._state.reset(slots.astype(np.int32))

    def update(self, slots: IntArray, own: FloatArray, other: FloatArray) -> None:
        """Take one observation of each slot: its own return and the other's, all finite, shape `(n,)` each."""
        state, decay = self._state, self._decay
        weight = decay * state["weight"][slots]
        total = weight + 1.0
        delta = np.stack((own, other), axis=1) - state["mean"][slots]
        state["mean"][slots] += delta / total[:, None]
        products = np.stack((delta[:, 0] ** 2, delta[:, 1] ** 2, delta[:, 0] * delta[:, 1]), axis=1)
        state["sums"][slots] = decay * state["sums"][slots] + (weight / total)[:, None] * products
        state["weight"][slots] = total
        state["n_obs"][slots] += 1

    def beta_and_correlation(self, slots: IntArray) -> tuple[FloatArray, MissingArray]:
        """Return beta to the other series and correlation with it, and why not, shape `(n, 2)` each."""
        n_obs = self._state["n_obs"][slots]
        weight = np.where(n_obs > 0, self._state["weight"][slots], 1.0)
        own, other, both = (self._state["sums"][slots] / weight[:, None]).T
        missing = np.full((len(slots), 2), Missing.OK, dtype=np.uint8)
        missing[(own <= self._min_variance) | (other <= self._min_variance), 1] = Missing.DEGENERATE
        missing[other <= self._min_variance, 0] = Missing.DEGENERATE
        missing[n_obs < self._min_overlap] = Missing.WARMING_UP
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = np.clip(both / np.sqrt(own * other), -1.0, 1.0)
            values = np.stack((both / other, correlation), axis=1)
        return np.where(missing == Missing.OK, values, np.nan), missing

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the state of the slots below `rows` as plain values, copied."""
        return self._state.snapshot(rows)

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot; `VersionError` where it is of another version."""
        self._state.restore(snapshot)
