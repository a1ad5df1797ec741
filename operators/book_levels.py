"""Price levels of many books, in one pool of memory.

A side of a book is a slab of the pool: its levels sorted so that the best stands last, because nearly
every change is near the best and then moves few levels. Both sides sort upwards by a key, the price
for bids and its negation for offers, so that one code serves both. A slab doubles when it is full, and
the slab that it leaves is used again: a thin book beside a deep one costs what it holds.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from operators.columns import CodeArray, FloatArray, IntArray
from schemas.errors import VersionError

__all__ = ["CAPACITY", "START", "USED", "BookLevels", "copy_side", "fill_side", "set_level", "side_depth"]

_VERSION: Final = 1
_FIRST_ROWS: Final = 16
_FIRST_SLAB: Final = 8
"""levels of the smallest slab: 256 bytes for both sides of an instrument with a thin book"""


START, USED, CAPACITY = range(3)
"""columns of the table of sides: first position of its slab in the pool, levels that it has, levels of its slab"""


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _find(keys: Any, first: int, end: int, wanted: float) -> int:
    """Return the position of the first key not below `wanted`, looked for from the best in widening steps."""
    high = end
    step = 1
    low = high - 1
    while low >= first and keys[low] >= wanted:
        high = low
        low -= step
        step *= 2
    low = max(low + 1, first)
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _shift_up(values: Any, start: int, end: int) -> None:
    for position in range(end, start, -1):
        values[position] = values[position - 1]


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _shift_down(values: Any, start: int, end: int) -> None:
    for position in range(start, end):
        values[position] = values[position + 1]


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _insert(keys: Any, sizes: Any, sides: Any, side: int, at: int, key: float, size: float, max_levels: int) -> int:
    """Put a level before position `at`; at the cap the worst level goes. Return how many went."""
    first, used = sides[side, START], sides[side, USED]
    if used < max_levels:
        _shift_up(keys, at, first + used)
        _shift_up(sizes, at, first + used)
        keys[at] = key
        sizes[at] = size
        sides[side, USED] = used + 1
        return 0
    if at > first:
        _shift_down(keys, first, at - 1)
        _shift_down(sizes, first, at - 1)
        keys[at - 1] = key
        sizes[at - 1] = size
    return 1


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def set_level(keys: Any, sizes: Any, sides: Any, side: int, key: float, size: float, max_levels: int) -> int:
    """Set one level, or remove it where the size is zero; the slab must have room. Return levels dropped."""
    first = sides[side, START]
    end = first + sides[side, USED]
    at = _find(keys, first, end, key)
    if at < end and keys[at] == key:
        if size > 0.0:
            sizes[at] = size
            return 0
        _shift_down(keys, at, end - 1)
        _shift_down(sizes, at, end - 1)
        sides[side, USED] = end - 1 - first
        return 0
    if size > 0.0:
        dropped: int = _insert(keys, sizes, sides, side, at, key, size, max_levels)
        return dropped
    return 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def fill_side(keys: Any, sizes: Any, sides: Any, side: int, new_keys: Any, new_sizes: Any, max_levels: int) -> int:
    """Replace a side; zero sizes are no levels, and of equal keys the last counts. Return levels dropped.

    Venues list the best level first: such a list is read backwards, so that each level is appended.
    """
    sides[side, USED] = 0
    first = sides[side, START]
    n = len(new_keys)
    backwards = n > 1 and new_keys[0] > new_keys[n - 1]
    dropped = 0
    for i in range(n):
        j = n - 1 - i if backwards else i
        if new_sizes[j] <= 0.0:
            continue
        if backwards:
            end = first + sides[side, USED]
            at = _find(keys, first, end, new_keys[j])
            if at < end and keys[at] == new_keys[j]:
                continue
        dropped += set_level(keys, sizes, sides, side, new_keys[j], new_sizes[j], max_levels)
    return dropped


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def side_depth(sizes: Any, sides: Any, side: int, depth: int) -> float:
    """Return the quantity on the best `depth` levels of a side, summed from the best."""
    last = sides[side, START] + sides[side, USED] - 1
    total = 0.0
    for position in range(last, last - min(depth, sides[side, USED]), -1):
        total += sizes[position]
    return total


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def copy_side(keys: Any, sizes: Any, sides: Any, side: int, below: Any) -> None:
    """Write prices and sizes of the levels after the best to the side's two columns of `below`, shape `(k, 4)`."""
    best = sides[side, START] + sides[side, USED] - 1
    offers = side % 2
    for k in range(len(below)):
        exists = k + 1 < sides[side, USED]
        key = keys[best - 1 - k] if exists else np.nan
        below[k, 2 * offers] = -key if offers else key
        below[k, 2 * offers + 1] = sizes[best - 1 - k] if exists else 0.0


class BookLevels:
    """Sorted price levels of both sides of many books.

    Side `2 * code` is the bids of an instrument, `2 * code + 1` its offers. The slabs that growing sides left add up
    to no more than the ones they moved to, and a slab is twice what its side needed at most.

    Parameters
    ----------
    max_levels
        Most levels of a side.

    Attributes
    ----------
    keys, sizes
        The pool: price of a bid or negated price of an offer, and quantity, float64.
    sides
        int64, one row for each side: `START`, `USED`, `CAPACITY`.

    Examples
    --------
    >>> levels = BookLevels(max_levels=100)
    >>> levels.ensure(1)
    >>> levels.reserve(0, 2)
    >>> [set_level(levels.keys, levels.sizes, levels.sides, 0, price, 5.0, 100) for price in (10.5, 10.0)]
    [0, 0]
    >>> levels.side(0)
    (array([10. , 10.5]), array([5., 5.]))
    """

    def __init__(self, max_levels: int) -> None:
        self.max_levels = max_levels
        self._clear(_FIRST_ROWS)

    def _clear(self, rows: int) -> None:
        pool = 2 * rows * _FIRST_SLAB
        self.keys: FloatArray = np.zeros(pool)
        self.sizes: FloatArray = np.zeros(pool)
        self.sides: IntArray = np.zeros((2 * rows, 3), dtype=np.int64)
        self._end = 0
        self._free: dict[int, list[int]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.keys.nbytes + self.sizes.nbytes + self.sides.nbytes

    def side(self, side: int) -> tuple[FloatArray, FloatArray]:
        """Return keys and sizes of a side, the best last, copied."""
        start, used, _ = self.sides[side].tolist()
        return self.keys[start : start + used].copy(), self.sizes[start : start + used].copy()

    def ensure(self, rows: int) -> None:
        """Have at least this many instruments; new ones are empty."""
        if 2 * rows > len(self.sides):
            self.sides = _extended(self.sides, max(2 * rows, 2 * len(self.sides)))

    def reserve(self, side: int, needed: int) -> None:
        """Give a side room for `needed` levels, or for the most that it may have."""
        old, used, old_capacity = self.sides[side].tolist()
        needed = min(needed, self.max_levels)
        if needed <= old_capacity:
            return
        capacity = min(max(1 << (needed - 1).bit_length(), _FIRST_SLAB), self.max_levels)
        start = self._allocate(capacity)
        self.keys[start : start + used] = self.keys[old : old + used]
        self.sizes[start : start + used] = self.sizes[old : old + used]
        self._release(side)
        self.sides[side] = start, used, capacity

    def _allocate(self, capacity: int) -> int:
        free = self._free.get(capacity)
        if free:
            return free.pop()
        start, self._end = self._end, self._end + capacity
        if self._end > len(self.keys):
            length = max(self._end, 2 * len(self.keys))
            self.keys, self.sizes = _extended(self.keys, length), _extended(self.sizes, length)
        return start

    def _release(self, side: int) -> None:
        start, _, capacity = self.sides[side].tolist()
        if capacity:
            self._free.setdefault(capacity, []).append(start)
        self.sides[side] = 0

    def reset(self, codes: CodeArray) -> None:
        """Empty the books of these instruments and take back their memory."""
        for code in codes.tolist():
            self._release(2 * code)
            self._release(2 * code + 1)

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the levels in use of the first rows as plain values, copied."""
        self.ensure(rows)
        levels = [self.side(side) for side in range(2 * rows)]
        return {
            "version": _VERSION,
            "rows": rows,
            "used": self.sides[: 2 * rows, USED].tobytes(),
            "keys": b"".join(keys.tobytes() for keys, _ in levels),
            "sizes": b"".join(sizes.tobytes() for _, sizes in levels),
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
        keys, sizes = np.frombuffer(snapshot["keys"]), np.frombuffer(snapshot["sizes"])
        position = 0
        for side, used in enumerate(np.frombuffer(snapshot["used"], dtype=np.int64).tolist()):
            self.reserve(side, used)
            start = int(self.sides[side, START])
            self.keys[start : start + used] = keys[position : position + used]
            self.sizes[start : start + used] = sizes[position : position + used]
            self.sides[side, USED] = used
            position += used


def _extended(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    longer = np.zeros((length, *array.shape[1:]), dtype=array.dtype)
    longer[: len(array)] = array
    return longer
