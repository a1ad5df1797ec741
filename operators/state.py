"""State as a struct of arrays: one row per instrument, addressed by a dense code.

Kernels index the arrays directly. A snapshot holds nothing but plain values (text, numbers, bytes),
so reading one back cannot run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.errors import VersionError

__all__ = ["ArrayState", "Column", "InstrumentState"]

_FIRST_ROWS: Final = 16


class Column:
    """One state column: its dtype, the shape of one row, and the value of a fresh row.

    Parameters
    ----------
    dtype
        numpy dtype.
    fill
        Value of every element of a fresh row.
    shape
        Shape of one row; empty for a scalar.
    """

    __slots__ = ("dtype", "fill", "shape")

    def __init__(self, dtype: npt.DTypeLike, fill: float = 0, shape: tuple[int, ...] = ()) -> None:
        self.dtype = np.dtype(dtype)
        self.fill = fill
        self.shape = shape


class ArrayState:
    """Named arrays whose first axis is the instrument code.

    Parameters
    ----------
    columns
        Name to `Column`.
    version
        Raised whenever the meaning of a column changes; a newer snapshot is refused.

    Examples
    --------
    >>> state = ArrayState({"mean": Column("f8"), "window": Column("f8", fill=float("nan"), shape=(3,))}, version=1)
    >>> state.ensure(2)
    >>> state["mean"][1] = 7.0
    >>> twin = ArrayState({"mean": Column("f8"), "window": Column("f8", shape=(3,))}, version=1)
    >>> twin.restore(state.snapshot(2))
    >>> twin["mean"][1], twin["window"].shape[1]
    (np.float64(7.0), 3)
    """

    def __init__(self, columns: Mapping[str, Column], *, version: int) -> None:
        self._columns = dict(columns)
        self._version = version
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._rows = 0
        self._allocate(_FIRST_ROWS)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name]

    @property
    def rows(self) -> int:
        """Rows allocated."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays.values())

    def _allocate(self, rows: int) -> None:
        for name, column in self._columns.items():
            array = np.full((rows, *column.shape), column.fill, dtype=column.dtype)
            if self._rows:
                array[: self._rows] = self._arrays[name]
            self._arrays[name] = array
        self._rows = rows

    def ensure(self, rows: int) -> None:
        """Have at least this many rows; new rows are fresh."""
        if rows > self._rows:
            self._allocate(max(rows, 2 * self._rows))

    def reset(self, codes: npt.NDArray[np.int32]) -> None:
        """Make these rows fresh again."""
        for name, column in self._columns.items():
            self._arrays[name][codes] = column.fill

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the first rows as plain values, copied: later updates do not change them."""
        self.ensure(rows)
        arrays = {
            name: [column.dtype.str, [rows, *column.shape], self._arrays[name][:rows].tobytes()]
            for name, column in self._columns.items()
        }
        return {"version": self._version, "rows": rows, "arrays": arrays}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            The snapshot has another version or other columns.
        """
        layout = {name: [column.dtype.str, list(column.shape)] for name, column in self._columns.items()}
        found = {name: [dtype, shape[1:]] for name, (dtype, shape, _) in snapshot["arrays"].items()}
        if snapshot["version"] != self._version or found != layout:
            raise VersionError(
                f"expected a state snapshot of version {self._version} with columns {layout}, found version "
                f"{snapshot['version']} with {found}; resume with the version that wrote it, or start a new run"
            )
        rows = int(snapshot["rows"])
        self._rows = 0
        self._allocate(max(rows, _FIRST_ROWS))
        for name, (dtype, shape, data) in snapshot["arrays"].items():
            self._arrays[name][:rows] = np.frombuffer(data, dtype=dtype).reshape(shape)


class InstrumentState:
    """Base of what keeps one `ArrayState` and nothing else: a row per instrument, by its code.

    Parameters
    ----------
    columns
        Name to `Column`.
    version
        Raised whenever the meaning of a column changes.
    """

    def __init__(self, columns: Mapping[str, Column], *, version: int) -> None:
        self._state = ArrayState(columns, version=version)

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return self._state.nbytes

    def ensure(self, rows: int) -> None:
        """Have a row for every code below `rows`."""
        self._state.ensure(rows)

    def reset(self, codes: npt.NDArray[np.int32]) -> None:
        """Forget these instruments."""
        self._state.reset(codes)

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the state of the codes below `rows` as plain values, copied."""
        return self._state.snapshot(rows)

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            The snapshot has another version or other columns.
        """
        self._state.restore(snapshot)
