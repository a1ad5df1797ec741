"""Statistical bar features against scipy, pandas and plain loops on every prefix, and on planted effects."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import special, stats

from operators.columns import BarColumns
from operators.features import BAR_FEATURES
from operators.features.hurst import expected_rescaled_range
from operators.features.hysteresis import next_state
from schemas.enums import Missing

Floats = npt.NDArray[np.float64]

_N = 300
_SEEDS = (1, 2)


def _bars(close: Floats, seed: int = 0) -> BarColumns:
    rng = np.random.default_rng(seed)
    n = len(close)
    open_ = close * np.exp(rng.normal(0.0, 0.004, n))
    high = np.maximum(open_, close) * (1.0 + 0.004 * rng.random(n))
    low = np.minimum(open_, close) * (1.0 - 0.004 * rng.random(n))
    volume = rng.integers(1, 10_000, n).astype(np.float64)
    ts = np.arange(n, dtype=np.int64)
    return BarColumns(
        np.zeros(n, np.int32), ts, ts, ts, ts, open_, high, low, close, volume, volume * close, close, ts, volume
    )


def _walk(seed: int, n: int = _N) -> BarColumns:
    returns = np.random.default_rng(seed).standard_t(4, n) * 0.01
    return _bars(50.0 * np.exp(np.cumsum(returns)), seed)


def _values(name: str, bars: BarColumns, **parameters: Any) -> tuple[Floats, npt.NDArray[np.uint8]]:
    cls = BAR_FEATURES[name]
    feature = cls(cls.Config(**parameters))
    feature.state.ensure(1)
    values, missing = feature.update(bars)
    return values.T, missing.T


def _of_returns(returns: Floats) -> BarColumns:
    return _bars(100.0 * np.exp(np.cumsum(np.concatenate([[0.0], returns]))))


def _windows(bars: BarColumns, length: int) -> list[tuple[int, Floats]]:
    """Return each bar with the log returns of the window that ends there."""
    returns = np.diff(np.log(bars.close))
    return [(row, returns[row - length : row]) for row in range(length, len(bars))]


@pytest.mark.parametrize("seed", _SEEDS)
def test_returns_equal_pandas(seed: int) -> None:
    bars = _walk(seed)
    got, _ = _values("returns", bars, horizons=(1, 7, 200))
    close = pd.Series(bars.close)
    for k, horizon in enumerate((1, 7, 200)):
        expected = [close.pct_change(horizon), np.log(close).diff(horizon)]
        np.testing.assert_allclose(got[2 * k : 2 * k + 2], expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [1, 20])
def test_range_volatilities_equal_the_papers_sums(seed: int, window: int) -> None:
    bars = _walk(seed)
    got, _ = _values("range_volatility", bars, window=window)
    for row in range(window - 1, len(bars)):
        last = range(row - window + 1, row + 1)
        u = [math.log(bars.high[i] / bars.open[i]) for i in last]
        d = [math.log(bars.low[i] / bars.open[i]) for i in last]
        c = [math.log(bars.close[i] / bars.open[i]) for i in last]
        parkinson = math.fsum((a - b) ** 2 for a, b in zip(u, d, strict=True)) / (4.0 * math.log(2.0) * window)
        terms = (0.5 * (a - b) ** 2 - (2.0 * math.log(2.0) - 1.0) * e**2 for a, b, e in zip(u, d, c, strict=True))
        assert got[0, row] == pytest.approx(math.sqrt(parkinson), rel=1e-9)
        assert got[1, row] == pytest.approx(math.sqrt(math.fsum(terms) / window), rel=1e-9)
    assert np.isnan(got[:, : window - 1]).all()


def test_range_volatilities_find_the_volatility_of_a_diffusion() -> None:
    rng = np.random.default_rng(5)
    steps = rng.normal(0.0, 0.01 / math.sqrt(2000.0), (500, 2000))
    path = np.concatenate([np.zeros((500, 1)), np.cumsum(steps, axis=1)], axis=1)
    prices = 100.0 * np.exp(path)
    ts = np.arange(500)
    columns = prices[:, 0].copy(), prices.max(axis=1), prices.min(axis=1), prices[:, -1].copy()
    bars = BarColumns(
        np.zeros(500, np.int32), ts, ts, ts, ts, *columns, columns[0], columns[0], columns[3], ts, ts * 1.0
    )
    got, _ = _values("range_volatility", bars, window=500)
    assert got[:, -1] == pytest.approx([0.01, 0.01], rel=0.05)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [2, 60])
def test_bipower_variation_equals_a_plain_loop(seed: int, window: int) -> None:
    bars = _walk(seed)
    got, _ = _values("bipower_variation", bars, window=window)
    for row, r in _windows(bars, window):
        products = math.fsum(abs(r[j]) * abs(r[j - 1]) for j in range(1, window))
        bipower = math.pi / 2.0 * window / (window - 1) * products
        share = max(0.0, 1.0 - bipower / math.fsum(x * x for x in r))
        assert got[:, row] == pytest.approx([math.sqrt(bipower), share], rel=1e-9, abs=1e-12)
    assert np.isnan(got[:, :window]).all()


def test_a_planted_jump_moves_the_jump_share_and_hardly_the_bipower_volatility() -> None:
    returns = np.random.default_rng(3).normal(0.0, 0.01, 500)
    calm, _ = _values("bipower_variation", _of_returns(returns), window=500)
    returns[250] += 0.4
    jumped, _ = _values("bipower_variation", _of_returns(returns), window=500)
    realized, _ = _values("realized_volatility", _of_returns(returns), window=500)
    assert calm[0, -1] == pytest.approx(0.01 * math.sqrt(500), rel=0.1)
    assert calm[1, -1] < 0.1
    assert jumped[0, -1] == pytest.approx(calm[0, -1], rel=0.1)
    assert jumped[1, -1] == pytest.approx(0.4**2 / realized[0, -1] ** 2, abs=0.1)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [20, 100])
def test_autocorrelation_equals_numpy_correlate(seed: int, window: int) -> None:
    bars = _walk(seed)
    got, _ = _values("autocorrelation", bars, window=window, lags=(1, 2, 9))
    for row, r in _windows(bars, window):
        centred = r - r.mean()
        full = np.correlate(centred, centred, "full")[window - 1 :]
        assert got[:, row] == pytest.approx(full[[1, 2, 9]] / full[0], rel=1e-9, abs=1e-12)


def test_autocorrelation_finds_a_planted_autoregression() -> None:
    noise = np.random.default_rng(4).normal(0.0, 0.01, 1000)
    returns = pd.Series(noise).ewm(alpha=0.6, adjust=False).mean().to_numpy()  # an autoregression with factor 0.4
    got, _ = _values("autocorrelation", _of_returns(returns), window=1000, lags=(1, 2, 3))
    assert got[:, -1] == pytest.approx([0.4, 0.16, 0.064], abs=0.08)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize(("window", "period"), [(4, 2), (60, 2), (60, 10), (120, 5)])
def test_variance_ratio_equals_a_plain_loop(seed: int, window: int, period: int) -> None:
    bars = _walk(seed)
    got, _ = _values("variance_ratio", bars, window=window, period=period)
    for row, r in _windows(bars, window):
        assert got[:, row] == pytest.approx(_lo_mackinlay(r, period), rel=1e-9, abs=1e-11)


def _lo_mackinlay(r: Floats, q: int) -> tuple[float, float]:
    """Return ratio and z as the paper has them, with log prices and its own scaling."""
    n = len(r)
    price = np.concatenate([[0.0], np.cumsum(r)])
    mu = (price[-1] - price[0]) / n
    short = math.fsum((price[k] - price[k - 1] - mu) ** 2 for k in range(1, n + 1)) / (n - 1)
    m = q * (n - q + 1) * (1 - q / n)
    long = math.fsum((price[k] - price[k - q] - q * mu) ** 2 for k in range(q, n + 1)) / m
    total = math.fsum((price[k] - price[k - 1] - mu) ** 2 for k in range(1, n + 1))
    theta = 0.0
    for j in range(1, q):
        products = math.fsum((r[k] - mu) ** 2 * (r[k - j] - mu) ** 2 for k in range(j, n))
        theta += (2.0 * (q - j) / q) ** 2 * n * products / total**2
    return long / short, math.sqrt(n) * (long / short - 1.0) / math.sqrt(theta)


def test_variance_ratio_z_is_about_standard_normal_under_changing_volatility() -> None:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(300):
        volatility = 0.01 * np.where(np.arange(250) < 125, 1.0, 3.0)
        found.append(_values("variance_ratio", _of_returns(rng.normal(0.0, volatility)), window=250)[0][1, -1])
    assert abs(np.mean(found)) < 0.2
    assert np.std(found) == pytest.approx(1.0, abs=0.15)
    reverting = rng.normal(0.0, 0.01, 251)
    got, _ = _values("variance_ratio", _of_returns(np.diff(reverting)), window=250)
    assert got[0, -1] == pytest.approx(0.2, abs=0.1)
    assert got[1, -1] < -3.0


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [4, 60])
def test_moments_equal_scipy(seed: int, window: int) -> None:
    bars = _walk(seed)
    got, _ = _values("return_moments", bars, window=window)
    for row, r in _windows(bars, window):
        assert got[:, row] == pytest.approx([stats.skew(r), stats.kurtosis(r)], rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize(("segment", "doublings"), [(4, 1), (8, 4), (5, 3)])
def test_hurst_equals_a_plain_loop(seed: int, segment: int, doublings: int) -> None:
    bars = _walk(seed)
    got, _ = _values("hurst", bars, segment=segment, doublings=doublings)
    sizes = [segment * 2**k for k in range(doublings + 1)]
    for row, r in _windows(bars, sizes[-1])[::7]:
        logs = [math.log(_rescaled_range(r, n) / _anis_lloyd(n)) for n in sizes]
        slope = stats.linregress(np.log(sizes), logs).slope
        assert got[0, row] == pytest.approx(0.5 + slope, rel=1e-9)


def _rescaled_range(r: Floats, n: int) -> float:
    found = []
    for start in range(0, len(r), n):
        part = r[start : start + n]
        sums = [0.0]
        for x in part:
            sums.append(sums[-1] + x - part.mean())
        found.append((max(sums) - min(sums)) / part.std())
    return math.fsum(found) / len(found)


def _anis_lloyd(n: int) -> float:
    scale = math.exp(special.gammaln((n - 1) / 2) - special.gammaln(n / 2)) / math.sqrt(math.pi)
    return scale * sum(math.sqrt((n - i) / i) for i in range(1, n))


@pytest.mark.parametrize("n", [4, 16, 64])
def test_expected_rescaled_range_is_the_mean_over_normal_samples(n: int) -> None:
    samples = np.random.default_rng(n).normal(size=(20_000, n))
    sums = np.cumsum(samples - samples.mean(axis=1, keepdims=True), axis=1)
    found = (np.maximum(sums.max(axis=1), 0.0) - np.minimum(sums.min(axis=1), 0.0)) / samples.std(axis=1)
    assert expected_rescaled_range(n) == pytest.approx(found.mean(), abs=5.0 * found.std() / math.sqrt(20_000))


def test_hurst_orders_fractional_noise_by_its_exponent() -> None:
    rng = np.random.default_rng(8)
    means = []
    for exponent in (0.3, 0.5, 0.7):
        k = np.arange(1024.0)
        gamma = 0.5 * (np.abs(k + 1) ** (2 * exponent) - 2 * k ** (2 * exponent) + np.abs(k - 1) ** (2 * exponent))
        root = np.linalg.cholesky(gamma[np.abs(np.subtract.outer(k, k)).astype(int)])
        noise = [0.01 * root @ rng.normal(size=1024) for _ in range(20)]
        means.append(np.mean([_values("hurst", _of_returns(r), segment=16, doublings=6)[0][0, -1] for r in noise]))
    assert means == pytest.approx([0.3, 0.5, 0.7], abs=0.06)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [1, 60])
def test_amihud_equals_pandas_rolling(seed: int, window: int) -> None:
    bars = _walk(seed)
    ratio = 1e6 * pd.Series(bars.close).pct_change().abs() / bars.notional
    got, _ = _values("amihud", bars, window=window)
    np.testing.assert_allclose(got[0], ratio.rolling(window).apply(np.mean, raw=True), rtol=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("window", [4, 60])
def test_roll_spread_equals_pandas_covariance(seed: int, window: int) -> None:
    bars = _walk(seed)
    got, _ = _values("roll_spread", bars, window=window)
    for row, r in _windows(bars, window):
        series = pd.Series(r)
        covariance = series.cov(series.shift(1))
        expected = -math.copysign(2e4 * math.sqrt(abs(covariance)), covariance)
        assert got[0, row] == pytest.approx(expected, rel=1e-9, abs=1e-7)


def test_roll_spread_finds_a_planted_spread_and_none_without() -> None:
    rng = np.random.default_rng(9)
    mid = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 2e-4, 1001)))
    for half_spread in (0.0, 10e-4):
        close = mid * (1.0 + half_spread * rng.choice([-1.0, 1.0], 1001))
        got, _ = _values("roll_spread", _bars(close), window=1000)
        assert got[0, -1] == pytest.approx(2e4 * half_spread, abs=2.0)


def test_volatility_state_follows_planted_regimes() -> None:
    rng = np.random.default_rng(10)
    volatility = np.repeat([0.01, 0.04, 0.01, 0.0025, 0.01], 300)
    got, missing = _values("volatility_regime", _of_returns(rng.normal(0.0, volatility)), short=20, long=200)
    state = got[1, 1:]
    assert (missing[:, 201:] == Missing.OK).all()
    change = np.arange(300, 1500, 300)
    for start, expected in zip(change, (1.0, -1.0, -1.0, 1.0), strict=True):
        assert (state[start + 25 : start + 65] == expected).mean() > 0.9
    assert (state[225:300] == 0.0).mean() > 0.8


def test_trend_state_follows_planted_trends() -> None:
    rng = np.random.default_rng(11)
    drift = np.repeat([0.0, 0.01, 0.0, -0.01, 0.0], 200)
    got, _ = _values("trend_regime", _of_returns(drift + rng.normal(0.0, 0.005, 1000)))
    state = got[1, 1:]
    assert (state[230:400] == 1.0).all()
    assert (state[630:800] == -1.0).all()
    quiet = np.concatenate([state[30:200], state[440:600], state[840:]])
    assert (quiet == 0.0).mean() > 0.7


def test_hysteresis_changes_state_less_often_than_one_threshold() -> None:
    bars = _walk(12, 5000)
    changes = []
    for leave, dwell in ((0.2999, 1), (0.1, 1), (0.1, 20)):
        got, _ = _values("trend_regime", bars, enter=0.3, leave=leave, min_dwell=dwell)
        changes.append(np.count_nonzero(np.diff(got[1][np.isfinite(got[1])])))
    assert changes[0] > 1.5 * changes[1] > 1.5 * changes[2] > 0


@given(
    levels=st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=60),
    thresholds=st.tuples(*[st.floats(-2.0, 2.0)] * 4).map(lambda four: tuple(sorted(four))),
    dwell=st.integers(1, 8),
)
def test_states_last_the_least_time_and_change_only_beyond_a_threshold(
    levels: list[float], thresholds: tuple[float, float, float, float], dwell: int
) -> None:
    state, bars = 0, 0
    for level in levels:
        before, lasted = state, bars
        state, bars = next_state(before, lasted, level, thresholds, dwell)
        if state == before and lasted:
            assert bars == lasted + 1
            continue
        assert bars == 1
        assert not lasted or lasted >= dwell
        assert state != 1 or level >= thresholds[3]
        assert state != -1 or level <= thresholds[0]
        if lasted and state == 0:
            assert level < thresholds[2] if before == 1 else level > thresholds[1]


def test_efficiency_ratio_is_exact_at_its_ends() -> None:
    rng = np.random.default_rng(13)
    up = 100.0 + np.cumsum(rng.random(100))
    for close, expected in ((up, 1.0), (300.0 - up, -1.0)):
        assert (_values("trend_regime", _bars(close))[0][0, 30:] == expected).all()


@pytest.mark.real
def test_efficiency_ratio_equals_the_published_values(real_data: Path) -> None:
    folder = real_data / "indicator_reference"
    with (folder / "quotes" / "default.csv").open(encoding="utf-8-sig") as file:
        close = np.array([float(row["close"]) for row in csv.DictReader(file)])
    published = json.loads((folder / "results" / "kama.standard.json").read_text("utf-8-sig"))
    expected = np.array([np.nan if row["er"] is None else row["er"] for row in published])
    got, _ = _values("trend_regime", _bars(close), window=10)
    assert np.isfinite(expected).sum() == 492
    np.testing.assert_allclose(np.abs(got[0]), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("returns", {"horizons": (5, 5)}, "expected distinct `horizons` in ascending order"),
        ("returns", {"horizons": (5, 1)}, "expected distinct `horizons` in ascending order"),
        ("autocorrelation", {"lags": (2, 1)}, "expected distinct `lags` in ascending order"),
        ("autocorrelation", {"window": 10, "lags": (9,)}, "below `window` - 1 = 9"),
        ("variance_ratio", {"window": 10, "period": 6}, "expected `period` of at most half of `window` = 10, was 6"),
        ("volatility_regime", {"short": 120}, "expected `short` below `long` = 120, was 120"),
        ("volatility_regime", {"leave_high": 0.7}, "expected `enter_low` < `leave_low` <= `leave_high`"),
        ("volatility_regime", {"enter_high": 2.5}, "expected `enter_high` below 2.449"),
        ("trend_regime", {"leave": 0.5}, "expected `leave` below `enter` = 0.5"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BAR_FEATURES[name].Config(**parameters)


@pytest.mark.parametrize(
    ("name", "close", "reasons"),
    [
        ("returns", [1.0, 0.0, 2.0, np.nan, 4.0], [1, 3, 3, 6, 6]),
        ("amihud", [1.0, 0.0, 2.0, np.nan, 4.0], [1, 3, 3, 6, 6]),
        ("range_volatility", [1.0, 0.0, 2.0, np.nan, 4.0], [0, 3, 0, 6, 0]),
    ],
)
def test_bad_prices_are_told_apart(name: str, close: list[float], reasons: list[int]) -> None:
    parameters = {"horizons": (1,)} if name == "returns" else {"window": 1}
    bars = _bars(np.array(close))
    if name == "amihud":
        bars = BarColumns(*[np.ones(5) if k == 10 else getattr(bars, f) for k, f in enumerate(bars.__slots__)])
    _, missing = _values(name, bars, **parameters)
    assert missing[0].tolist() == reasons


@pytest.mark.parametrize(
    "name",
    ["bipower_variation", "autocorrelation", "variance_ratio", "return_moments", "roll_spread", "hurst"],
)
def test_returns_that_do_not_exist_leave_a_hole_of_one_window(name: str) -> None:
    close = _walk(14, 800).close.copy()
    close[300], close[500] = np.nan, 0.0
    window = BAR_FEATURES[name].specs(BAR_FEATURES[name].Config())[0].warm_up - 1
    _, missing = _values(name, _bars(close))
    for bad, reason in ((300, Missing.NOT_FINITE), (500, Missing.DEGENERATE)):
        assert (missing[:, bad : bad + window + 1] == reason).all()
        assert (missing[:, bad + window + 1 : bad + 200] == Missing.OK).all()


def test_a_bar_without_a_level_leaves_the_state_and_its_count() -> None:
    close = 100.0 + np.arange(60.0)
    close[40] = np.nan
    got, missing = _values("trend_regime", _bars(close), window=5)
    assert (missing[1, 40:46] == Missing.NOT_FINITE).all()
    assert got[1:, 39].tolist() == [1.0, 35.0]
    assert got[1:, 46].tolist() == [1.0, 36.0]


@pytest.mark.parametrize(
    ("name", "parameters", "length"),
    [
        ("range_volatility", {"window": 20}, 20),
        ("bipower_variation", {"window": 20}, 21),
        ("autocorrelation", {"window": 20}, 21),
        ("hurst", {"segment": 5, "doublings": 2}, 21),
        ("variance_ratio", {"window": 20}, 21),
        ("return_moments", {"window": 20}, 21),
        ("amihud", {"window": 20}, 21),
        ("roll_spread", {"window": 20}, 21),
    ],
)
def test_windowed_value_depends_on_its_window_alone_to_the_last_bit(
    name: str, parameters: dict[str, Any], length: int
) -> None:
    bars = _walk(1)
    whole, _ = _values(name, bars, **parameters)
    for end in range(100, 160):
        fresh, _ = _values(name, bars.take(slice(end - length, end)), **parameters)
        np.testing.assert_array_equal(fresh[:, -1], whole[:, end - 1])
