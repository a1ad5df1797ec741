from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from dataflows.simulator import SimulatorConfig
from dataflows.simulator.market import Market
from dataflows.simulator.stories import plan_social

NS = 10**9
QUIET: dict[str, Any] = {
    "instruments": 10,
    "duration": "20m",
    "pairs": 0,
    "jump_rate": 0,
    "news_rate": 0,
    "social_rate": 0,
    "earnings": 0,
    "option_instruments": 0,
    "l2_instruments": 0,
    "imbalance_strength": 0,
    "book_rate": 10,
}
GOOD = ("beats", "surges", "upgrade", "wins", "increase", "outperforms")
BAD = ("misses", "plunges", "downgrade", "fraud", "bankruptcy", "slumps")


def run(**changes: Any) -> tuple[SimulatorConfig, dict[str, pa.Table], dict[str, Any]]:
    config = SimulatorConfig.model_validate(QUIET | changes)
    market = Market(config)
    parts: dict[str, list[pa.RecordBatch]] = {}
    for batches in market.slices():
        for topic, batch in batches.items():
            parts.setdefault(topic, []).append(batch)
    return config, {topic: pa.Table.from_batches(batches) for topic, batches in parts.items()}, market.truth()


def instrument(table: pa.Table, number: int) -> pa.Table:
    return table.filter(pa.compute.equal(table["instrument_id"].cast("string"), f"SIM{number:03d}"))


def mid_at(table: pa.Table, number: int, when: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    own = instrument(table, number)
    mid = (own["bid_price"].to_numpy() + own["ask_price"].to_numpy()) / 2
    return mid[np.searchsorted(own["ts_event"].cast("int64").to_numpy(), when, side="right") - 1]


def signed_moves(begin_s: float, end_s: float, **changes: Any) -> npt.NDArray[np.float64]:
    """Log return around each news item from `begin_s` to `end_s` after it, times the sign of its words."""
    config, tables, _ = run(news_rate=60, **changes)
    news = tables["news"].to_pandas()
    moves = []
    for number, own in news.groupby(news["instrument_id"].astype(str).str[3:].astype(int)):
        sign = np.array([sum(w in text for w in GOOD) - sum(w in text for w in BAD) for text in own["headline"]])
        ts = own["ts_event"].astype("int64").to_numpy()
        mids = [mid_at(tables["quotes"], number, ts + int(s * NS)) for s in (begin_s, end_s)]
        kept = (sign != 0) & (ts + int(end_s * NS) < config.start_ns + 1200 * NS)
        kept &= ts + int(begin_s * NS) > config.start_ns
        moves.append((np.log(mids[1] / mids[0]) * np.sign(sign))[kept])
    return np.concatenate(moves)


def test_news_lead_the_price_by_the_planted_strength() -> None:
    moves = signed_moves(2, 12.2, news_lead="2s", sentiment_strength=10)
    assert len(moves) > 90
    assert np.mean(moves > 0) > 0.8
    assert np.mean(moves) * 1e4 == pytest.approx(10, abs=2.5)


def test_news_lag_the_price_where_the_lead_is_negative() -> None:
    before = signed_moves(-20, -9.8, news_lead="-20s", sentiment_strength=10)
    after = signed_moves(0, 10, news_lead="-20s", sentiment_strength=10)
    assert np.mean(before > 0) > 0.8
    assert 0.35 < np.mean(after > 0) < 0.65


def test_news_of_no_strength_lead_nothing() -> None:
    moves = signed_moves(2, 12.2, sentiment_strength=0)
    assert 0.35 < np.mean(moves > 0) < 0.65
    assert abs(np.mean(moves)) * 1e4 < 2


def flow_correlation(strength: float) -> float:
    """Correlation of the signed count of trades in five seconds with the return of the mid in the next five."""
    config, tables, _ = run(imbalance_strength=strength)
    grid = config.start_ns + np.arange(5, 1200, 5) * NS
    flows, returns = [], []
    for number in range(config.instruments):
        own = instrument(tables["trades"], number)
        bins = np.searchsorted(grid, own["ts_event"].cast("int64").to_numpy())
        flow = np.bincount(bins, weights=own["side"].to_numpy(), minlength=len(grid) + 1)
        flows.append(flow[: len(grid) - 1])
        returns.append(np.diff(np.log(mid_at(tables["quotes"], number, grid))))
    return float(np.corrcoef(np.concatenate(flows), np.concatenate(returns))[0, 1])


def test_order_flow_imbalance_leads_the_mid() -> None:
    assert flow_correlation(0.5) > 0.2


def test_order_flow_imbalance_of_no_strength_leads_nothing() -> None:
    assert abs(flow_correlation(0)) < 0.08


def test_pair_spread_reverts_with_the_planted_half_life() -> None:
    config, tables, truth = run(
        pairs=5, pair_half_life="10s", pair_spread_bps=20, sentiment_strength=10, news_rate=30, earnings=5, jump_rate=20
    )
    when = config.start_ns + np.arange(1, 1200) * NS
    half_lives = []
    for pair in truth["pairs"]:
        first, second = (mid_at(tables["quotes"], int(pair[leg][3:]), when) for leg in ("first", "second"))
        spread = second - pair["hedge_ratio"] * first
        assert abs(spread.mean()) < pair["spread_deviation"] / 2
        assert spread.std() == pytest.approx(pair["spread_deviation"], rel=0.3)
        half_lives.append(-10 * np.log(2) / np.log(np.corrcoef(spread[:-10], spread[10:])[0, 1]))
    assert np.mean(half_lives) == pytest.approx(10, rel=0.3)


def test_instruments_share_the_market_and_more_so_the_sector() -> None:
    config, tables, _ = run(sectors=2)
    when = config.start_ns + np.arange(10, 1200, 10) * NS
    returns = np.diff(np.log([mid_at(tables["quotes"], i, when) for i in range(config.instruments)]), axis=1)
    correlation = np.corrcoef(returns)
    same = (np.arange(10)[:, None] - np.arange(10)) % 2 == 0
    off = ~np.eye(10, dtype=bool)
    assert 0.15 < correlation[~same].mean() < correlation[same & off].mean() < 0.7


def test_earnings_surprise_moves_the_price() -> None:
    _, tables, truth = run(earnings=10, earnings_bps=60)
    reports = [row for row in tables["earnings"].to_pylist() if row["eps_actual"] is not None]
    assert len(reports) == len(truth["earnings"]) == 10
    for row in reports:
        ts = row["ts_event"].value
        before, after = mid_at(tables["quotes"], int(row["instrument_id"][3:]), np.array([ts, ts + 2 * NS]))
        surprise = (row["eps_actual"] / row["eps_estimate"] - 1) / 0.1
        assert np.log(after / before) * 1e4 == pytest.approx(60 * surprise, abs=9)
        assert row["ts_report"] == row["ts_event"]


def test_options_smile_and_keep_parity() -> None:
    _, tables, _ = run(option_instruments=2, option_interval="5m", duration="10m")
    frame = tables["options"].to_pandas()
    frame["contract_id"] = frame["contract_id"].astype(str)
    assert len(frame) == 2 * 20 * 2
    calls, puts = frame[frame["right"] == 1], frame[frame["right"] == -1]
    parity = calls["price"].to_numpy() - puts["price"].to_numpy()
    assert parity == pytest.approx((calls["underlying_price"] - calls["strike"]).to_numpy(), abs=0.03)
    assert calls["delta"].between(0, 1).all()
    assert puts["delta"].between(-1, 0).all()
    one = calls[calls["ts_event"] < calls["ts_event"].min() + np.timedelta64(1, "s")]
    wings = one.sort_values("strike").groupby(["instrument_id", "ts_expiry"], observed=True)["implied_volatility"]
    assert all(smile.iloc[0] > smile.iloc[2] for _, smile in wings)
    assert (frame.groupby("contract_id")["volume"].diff().dropna() >= 0).all()


def test_volatility_follows_the_regime() -> None:
    config, tables, truth = run(regime_dwell="2m", seed=2)
    when = config.start_ns + np.arange(5, 1200, 5) * NS
    squares = np.mean([np.diff(np.log(mid_at(tables["quotes"], i, when))) ** 2 for i in range(10)], axis=0)
    starts = np.array([np.datetime64(stay["ts"][:-1], "ns").astype(np.int64) for stay in truth["regimes"]])
    regimes = np.array([stay["regime"] for stay in truth["regimes"]])[np.searchsorted(starts, when[:-1], "right") - 1]
    means = [squares[regimes == name].mean() for name in ("calm", "normal", "turbulent") if np.any(regimes == name)]
    assert len(means) >= 2
    assert means == sorted(means)


def test_bot_bursts_are_one_author_each_and_move_nothing() -> None:
    config = SimulatorConfig.model_validate(QUIET | {"bot_bursts": 3, "social_rate": 60})
    social = plan_social(config)
    bots = [author for author in social.columns["author"] if author.startswith("bot")]
    assert {author: bots.count(author) for author in set(bots)} == {"bot000": 20, "bot001": 20, "bot002": 20}
    assert np.count_nonzero(~social.moves) == 60
    assert len(social.drifts(config, 1.0)) == np.count_nonzero(social.moves & (social.sentiment != 0))
    assert len(set(social.columns["post_id"])) == len(social.ts)
    assert np.all(np.diff(social.ts) >= 0)
