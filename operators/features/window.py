"""What features read from a ring of the last bars, made afresh at each bar so that nothing drifts."""

from __future__ import annotations

import numba
import numpy as np

from operators.columns import FloatArray
from schemas.enums import Missing

__all__ = ["extremes", "flows", "moments", "ring_sum"]


@numba.njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def ring_sum(ring: FloatArray, oldest: int) -> float:
    """Return the sum of a ring, oldest value first.

    Parameters
    ----------
    ring
        Values, shape `(w,)`.
    oldest
        Position of the oldest value.

    Examples
    --------
    >>> ring_sum(np.array([3.0, 1.0, 2.0]), 1)
    6.0
    """
    total = 0.0
    for k in range(oldest, len(ring)):
        total += ring[k]
    for k in range(oldest):
        total += ring[k]
    return total


@numba.njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def moments(ring: FloatArray, oldest: int) -> tuple[float, float]:
    """Return mean and population deviation of a ring, oldest value first.

    Parameters
    ----------
    ring
        Values, shape `(w,)`.
    oldest
        Position of the oldest value.

    Notes
    -----
    The corrected two-pass algorithm. Both are not finite where a value is not, or a sum overflows.

    Examples
    --------
    >>> moments(np.array([3.0, 1.0]), 1)
    (2.0, 1.0)

    References
    ----------
    Chan, T., Golub, G. and LeVeque, R. (1983). Algorithms for computing the sample variance. The American
    Statistician 37(3).
    """
    window = len(ring)
    mean = ring_sum(ring, oldest) / window
    squares = 0.0
    rest = 0.0
    for k in range(window):
        deviation = ring[oldest + k if oldest + k < window else oldest + k - window] - mean
        squares += deviation * deviation
        rest += deviation
    variance = (squares - rest * rest / window) / window
    return mean, np.sqrt(variance) if variance >= 0.0 else (0.0 if variance < 0.0 else variance)


@numba.njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def extremes(highs: FloatArray, lows: FloatArray) -> tuple[float, float]:
    """Return the highest high and the lowest low; both NaN where any of them is not finite.

    Parameters
    ----------
    highs, lows
        Highs and lows of the window, in any order, shape `(w,)`.

    Examples
    --------
    >>> extremes(np.array([3.0, 5.0]), np.array([1.0, 2.0]))
    (5.0, 1.0)
    """
    top = -np.inf
    bottom = np.inf
    finite = True
    for k in range(len(highs)):
        finite &= np.isfinite(highs[k]) and np.isfinite(lows[k])
        top = max(top, highs[k])
        bottom = min(bottom, lows[k])
    return (top, bottom) if finite else (np.nan, np.nan)


@numba.njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def flows(ring: FloatArray, oldest: int) -> tuple[int, float, float]:
    """Return a `Missing` code, the sum of what is above zero and the sum of what is below, without its sign.

    Parameters
    ----------
    ring
        Signed amounts, shape `(w,)`: infinite where an input was not finite, NaN where the amount has no meaning.
    oldest
        Position of the oldest amount.

    Notes
    -----
    `NOT_FINITE` where an amount is infinite or a sum overflows, else `DEGENERATE` where one is NaN.

    Examples
    --------
    >>> flows(np.array([3.0, -1.0, 2.0]), 0)[1:]
    (5.0, 1.0)
    """
    window = len(ring)
    up = 0.0
    down = 0.0
    unknown = False
    for k in range(window):
        amount = ring[oldest + k if oldest + k < window else oldest + k - window]
        up += amount if amount > 0.0 else 0.0
        down -= amount if amount < 0.0 else 0.0
        unknown |= np.isnan(amount)
    if np.isinf(up) or np.isinf(down):
        return Missing.NOT_FINITE, np.nan, np.nan
    if unknown:
        return Missing.DEGENERATE, np.nan, np.nan
    return Missing.OK, up, down
