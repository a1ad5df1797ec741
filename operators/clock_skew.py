"""How far the clock of a source is from ours, estimated from the fastest records.

A record shows `ts_recv - ts_event`: the offset between the two clocks plus the time it was under way.
The smallest difference of many is the offset plus the shortest way, so the minimum of a window bounds
the offset from above, and what a record shows beyond it is its own delay.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from operators.columns import IntArray
from schemas.errors import VersionError

__all__ = ["ClockSkewState"]

_VERSION: Final = 1


class ClockSkewState:
    r"""Running estimate of the smallest `ts_recv - ts_event` of one source.

    The records are cut into windows of `window` records. The estimate is the median of the minima of the
    last `windows` full windows:

    $$ \hat\delta = \mathrm{median}_{j} \min_{i \in w_j} (r_i - e_i) $$

    The minimum removes queues and slow ways; the median removes single records with a wrong event time,
    which would hold a plain running minimum for ever; and forgetting old windows follows a clock that drifts.
    It is reported and corrects latencies. Nothing is refused by it.

    Parameters
    ----------
    window
        Records of a window; long enough that one of them came without delay.
    windows
        Windows that are remembered, an odd number.

    Notes
    -----
    There is no estimate before the first full window. A negative one says that the source's clock is ahead
    of ours by at least that much. The median is one of the minima, so it is exact in nanoseconds. The cost
    is a subtraction a record.

    Examples
    --------
    >>> state = ClockSkewState(window=2, windows=3)
    >>> state.estimate_ns() is None
    True
    >>> state.update(np.array([10, 20, 30, 900, 50]), np.array([15, 24, 37, 36, 55]))
    >>> state.estimate_ns()
    -864
    >>> state.update(np.array([60]), np.array([66]))
    >>> state.estimate_ns()
    4

    References
    ----------
    Paxson, V. (1998). On Calibrating Measurements of Packet Transit Times. SIGMETRICS.
    """

    def __init__(self, *, window: int = 256, windows: int = 15) -> None:
        if window < 1 or windows < 1 or windows % 2 == 0:
            raise ValueError(
                f"expected `window` of 1 or more and an odd `windows`, was {window} and {windows}; "
                "an odd number has a middle"
            )
        self._window = window
        self._windows = windows
        self._minima: list[int] = []
        self._partial: list[int] = []

    def update(self, ts_event: IntArray, ts_recv: IntArray) -> None:
        """Take the next records in arrival order.

        Parameters
        ----------
        ts_event, ts_recv
            Both clocks, int64 UTC ns from 1970 on, shape `(n,)`.
        """
        delay = np.concatenate((np.array(self._partial, dtype=np.int64), ts_recv - ts_event))
        full = len(delay) // self._window * self._window
        if full:
            minima = delay[:full].reshape(-1, self._window).min(axis=1)
            self._minima = (self._minima + minima.tolist())[-self._windows :]
        self._partial = delay[full:].tolist()

    def estimate_ns(self) -> int | None:
        """Return the estimate in nanoseconds, or None before the first full window.

        With an even number of windows so far, it is the lower of the middle two.
        """
        if not self._minima:
            return None
        return sorted(self._minima)[(len(self._minima) - 1) // 2]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "version": _VERSION,
            "parameters": [self._window, self._windows],
            "minima": list(self._minima),
            "partial": list(self._partial),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            The snapshot has another version or other parameters.
        """
        found = (snapshot["version"], list(snapshot["parameters"]))
        if found != (_VERSION, [self._window, self._windows]):
            raise VersionError(
                f"expected a clock snapshot of version {_VERSION} with windows {[self._window, self._windows]}, "
                f"found version {found[0]} with {found[1]}; resume with the settings that wrote it, or start a new run"
            )
        self._minima = list(snapshot["minima"])
        self._partial = list(snapshot["partial"])
