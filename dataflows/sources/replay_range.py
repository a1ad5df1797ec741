"""Which part of recorded history a replay reads, by arrival time."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.time import END_OF_TIME

__all__ = ["ReplayRange"]


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """Records with `start <= ts_recv < stop`, ns.

    Examples
    --------
    >>> ReplayRange(start=5).stop == END_OF_TIME
    True
    """

    start: int = -(2**62)
    stop: int = END_OF_TIME
