"""The instruments of a shard: name to dense code, with a cap and an expiry.

A code addresses the rows of every state array. An instrument that had no record for `idle_expiry` is
forgotten: its next record starts it anew, exactly as if it had never been seen, whenever its row is
really freed.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.columns import CodeArray, IntArray, frozen
from schemas.batches import symbols, times
from schemas.time import END_OF_TIME

__all__ = ["REFUSED", "Directory"]

REFUSED = -1
"""Code of an instrument for which the shard has no room."""
_FREE = -(2**63)


class Directory:
    """Names and codes of a shard's instruments.

    Parameters
    ----------
    max_instruments
        Most instruments at a time.
    idle_expiry_ns
        Time without a record after which an instrument is forgotten, ns.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> directory = Directory(max_instruments=1, idle_expiry_ns=10)
    >>> batch = make_batch("trades", {"instrument_id": ["A", "B", "A"], "ts_recv": [1, 2, 3]}, 3)
    >>> directory.codes({"trades": batch})["trades"].tolist(), directory.names[0]
    ([0, -1, 0], 'A')
    """

    def __init__(self, max_instruments: int, idle_expiry_ns: int) -> None:
        self._max = max_instruments
        self._expiry = idle_expiry_ns
        self._codes: dict[str, int] = {}
        self._free: list[int] = []
        self._last_seen: IntArray = np.full(16, _FREE, dtype=np.int64)
        self.names: list[str] = []

    def __len__(self) -> int:
        return len(self.names)

    def codes(self, batches: dict[str, pa.RecordBatch]) -> dict[str, CodeArray]:
        """Return the instrument code of every row by topic; a row without room gets `REFUSED`.

        No gap between an instrument's records may exceed the expiry: `expire` and `first_gap` see to it.
        """
        if (
            len(self._codes) + sum(len(batch.column("instrument_id").dictionary) for batch in batches.values())
            > self._max
        ):
            self._admit(_Arrivals(batches))
        found = {}
        for topic, batch in batches.items():
            indices, names = symbols(batch, "instrument_id")
            lookup = np.full(len(names), REFUSED, dtype=np.int32)
            for index in _used(indices, len(names)):
                lookup[index] = self._code(names[index] or "")
            found[topic] = lookup[indices]
            _see(frozen(found[topic]), frozen(times(batch, "ts_recv")), self._last_seen)
        return found

    def _admit(self, arrivals: _Arrivals) -> None:
        """Give codes to new names; if there is no room for all, to the ones that arrived first."""
        if sum(name not in self._codes for name in arrivals.names) > self._max - len(self._codes):
            names = list(arrivals.names)
            for number in arrivals.by_first_record():
                self._code(names[number])

    def _code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is not None:
            return code
        if len(self._codes) >= self._max:
            return REFUSED
        if self._free:
            code = self._free.pop()
            self.names[code] = name
        else:
            code = len(self.names)
            self.names.append(name)
            if code >= len(self._last_seen):
                self._last_seen = np.concatenate((self._last_seen, np.full(code, _FREE, dtype=np.int64)))
        self._codes[name] = code
        return code

    def expire(self, before: int) -> CodeArray:
        """Forget instruments last seen before a time less the expiry; return their codes, free from now on."""
        last_seen = self._last_seen[: len(self.names)]
        idle = np.flatnonzero((last_seen != _FREE) & (last_seen < before - self._expiry)).astype(np.int32)
        for code in idle.tolist():
            del self._codes[self.names[code]]
            self._free.append(code)
        self._last_seen[idle] = _FREE
        return idle

    def first_gap(self, batches: dict[str, pa.RecordBatch]) -> int | None:
        """Return the first `ts_recv` at which an expiry counts, or None.

        There an instrument of these records comes back after its expiry, or a new one arrives at a full directory
        in which another one has expired. `expire` must be called for that time before the records from it on.
        """
        edges = [(int(recv[0]), int(recv[-1])) for recv in (times(batch, "ts_recv") for batch in batches.values())]
        if not edges:
            return None
        start, end = min(first for first, _ in edges), max(last for _, last in edges)
        seen = self._last_seen[: len(self.names)]
        known = seen[seen != _FREE]
        if end - start <= self._expiry and (not len(known) or end - int(known.min()) <= self._expiry):
            return None
        return self._walk(_Arrivals(batches), start, end)

    def _walk(self, arrivals: _Arrivals, start: int, end: int) -> int | None:
        """Walk the records of all topics: the slow way, only when an expiry is possible."""
        seen = np.array([self._seen(name) for name in arrivals.names], dtype=np.int64)
        refused = self._refused(arrivals, seen)
        returning = (seen != _FREE) & (seen < end - self._expiry)
        if end - start <= self._expiry and not returning.any() and not refused.any():
            return None
        own = ~refused[arrivals.code]
        code, ts = arrivals.code[own], arrivals.ts[own]
        order = np.lexsort((ts, code))
        code, ts = code[order], ts[order]
        first = np.ones(len(code), dtype=np.bool_)
        first[1:] = code[1:] != code[:-1]
        before = np.where(first, seen[code], np.concatenate(([_FREE], ts))[:-1])
        known = before != _FREE
        gaps = ts[known & (before < ts - self._expiry)]
        found = gaps.min(initial=END_OF_TIME)
        if refused.any():
            others = [code for name, code in self._codes.items() if name not in arrivals.names]
            last = np.concatenate((ts[np.append(first[1:], True)[: len(ts)]], self._last_seen[others]))
            idle_from = np.concatenate((before[known], last)) + self._expiry
            until = np.concatenate((ts[known], np.full(len(last), END_OF_TIME)))
            found = min(found, _first_within(np.sort(arrivals.ts[refused[arrivals.code]]), idle_from, until))
        return int(found) if found != END_OF_TIME else None

    def _refused(self, arrivals: _Arrivals, seen: IntArray) -> npt.NDArray[np.bool_]:
        """Return which names arrive new when the directory is full."""
        refused = np.zeros(len(seen), dtype=np.bool_)
        room = self._max - len(self._codes)
        if np.count_nonzero(seen == _FREE) > room:
            newcomers = [number for number in arrivals.by_first_record() if seen[number] == _FREE]
            refused[newcomers[room:]] = True
        return refused

    def _seen(self, name: str) -> int:
        code = self._codes.get(name)
        return _FREE if code is None else int(self._last_seen[code])

    def snapshot(self) -> dict[str, Any]:
        """Return the directory as plain values, copied."""
        seen = self._last_seen[: len(self.names)]
        return {"names": list(self.names), "free": list(self._free), "last_seen": seen.tolist()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot."""
        self.names = list(snapshot["names"])
        self._free = list(snapshot["free"])
        free = set(self._free)
        self._codes = {name: code for code, name in enumerate(self.names) if code not in free}
        self._last_seen = np.array([*snapshot["last_seen"], *[_FREE] * 16], dtype=np.int64)


class _Arrivals:
    """The records of all topics as one column of names and one of times, by topic, each topic in arrival order."""

    def __init__(self, batches: dict[str, pa.RecordBatch]) -> None:
        self.names: dict[str, int] = {}
        codes, recvs = [], []
        for batch in batches.values():
            indices, dictionary = symbols(batch, "instrument_id")
            lookup = np.zeros(len(dictionary), dtype=np.int64)
            for index in _used(indices, len(dictionary)):
                lookup[index] = self.names.setdefault(dictionary[index] or "", len(self.names))
            codes.append(lookup[indices])
            recvs.append(times(batch, "ts_recv"))
        self.code: IntArray = np.concatenate(codes)
        self.ts: IntArray = np.concatenate(recvs)

    def by_first_record(self) -> list[int]:
        """Return the numbers of the names by the arrival of their first record; of equal times the first topic's."""
        ordered = self.code[np.argsort(self.ts, kind="stable")]
        numbers, first = np.unique(ordered, return_index=True)
        found: list[int] = numbers[np.argsort(first)].tolist()
        return found


def _used(indices: npt.NDArray[np.int32], n_names: int) -> list[int]:
    """Return which names of a dictionary have a record."""
    return np.flatnonzero(np.bincount(indices, minlength=n_names)).tolist()


def _first_within(wanted: IntArray, after: IntArray, before: IntArray) -> int:
    """Return the first of some sorted times that is strictly between a pair of bounds, or `END_OF_TIME`."""
    position = np.searchsorted(wanted, after, side="right")
    ends = position < len(wanted)
    found = wanted[position[ends]]
    return int(found[found < before[ends]].min(initial=END_OF_TIME))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _see(code: CodeArray, ts: IntArray, last_seen: IntArray) -> None:
    for i in range(len(code)):
        if code[i] >= 0 and ts[i] > last_seen[code[i]]:
            last_seen[code[i]] = ts[i]
