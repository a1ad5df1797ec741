"""The contract of a strategy: one file, one registration.

A strategy is a pure function of its state and the next rows that it sees. It says when to enter and
when to exit, with the evidence; it never sizes a position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final, Literal

from operators.columns import CodeArray, Columns, FloatArray, Int8Array, IntArray, MissingArray
from operators.state import ArrayState
from schemas.config import ComponentConfig

__all__ = ["ITEM_NAMES", "PREDICTION_NAMES", "DecidesOn", "Decisions", "Strategy", "StrategyView"]

ITEM_NAMES: Final = ("score", "weight", "novelty", "damping", "price_age")
"""What is known of a news item: sentiment in [-1, 1], weight, novelty and damping in [0, 1], and how old the price at
the decision is, seconds."""
PREDICTION_NAMES: Final = ("probability", "expected_return", "uncertainty")
"""What a model says: probability of a rise, expected return over its horizon as a fraction, and the standard error of
that. A classifier gives the first, a regression the others."""

DecidesOn = Literal["bar", "book", "item", "prediction"]


@dataclass(frozen=True, slots=True)
class StrategyView(Columns):
    """The rows that a strategy decides on, in arrival order.

    Parameters
    ----------
    code
        Instrument codes, shape `(n,)`.
    ts
        Decision times, shape `(n,)`, ns.
    price
        Price at the decision, shape `(n,)`: the bar's close, the mid of the book, or the instrument's last price.
    values
        The features that the strategy declared in `needs`, in that order, shape `(n, len(needs))`.
    missing
        Why a value is missing, shape `(n, len(needs))`.
    """

    code: CodeArray
    ts: IntArray
    price: FloatArray
    values: FloatArray
    missing: MissingArray


@dataclass(frozen=True, slots=True)
class Decisions(Columns):
    """Signals before they have an identity, shape `(m,)` each."""

    row: IntArray
    """row of the view that decided"""
    direction: Int8Array
    """a `Direction`"""
    intent: Int8Array
    """an `Intent`"""
    confidence: FloatArray
    """strength of the evidence, in [0, 1], never NaN"""
    reason: Int8Array
    """index into the strategy's `reasons`"""
    evidence: FloatArray
    """what the strategy computed itself and decided on, shape `(m, len(derived))`"""


class Strategy(ABC):
    """One strategy.

    Parameters
    ----------
    config
        Parameters of the strategy.
    """

    name: ClassVar[str]
    """registered name; also the key of its configuration"""
    Config: ClassVar[type[ComponentConfig]]
    """configuration type"""
    on: ClassVar[DecidesOn]
    """what it decides on: the close of a bar, each update of the book, each news item, or each prediction of the model
    that its configuration names. On items and predictions it also sees the closes of bars of its `interval`, as rows
    without any input (`NO_INPUT`), at which a position can end"""
    needs: ClassVar[tuple[str, ...]]
    """names of the features it reads: of the feature set, of a book's update, of `ITEM_NAMES` or `PREDICTION_NAMES`"""
    derived: ClassVar[tuple[str, ...]] = ()
    """names of what it computes from them and decides on; stored beside them with each signal"""
    compares: ClassVar[tuple[str, ...]]
    """names of the parameters that it compares them with"""
    reasons: ClassVar[tuple[str, ...]]
    """sentences that say why; `Decisions.reason` indexes them"""

    def __init__(self, config: ComponentConfig) -> None:
        self.config = config
        self.state = self._make_state()

    @abstractmethod
    def _make_state(self) -> ArrayState:
        """Return the fresh state; called once."""

    @abstractmethod
    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next rows and return what is decided on them, in order of rows.

        A row with a missing feature opens nothing. The state already has a row for every code.
        """

    def thresholds(self) -> dict[str, float]:
        """Return the parameters that inputs are compared with, durations in seconds; stored beside each signal."""
        found = {}
        for name in self.compares:
            value = getattr(self.config, name)
            if isinstance(value, timedelta):
                found[f"{name}_seconds"] = value.total_seconds()
            else:
                found[name] = float(value)
        return found
