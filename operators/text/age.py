"""Time between two moments, exact wherever it is short."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["age"]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def age(now: int, then: int) -> float:
    """Return the ns from one time to a later one; exact below 2^53, and without overflow for any two times.

    Examples
    --------
    >>> age(2**62 + 1, 2**62), age(2**63 - 1, -(2**63)) == 2.0**64
    (1.0, True)
    """
    return float(np.uint64(now) - np.uint64(then))
