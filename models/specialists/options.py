"""Implied volatility against its past, skew, and the flow into puts and calls."""

from __future__ import annotations

from typing import ClassVar

from models.specialists.inputs import Bounded, ModelInput, Product
from models.specialists.online import OnlineSpecialist, features_of

__all__ = ["OptionsSpecialist"]

_FLOW = Bounded("option_flow_balance", scale=0.5)
_UNUSUAL = Bounded("option_volume_ratio", scale=1.0, log=True)
INPUTS: tuple[ModelInput, ...] = (
    Bounded("iv_rank", centre=0.5, scale=0.5),
    Bounded("iv_skew", scale=0.1),
    Bounded("iv_term_slope", scale=0.05),
    Bounded("put_call_volume_ratio", scale=1.0, log=True),
    _FLOW,
    _UNUSUAL,
    Bounded("option_unusual_share", centre=0.25, scale=0.25),
    Bounded("open_interest_change", scale=0.1),
    Product("flow_on_volume", _FLOW, _UNUSUAL),
)
"""A steep skew and calls bought on unusual volume have led prices."""


class OptionsSpecialist(OnlineSpecialist):
    """What the market in options says about its underlying.

    Examples
    --------
    >>> "iv_rank" in OptionsSpecialist.needs
    True

    References
    ----------
    Pan, J. and Poteshman, A. (2006). The information in option volume for future stock prices. Review of
    Financial Studies 19(3).
    Xing, Y., Zhang, X. and Zhao, R. (2010). What does the individual option volatility smirk tell us about future
    equity returns? Journal of Financial and Quantitative Analysis 45(3).
    """

    name: ClassVar[str] = "options"
    inputs: ClassVar[tuple[ModelInput, ...]] = INPUTS
    needs: ClassVar[tuple[str, ...]] = features_of(INPUTS)
