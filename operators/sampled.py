"""The contract of a group of features that are sampled at decision times.

A bar feature is computed from closed bars. Everything else (books, trades, text, earnings, options) is a
stream of its own, and what it says is asked for at the closes of bars: a group takes the records of a frame and
the decision times in it, walks both by time, and answers each decision from what had arrived before it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.book_features import BookFeatureColumns
from operators.columns import CodeArray, Columns, FloatArray, IntArray, MissingArray
from operators.refusals import Refusals
from schemas.features import FeatureSpec

__all__ = ["DecisionColumns", "FeatureGroup", "FrameInputs", "InstrumentRows"]


@dataclass(frozen=True, slots=True)
class DecisionColumns(Columns):
    """Decision times: the closes of bars, in order of time."""

    code: CodeArray
    interval: npt.NDArray[np.int32]
    """index of the bar's length among the configured ones, the shortest first"""
    ts: IntArray
    """decision time, never decreasing"""


@dataclass(frozen=True, slots=True)
class FrameInputs:
    """What a frame brings to every group.

    Parameters
    ----------
    batches
        Topic to its admitted records in arrival order, all with `ts_recv` below `frontier`.
    codes
        Topic to the instrument code of each record.
    frontier
        Everything before it has arrived, UTC ns.
    book
        Features at each update of a book, in arrival order.
    refusals
        Takes the records that a group refuses, and counts those that it accepts.
    """

    batches: Mapping[str, pa.RecordBatch]
    codes: Mapping[str, CodeArray]
    frontier: int
    book: BookFeatureColumns
    refusals: Refusals


class InstrumentRows(Protocol):
    """State with a row for each instrument."""

    def ensure(self, rows: int) -> None:
        """Have a row for every code below `rows`."""

    def reset(self, codes: CodeArray) -> None:
        """Forget these instruments."""

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the state of the codes below `rows` as plain values, copied."""

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot; `VersionError` where it is of another version."""


class FeatureGroup(ABC):
    """Features of one kind of input, sampled at decision times.

    A decision at time T sees exactly the records with `ts_recv` strictly below T. The records and decisions of
    a call are interleaved by time; a later call brings no decision at or before a record of an earlier one. The
    values are the same however records are cut into calls.
    """

    accounts_for: tuple[str, ...] = ()
    """topics of which the group refuses or accepts each record; records of other topics are accepted before it"""

    @abstractmethod
    def specs(self) -> tuple[FeatureSpec, ...]:
        """Return what each column is, in order."""

    @abstractmethod
    def states(self) -> Mapping[str, InstrumentRows]:
        """Return every state of the group, by name."""

    @abstractmethod
    def update(self, frame: FrameInputs, decisions: DecisionColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next records and return the features at the next decisions.

        Returns
        -------
        values
            Shape `(m, k)`, columns as in `specs`; NaN where there is no value.
        missing
            Shape `(m, k)`, a `Missing` code: `OK` exactly where the value is finite.
        """
