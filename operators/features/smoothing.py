r"""Recursive means that start as a plain mean: $m_t = m_{t-1} + \alpha (x_t - m_{t-1})$.

The weight $\alpha$ is $2 / (p + 1)$ for an exponential moving average and $1 / p$ for Wilder's.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["smoothed", "true_range"]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def smoothed(mean: float, n_obs: int, x: float, period: int, weight: float) -> float:
    """Return the mean after the next observation.

    Parameters
    ----------
    mean
        Mean before it; zero before the first.
    n_obs
        Observations before it. The first `period` of them make a plain mean, built up from zero.
    x
        The observation.
    period
        Observations that the plain mean at the start has.
    weight
        Weight of an observation after the start.

    Notes
    -----
    Not finite where `x` is not, or the change overflows: the caller keeps the old mean then.

    Examples
    --------
    >>> mean = 0.0
    >>> for n_obs, x in enumerate((1.0, 3.0, 5.0)):
    ...     mean = smoothed(mean, n_obs, x, 2, 0.5)
    >>> mean
    3.5
    """
    if n_obs < period:
        return mean + x / period
    return mean + weight * (x - mean)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def true_range(high: float, low: float, close: float, previous_close: float) -> float:
    """Return Wilder's true range of a bar, infinite where a price is not finite or it overflows.

    Parameters
    ----------
    high, low, close
        Prices of the bar.
    previous_close
        Close of the bar before; NaN where there is none.

    Examples
    --------
    >>> true_range(11.0, 10.5, 10.8, 10.0)
    1.0

    References
    ----------
    Wilder, J. W. (1978). New Concepts in Technical Trading Systems, section III.
    """
    if not (np.isfinite(high) and np.isfinite(low) and np.isfinite(close) and np.isfinite(previous_close)):
        return np.inf
    return max(high - low, abs(high - previous_close), abs(low - previous_close))
