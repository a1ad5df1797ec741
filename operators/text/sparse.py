"""State with a row only for instruments that had a record: most have no news and no posts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from operators.columns import CodeArray
from operators.state import ArrayState, Column
from schemas.errors import VersionError

__all__ = ["SparseState"]

_NONE = -1


class SparseState:
    """Rows of an `ArrayState`, each given to an instrument at its first record.

    Parameters
    ----------
    columns
        Name to `Column`.
    version
        Raised whenever the meaning of a column changes.

    Notes
    -----
    An instrument without record costs four bytes, in memory and in a snapshot. Which row an instrument has depends
    on the order of first records; no value may depend on it.

    Examples
    --------
    >>> state = SparseState({"n": Column("i8")}, version=1)
    >>> state.ensure(1000)
    >>> state.slots(np.array([700, 3, 700], np.int32)).tolist(), state.occupied
    ([1, 0, 1], 2)
    """

    def __init__(self, columns: Mapping[str, Column], *, version: int) -> None:
        self._state = ArrayState(columns, version=version)
        self._version = version
        self._slots: CodeArray = np.full(0, _NONE, dtype=np.int32)
        self._free: list[int] = []
        self._used = 0

    @property
    def occupied(self) -> int:
        """Instruments that have a row."""
        return self._used - len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return self._state.nbytes + self._slots.nbytes

    def ensure(self, rows: int) -> None:
        """Have a place for every code below `rows`."""
        if rows > len(self._slots):
            grown = np.full(max(rows, 2 * len(self._slots)), _NONE, dtype=np.int32)
            grown[: len(self._slots)] = self._slots
            self._slots = grown

    def slots(self, code: CodeArray) -> CodeArray:
        """Return the row of each instrument, shape `(n,)`; one without has it from now on."""
        found = self._slots[code]
        if (found == _NONE).any():
            for newcomer in np.unique(code[found == _NONE]).tolist():
                self._slots[newcomer] = self._free.pop() if self._free else self._used
                self._used = max(self._used, int(self._slots[newcomer]) + 1)
            self._state.ensure(self._used)
            found = self._slots[code]
        return found

    def reset(self, codes: CodeArray) -> None:
        """Forget these instruments."""
        freed = self._slots[codes]
        freed = freed[freed != _NONE]
        self._state.reset(freed)
        self._slots[codes] = _NONE
        self._free = sorted({*self._free, *freed.tolist()}, reverse=True)

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the state of the codes below `rows` as plain values, copied."""
        self.ensure(rows)
        return {
            "version": self._version,
            "slots": self._slots[:rows].tobytes(),
            "rows": self._state.snapshot(self._used),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            The snapshot has another version or other columns.
        """
        if snapshot["version"] != self._version or "slots" not in snapshot:
            raise VersionError(
                f"expected a snapshot of rows per instrument of version {self._version}, found {snapshot['version']}; "
                "resume with the version that wrote it, or start a new run"
            )
        self._state.restore(snapshot["rows"])
        self._slots = np.frombuffer(snapshot["slots"], dtype=np.int32).copy()
        self._used = int(snapshot["rows"]["rows"])
        taken = set(self._slots.tolist())
        self._free = [slot for slot in range(self._used - 1, -1, -1) if slot not in taken]
