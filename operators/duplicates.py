"""Records seen before: a window of sequence numbers, and a window of text ids.

Kafka delivers at least once and feeds repeat themselves, so ids are compared before anything is summed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from operators.columns import BoolArray, CodeArray, IntArray, frozen
from operators.state import Column, InstrumentState
from schemas.errors import ConfigError, VersionError

__all__ = ["SequenceWindow", "TextIdWindow"]

_WINDOW: Final = 1024
"""Ids remembered behind the highest: 128 bytes an instrument. A venue's trades are seldom more than a few out of
order; a repeat from further back is reported too."""
_WORD: Final = 64
_WORDS: Final = _WINDOW // _WORD
_SHIFT: Final = 6
"""`x >> 6` is the word of id `x`, `x & 63` its bit: both are powers of two."""


class SequenceWindow(InstrumentState):
    """Which ids of an increasing sequence were seen before, for each instrument.

    The highest id and one bit for each of the 1024 ids up to it are kept, as an anti-replay window of a
    network protocol does. A higher id moves the window; an id within it is looked up.

    Notes
    -----
    A negative id is a missing one and never a duplicate. An id below the window cannot be told from a
    repeat and counts as one: a feed that is more than 1024 ids out of order loses records to this rule.
    The first id of an instrument sets the window, whatever it is. Cost: a few ns for each row.

    Examples
    --------
    >>> window = SequenceWindow()
    >>> window.ensure(1)
    >>> window.update(np.zeros(6, np.int32), np.array([7, 9, 8, 9, -1, -1])).tolist()
    [False, False, False, True, False, False]

    References
    ----------
    Kent, S. (2005). RFC 4303, section 3.4.3: anti-replay window.
    """

    def __init__(self) -> None:
        super().__init__({"highest": Column("i8", fill=-1), "seen": Column("u8", shape=(_WORDS,))}, version=1)

    def update(self, code: CodeArray, ident: IntArray) -> BoolArray:
        """Return which rows were seen before, shape `(n,)`, and remember all.

        Parameters
        ----------
        code
            Instrument codes, shape `(n,)`.
        ident
            Sequence numbers, shape `(n,)`; negative is missing.
        """
        repeated = np.zeros(len(code), dtype=np.bool_)
        if len(code):
            _mark(frozen(code), frozen(ident), self._state["highest"], self._state["seen"], repeated)
        return repeated


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mark(
    code: CodeArray, ident: IntArray, highest: IntArray, seen: npt.NDArray[np.uint64], repeated: BoolArray
) -> None:
    for i in range(len(code)):
        c = code[i]
        x = ident[i]
        if x < 0:
            continue
        top = highest[c]
        bit = np.uint64(1) << np.uint64(x & (_WORD - 1))
        word = (x >> _SHIFT) & (_WORDS - 1)
        if x <= top:
            if x <= top - _WINDOW or seen[c, word] & bit:
                repeated[i] = True
            else:
                seen[c, word] |= bit
            continue
        if top < 0 or x - top >= _WINDOW:
            seen[c, :] = np.uint64(0)
        else:
            _forget(seen[c], top + 1, x)
        seen[c, word] |= bit
        highest[c] = x


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _forget(seen: npt.NDArray[np.uint64], first: int, last: int) -> None:
    """Clear the bits of `first` to `last`, inclusive, word by word."""
    x = first
    left = last - first + 1  # counted down, because `last + 1` may not fit into 64 bits
    while left > 0:
        low = x & (_WORD - 1)
        n = min(_WORD - low, left)
        ones = ~np.uint64(0) if n == _WORD else (np.uint64(1) << np.uint64(n)) - np.uint64(1)
        seen[(x >> _SHIFT) & (_WORDS - 1)] &= ~(ones << np.uint64(low))
        x += n
        left -= n


class TextIdWindow:
    """Which text ids were seen before, for each instrument: the last `capacity` distinct ones, first in first out.

    Parameters
    ----------
    capacity
        Ids remembered for each instrument. A repeat after that many others passes as new.

    Raises
    ------
    ConfigError
        The capacity is not positive.

    Notes
    -----
    `None` is a missing id and never a duplicate. A repeat does not renew an id's place. Plain Python,
    about 0.2 µs for each row: for news and posts, not for ticks.

    Examples
    --------
    >>> window = TextIdWindow(capacity=2)
    >>> window.ensure(1)
    >>> window.update(np.zeros(6, np.int32), ["a", "b", "a", "c", "a", None]).tolist()
    [False, False, True, False, False, False]
    """

    _VERSION: Final = 1

    def __init__(self, capacity: int = 4096) -> None:
        if capacity < 1:
            raise ConfigError(f"expected a positive number of ids to remember, found {capacity}; raise it")
        self._capacity = capacity
        self._seen: list[OrderedDict[str, None]] = []

    def ensure(self, n: int) -> None:
        """Have room for codes below `n`."""
        self._seen.extend(OrderedDict() for _ in range(n - len(self._seen)))

    def reset(self, codes: CodeArray) -> None:
        """Forget the ids of these instruments."""
        for code in codes.tolist():
            self._seen[code] = OrderedDict()

    def snapshot(self, n_rows: int) -> dict[str, Any]:
        """Return the first rows as plain values, copied, each instrument's ids from the oldest."""
        self.ensure(n_rows)
        return {"version": self._VERSION, "ids": [list(seen) for seen in self._seen[:n_rows]]}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot; a smaller capacity keeps the newest ids.

        Raises
        ------
        VersionError
            Another version wrote the snapshot.
        """
        if snapshot["version"] != self._VERSION:
            raise VersionError(
                f"expected a snapshot of text ids of version {self._VERSION}, found {snapshot['version']}; "
                "resume with the version that wrote it, or start a new run"
            )
        self._seen = [OrderedDict.fromkeys(ids[-self._capacity :]) for ids in snapshot["ids"]]

    def update(self, code: CodeArray, ident: Sequence[str | None]) -> BoolArray:
        """Return which rows were seen before, shape `(n,)`, and remember all."""
        repeated = np.zeros(len(code), dtype=np.bool_)
        for row, (c, text) in enumerate(zip(code.tolist(), ident, strict=True)):
            if text is None:
                continue
            seen = self._seen[c]
            if text in seen:
                repeated[row] = True
                continue
            if len(seen) >= self._capacity:
                seen.popitem(last=False)
            seen[text] = None
        return repeated
