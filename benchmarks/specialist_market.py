"""Frames of a universe in which chosen specialists have something to find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.specialists import SPECIALISTS
from models.specialists.calibration import logistic
from models.specialists.inputs import Bounded, ModelInput, Product
from models.specialists.online import OnlineSpecialist
from operators.specialists_config import SpecialistsConfig
from operators.universe import UniverseFrame
from schemas.enums import Missing

__all__ = ["market"]

_MINUTE: Final = 60 * 10**9
_NEEDS: Final = SpecialistsConfig().needs
_MOVE: Final = 0.002
"""Log return of an instrument in a step, up or down."""
_STRENGTH: Final = 1.5
"""Log odds of a rise for each planted input far above its centre."""


def _inputs(specialist: str) -> tuple[ModelInput, ...]:
    """Return what a specialist reads."""
    cls = SPECIALISTS[specialist]
    if not issubclass(cls, OnlineSpecialist):
        raise TypeError(f"expected a specialist with `inputs`, found `{specialist}`")
    return cls.inputs


def _scales(names: Sequence[str]) -> list[Bounded]:
    """Return how each feature is read, in the order of `names`."""
    found: dict[str, Bounded] = {}
    for specialist in SPECIALISTS:
        for item in _inputs(specialist):
            for part in (item.left, item.right) if isinstance(item, Product) else (item,):
                found.setdefault(part.feature, part)
    return [found[name] for name in names]


def market(
    seed: int, steps: int, *, n: int = 30, planted: Sequence[str] = (), names: tuple[str, ...] = _NEEDS,
    absent: float = 0.0, gone: float = 0.0, step: int = _MINUTE,
) -> list[UniverseFrame]:  # fmt: skip
    """Return frames in which the first inputs of the planted specialists lead the next return.

    Parameters
    ----------
    seed, steps, n
        Seed, number of frames and of instruments.
    planted
        Specialists whose first input leads; everything else is noise.
    names
        Features that are there.
    absent, gone
        Share of values that are missing, and of instruments that are not in a frame.
    step
        Time between frames, ns.
    """
    rng = np.random.default_rng(seed)
    parts = _scales(names)
    leads = [names.index(_inputs(name)[0].name) for name in planted]
    instruments = np.array([f"I{position:03d}" for position in range(n)])
    close, frames = np.full(n, 100.0), []
    for time in range(steps):
        behind = rng.normal(size=(n, len(names)))
        columns = [part.centre + part.scale * behind[:, k] for k, part in enumerate(parts)]
        values = np.column_stack([np.exp(c) if part.log else c for c, part in zip(columns, parts, strict=True)])
        values[rng.random(values.shape) < absent] = np.nan
        missing = np.where(np.isnan(values), Missing.NO_INPUT, Missing.OK).astype(np.uint8)
        here = np.flatnonzero(rng.random(n) >= gone)
        frames.append(
            UniverseFrame(
                time * step, step, tuple(instruments[here].tolist()), close[here], np.ones(len(here)), names,
                values[here], missing[here],
            )
        )  # fmt: skip
        odds = _STRENGTH * np.tanh(behind[:, leads]).sum(axis=1)
        close = close * np.exp(np.where(rng.random(n) < logistic(odds), _MOVE, -_MOVE))
    return frames
