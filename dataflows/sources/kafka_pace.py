"""How far the partitions of a process may be ahead of its slowest one.

What a partition delivers ahead of the slowest clock cannot be computed yet: alignment keeps it. Without
a bound, the backlog of a busy partition would be read into memory while a slow one is still at its beginning.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Final

from schemas.time import END_OF_TIME

__all__ = ["NEVER", "Pace"]

NEVER: Final = -(2**63) + 1
"""Clock of a partition that has delivered nothing."""


class Pace:
    """Clocks of the partitions of this process, and the bytes delivered ahead of the slowest.

    Parameters
    ----------
    lead_bytes
        Most bytes ahead. The slowest partition may always go on, so that nothing ever waits for itself.

    Examples
    --------
    >>> pace = Pace(lead_bytes=100)
    >>> pace.start("trades/0", NEVER), pace.start("trades/1", NEVER)
    (None, None)
    >>> pace.deliver("trades/0", clock=5, rows=10, size=100)
    >>> pace.may_go("trades/0"), pace.may_go("trades/1")
    (False, True)
    >>> pace.deliver("trades/1", clock=6, rows=10, size=100)
    >>> pace.may_go("trades/0")
    True
    """

    def __init__(self, lead_bytes: int) -> None:
        self._lead_bytes = lead_bytes
        self._clocks: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._ahead: dict[str, deque[tuple[int, int]]] = {}
        self._bytes = 0
        self._lock = Lock()
        self.delivered = 0
        self.exhausted: set[str] = set()

    def start(self, source: str, clock: int) -> None:
        """Count a partition in."""
        with self._lock:
            self._clocks[source] = clock
            self._ahead[source] = deque()

    def finish(self, source: str) -> None:
        """Count a partition out: nobody waits for it any more."""
        with self._lock:
            if source in self._clocks:
                self._left[source] = self._clocks.pop(source)
            self._release()

    def deliver(self, source: str, clock: int, rows: int, size: int) -> None:
        """Note that a partition delivered rows of `size` bytes and set its clock."""
        with self._lock:
            self._clocks[source] = clock
            if size:
                self._ahead[source].append((clock, size))
                self._bytes += size
            self.delivered += rows
            if clock == END_OF_TIME:
                self.exhausted.add(source)
            self._release()

    def may_go(self, source: str) -> bool:
        """Return whether a partition may deliver more."""
        with self._lock:
            return self._bytes < self._lead_bytes or self._clocks[source] <= self._slowest()

    def clocks(self) -> dict[str, int]:
        """Return the clock of every partition that is being read."""
        with self._lock:
            return dict(self._clocks)

    def frontier(self) -> int:
        """Return the lowest clock of all partitions, counted out or not: no row has been computed beyond it."""
        with self._lock:
            return min((self._left | self._clocks).values(), default=NEVER)

    def _slowest(self) -> int:
        return min(self._clocks.values(), default=END_OF_TIME)

    def _release(self) -> None:
        slowest = self._slowest()
        for chunks in self._ahead.values():
            while chunks and chunks[0][0] <= slowest:
                self._bytes -= chunks.popleft()[1]
