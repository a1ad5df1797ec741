"""A state of three that is entered at one threshold and left at another, and kept for a least time."""

from __future__ import annotations

import numba

__all__ = ["next_state"]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def next_state(
    state: int, bars: int, level: float, thresholds: tuple[float, float, float, float], min_dwell: int
) -> tuple[int, int]:
    """Return the state after the next level, and for how many bars it has lasted, this one included.

    Parameters
    ----------
    state
        State before: -1, 0 or 1; 0 before the first level.
    bars
        Bars that it has lasted; 0 before the first level.
    level
        The level, finite.
    thresholds
        Enter and leave -1, leave and enter 1, ascending: -1 is entered at or below the first and left above the
        second; 1 is entered at or above the fourth and left below the third.
    min_dwell
        Bars that a state lasts at least. The first state is found, not entered, and is held as long.

    Examples
    --------
    >>> state, bars, seen = 0, 0, []
    >>> for level in (1.0, 2.1, 1.6, 1.4, 2.2):
    ...     state, bars = next_state(state, bars, level, (0.25, 0.5, 1.5, 2.0), 1)
    ...     seen.append((state, bars))
    >>> seen
    [(0, 1), (1, 1), (1, 2), (0, 1), (1, 1)]
    """
    enter_low, leave_low, leave_high, enter_high = thresholds
    wanted = state
    if level >= enter_high:
        wanted = 1
    elif level <= enter_low:
        wanted = -1
    elif (state == 1 and level < leave_high) or (state == -1 and level > leave_low):
        wanted = 0
    if bars == 0 or (wanted != state and bars >= min_dwell):
        return wanted, 1
    return state, bars + 1
