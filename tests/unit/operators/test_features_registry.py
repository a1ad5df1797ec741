"""The registry of bar features: complete, ordered, and hard to fill wrongly."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import pytest

import operators.features
from operators.features import BAR_FEATURES, register
from operators.features.base import BarFeature
from operators.features.log_return import LogReturn
from operators.features.rsi import Rsi
from schemas.config import ComponentConfig
from schemas.errors import ConfigError
from schemas.features import FeatureSet


def test_every_feature_of_the_package_is_registered() -> None:
    found = set()
    for module in pkgutil.iter_modules(operators.features.__path__):
        for _, member in inspect.getmembers(importlib.import_module(f"operators.features.{module.name}")):
            if inspect.isclass(member) and issubclass(member, BarFeature) and not inspect.isabstract(member):
                found.add(member)
    assert found == set(BAR_FEATURES.values())


def test_registry_names_outputs_in_a_fixed_order() -> None:
    specs = tuple(spec for cls in BAR_FEATURES.values() for spec in cls.specs(cls.Config()))
    assert FeatureSet(specs).names == (
        "log_return",
        "ewma_volatility",
        "realized_volatility",
        "zscore",
        "rolling_mean",
        "rolling_std",
        "rsi",
        "relative_volume",
        "channel_high",
        "channel_low",
        "channel_range",
        "sma_fast",
        "sma_slow",
        "ema_fast",
        "ema_slow",
        "sma_fast_distance",
        "sma_slow_distance",
        "ema_fast_distance",
        "ema_slow_distance",
        "macd",
        "macd_signal",
        "macd_histogram",
        "stochastic_fast_k",
        "stochastic_slow_k",
        "stochastic_d",
        "bollinger_upper",
        "bollinger_lower",
        "bollinger_percent_b",
        "bollinger_bandwidth",
        "true_range",
        "atr",
        "normalized_atr",
        "plus_di",
        "minus_di",
        "adx",
        "keltner_upper",
        "keltner_lower",
        "keltner_width",
        "keltner_position",
        "donchian_high",
        "donchian_low",
        "donchian_position",
        "rate_of_change",
        "rolling_vwap",
        "vwap_deviation_bps",
        "vwap_zscore",
        "obv_change",
        "obv_change_share",
        "money_flow_index",
        "simple_return_5",
        "log_return_5",
        "simple_return_15",
        "log_return_15",
        "simple_return_60",
        "log_return_60",
        "parkinson_volatility",
        "garman_klass_volatility",
        "bipower_volatility",
        "jump_share",
        "autocorrelation_1",
        "autocorrelation_5",
        "hurst",
        "variance_ratio",
        "variance_ratio_z",
        "return_skew",
        "return_kurtosis",
        "amihud_illiquidity",
        "roll_spread_bps",
        "volatility_ratio",
        "volatility_state",
        "volatility_state_bars",
        "efficiency_ratio",
        "trend_state",
        "trend_state_bars",
    )


@pytest.mark.parametrize("cls", BAR_FEATURES.values(), ids=BAR_FEATURES)
def test_spec_states_every_parameter_that_its_values_depend_on(cls: type[BarFeature]) -> None:
    config = cls.Config()
    stated: dict[str, Any] = {}
    for spec in cls.specs(config):
        assert spec.unit
        assert spec.formula
        assert spec.reference
        assert spec.inputs
        assert spec.warm_up >= 1
        stated |= spec.parameters
    assert stated == config.content()


def _variant(**attributes: Any) -> type[BarFeature]:
    return type("Variant", (LogReturn,), attributes)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((LogReturn, LogReturn), "found `log_return` twice"),
        ((LogReturn, _variant(name="other")), "found `log_return` in `log_return` and `other`"),
        ((_variant(name=""),), "expected a name on `Variant`"),
        ((_variant(name=None),), "expected a name on `Variant`"),
        ((_variant(name="x", Config=None),), "expected a configuration type on `Variant`"),
        ((_variant(name="x", specs=classmethod(lambda cls, config: ())),), "expected at least one output of `x`"),
        ((BarFeature,), "expected a complete subclass"),
        ((ComponentConfig,), "expected a complete subclass"),
    ],
)
def test_incomplete_or_repeated_feature_is_refused(classes: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        register(*classes)


@pytest.mark.parametrize("values", [{"period": 1}, {"period": 14.5}, {"periods": 14}, {"relative_floor": float("nan")}])
def test_configuration_out_of_bounds_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Rsi.Config(**values)
