"""Dense slots for instruments that are known by name: what follows the barrier keeps its arrays by slot."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from operators.columns import IntArray

__all__ = ["NO_SLOT", "Slots"]

NO_SLOT: Final = -1
"""Slot of an instrument for which there is no room."""
_FREE: Final = -(2**63)


class Slots:
    """Names and slots, with a cap and an expiry.

    Which slot an instrument gets follows from the calls of `assign` alone. Where newcomers outnumber the room, either
    those that were seen longest ago make room, or the first in alphabetical order get what there is.

    Parameters
    ----------
    capacity
        Most instruments at a time.
    expiry_ns
        An instrument that was in no call for longer than this is forgotten, ns.
    evicts
        Whether newcomers take the room of those that are not in the call.

    Notes
    -----
    About 5 ns an instrument where the names are those of the call before, else 150 ns.

    Examples
    --------
    >>> slots = Slots(capacity=2, expiry_ns=10)
    >>> slots.assign(("A", "B", "C"), ts=0)[0].tolist()
    [0, 1, -1]
    >>> found, fresh = slots.assign(("B", "C"), ts=11)
    >>> found.tolist(), fresh.tolist()
    ([1, 0], [1, 0])
    """

    def __init__(self, capacity: int, expiry_ns: int, *, evicts: bool = False) -> None:
        self.capacity = capacity
        self._evicts = evicts
        self._expiry = expiry_ns
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._last: tuple[tuple[str, ...], IntArray] | None = None
        self.names: list[str] = []
        self.last_seen: IntArray = np.full(capacity, _FREE, dtype=np.int64)
        """when the instrument of each slot was last in a call, shape `(capacity,)`, ns"""

    def __len__(self) -> int:
        return len(self.names)

    def slot(self, name: str) -> int:
        """Return the slot of an instrument, or `NO_SLOT`."""
        return self._slots.get(name, NO_SLOT)

    def assign(self, names: tuple[str, ...], ts: int) -> tuple[IntArray, IntArray]:
        """Return the slot of each name, and the slots that begin anew: state of earlier owners must be reset.

        Parameters
        ----------
        names
            Distinct instruments, alphabetical.
        ts
            Time of the call, ns; never decreasing.
        """
        self._expire(ts)
        if self._last is not None and names == self._last[0]:
            found = self._last[1]
            self.last_seen[found] = ts
            return found, np.empty(0, dtype=np.int64)
        found = np.array([self._slots.get(name, NO_SLOT) for name in names], dtype=np.int64)
        self.last_seen[found[found != NO_SLOT]] = ts
        new = np.flatnonzero(found == NO_SLOT).tolist()
        if self._evicts:
            self._evict(len(new) - len(self._free) - self.capacity + len(self.names), ts)
        fresh = []
        for row in new:
            slot = self._admit(names[row])
            if slot == NO_SLOT:
                break
            found[row] = slot
            fresh.append(slot)
        seen = found[found != NO_SLOT]
        self.last_seen[seen] = ts
        self._last = (names, found) if len(seen) == len(found) else None
        return found, np.array(fresh, dtype=np.int64)

    def _admit(self, name: str) -> int:
        if self._free:
            slot = self._free.pop()
            self.names[slot] = name
        elif len(self.names) < self.capacity:
            slot = len(self.names)
            self.names.append(name)
        else:
            return NO_SLOT
        self._slots[name] = slot
        return slot

    def _expire(self, ts: int) -> None:
        last_seen = self.last_seen[: len(self.names)]
        idle = np.flatnonzero((last_seen != _FREE) & (last_seen < ts - self._expiry))
        if len(idle):
            self._forget(idle.tolist())

    def _evict(self, shortage: int, ts: int) -> None:
        """Forget as many instruments that were seen longest ago, of equal ones the first in alphabetical order."""
        if shortage <= 0:
            return
        last_seen = self.last_seen[: len(self.names)]
        absent = np.flatnonzero((last_seen != _FREE) & (last_seen < ts)).tolist()
        self._forget(sorted(absent, key=lambda slot: (self.last_seen[slot], self.names[slot]))[:shortage])

    def _forget(self, slots: list[int]) -> None:
        self._last = None
        for slot in slots:
            del self._slots[self.names[slot]]
            self._free.append(slot)
        self.last_seen[slots] = _FREE

    def live(self, since: int) -> IntArray:
        """Return the slots of the instruments that were in a call at or after a time."""
        last_seen = self.last_seen[: len(self.names)]
        return np.flatnonzero((last_seen != _FREE) & (last_seen >= since))

    def snapshot(self) -> dict[str, Any]:
        """Return the slots as plain values, copied."""
        return {
            "names": list(self.names),
            "free": list(self._free),
            "last_seen": self.last_seen[: len(self.names)].tolist(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot."""
        self.names = list(snapshot["names"])
        self._free = list(snapshot["free"])
        free = set(self._free)
        self._slots = {name: slot for slot, name in enumerate(self.names) if slot not in free}
        self.last_seen = np.full(self.capacity, _FREE, dtype=np.int64)
        self.last_seen[: len(self.names)] = snapshot["last_seen"]
        self._last = None
