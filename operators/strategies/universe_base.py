"""The contract of a strategy over several instruments: one file, one registration.

Like a strategy over one instrument it is a function of its state and the next frame, and says when to enter and when
to exit, with the evidence; it never sizes a position. Its frames come one by one from the barrier, so there is one
stream of them, whatever the number of shards.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal

from operators.cross_section import CrossSection
from operators.universe import UniverseFrame
from schemas.config import ComponentConfig
from schemas.enums import Direction, Intent

__all__ = ["UniverseDecision", "UniverseDecisions", "UniverseStrategy", "pair_number"]


@dataclass(frozen=True, slots=True)
class UniverseDecision:
    """One decision on one instrument.

    Parameters
    ----------
    instrument
        Instrument; it need not be in the frame, for an exit never waits for a bar.
    direction
        Side of the position.
    intent
        What is asked for.
    confidence
        Strength of the evidence, in [0, 1], never NaN.
    price
        The close that the decision saw: of the frame, or the last one known.
    reason
        Index into the strategy's `reasons`.
    evidence
        What was decided on, by name, among the strategy's `derived`; NaN where there is none.
    pair
        Id of the pair that it is a leg of, empty where it stands alone. Decisions of one strategy and frame with the
        same pair stand or fall together.
    leg
        Which leg, 1 or 2; 0 where it stands alone.
    """

    instrument: str
    direction: Direction
    intent: Intent
    confidence: float
    price: float
    reason: int
    evidence: Mapping[str, float] = field(default_factory=dict)
    pair: str = ""
    leg: int = 0


UniverseDecisions = tuple[UniverseDecision, ...]
"""Decisions of one frame, legs of a pair beside each other."""


def pair_number(pair: str) -> float:
    """Return a number that names a pair, exact as a float: 52 bits of the SHA-256 of its id.

    Examples
    --------
    >>> pair_number("BKD/ESC").is_integer()
    True
    """
    return float(int.from_bytes(hashlib.sha256(pair.encode()).digest()[:8]) >> 12)


class UniverseStrategy(ABC):
    """One strategy over the frames of a universe.

    Parameters
    ----------
    config
        Parameters of the strategy.
    """

    name: ClassVar[str]
    """registered name; also the key of its configuration"""
    Config: ClassVar[type[ComponentConfig]]
    """configuration type"""
    on: ClassVar[Literal["universe"]] = "universe"
    """what it decides on"""
    needs: ClassVar[tuple[str, ...]] = ()
    """names of the features that frames must carry"""
    derived: ClassVar[tuple[str, ...]]
    """names of what it computes and decides on; stored with each signal"""
    compares: ClassVar[tuple[str, ...]]
    """names of the parameters that it compares them with"""
    reasons: ClassVar[tuple[str, ...]]
    """sentences that say why; `UniverseDecision.reason` indexes them"""

    def __init__(self, config: ComponentConfig) -> None:
        self.config = config

    @property
    def inactive(self) -> str | None:
        """Why it decides nothing at present; None where it can decide."""
        return None

    @property
    def min_history(self) -> int:
        """Frames of history that it reads from the correlation matrix."""
        return 0

    @abstractmethod
    def on_frame(self, frame: UniverseFrame, cross: CrossSection) -> UniverseDecisions:
        """Take the next frame and its features across instruments, and return what is decided.

        Called once for each decision time, in order of time. On a frame that is not complete nothing is opened; what
        is held may end.
        """

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""

    @abstractmethod
    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot; `VersionError` where it is of another version or configuration."""

    def thresholds(self) -> dict[str, float]:
        """Return the parameters that evidence is compared with, durations in seconds; stored beside each signal."""
        found = {}
        for name in self.compares:
            value = getattr(self.config, name)
            if isinstance(value, timedelta):
                found[f"{name}_seconds"] = value.total_seconds()
            else:
                found[name] = float(value)
        return found
