"""Every bar feature, by name, in the fixed order of the feature vector.

To add one: a file with the class, and a line in `BAR_FEATURES`.
"""

from __future__ import annotations

import inspect
from typing import Any

from operators.features.adx import Adx
from operators.features.amihud import Amihud
from operators.features.atr import Atr
from operators.features.autocorrelation import Autocorrelation
from operators.features.base import BarFeature
from operators.features.bipower_variation import BipowerVariation
from operators.features.bollinger import Bollinger
from operators.features.channel import Channel
from operators.features.donchian import Donchian
from operators.features.ewma_volatility import EwmaVolatility
from operators.features.hurst import Hurst
from operators.features.keltner import Keltner
from operators.features.log_return import LogReturn
from operators.features.macd import Macd
from operators.features.money_flow import MoneyFlow
from operators.features.moving_averages import MovingAverages
from operators.features.on_balance_volume import OnBalanceVolume
from operators.features.range_volatility import RangeVolatility
from operators.features.rate_of_change import RateOfChange
from operators.features.realized_volatility import RealizedVolatility
from operators.features.relative_volume import RelativeVolume
from operators.features.return_moments import ReturnMoments
from operators.features.returns import Returns
from operators.features.roll_spread import RollSpread
from operators.features.rsi import Rsi
from operators.features.stochastic import Stochastic
from operators.features.trend_regime import TrendRegime
from operators.features.variance_ratio import VarianceRatio
from operators.features.volatility_regime import VolatilityRegime
from operators.features.vwap import Vwap
from operators.features.zscore import ZScore
from schemas.config import ComponentConfig
from schemas.errors import ConfigError

__all__ = ["BAR_FEATURES", "register"]


def register(*classes: type[BarFeature]) -> dict[str, type[BarFeature]]:
    """Return the classes by name, in order, after checking that each says what it is.

    Raises
    ------
    ConfigError
        A class is abstract, or has no name, configuration or outputs, or repeats a name of another.

    Examples
    --------
    >>> register(LogReturn, Rsi)
    {'log_return': <class 'operators.features.log_return.LogReturn'>, 'rsi': <class 'operators.features.rsi.Rsi'>}
    """
    registered: dict[str, type[BarFeature]] = {}
    owners: dict[str, str] = {}
    for cls in classes:
        name, outputs = _described(cls)
        if name in registered:
            raise ConfigError(f"expected distinct feature names, found `{name}` twice; rename `{cls.__name__}`")
        for output in outputs:
            if output in owners:
                raise ConfigError(
                    f"expected distinct output names, found `{output}` in `{owners[output]}` and `{name}`; rename one"
                )
            owners[output] = name
        registered[name] = cls
    return registered


def _described(cls: Any) -> tuple[str, tuple[str, ...]]:
    """Return the name and the output names of a complete class."""
    if not (inspect.isclass(cls) and issubclass(cls, BarFeature)) or inspect.isabstract(cls):
        raise ConfigError(f"expected a complete subclass of `BarFeature`, found {cls!r}; write its abstract methods")
    name = getattr(cls, "name", "")
    if not (isinstance(name, str) and name.isidentifier()):
        raise ConfigError(f"expected a name on `{cls.__name__}`, found {name!r}; set `name` to an identifier")
    config = getattr(cls, "Config", None)
    if not (inspect.isclass(config) and issubclass(config, ComponentConfig)):
        raise ConfigError(f"expected a configuration type on `{cls.__name__}`, found {config!r}; set `Config`")
    specs = cls.specs(config())
    if not specs:
        raise ConfigError(f"expected at least one output of `{name}`, found none; return them from `specs`")
    return name, tuple(spec.name for spec in specs)


BAR_FEATURES: dict[str, type[BarFeature]] = register(
    LogReturn,
    EwmaVolatility,
    RealizedVolatility,
    ZScore,
    Rsi,
    RelativeVolume,
    Channel,
    MovingAverages,
    Macd,
    Stochastic,
    Bollinger,
    Atr,
    Adx,
    Keltner,
    Donchian,
    RateOfChange,
    Vwap,
    OnBalanceVolume,
    MoneyFlow,
    Returns,
    RangeVolatility,
    BipowerVariation,
    Autocorrelation,
    Hurst,
    VarianceRatio,
    ReturnMoments,
    Amihud,
    RollSpread,
    VolatilityRegime,
    TrendRegime,
)
