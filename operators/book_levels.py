"""Price levels of many books, in one pool of memory.

A side of a book is a slab of the pool: its levels sorted so that the best stands last, because nearly
every change is near the best and then moves few levels. Both sides sort upwards by a key, the price
for bids and its negation for offers, so that one code serves both. A slab doubles when it is full, and
the slab that it leaves is used again: a thin book beside a deep one costs what it holds.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from operators.columns import CodeArray, FloatArray, IntArray
from schemas.errors import VersionError

__all__ = ["BookLevels", "LevelArrays", "fill_side", "set_level", "side_depth"]

_VERSION: Final = 1
_FIRST_ROWS: Final = 16
_FIRST_SLAB: Final = 8
"""levels of the smallest slab: 256 bytes for both sides of an instrument with a thin book"""


class LevelArrays(NamedTuple):
    """What the kernels see. Side `2 * code` is the bids of an instrument, `2 * code + 1` its offers."""

    key: FloatArray
    """pool: price of a bid, negated price of an offer"""
    size: FloatArray
    """pool: quantity, above zero"""
    start: IntArray
    """side: first position of its slab"""
    used: IntArray
    """side: levels that it has"""
    capacity: IntArray
    """side: levels of its slab"""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _find(key: Any, first: int, count: int, wanted: float) -> int:
    """Return the position of the first key not below `wanted`, looked for from the best in widening steps."""
    high = first + count
    step = 1
    low = high - 1
    while low >= first and key[low] >= wanted:
        high = low
        low -= step
        step *= 2
    low = max(low + 1, first)
    while low < high:
        middle = (low + high) // 2
        if key[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _insert(levels: Any, side: int, at: int, key: float, size: float, max_levels: int) -> int:
    """Put a level before position `at`; at the cap the worst level goes. Return how many went."""
    first, count = levels.start[side], levels.used[side]
    if count < max_levels:
        for position in range(first + count, at, -1):
            levels.key[position] = levels.key[position - 1]
            levels.size[position] = levels.size[position - 1]
        levels.key[at] = key
        levels.size[at] = size
        levels.used[side] = count + 1
        return 0
    if at > first:
        for position in range(first, at - 1):
            levels.key[position] = levels.key[position + 1]
            levels.size[position] = levels.size[position + 1]
        levels.key[at - 1] = key
        levels.size[at - 1] = size
    return 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def set_level(levels: Any, side: int, key: float, size: float, max_levels: int) -> int:
    """Set one level, or remove it where the size is zero; the slab must have room. Return levels dropped."""
    first, count = levels.start[side], levels.used[side]
    at = _find(levels.key, first, count, key)
    if at < first + count and levels.key[at] == key:
        if size > 0.0:
            levels.size[at] = size
            return 0
        for position in range(at, first + count - 1):
            levels.key[position] = levels.key[position + 1]
            levels.size[position] = levels.size[position + 1]
        levels.used[side] = count - 1
        return 0
    if size > 0.0:
        dropped: int = _insert(levels, side, at, key, size, max_levels)
        return dropped
    return 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def fill_side(levels: Any, side: int, sign: float, prices: Any, sizes: Any, max_levels: int) -> int:
    """Replace a side; zero sizes are no levels, and of equal prices the last counts. Return levels dropped.

    Venues list the best level first: such a list is read backwards, so that each level is appended.
    """
    levels.used[side] = 0
    n = len(prices)
    backwards = n > 1 and sign * prices[0] > sign * prices[n - 1]
    dropped = 0
    for i in range(n):
        j = n - 1 - i if backwards else i
        if sizes[j] <= 0.0:
            continue
        key = sign * prices[j]
        if backwards:
            first, count = levels.start[side], levels.used[side]
            at = _find(levels.key, first, count, key)
            if at < first + count and levels.key[at] == key:
                continue
        dropped += set_level(levels, side, key, sizes[j], max_levels)
    return dropped


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def side_depth(levels: Any, side: int, depth: int) -> float:
    """Return the quantity on the best `depth` levels of a side, summed from the best."""
    last = levels.start[side] + levels.used[side] - 1
    total = 0.0
    for position in range(last, last - min(depth, levels.used[side]), -1):
        total += levels.size[position]
    return total


class BookLevels:
    """Sorted price levels of both sides of many books.

    Memory is at most four times what the books held at their deepest: a slab is at least half full when
    it is made, and the slabs that growing sides left add up to no more than the one they moved to.

    Parameters
    ----------
    max_levels
        Most levels of a side.

    Examples
    --------
    >>> levels = BookLevels(max_levels=100)
    >>> levels.ensure(1)
    >>> levels.reserve(0, 2)
    >>> [set_level(levels.arrays, 0, price, 5.0, 100) for price in (10.0, 10.5)]
    [0, 0]
    >>> levels.side(0)
    (array([10. , 10.5]), array([5., 5.]))
    """

    def __init__(self, max_levels: int) -> None:
        self.max_levels = max_levels
        self._clear(_FIRST_ROWS)

    def _clear(self, rows: int) -> None:
        self._rows = rows
        self._end = 0
        self._free: dict[int, list[int]] = {}
        pool = 2 * rows * _FIRST_SLAB
        sides = np.zeros(2 * rows, dtype=np.int64)
        self.arrays = LevelArrays(np.zeros(pool), np.zeros(pool), sides, sides.copy(), sides.copy())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    def side(self, side: int) -> tuple[FloatArray, FloatArray]:
        """Return keys and sizes of a side, the best last, copied."""
        start = int(self.arrays.start[side])
        end = start + int(self.arrays.used[side])
        return self.arrays.key[start:end].copy(), self.arrays.size[start:end].copy()

    def ensure(self, rows: int) -> None:
        """Have at least this many instruments; new ones are empty."""
        if rows > self._rows:
            self._rows = max(rows, 2 * self._rows)
            key, size, *sides = self.arrays
            start, used, capacity = (_extended(array, 2 * self._rows) for array in sides)
            self.arrays = LevelArrays(key, size, start, used, capacity)

    def reserve(self, side: int, needed: int) -> None:
        """Give a side room for `needed` levels, or for the most that it may have."""
        old_start, old_capacity = int(self.arrays.start[side]), int(self.arrays.capacity[side])
        needed = min(needed, self.max_levels)
        if needed <= old_capacity:
            return
        capacity = min(max(1 << (needed - 1).bit_length(), _FIRST_SLAB), self.max_levels)
        start = self._allocate(capacity)
        end = int(self.arrays.used[side])
        for pool in (self.arrays.key, self.arrays.size):
            pool[start : start + end] = pool[old_start : old_start + end]
        self._release(side)
        self.arrays.start[side] = start
        self.arrays.capacity[side] = capacity

    def _allocate(self, capacity: int) -> int:
        free = self._free.get(capacity)
        if free:
            return free.pop()
        start, self._end = self._end, self._end + capacity
        if self._end > len(self.arrays.key):
            length = max(self._end, 2 * len(self.arrays.key))
            key, size, *sides = self.arrays
            self.arrays = LevelArrays(_extended(key, length), _extended(size, length), *sides)
        return start

    def _release(self, side: int) -> None:
        capacity = int(self.arrays.capacity[side])
        if capacity:
            self._free.setdefault(capacity, []).append(int(self.arrays.start[side]))

    def reset(self, codes: CodeArray) -> None:
        """Empty the books of these instruments and take back their memory."""
        for code in codes.tolist():
            for side in (2 * code, 2 * code + 1):
                self._release(side)
                self.arrays.used[side] = 0
                self.arrays.capacity[side] = 0

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the levels in use of the first rows as plain values, copied."""
        self.ensure(rows)
        sides = [self.side(side) for side in range(2 * rows)]
        return {
            "version": _VERSION,
            "rows": rows,
            "used": self.arrays.used[: 2 * rows].tobytes(),
            "key": b"".join(key.tobytes() for key, _ in sides),
            "size": b"".join(size.tobytes() for _, size in sides),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            The snapshot has another version.
        """
        if snapshot["version"] != _VERSION:
            raise VersionError(
                f"expected book levels of version {_VERSION}, found {snapshot['version']}; "
                "resume with the version that wrote them, or start a new run"
            )
        self._clear(max(int(snapshot["rows"]), _FIRST_ROWS))
        counts = np.frombuffer(snapshot["used"], dtype=np.int64)
        key, size = np.frombuffer(snapshot["key"]), np.frombuffer(snapshot["size"])
        position = 0
        for side, count in enumerate(counts.tolist()):
            self.reserve(side, count)
            start = int(self.arrays.start[side])
            self.arrays.key[start : start + count] = key[position : position + count]
            self.arrays.size[start : start + count] = size[position : position + count]
            self.arrays.used[side] = count
            position += count


def _extended(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    longer = np.zeros(length, dtype=array.dtype)
    longer[: len(array)] = array
    return longer
