"""The instruments of a shard: name to dense code, with a cap and an expiry.

A code addresses the rows of every state array. An instrument that had no record for `idle_expiry` is
forgotten: its next record starts it anew, exactly as if it had never been seen, whenever its row is
really freed.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pyarrow as pa

from operators.columns import CodeArray, IntArray, frozen
from schemas.batches import symbols, times

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
        found = {}
        for topic, batch in batches.items():
            indices, names = symbols(batch, "instrument_id")
            lookup = np.full(len(names), REFUSED, dtype=np.int32)
            for index in np.flatnonzero(np.bincount(indices, minlength=len(names))).tolist():
                lookup[index] = self._code(names[index] or "")
            found[topic] = lookup[indices]
            _see(frozen(found[topic]), frozen(times(batch, "ts_recv")), self._last_seen)
        return found

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
        """Return the first `ts_recv` at which an instrument of these records comes back after its expiry, or None."""
        edges = [(int(recv[0]), int(recv[-1])) for recv in (times(batch, "ts_recv") for batch in batches.values())]
        if not edges:
            return None
        start, end = min(first for first, _ in edges), max(last for _, last in edges)
        seen = self._last_seen[: len(self.names)]
        known = seen[seen != _FREE]
        if end - start <= self._expiry and (not len(known) or end - int(known.min()) <= self._expiry):
            return None
        return self._walk(batches)

    def _walk(self, batches: dict[str, pa.RecordBatch]) -> int | None:
        """Walk the records of all topics in time: the slow way, only when an expiry is possible."""
        names: dict[str, int] = {}
        code_parts, time_parts = [], []
        for batch in batches.values():
            indices, dictionary = symbols(batch, "instrument_id")
            lookup = np.array([names.setdefault(name or "", len(names)) for name in dictionary], dtype=np.int64)
            code_parts.append(lookup[indices])
            time_parts.append(times(batch, "ts_recv"))
        code, ts = np.concatenate(code_parts), np.concatenate(time_parts)
        order = np.lexsort((ts, code))
        code, ts = code[order], ts[order]
        before = np.empty_like(ts)
        before[1:] = ts[:-1]
        first = np.concatenate(([True], code[1:] != code[:-1]))
        seen = np.array([self._seen(name) for name in names], dtype=np.int64)
        before[first] = seen[code[first]]
        gaps = (before != _FREE) & (ts - np.where(before == _FREE, ts, before) > self._expiry)
        return int(ts[gaps].min()) if gaps.any() else None

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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _see(code: CodeArray, ts: IntArray, last_seen: IntArray) -> None:
    for i in range(len(code)):
        if code[i] >= 0 and ts[i] > last_seen[code[i]]:
            last_seen[code[i]] = ts[i]
