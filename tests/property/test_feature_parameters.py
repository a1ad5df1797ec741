"""Every parameter of every bar feature changes its values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from operators.columns import BarColumns
from operators.features import BAR_FEATURES
from operators.features.base import BarFeature
from schemas.config import ComponentConfig

_N = 2500


@pytest.fixture(scope="module")
def bars() -> BarColumns:
    """A walk with calm, wild and trending stretches, a flat stretch, and bars without volume."""
    rng = np.random.default_rng(3)
    scale = np.repeat([0.001, 0.03, 0.004, 0.0, 0.01], _N // 5)
    drift = np.repeat([0.0, 0.0, 0.003, 0.0, -0.002], _N // 5)
    close = 50.0 * np.exp(np.cumsum(drift + scale * rng.standard_t(3, _N)))
    spread = close * scale * rng.random(_N)
    volume = rng.integers(0, 5, _N) * rng.integers(1, 500, _N).astype(np.float64)
    ts = np.arange(_N, dtype=np.int64) * 10**9
    code = np.zeros(_N, dtype=np.int32)
    vwap = np.where(volume > 0, close - spread / 3, close)
    opened = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(close, opened) + spread, np.minimum(close, opened) - spread
    count = np.ones(_N, dtype=np.int64)
    return BarColumns(
        code, np.full(_N, 10**9), ts, ts + 10**9, ts + 10**9, opened, high, low, close, volume, volume * vwap, vwap,
        count, volume * rng.random(_N),
    )  # fmt: skip


def _others(value: Any) -> Iterator[Any]:
    """Yield other values of a parameter, the near ones first."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, value * 2, value // 2, 2, 100)
    elif isinstance(value, float):
        yield from (value * 1.5, value / 2, value * 1e6, value + 0.1, value - 0.1, 0.01, 0.1, 0.0)
    elif isinstance(value, timedelta):
        yield from (value * 2, value / 2, value / 100)
    elif isinstance(value, tuple):
        for place, inner in enumerate(value):
            yield from ((*value[:place], other, *value[place + 1 :]) for other in _others(inner))
        yield value[:-1]


def _run(cls: type[BarFeature], config: ComponentConfig, bars: BarColumns) -> tuple[Any, Any]:
    feature = cls(config)
    feature.state.ensure(1)
    return feature.update(bars)


def _is_changed(cls: type[BarFeature], name: str, bars: BarColumns) -> bool:
    default = cls.Config()
    expected = _run(cls, default, bars)
    for other in _others(getattr(default, name)):
        try:
            config = cls.Config.model_validate(default.model_dump() | {name: other})
        except ValidationError:
            continue
        found = _run(cls, config, bars)
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, expected, strict=True)):
            return True
    return False


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        pytest.param(cls, name, id=f"{key}.{name}")
        for key, cls in BAR_FEATURES.items()
        for name in cls.Config.model_fields
    ],
)
def test_parameter_changes_the_values(cls: type[BarFeature], name: str, bars: BarColumns) -> None:
    assert _is_changed(cls, name, bars)
