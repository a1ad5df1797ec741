"""Features across instruments against batch twins in pandas and scikit-learn, and their rules for missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf

from operators.cross_section import CrossSection, CrossSectionConfig, CrossSectionState, cross_section_set
from operators.cross_section.moments import DecayedMoments
from operators.cross_section.ranks import percentiles
from operators.cross_section.shrinkage import shrunk_covariance
from operators.universe import UniverseFrame
from schemas.enums import Missing
from schemas.errors import InvariantError, VersionError
from tests.twins import cross_section as twin

NAMES = tuple(f"I{number:02}" for number in range(12))
SECTORS = {name: "even" if number % 2 == 0 else "odd" for number, name in enumerate(NAMES[:10])}
CONFIG = CrossSectionConfig(
    half_life=15, min_overlap=8, min_instruments=4, min_sector_instruments=3, sectors=SECTORS, average_span=5,
    ranked=("zscore", "bar_return"), max_correlated=8, window=30, correlate_every=1, select_every=10,
    notional_half_life=7, max_abs_return=0.2,
)  # fmt: skip


def tables(seed: int, frames: int = 60, absent: float = 0.1) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return closes, volumes and a feature with holes; one return is absurd."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.01, (frames, 1)) * rng.uniform(0.5, 2, len(NAMES)) + rng.normal(0, 0.01, (frames, 12))
    closes = 50 * np.exp(np.cumsum(moves, axis=0))
    closes[frames // 2 :, 3] *= 2
    closes[rng.random(closes.shape) < absent] = np.nan
    volume = rng.integers(1, 20, closes.shape) * 100.0
    feature = np.round(rng.normal(size=closes.shape), 1)
    feature[rng.random(closes.shape) < 0.1] = np.nan
    index = np.arange(1, frames + 1)
    return tuple(pd.DataFrame(values, index=index, columns=NAMES) for values in (closes, volume, feature))  # type: ignore[return-value]


def frames_of(closes: pd.DataFrame, volume: pd.DataFrame, feature: pd.DataFrame) -> list[UniverseFrame]:
    found = []
    for ts in closes.index:
        here = closes.loc[ts].notna().to_numpy()
        values = feature.loc[ts].to_numpy()[here][:, None]
        missing = np.where(np.isfinite(values), Missing.OK, Missing.WARMING_UP).astype(np.uint8)
        names = tuple(np.array(NAMES)[here].tolist())
        found.append(
            UniverseFrame(
                int(ts), 1, names, closes.loc[ts].to_numpy()[here], volume.loc[ts].to_numpy()[here], ("zscore",),
                values, missing, live=len(NAMES),
            )
        )  # fmt: skip
    return found


def table(frames: list[UniverseFrame], found: list[CrossSection], feature: str) -> pd.DataFrame:
    """Return one feature, rows frames and columns instruments; NaN also where the instrument is absent."""
    rows = [
        pd.Series(cross.values[:, cross.names.index(feature)], index=list(frame.instruments))
        for frame, cross in zip(frames, found, strict=True)
    ]
    return pd.DataFrame(rows, index=[frame.ts for frame in frames]).reindex(columns=list(NAMES))


def run(config: CrossSectionConfig, frames: list[UniverseFrame]) -> list[CrossSection]:
    state = CrossSectionState(config, 20, 10**9)
    return [state.update(frame) for frame in frames]


@pytest.mark.parametrize("weighting", ["equal", "notional"])
@pytest.mark.parametrize("seed", [1, 2])
def test_cross_section_equals_its_batch_twin(weighting, seed):
    config = CONFIG.model_copy(update={"weighting": weighting})
    closes, volume, feature = tables(seed)
    frames = frames_of(closes, volume, feature)
    found = run(config, frames)
    present = closes.notna()

    moves = twin.returns(closes, config.max_abs_return)
    np.testing.assert_allclose(table(frames, found, "bar_return"), moves, rtol=1e-12, atol=1e-15)
    weights = pd.DataFrame(1.0, index=closes.index, columns=closes.columns)
    if weighting == "notional":
        weights = twin.decayed_notional(closes * volume, config.notional_half_life).shift(1)
    market = twin.market_return(moves, weights, config.min_instruments)
    shared = {
        "market_return": market,
        "dispersion": twin.dispersion(moves, weights, market),
        "advancing": (moves > 0).sum(axis=1) / moves.notna().sum(axis=1).replace(0, np.nan),
        "above_average": twin.above_average(closes, config.average_span, config.min_instruments),
    }
    for name, series in shared.items():
        expected = pd.DataFrame(dict.fromkeys(NAMES, series)).where(present)
        np.testing.assert_allclose(table(frames, found, name), expected, rtol=1e-9, atol=1e-15, err_msg=name)
    betas = {
        name: twin.beta_and_correlation(moves[name], market.where(moves[name].notna()), config.half_life, 8)
        for name in NAMES
    }
    for name, column in (("market_beta", "beta"), ("market_correlation", "correlation")):
        expected = pd.DataFrame({key: value[column] for key, value in betas.items()}).where(present)
        np.testing.assert_allclose(table(frames, found, name), expected, rtol=1e-8, err_msg=name)
        assert expected.notna().to_numpy().sum() > 300
    for sector in ("even", "odd"):
        own = [name for name in NAMES if SECTORS.get(name) == sector]
        mean = twin.market_return(moves[own], weights[own], config.min_sector_instruments)
        for name in own:
            expected = twin.beta_and_correlation(moves[name], mean.where(moves[name].notna()), config.half_life, 8)
            for feature_name, column in (("sector_beta", "beta"), ("sector_correlation", "correlation")):
                np.testing.assert_allclose(
                    table(frames, found, feature_name)[name], expected[column].where(present[name]), rtol=1e-8
                )
    ranks = feature.where(present).apply(twin.percentile, axis=1)
    np.testing.assert_allclose(table(frames, found, "rank_zscore"), ranks, rtol=1e-12)


def test_cross_section_matrix_equals_its_batch_twin_on_the_window():
    closes, volume, feature = tables(5, absent=0.0)
    closes[NAMES[3]] = closes[NAMES[4]] ** 0.5
    frames = frames_of(closes, volume, feature)
    found = run(CONFIG, frames)
    matrix = found[-1].matrix
    ranked = twin.decayed_notional(closes * volume, CONFIG.notional_half_life)
    assert set(ranked.loc[51].nlargest(4).index) <= set(matrix.instruments)
    moves = twin.returns(closes, 1.0)[list(matrix.instruments)]
    last = moves.iloc[-CONFIG.window :].to_numpy()
    kept = np.isfinite(matrix.returns)
    np.testing.assert_allclose(matrix.returns[kept], last[kept], rtol=1e-12)
    full = kept.all(axis=0)
    assert full.sum() >= 5
    if full.all():
        expected, share = twin.constant_correlation(last)
        deviation = np.sqrt(np.diag(expected))
        np.testing.assert_allclose(matrix.correlation, expected / np.outer(deviation, deviation), rtol=1e-9)
        assert share == pytest.approx(matrix.intensity)
    others = np.where(np.eye(8, dtype=bool), np.nan, matrix.correlation)
    mean = table(frames, found, "mean_correlation").iloc[-1]
    for column, name in enumerate(matrix.instruments):
        assert mean[name] == pytest.approx(np.nanmean(others[column]))


@pytest.mark.parametrize(("t", "m"), [(40, 3), (250, 20), (30, 40)])
def test_shrunk_covariance_equals_ledoit_and_wolf(t, m):
    rng = np.random.default_rng(m)
    x = rng.standard_t(5, (t, m)) * rng.uniform(0.5, 3, m) + rng.normal(size=(t, 1))
    identity = shrunk_covariance(x, target="identity", min_overlap=5)
    expected, share = ledoit_wolf(x)
    np.testing.assert_allclose(identity.covariance, expected, rtol=1e-10, atol=1e-12)
    assert identity.intensity == pytest.approx(share)
    constant = shrunk_covariance(x, target="constant_correlation", min_overlap=5)
    expected, share = twin.constant_correlation(x)
    np.testing.assert_allclose(constant.covariance, expected, rtol=1e-10, atol=1e-12)
    assert constant.intensity == pytest.approx(share)
    assert 0 < share <= 1


@pytest.mark.parametrize("target", ["identity", "constant_correlation"])
def test_shrunk_covariance_is_nearer_to_the_truth_than_the_sample(target):
    rng = np.random.default_rng(3)
    truth = np.full((30, 30), 0.1) + 0.9 * np.eye(30)
    errors = np.zeros(2)
    for _ in range(20):
        x = rng.multivariate_normal(np.zeros(30), truth, 40)
        found = shrunk_covariance(x, target=target, min_overlap=5).covariance
        errors += [np.sum((found - truth) ** 2), np.sum((np.cov(x.T, bias=True) - truth) ** 2)]
    assert errors[0] < 0.97 * errors[1]


def test_shrunk_covariance_pairs_without_overlap_and_constants_have_none():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, 4))
    x[:20, 0] = np.nan
    x[20:, 1] = np.nan
    x[:, 3] = 0.5
    found = shrunk_covariance(x, target="constant_correlation", min_overlap=10, min_deviation=1e-12)
    assert found.overlap.tolist() == [[20, 0, 20, 20], [0, 20, 20, 20], [20, 20, 40, 40], [20, 20, 40, 40]]
    known = np.isfinite(found.covariance)
    assert known.tolist() == [[True, False, True, False], [False, True, True, False], [True, True, True, False],
                              [False] * 4]  # fmt: skip
    np.testing.assert_allclose(np.diag(found.covariance)[:3], np.nanvar(x[:, :3], axis=0), rtol=1e-12)


def test_shrunk_covariance_of_nothing_has_no_value():
    found = shrunk_covariance(np.full((5, 2), np.nan), target="identity", min_overlap=2)
    assert np.isnan(found.covariance).all()
    assert np.isnan(found.intensity)


@given(st.lists(st.one_of(st.just(float("nan")), st.integers(-3, 3).map(float)), max_size=20))
def test_percentiles_equal_pandas(values):
    found = percentiles(np.array(values, dtype=np.float64))
    series = pd.Series(values, dtype=np.float64)
    expected = twin.percentile(series) if series.notna().sum() > 1 else series * np.nan
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_moments_do_not_cancel_far_from_zero():
    rng = np.random.default_rng(1)
    x = rng.normal(size=300)
    y = 2 * x + rng.normal(size=300)
    for shift in (0.0, 1e6):
        moments = DecayedMoments(50, 3, 1e-9)
        moments.ensure(1)
        for a, b in zip(y + shift, x - shift, strict=True):
            moments.update(np.array([0]), np.array([a]), np.array([b]))
        if shift == 0.0:
            expected = moments.beta_and_correlation(np.array([0]))[0]
    np.testing.assert_allclose(moments.beta_and_correlation(np.array([0]))[0], expected, rtol=1e-8)


def plain(found: list[CrossSection]) -> list[Any]:
    return [
        (cross.values.tobytes(), cross.missing.tobytes(), cross.matrix.instruments, cross.matrix.correlation.tobytes(),
         cross.matrix.returns.tobytes(), cross.matrix.log_close.tobytes(), cross.matrix.position.tobytes())
        for cross in found
    ]  # fmt: skip


@given(seed=st.integers(0, 5), at=st.sets(st.integers(0, 39), max_size=4))
def test_cross_section_restored_anywhere_continues_bit_for_bit(seed, at):
    frames = frames_of(*tables(seed, frames=40))
    state, found = CrossSectionState(CONFIG, 13, 10**9), []
    for number, frame in enumerate(frames):
        if number in at:
            kept = state.snapshot()
            state.update(frames[0])
            state = CrossSectionState(CONFIG, 13, 10**9)
            state.restore(kept)
        found.append(state.update(frame))
    reference = CrossSectionState(CONFIG, 13, 10**9)
    assert plain(found) == plain([reference.update(frame) for frame in frames])


def test_cross_section_ok_is_exactly_where_the_value_is_finite():
    frames = frames_of(*tables(7))
    for cross in run(CONFIG, frames):
        assert ((cross.missing == Missing.OK) == np.isfinite(cross.values)).all()


def test_cross_section_says_why_a_value_is_missing():
    config = CrossSectionConfig(min_instruments=2, ranked=(), max_abs_return=0.1, window=10, min_overlap=5)
    state = CrossSectionState(config, 4, 10**9)

    def codes(ts: int, **closes: float) -> dict[str, Missing]:
        names = tuple(sorted(closes))
        n = len(names)
        frame = UniverseFrame(
            ts, 1, names, np.array([closes[name] for name in names]), np.ones(n), (), np.empty((n, 0)),
            np.empty((n, 0), np.uint8), live=n,
        )  # fmt: skip
        column = state.update(frame).missing[:, 0]
        return {name: Missing(code) for name, code in zip(names, column.tolist(), strict=True)}

    assert codes(1, A=1.0, B=1.0, C=1.0) == dict.fromkeys("ABC", Missing.WARMING_UP)
    assert codes(2, A=1.01, B=2.0) == {"A": Missing.OK, "B": Missing.DEGENERATE}
    assert codes(3, A=np.nan, B=2.0, C=1.0) == {"A": Missing.NOT_FINITE, "B": Missing.OK, "C": Missing.STALE}
    assert codes(4, A=1.0, B=-2.0, C=1.0) == {"A": Missing.STALE, "B": Missing.NOT_FINITE, "C": Missing.OK}


def test_cross_section_frame_that_is_not_complete_changes_nothing():
    frames = frames_of(*tables(8, frames=30))
    whole, broken = CrossSectionState(CONFIG, 20, 10**9), CrossSectionState(CONFIG, 20, 10**9)
    for frame in frames:
        half = UniverseFrame(
            frame.ts, 1, frame.instruments[:2], frame.close[:2] * 2, frame.volume[:2], frame.names, frame.values[:2],
            frame.missing[:2], live=12, complete=False,
        )  # fmt: skip
        blank = broken.update(half)
        assert (blank.missing == Missing.NO_INPUT).all()
        assert np.isnan(blank.values).all()
        assert plain([whole.update(frame)]) == plain([broken.update(frame)])


def test_cross_section_without_sectors_has_none():
    frames = frames_of(*tables(9))
    config = CONFIG.model_copy(update={"sectors": {}})
    first = cross_section_set(config).names.index("sector_beta")
    assert all((cross.missing[:, first : first + 2] == Missing.NO_INPUT).all() for cross in run(config, frames))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, 1e308, 5e-324])
def test_cross_section_one_hostile_close_is_forgotten(bad):
    closes, volume, feature = tables(10, frames=200, absent=0.0)
    hostile = closes.copy()
    hostile.iloc[60, 5] = bad
    clean, found = (run(CONFIG, frames_of(table, volume, feature)) for table in (closes, hostile.fillna(-1.0)))
    assert np.isfinite(found[-1].values).all() == np.isfinite(clean[-1].values).all()
    columns = slice(0, 6)
    np.testing.assert_allclose(found[-1].values[:, columns], clean[-1].values[:, columns], rtol=0.05, atol=1e-3)


def test_cross_section_state_is_bounded_while_instruments_come_and_go():
    state = CrossSectionState(CONFIG, 20, 10**9)
    rng = np.random.default_rng(1)
    sizes = []
    for ts in range(1, 120):
        names = tuple(sorted(f"N{ts // 3:03}{number}" for number in range(9)))
        state.update(
            UniverseFrame(ts, 1, names, rng.uniform(1, 2, 9), np.ones(9), ("zscore",), np.ones((9, 1)),
                          np.zeros((9, 1), np.uint8), live=9)
        )  # fmt: skip
        sizes.append(len(repr(state.snapshot())))
    assert max(sizes[60:]) <= 1.05 * max(sizes[20:60])


def test_cross_section_matrix_follows_the_most_traded():
    closes, volume, feature = tables(11, frames=60, absent=0.0)
    volume.iloc[20:, :] = 1.0
    volume.iloc[20:, -2:] = 1e6
    found = run(CONFIG, frames_of(closes, volume, feature))
    assert set(NAMES[-2:]) <= set(found[-1].matrix.instruments)
    assert len(set(found[-1].matrix.instruments)) == 8


def test_cross_section_frame_without_a_ranked_feature_is_refused():
    frame = UniverseFrame(1, 1, ("A",), np.ones(1), np.ones(1), (), np.empty((1, 0)), np.empty((1, 0), np.uint8))
    with pytest.raises(InvariantError, match=r"expected frames with features \['zscore'\]"):
        CrossSectionState(CONFIG, 20, 10**9).update(frame)


def test_cross_section_snapshot_for_other_features_is_refused():
    kept = CrossSectionState(CONFIG, 20, 10**9).snapshot()
    with pytest.raises(VersionError, match="expected a cross-section snapshot"):
        CrossSectionState(CrossSectionConfig(), 20, 10**9).restore(kept)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_overlap": 20, "window": 10}, "expected `min_overlap` up to `window`"),
        ({"ranked": ["a", "a"]}, "distinct"),
    ],
)
def test_cross_section_config_inconsistent_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        CrossSectionConfig(**parameters)
