"""What a shard tells the barrier: its closed bars with the features that are carried, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operators.columns import BarColumns, FloatArray, MissingArray
from operators.universe import UniverseSlice
from schemas.errors import ConfigError

__all__ = ["Carried", "UniverseSlices"]


@dataclass(frozen=True, slots=True)
class Carried:
    """What the universe gets of each bar.

    Parameters
    ----------
    interval_ns
        Length of the universe's bars, ns.
    names
        Features that slices carry, in order.
    """

    interval_ns: int
    names: tuple[str, ...]


class UniverseSlices:
    """Cuts the frames of a shard into slices for the barrier.

    Decision times stand on a grid, `k interval + grace`. A slice is due when a bar of the interval closed, and when the
    frontier passed a decision time without one, so that the other shards do not wait. Which decision time was passed
    last is no part of the shard's state: after a restart it is told once more, which changes nothing.

    Parameters
    ----------
    carried
        Bars and features that go into slices.
    grace_ns
        How long a bar stays open after its end, ns.
    features
        Features of the shard, in order.

    Raises
    ------
    ConfigError
        Something across instruments needs a feature that the shard does not compute.

    Examples
    --------
    >>> slices = UniverseSlices(Carried(60, ("zscore",)), 5, ("rsi", "zscore"))
    >>> def nothing(frontier):
    ...     empty = np.empty(0, np.int64)
    ...     bars = BarColumns(empty.astype(np.int32), *[empty] * 4, *[np.empty(0)] * 7, empty, np.empty(0))
    ...     return slices.cut(frontier, bars, np.empty((0, 2)), np.empty((0, 2), np.uint8), [])
    >>> [found and found.frontier for found in map(nothing, (60, 64, 65, 124, 200))]
    [60, None, 65, None, 200]
    """

    def __init__(self, carried: Carried, grace_ns: int, features: Sequence[str]) -> None:
        unknown = [name for name in carried.names if name not in features]
        if unknown:
            raise ConfigError(
                f"expected features that are computed where instruments are compared, found {unknown}; enable them, or "
                "take them out of `ranked`, filters and strategies"
            )
        self._interval = carried.interval_ns
        self._grace = grace_ns
        self._columns = np.array([features.index(name) for name in carried.names], dtype=np.int64)
        self._passed: int | None = None

    def cut(
        self, frontier: int, bars: BarColumns, values: FloatArray, missing: MissingArray, names: Sequence[str]
    ) -> UniverseSlice | None:
        """Return the slice of a frame, or None where none is due. Its shard is still to be named.

        Parameters
        ----------
        frontier
            Every bar that closes at or before it is in these `bars` or was in earlier ones, ns.
        bars
            Closed bars, of every interval.
        values, missing
            Features at the close of each bar, shape `(n, len(features))`.
        names
            Instrument by code.
        """
        passed = (frontier - self._grace) // self._interval
        rows = np.flatnonzero(bars.interval_ns == self._interval)
        if not len(rows) and passed == self._passed:
            return None
        self._passed = passed
        carried = np.ix_(rows, self._columns)
        return UniverseSlice(
            "", frontier, self._interval, bars.ts[rows], tuple([names[code] for code in bars.code[rows].tolist()]),
            bars.close[rows], bars.volume[rows], values[carried], missing[carried],
        )  # fmt: skip
