"""One output of a feature at a bar: a finite value, or NaN and the reason why there is none.

The functions take and return scalars: an array that is handed to a compiled function is counted in and out, which costs
more than the arithmetic.
"""

from __future__ import annotations

import numba
import numpy as np

from schemas.enums import Missing

__all__ = ["finite", "ratio"]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def finite(value: float) -> tuple[float, int]:
    """Return a value and `OK`, or NaN and `NOT_FINITE`.

    Parameters
    ----------
    value
        The value.

    Examples
    --------
    >>> [(value, int(missing)) for value, missing in map(finite, (2.0, np.inf))]
    [(2.0, 0), (nan, 6)]
    """
    if np.isfinite(value):
        return value, Missing.OK
    return np.nan, Missing.NOT_FINITE


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def ratio(numerator: float, denominator: float) -> tuple[float, int]:
    """Return a ratio and `OK`, or NaN and the reason.

    Parameters
    ----------
    numerator, denominator
        `DEGENERATE` where the denominator is not above zero, `NOT_FINITE` where it, or the ratio, is not finite.

    Examples
    --------
    >>> [(value, int(missing)) for value, missing in (ratio(2.0, 4.0), ratio(2.0, 0.0), ratio(2.0, np.inf))]
    [(0.5, 0), (nan, 3), (nan, 6)]
    """
    if not np.isfinite(denominator):
        return np.nan, Missing.NOT_FINITE
    if denominator <= 0.0:
        return np.nan, Missing.DEGENERATE
    value = numerator / denominator
    if np.isfinite(value):
        return value, Missing.OK
    return np.nan, Missing.NOT_FINITE
