"""The last close of the instruments that a strategy follows: what an exit is decided on when there is no bar."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, log
from typing import Any

from operators.universe import UniverseFrame

__all__ = ["LastPrices"]


class LastPrices:
    """Last close and its time, of some instruments, and how far it moved from the one before.

    Examples
    --------
    >>> prices = LastPrices()
    >>> prices.restore({"A": [10.0, 5, 0.1]})
    >>> prices.price("A"), prices.age("A", now=8), prices.age("B", now=8)
    (10.0, 3, None)
    """

    def __init__(self) -> None:
        self._prices: dict[str, tuple[float, int, float]] = {}
        self._rows: tuple[tuple[str, ...], dict[str, int]] = ((), {})

    def update(self, frame: UniverseFrame, instruments: Iterable[str]) -> None:
        """Take the closes of a frame. A close that is not finite and positive is none."""
        rows = self._rows_of(frame.instruments)
        for name in instruments:
            row = rows.get(name)
            if row is not None:
                close = float(frame.close[row])
                if isfinite(close) and close > 0.0:
                    before = self._prices.get(name)
                    move = 0.0 if before is None else log(close) - log(before[0])
                    self._prices[name] = (close, frame.ts, move)

    def _rows_of(self, instruments: tuple[str, ...]) -> dict[str, int]:
        if self._rows[0] != instruments:
            self._rows = (instruments, {name: row for row, name in enumerate(instruments)})
        return self._rows[1]

    def price(self, instrument: str) -> float:
        """Return the last close, or NaN where none was seen."""
        found = self._prices.get(instrument)
        return float("nan") if found is None else found[0]

    def age(self, instrument: str, now: int) -> int | None:
        """Return how old the last close is, ns; None where none was seen."""
        found = self._prices.get(instrument)
        return None if found is None else now - found[1]

    def move(self, instrument: str) -> float:
        """Return the log return from the close before to the last one; zero where there was none before."""
        found = self._prices.get(instrument)
        return 0.0 if found is None else found[2]

    def keep(self, instruments: Iterable[str]) -> None:
        """Forget all other instruments."""
        kept = set(instruments)
        self._prices = {name: found for name, found in self._prices.items() if name in kept}

    def snapshot(self) -> dict[str, list[Any]]:
        """Return the prices as plain values, copied."""
        return {name: list(found) for name, found in sorted(self._prices.items())}

    def restore(self, snapshot: dict[str, list[Any]]) -> None:
        """Take over a snapshot."""
        self._prices = {name: (price, ts, move) for name, (price, ts, move) in snapshot.items()}
