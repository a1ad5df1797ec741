"""Bar features against published indicator values on 502 daily quotes, and on quotes with bad values."""

from __future__ import annotations

import csv
import json
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
    ts = np.arange(len(rows), dtype=np.int64)
    code = np.zeros(len(rows), dtype=np.int32)
    return BarColumns(
        code, ts, ts, ts, ts, *columns.values(), columns["volume"], columns["close"], ts, columns["volume"]
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
