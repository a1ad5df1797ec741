r"""Percentile of each instrument among all: $(r - 1) / (n - 1)$, $r$ the mean rank of equal values."""

from __future__ import annotations

import numpy as np

from operators.columns import FloatArray

__all__ = ["percentiles"]


def percentiles(values: FloatArray) -> FloatArray:
    """Return the percentile of each finite value among the finite ones.

    Parameters
    ----------
    values
        Shape `(n,)`.

    Returns
    -------
    percentiles
        Shape `(n,)`, in [0, 1]: 0 for the least, 1 for the greatest, equal values alike; NaN where there is no finite
        value, or only one. Costs a sort.

    Examples
    --------
    >>> percentiles(np.array([30.0, 10.0, np.nan, 10.0])).tolist()
    [1.0, 0.25, nan, 0.25]
    """
    found = np.full(len(values), np.nan)
    finite = np.flatnonzero(np.isfinite(values))
    n = len(finite)
    if n < 2:
        return found
    order = finite[np.argsort(values[finite], kind="stable")]
    ordered = values[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(np.append(first, n))
    found[order] = np.repeat(first + (counts - 1) / 2, counts) / (n - 1)
    return found
