"""One frame for each decision time, with every instrument: what cross-sections, pairs and specialists decide on."""

from __future__ import annotations

from dataclasses import dataclass

from operators.columns import FloatArray, MissingArray

__all__ = ["UniverseFrame"]


@dataclass(frozen=True, slots=True)
class UniverseFrame:
    """Every instrument of the universe that closed a bar at one decision time.

    Parameters
    ----------
    ts
        Decision time, UTC ns.
    interval_ns
        Length of the bars, ns.
    instruments
        Instruments in alphabetical order.
    close, volume
        Of each one's bar, shape `(n,)`.
    names
        Features that are carried: those that the consumers of the universe declare.
    values
        Their values, shape `(n, len(names))`; NaN where there is none.
    missing
        A `Missing` code for each, same shape.
    """

    ts: int
    interval_ns: int
    instruments: tuple[str, ...]
    close: FloatArray
    volume: FloatArray
    names: tuple[str, ...]
    values: FloatArray
    missing: MissingArray
