"""Bar features against published indicator values on 502 daily quotes, and on quotes with bad values."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from operators.columns import BarColumns
from operators.features import BAR_FEATURES
from schemas.enums import Missing

pytestmark = pytest.mark.real

Floats = npt.NDArray[np.float64]


def _number(text: str) -> float:
    return float(text) if text.strip() else float("nan")


def _quotes(folder: Path, name: str) -> BarColumns:
    with (folder / "indicator_reference" / "quotes" / f"{name}.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    columns = {key: np.array([_number(row[key]) for row in rows]) for key in ("open", "high", "low", "close", "volume")}
    typical = (columns["high"] + columns["low"] + columns["close"]) / 3.0
    ts = np.arange(len(rows), dtype=np.int64)
    code = np.zeros(len(rows), dtype=np.int32)
    return BarColumns(
        code, ts, ts, ts, ts, *columns.values(), columns["volume"] * typical, typical, ts, columns["volume"]
    )


def _published(folder: Path, name: str, column: str) -> Floats:
    """Return a column of published results, which are unrounded doubles; null is NaN."""
    rows = json.loads((folder / "indicator_reference" / "results" / f"{name}.standard.json").read_text("utf-8-sig"))
    return np.array([np.nan if row[column] is None else row[column] for row in rows])


def _run(name: str, bars: BarColumns, **parameters: Any) -> tuple[Floats, npt.NDArray[np.uint8]]:
    cls = BAR_FEATURES[name]
    feature = cls(cls.Config(**parameters))
    feature.state.ensure(1)
    values, missing = feature.update(bars)
    return values.T, missing.T


def test_rsi_equals_the_published_values(real_data: Path) -> None:
    values, _ = _run("rsi", _quotes(real_data, "default"), period=14)
    expected = _published(real_data, "rsi", "rsi")
    assert np.isfinite(expected).sum() == 488
    np.testing.assert_allclose(values[0], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("output", "column", "results", "window"),
    [
        (0, "zScore", "stdev", 14),
        (1, "mean", "stdev", 14),
        (2, "stdDev", "stdev", 14),
        (0, "zScore", "bb", 20),
        (1, "sma", "bb", 20),
        (1, "sma", "sma", 20),
    ],
)
def test_rolling_moments_equal_the_published_values(
    real_data: Path, output: int, column: str, results: str, window: int
) -> None:
    values, _ = _run("zscore", _quotes(real_data, "default"), window=window)
    expected = _published(real_data, results, column)
    assert np.isfinite(expected).sum() == 502 - window + 1
    np.testing.assert_allclose(values[output], expected, rtol=1e-9, atol=1e-12)


def test_channel_equals_the_published_values(real_data: Path) -> None:
    values, _ = _run("channel", _quotes(real_data, "default"), window=20)
    for k, column in enumerate(("upperBand", "lowerBand", "width")):
        expected = _published(real_data, "donchian", column)
        assert np.isfinite(expected).sum() == 482
        np.testing.assert_allclose(values[k], expected, rtol=1e-9)


_BOLLINGER: dict[str, Any] = {"window": 20, "multiple": 2.0}
_KELTNER: dict[str, Any] = {"span": 20, "atr_period": 10, "multiple": 2.0}
_STOCHASTIC = {"window": 14, "slow_k": 3, "slow_d": 3}
_MACD = {"fast": 12, "slow": 26, "signal": 9}


@pytest.mark.parametrize(
    ("name", "parameters", "output", "results", "column", "n_values"),
    [
        ("moving_averages", {"sma_fast": 20}, "sma_fast", "sma", "sma", 483),
        ("moving_averages", {"sma_fast": 20}, "sma_fast", "sma-analysis", "sma", 483),
        ("moving_averages", {"sma_fast": 20}, "sma_fast", "ma-env", "centerline", 483),
        ("moving_averages", {"sma_fast": 5}, "sma_fast", "starc", "centerline", 498),
        ("moving_averages", {"ema_fast": 20}, "ema_fast", "ema", "ema", 483),
        ("moving_averages", {"ema_fast": 13}, "ema_fast", "elder-ray", "ema", 490),
        ("moving_averages", {"ema_fast": 12, "ema_slow": 26}, "ema_fast", "macd", "fastEma", 491),
        ("moving_averages", {"ema_fast": 12, "ema_slow": 26}, "ema_slow", "macd", "slowEma", 477),
        ("macd", _MACD, "macd", "macd", "macd", 477),
        ("macd", _MACD, "macd_signal", "macd", "signal", 469),
        ("macd", _MACD, "macd_histogram", "macd", "histogram", 469),
        ("stochastic", _STOCHASTIC, "stochastic_slow_k", "stoch", "oscillator", 487),
        ("stochastic", _STOCHASTIC, "stochastic_slow_k", "stoch", "k", 487),
        ("stochastic", _STOCHASTIC, "stochastic_d", "stoch", "signal", 485),
        ("stochastic", _STOCHASTIC, "stochastic_d", "stoch", "d", 485),
        ("bollinger", _BOLLINGER, "bollinger_upper", "bb", "upperBand", 483),
        ("bollinger", _BOLLINGER, "bollinger_lower", "bb", "lowerBand", 483),
        ("bollinger", _BOLLINGER, "bollinger_percent_b", "bb", "percentB", 483),
        ("bollinger", _BOLLINGER, "bollinger_bandwidth", "bb", "width", 483),
        ("atr", {"period": 14}, "true_range", "tr", "tr", 501),
        ("atr", {"period": 14}, "true_range", "atr", "tr", 501),
        ("atr", {"period": 14}, "atr", "atr", "atr", 488),
        ("atr", {"period": 14}, "normalized_atr", "atr", "atrp", 488),
        ("adx", {"period": 14}, "plus_di", "adx", "pdi", 488),
        ("adx", {"period": 14}, "minus_di", "adx", "mdi", 488),
        ("adx", {"period": 14}, "adx", "adx", "adx", 475),
        ("keltner", _KELTNER, "keltner_upper", "keltner", "upperBand", 483),
        ("keltner", _KELTNER, "keltner_lower", "keltner", "lowerBand", 483),
        ("keltner", _KELTNER, "keltner_width", "keltner", "width", 483),
        ("rate_of_change", {"period": 14}, "rate_of_change", "roc", "roc", 488),
        ("money_flow", {"period": 14}, "money_flow_index", "mfi", "mfi", 488),
    ],
)
def test_indicator_equals_the_published_values(
    real_data: Path, name: str, parameters: dict[str, Any], output: str, results: str, column: str, n_values: int
) -> None:
    found = _output(name, output, _quotes(real_data, "default"), **parameters)
    expected = _published(real_data, results, column)
    assert np.isfinite(expected).sum() == n_values
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def _output(name: str, output: str, bars: BarColumns, **parameters: Any) -> Floats:
    cls = BAR_FEATURES[name]
    names = [spec.name for spec in cls.specs(cls.Config(**parameters))]
    values: Floats = _run(name, bars, **parameters)[0][names.index(output)]
    return values


def test_donchian_position_agrees_with_the_published_williams_r(real_data: Path) -> None:
    found = _output("donchian", "donchian_position", _quotes(real_data, "default"), window=14)
    expected = _published(real_data, "willr", "williamsR")
    assert np.isfinite(expected).sum() == 489
    np.testing.assert_allclose(100.0 * (found - 1.0), expected, rtol=1e-9, atol=1e-11)


def test_fast_k_agrees_with_the_published_williams_r(real_data: Path) -> None:
    found = _output("stochastic", "stochastic_fast_k", _quotes(real_data, "default"), window=14)
    np.testing.assert_allclose(found - 100.0, _published(real_data, "willr", "williamsR"), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("window", [1, 20, 250])
def test_obv_change_equals_the_difference_of_the_published_values(real_data: Path, window: int) -> None:
    found = _output("on_balance_volume", "obv_change", _quotes(real_data, "default"), window=window)
    level = _published(real_data, "obv", "obv")
    np.testing.assert_array_equal(found[window:], level[window:] - level[:-window])


@pytest.mark.parametrize("window", [1, 2, 20, 250, 502])
def test_vwap_of_all_bars_so_far_equals_the_published_value(real_data: Path, window: int) -> None:
    found = _output("vwap", "rolling_vwap", _quotes(real_data, "default"), window=window)
    expected = _published(real_data, "vwap", "vwap")  # since the first quote, at typical prices
    assert found[window - 1] == pytest.approx(expected[window - 1], rel=1e-9)


def test_vwap_at_closes_equals_the_published_weighted_average(real_data: Path) -> None:
    bars = _quotes(real_data, "default")
    found = _output("vwap", "rolling_vwap", replace(bars, notional=bars.volume * bars.close), window=14)
    expected = _published(real_data, "vwma", "vwma")
    assert np.isfinite(expected).sum() == 489
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_log_return_agrees_with_the_published_rate_of_change(real_data: Path) -> None:
    bars = _quotes(real_data, "default")
    values, _ = _run("log_return", bars)
    change = _published(real_data, "roc", "roc")
    lookback = int(np.isnan(change).sum())
    total = np.convolve(values[0][1:], np.ones(lookback), mode="valid")
    np.testing.assert_allclose(100.0 * np.expm1(total), change[lookback:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cls", BAR_FEATURES.values(), ids=BAR_FEATURES)
@pytest.mark.parametrize("quotes", ["bad", "zeros", "toobig", "penny"])
def test_hostile_quotes_give_a_value_or_a_reason(real_data: Path, cls: Any, quotes: str) -> None:
    values, missing = _run(cls.name, _quotes(real_data, quotes))
    np.testing.assert_array_equal(missing == Missing.OK, np.isfinite(values))
    if quotes in ("toobig", "penny"):
        assert (missing == Missing.OK).any(axis=1).all()


def test_empty_quotes_take_their_windows_with_them_and_no_more(real_data: Path) -> None:
    bars = _quotes(real_data, "bad")
    gap = np.flatnonzero(~np.isfinite(bars.close))
    assert len(gap) > 0
    _, missing = _run("zscore", bars, window=20)
    affected = np.zeros(len(bars), dtype=bool)
    for row in gap:
        affected[row : row + 20] = True
    np.testing.assert_array_equal(missing[0] == Missing.NOT_FINITE, affected)
