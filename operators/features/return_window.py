"""The last log returns of an instrument, oldest first: what statistics of returns are made of.

A log return of finite prices lies within 1455 of zero, so that no sum or product of fewer than four of them
overflows.
"""

from __future__ import annotations

import numba
import numpy as np

from operators.columns import FloatArray, IntArray
from operators.state import ArrayState, Column
from schemas.enums import Missing

__all__ = ["centred", "next_window", "return_state"]


def return_state(window: int) -> ArrayState:
    """Return a state that keeps the last close and the last `window` returns of each instrument.

    Parameters
    ----------
    window
        Returns that are kept.

    Examples
    --------
    >>> return_state(3)["ring"].shape[1]
    3
    """
    return ArrayState(
        {"previous": Column("f8", fill=np.nan), "n_bars": Column("i8"), "ring": Column("f8", shape=(window,))},
        version=1,
    )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def next_window(c: int, value: float, n_bars: IntArray, ring: FloatArray, window: FloatArray) -> int:
    """Take the value of the next bar and fill `window` with the last ones, oldest first; return a `Missing` code.

    Parameters
    ----------
    c
        Code of the instrument.
    value
        Its return since the bar before: infinite where a price was not finite, NaN where it has no meaning. That of an
        instrument's first bar is left out.
    n_bars
        Bars of each instrument so far, counted here.
    ring
        The last values of each instrument, shape `(codes, w)`.
    window
        Shape `(w,)`; written.

    Notes
    -----
    `WARMING_UP` before there are `w` values; `NOT_FINITE` while an infinite one is among them, else `DEGENERATE` while
    one is NaN.

    Examples
    --------
    >>> n_bars, ring, window = np.zeros(1, np.int64), np.zeros((1, 2)), np.zeros(2)
    >>> [int(next_window(0, value, n_bars, ring, window)) for value in (np.inf, 1.0, 2.0, 3.0, np.nan)]
    [1, 1, 0, 0, 3]
    >>> window.tolist()
    [3.0, nan]
    """
    length = ring.shape[1]
    n = n_bars[c] - 1
    n_bars[c] += 1
    if n >= 0:
        ring[c, n % length] = value
    if n < length - 1:
        return Missing.WARMING_UP
    oldest = (n + 1) % length
    last = ring[c]
    for k in range(oldest, length):
        window[k - oldest] = last[k]
    for k in range(oldest):
        window[length - oldest + k] = last[k]
    infinite = False
    unknown = False
    for k in range(length):
        infinite |= np.isinf(last[k])
        unknown |= np.isnan(last[k])
    if infinite:
        return Missing.NOT_FINITE
    return Missing.DEGENERATE if unknown else Missing.OK


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def centred(values: FloatArray) -> float:
    """Take the mean from the values, in place, and return their population variance.

    Parameters
    ----------
    values
        Shape `(n,)`, finite; written.

    Examples
    --------
    >>> values = np.array([1.0, 3.0])
    >>> centred(values), values.tolist()
    (1.0, [-1.0, 1.0])
    """
    total = 0.0
    for value in values:
        total += value
    mean = total / len(values)
    squares = 0.0
    for k in range(len(values)):
        values[k] -= mean
        squares += values[k] * values[k]
    return squares / len(values)
