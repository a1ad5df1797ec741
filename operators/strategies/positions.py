"""The position that a strategy stands for, instrument by instrument: flat, long or short.

A strategy says at which rows its evidence opens a position and at which it ends one; this machine
turns that into decisions. A position is opened only from flat, and always ends: by the strategy's own
condition, or when it was held too long.
"""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from operators.columns import CodeArray, FloatArray, Int8Array, IntArray, frozen
from operators.state import ArrayState, Column
from operators.strategies.base import Decisions, StrategyView
from schemas.enums import Intent

__all__ = ["NO_REASON", "POSITION_COLUMNS", "decide"]

NO_REASON = -1
"""In an exit column: this row does not end the position."""

_NEVER = -(2**62)

POSITION_COLUMNS = {
    "position": Column("i1"),
    "entered": Column("i8", fill=_NEVER),
    "ts_exited": Column("i8", fill=_NEVER),
}
"""State columns that a strategy adds to its own."""


def decide(
    state: ArrayState,
    view: StrategyView,
    *,
    enter: Int8Array,
    enter_reason: Int8Array,
    confidence: FloatArray,
    exit_long: Int8Array,
    exit_short: Int8Array,
    max_holding: int,
    held_too_long: int,
    cooldown_ns: int,
    clock: IntArray | None = None,
    evidence: FloatArray | None = None,
) -> Decisions:
    """Return the decisions on the rows of a view, and move the positions.

    Parameters
    ----------
    state
        A state with `POSITION_COLUMNS`.
    view
        The rows.
    enter
        Per row: a `Direction` that the evidence opens, or 0.
    enter_reason
        Per row: index into the strategy's reasons, read where `enter` is not 0.
    confidence
        Per row: confidence of an entry in [0, 1]; a row where it is NaN opens nothing.
    exit_long, exit_short
        Per row: index of the reason that ends a long or short position here, or `NO_REASON`.
    max_holding
        A position as old as this ends at the next row, in the unit of the clock.
    held_too_long
        Index of the reason for that.
    cooldown_ns
        Least time between an exit and the next entry, ns.
    clock
        Per row: what the age of a position is measured by, never decreasing; its decision time where None, ns.
    evidence
        Per row: what the strategy computed itself, shape `(n, k)`; nothing where it is None.
    """
    n = len(view.code)
    out = Decisions(
        row=np.empty(2 * n, dtype=np.int64),
        direction=np.empty(2 * n, dtype=np.int8),
        intent=np.empty(2 * n, dtype=np.int8),
        confidence=np.empty(2 * n),
        reason=np.empty(2 * n, dtype=np.int8),
        evidence=np.empty((2 * n, 0)),
    )
    count = _decide(
        frozen(view.code), frozen(view.ts), frozen(view.ts if clock is None else clock), frozen(enter),
        frozen(enter_reason), frozen(confidence), frozen(exit_long), frozen(exit_short), max_holding,
        held_too_long, cooldown_ns, state["position"], state["entered"], state["ts_exited"],
        out.row, out.direction, out.intent, out.confidence, out.reason,
    )  # fmt: skip
    decided = out.take(np.arange(count))
    return decided if evidence is None else replace(decided, evidence=evidence[decided.row])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _decide(
    code: CodeArray, ts: IntArray, clock: IntArray, enter: Int8Array, enter_reason: Int8Array, confidence: FloatArray,
    exit_long: Int8Array, exit_short: Int8Array, max_holding: int, held_too_long: int, cooldown: int,
    position: Int8Array, entered: IntArray, exited: IntArray,
    out_row: IntArray, out_direction: Int8Array, out_intent: Int8Array, out_confidence: FloatArray,
    out_reason: Int8Array,
) -> int:  # fmt: skip
    count = 0
    for i in range(len(code)):
        c = code[i]
        held = position[c]
        if held != 0:
            reason = exit_long[i] if held > 0 else exit_short[i]
            if reason < 0 and clock[i] - entered[c] >= max_holding:
                reason = held_too_long
            if reason >= 0:
                out_row[count] = i
                out_direction[count] = held
                out_intent[count] = Intent.EXIT
                out_confidence[count] = 1.0
                out_reason[count] = reason
                count += 1
                position[c] = 0
                exited[c] = ts[i]
        opens = enter[i] != 0 and position[c] == 0 and ts[i] - exited[c] >= cooldown
        if opens and confidence[i] >= 0.0 and confidence[i] <= 1.0:
            out_row[count] = i
            out_direction[count] = enter[i]
            out_intent[count] = Intent.ENTER
            out_confidence[count] = confidence[i]
            out_reason[count] = enter_reason[i]
            count += 1
            position[c] = enter[i]
            entered[c] = clock[i]
    return count
