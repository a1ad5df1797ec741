"""The correlation matrix of the most traded instruments, and the history that it is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from operators.columns import FloatArray, IntArray
from operators.cross_section.config import CrossSectionConfig
from operators.cross_section.shrinkage import shrunk_covariance
from operators.slots import Slots
from schemas.errors import VersionError

__all__ = ["CorrelationMatrix", "CorrelationState"]

_VERSION: Final = 1
_NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class CorrelationMatrix:
    """Correlations of the chosen instruments as of one frame, and their history, `m` columns each.

    Parameters
    ----------
    instruments
        Instrument of each column; empty where the column is free.
    position
        Row of each one in the frame, or -1 where it closed no bar, shape `(m,)`.
    correlation
        Shrunk correlations, shape `(m, m)`; NaN for a pair with too little overlap.
    deviation
        Standard deviation of the log return of one frame, shape `(m,)`; NaN where there is none.
    intensity
        Share of the target in the estimate, in [0, 1]; NaN before the first.
    returns
        Log returns of the last frames, oldest first, shape `(t, m)`; NaN where there is none.
    log_close
        Logarithms of the closes, same shape and frames.
    """

    instruments: tuple[str, ...]
    position: IntArray
    correlation: FloatArray
    deviation: FloatArray
    intensity: float
    returns: FloatArray
    log_close: FloatArray


class CorrelationState:
    """Which instruments are correlated, their last frames, and the last estimate.

    Every `select_every` frames the instruments are ranked by decayed notional (of equal ones the first in alphabetical
    order). Chosen are the first `max_correlated / 2`, then those that have a column and are among the first
    `2 max_correlated`, then the others by rank: the choice does not flip, and misses none of the greatest. A new one
    begins without history. Every `correlate_every` frames, and after each change, the matrix is
    estimated from the last `window` frames.

    Parameters
    ----------
    config
        Parameters.

    Notes
    -----
    Holds `window` returns and closes of `max_correlated` instruments: 16 bytes each.
    """

    def __init__(self, config: CrossSectionConfig) -> None:
        m = config.max_correlated
        self._config = config
        self._n_frames = 0
        self._slots: IntArray = np.full(m, _NOBODY, dtype=np.int64)
        self._names = [""] * m
        # returns and log closes, a ring over frames
        self._ring: FloatArray = np.full((2, config.window, m), np.nan)
        self._correlation: FloatArray = np.full((m, m), np.nan)
        self._deviation: FloatArray = np.full(m, np.nan)
        self._intensity = float("nan")

    def forget(self, slots: IntArray) -> None:
        """Free the columns of slots that begin anew."""
        if len(slots):
            self._free(np.isin(self._slots, slots))

    def update(
        self, slots: IntArray, returns: FloatArray, log_close: FloatArray, notional: FloatArray, directory: Slots
    ) -> None:
        """Take the next frame.

        Parameters
        ----------
        slots
            Slot of each instrument of the frame, shape `(n,)`.
        returns, log_close
            Of each one, shape `(n,)`; NaN where there is none.
        notional
            Decayed notional of every slot, shape `(capacity,)`.
        directory
            Names of the slots.
        """
        config = self._config
        changed = False
        if self._n_frames % config.select_every == 0:
            changed = self._select(notional, directory)
        position = self._positions(slots, directory.capacity)
        column = np.flatnonzero(position >= 0)
        head = self._n_frames % config.window
        self._ring[:, head] = np.nan
        self._ring[0, head, column] = returns[position[column]]
        self._ring[1, head, column] = log_close[position[column]]
        self._n_frames += 1
        if changed or self._n_frames % config.correlate_every == 0:
            self._estimate()

    def matrix(self, slots: IntArray, capacity: int) -> CorrelationMatrix:
        """Return the matrix and history as of the last frame, for the instruments of a frame."""
        history = self._history()
        return CorrelationMatrix(
            tuple(self._names), self._positions(slots, capacity), self._correlation, self._deviation, self._intensity,
            history[0], history[1],
        )  # fmt: skip

    def _positions(self, slots: IntArray, capacity: int) -> IntArray:
        """Return the row of each column's instrument among some slots, or -1."""
        row_of = np.full(capacity + 1, -1, dtype=np.int64)
        row_of[slots] = np.arange(len(slots))
        row_of[capacity] = -1
        found: IntArray = row_of[self._slots]
        return found

    def _history(self) -> FloatArray:
        window = self._config.window
        if self._n_frames <= window:
            return self._ring[:, : self._n_frames].copy()
        return np.roll(self._ring, -(self._n_frames % window), axis=1)

    def _estimate(self) -> None:
        config = self._config
        found = shrunk_covariance(
            self._history()[0], target=config.shrinkage, min_overlap=config.min_overlap,
            min_deviation=config.min_deviation,
        )  # fmt: skip
        self._correlation, self._intensity = found.correlation, found.intensity
        self._deviation = np.sqrt(np.diag(found.covariance))

    def _select(self, notional: FloatArray, directory: Slots) -> bool:
        """Choose the instruments; return whether any changed."""
        m = len(self._slots)
        known = directory.live(-(2**63))
        weight = notional[known].tolist()
        names = directory.names
        ranked = sorted(zip(known.tolist(), weight, strict=True), key=lambda item: (-item[1], names[item[0]]))
        order = [slot for slot, _ in ranked]
        members = set(self._slots.tolist())
        kept = [slot for slot in order[m // 2 : 2 * m] if slot in members]
        others = [slot for slot in order[m // 2 : 2 * m] if slot not in members]
        chosen = (order[: m // 2] + kept + others)[:m]
        self._free((self._slots != _NOBODY) & ~np.isin(self._slots, chosen))
        newcomers = [slot for slot in chosen if slot not in members]
        for column, slot in zip(np.flatnonzero(self._slots == _NOBODY).tolist(), newcomers, strict=False):
            self._slots[column] = slot
            self._names[column] = names[slot]
        return bool(newcomers)

    def _free(self, columns: Any) -> None:
        for column in np.flatnonzero(columns).tolist():
            self._slots[column] = _NOBODY
            self._names[column] = ""
            self._ring[:, :, column] = np.nan
            # matrices were handed out: they are replaced, not written
            self._correlation = self._correlation.copy()
            self._correlation[column] = self._correlation[:, column] = np.nan
            self._deviation = self._deviation.copy()
            self._deviation[column] = np.nan

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        return {
            "version": _VERSION,
            "shape": list(self._ring.shape),
            "n_frames": self._n_frames,
            "slots": self._slots.tolist(),
            "names": list(self._names),
            "ring": self._ring.tobytes(),
            "correlation": self._correlation.tobytes(),
            "deviation": self._deviation.tobytes(),
            "intensity": self._intensity,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            Another version wrote it, or for another window or number of instruments.
        """
        shape = list(self._ring.shape)
        if (snapshot["version"], snapshot["shape"]) != (_VERSION, shape):
            raise VersionError(
                f"expected a correlation snapshot of version {_VERSION} and shape {shape}, found "
                f"{snapshot['version']} and {snapshot['shape']}; resume with the version and configuration that wrote "
                "it, or start a new run"
            )
        m = shape[2]
        self._n_frames = snapshot["n_frames"]
        self._slots = np.array(snapshot["slots"], dtype=np.int64)
        self._names = list(snapshot["names"])
        self._ring = np.frombuffer(snapshot["ring"]).reshape(shape).copy()
        self._correlation = np.frombuffer(snapshot["correlation"]).reshape(m, m)
        self._deviation = np.frombuffer(snapshot["deviation"])
        self._intensity = snapshot["intensity"]
