"""Surprise of the last report, how long ago it was or how soon the next one is, and the drift around both."""

from __future__ import annotations

from typing import ClassVar

from models.specialists.inputs import Bounded, ModelInput, Product
from models.specialists.online import OnlineSpecialist, features_of

__all__ = ["EarningsSpecialist"]

_SURPRISE = Bounded("earnings_surprise", scale=0.2)
_AGE = Bounded("earnings_days_since", centre=1.5, scale=1.5, log=True)
_NEAR = Bounded("earnings_proximity", scale=0.5)
INPUTS: tuple[ModelInput, ...] = (
    _SURPRISE,
    Bounded("earnings_surprise_yield", scale=0.01),
    _AGE,
    Bounded("earnings_drift", scale=0.05),
    Product("surprise_by_age", _SURPRISE, _AGE),
    Bounded("earnings_days_until", centre=1.5, scale=1.5, log=True),
    Bounded("earnings_revision", scale=0.1),
    Bounded("earnings_pre_drift", scale=0.05),
    Product("revision_near_report", Bounded("earnings_revision", scale=0.1), _NEAR),
)
"""Prices go on in the direction of a surprise for weeks, the less the older it is; before a report they drift, and
estimates are revised."""


class EarningsSpecialist(OnlineSpecialist):
    """What reports of earnings say, before and after. Either side of a report suffices for an answer.

    Examples
    --------
    >>> EarningsSpecialist.inputs[0].name
    'earnings_surprise'

    References
    ----------
    Bernard, V. and Thomas, J. (1989). Post-earnings-announcement drift: delayed price response or risk premium?
    Journal of Accounting Research 27.
    """

    name: ClassVar[str] = "earnings"
    inputs: ClassVar[tuple[ModelInput, ...]] = INPUTS
    min_inputs: ClassVar[int | None] = 3
    needs: ClassVar[tuple[str, ...]] = features_of(INPUTS)
