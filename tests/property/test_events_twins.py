"""Features of earnings and options against batch twins that compute each decision from the whole log before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.simulator.config import SimulatorConfig
from dataflows.simulator.market import Market
from operators.book_features import NAMES, BookFeatureColumns
from operators.events.config import EarningsConfig, OptionsConfig
from operators.events.earnings import EarningsGroup
from operators.events.options import OptionsGroup
from operators.events.sessions import SessionTable
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FeatureGroup, FrameInputs
from schemas.batches import concat_batches, make_batch, times
from schemas.enums import Missing
from schemas.time import duration_ns
from tests.twins.events import earnings_twin, options_twin

MS = 1_000_000
LAW = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 2**32)
NO_BOOK = BookFeatureColumns(
    np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, len(NAMES))), np.empty((0, len(NAMES)), np.uint8)
)


def decide(
    group: FeatureGroup, batches: dict[str, pa.RecordBatch], codes: dict[str, np.ndarray], code: Any, ts: Any, n: int
) -> list[dict[str, float]]:
    """Return the features that each decision has, by name."""
    for state in group.states().values():
        state.ensure(n)
    at = DecisionColumns(np.asarray(code, np.int32), np.zeros(len(ts), np.int32), np.asarray(ts, np.int64))
    values, missing = group.update(FrameInputs(batches, codes, 2**62, NO_BOOK, Refusals()), at)
    np.testing.assert_array_equal(missing == Missing.OK, np.isfinite(values))
    names = [spec.name for spec in group.specs()]
    return [
        {name: value for name, value in zip(names, row, strict=True) if not np.isnan(value)} for row in values.tolist()
    ]


def assert_agree(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    for row, (own, twin) in enumerate(zip(found, expected, strict=True)):
        assert own.keys() == twin.keys(), row
        for name in own:
            assert own[name] == pytest.approx(twin[name], rel=1e-9, abs=1e-12), (row, name)


def place(n: int) -> dict[str, np.ndarray]:
    return {"partition": np.zeros(n, np.int32), "offset": np.arange(n)}


# --- earnings

EARNINGS = {"window": "40ms", "max_age": "150ms", "max_overdue": "1h", "n_reports": 3, "max_reports": 16}


def earnings_parameters(config: EarningsConfig) -> SimpleNamespace:
    return SimpleNamespace(
        window=duration_ns(config.window), max_age=duration_ns(config.max_age), n_reports=config.n_reports,
        min_estimate=config.min_estimate,
    )  # fmt: skip


def twin_of_earnings(batches: dict[str, pa.RecordBatch], ts: Any, config: EarningsConfig, closes: Any) -> Any:
    table = batches["earnings"].to_pandas(types_mapper=None) if "earnings" in batches else pd.DataFrame()
    log = [
        SimpleNamespace(ts=at, ident=ident, due=due, estimate=estimate, actual=actual)
        for at, ident, due, estimate, actual in zip(
            times(batches["earnings"], "ts_recv").tolist(), table["report_id"],
            times(batches["earnings"], "ts_report").tolist(), table["eps_estimate"], table["eps_actual"], strict=True,
        )
    ]  # fmt: skip
    trades = pd.Series(batches["trades"].column("price").to_numpy(), index=times(batches["trades"], "ts_recv"))
    return [earnings_twin(log, trades, int(now), earnings_parameters(config), closes) for now in ts]


@LAW
@given(seed=SEEDS)
def test_earnings_equal_their_twin_on_random_logs(seed):
    rng = np.random.default_rng(seed)
    n, n_trades = 40, 60
    moments = 2 * np.sort(rng.choice(400, n + n_trades, replace=False)) * MS
    is_record = np.isin(np.arange(n + n_trades), 1 + rng.choice(n + n_trades - 1, n, replace=False))
    ts, trade_ts = moments[is_record], moments[~is_record]
    records = make_batch(
        "earnings",
        {
            "ts_recv": ts,
            "report_id": [str(number) for number in rng.integers(0, 8, n)],
            # at odd milliseconds, each its own: no report is due with another, or with a record
            "ts_report": (ts // MS + rng.integers(-20, 60, n) * 2 + 1) * MS + np.arange(n),
            "eps_estimate": np.where(rng.random(n) < 0.8, np.round(rng.normal(0.1, 0.1, n), 2), np.nan),
            "eps_actual": np.where(rng.random(n) < 0.3, rng.normal(0.1, 0.1, n), np.nan),
            **place(n),
        },
        n,
    )
    trades = make_batch(
        "trades", {"ts_recv": trade_ts, "price": rng.uniform(9, 11, n_trades), **place(n_trades)}, n_trades
    )
    at = np.sort(rng.integers(0, 900 * MS, 40))
    closes = np.arange(2, 40) * 20 * MS
    batches = {"earnings": records, "trades": trades}
    codes = {topic: np.zeros(batch.num_rows, np.int32) for topic, batch in batches.items()}
    config = EarningsConfig(**EARNINGS)
    found = decide(EarningsGroup(config, SessionTable(closes)), batches, codes, np.zeros(len(at)), at, 1)
    assert_agree(found, twin_of_earnings(batches, at, config, closes))


# --- options

OPTIONS = {
    "maturity": "300ms", "far_maturity": "600ms", "maturity_tolerance": 0.5, "window": 3, "min_sessions": 2,
    "min_volume_sessions": 2, "volume_span": 3, "max_contracts": 256, "max_age": "60ms",
}  # fmt: skip


def options_parameters(config: OptionsConfig) -> SimpleNamespace:
    return SimpleNamespace(
        maturity=float(duration_ns(config.maturity)), far_maturity=float(duration_ns(config.far_maturity)),
        tolerance=config.maturity_tolerance, band=config.moneyness_band, max_age=duration_ns(config.max_age),
        window=config.window, min_sessions=config.min_sessions, min_volume_sessions=config.min_volume_sessions,
        decay=2 / (config.volume_span + 1), memory={},
    )  # fmt: skip


def option_log(batch: pa.RecordBatch, sessions: SessionTable) -> pd.DataFrame:
    """Return option records as the twin reads them."""
    names = {"volatility": "implied_volatility", "delta": "delta", "volume": "volume", "spot": "underlying_price"}
    log = pd.DataFrame({"ts": times(batch, "ts_recv"), "expiry": times(batch, "ts_expiry")})
    log["session"] = sessions.index(times(batch, "ts_recv"))
    log["ident"] = batch.column("contract_id").to_pylist()
    log["right"] = batch.column("right").to_numpy()
    for name, column in (names | {"strike": "strike", "open_interest": "open_interest"}).items():
        log[name] = batch.column(column).to_pandas().astype(float)
    return log


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_options_equal_their_twin_on_random_logs(seed):
    rng = np.random.default_rng(seed)
    n = 250
    ts = 2 * np.sort(rng.choice(400, n, replace=False)) * MS
    right, strike = rng.choice([-1, 1], n).astype(np.int8), rng.choice([92.0, 96.0, 100.0, 104.0, 108.0], n)
    expiry = (ts // (300 * MS) + rng.integers(1, 4, n)) * 300 * MS

    def some(values: Any, share: float) -> Any:
        return np.where(rng.random(n) < share, values, np.nan)

    batch = make_batch(
        "options",
        {
            "ts_recv": ts,
            "contract_id": [f"{e}/{k}/{r}" for e, k, r in zip(expiry, strike, right, strict=True)],
            "ts_expiry": expiry,
            "strike": strike,
            "right": right,
            "volume": some(rng.integers(0, 40, n), 0.7),
            "open_interest": some(rng.integers(0, 60, n), 0.6),
            "implied_volatility": some(rng.uniform(0.2, 0.3, n), 0.6),
            "delta": np.clip(right * (12 - right * (strike - rng.uniform(98, 102, n))) / 24, -0.99, 0.99),
            "underlying_price": some(rng.choice([97.0, 100.0, 103.0], n), 0.5),
            **place(n),
        },
        n,
    )
    sessions, config = SessionTable(np.arange(-1, 40) * 90 * MS), OptionsConfig(**OPTIONS)
    at = np.sort(rng.choice(420, 12, replace=False)) * 2 * MS
    group = OptionsGroup(config, 1, sessions)
    found = decide(group, {"options": batch}, {"options": np.zeros(n, np.int32)}, np.zeros(len(at)), at, 1)
    log, before = option_log(batch, sessions), [0, *at[:-1].tolist()]
    # no delta is computed in the twin: where a record has none of use, the group would
    parameters = options_parameters(config)
    assert_agree(found, [options_twin(log, int(t), since, parameters) for t, since in zip(at, before, strict=True)])


# --- the simulated market

HOUR = 3600 * 1000 * MS


@pytest.fixture(scope="module")
def market() -> tuple[SimulatorConfig, dict[str, pa.RecordBatch]]:
    config = SimulatorConfig(
        instruments=4, duration="30m", earnings=4, option_instruments=2, option_interval="1m", book_rate=1, trade_rate=1
    )
    parts: dict[str, list[pa.RecordBatch]] = {}
    for part in Market(config).slices():
        for topic in part.keys() & {"trades", "earnings", "options"}:
            parts.setdefault(topic, []).append(part[topic])
    return config, {topic: concat_batches(batches) for topic, batches in parts.items()}


def rows_of(batch: pa.RecordBatch, instrument: str) -> pa.RecordBatch:
    keep = [row for row, name in enumerate(batch.column("instrument_id").to_pylist()) if name == instrument]
    return batch.take(pa.array(keep, pa.int64()))


def test_earnings_equal_their_twin_on_the_simulated_market(market):
    simulated, batches = market
    closes = simulated.start_ns + np.arange(0, 40, 7) * HOUR // 60
    config = EarningsConfig(window="5m")
    at = simulated.start_ns + np.arange(1, 31) * HOUR // 60
    seen: set[str] = set()
    for instrument in simulated.instrument_ids:
        own = {topic: rows_of(batches[topic], instrument) for topic in ("earnings", "trades")}
        codes = {topic: np.zeros(batch.num_rows, np.int32) for topic, batch in own.items()}
        found = decide(EarningsGroup(config, SessionTable(closes)), own, codes, np.zeros(len(at)), at, 1)
        expected = twin_of_earnings(own, at, config, closes)
        assert_agree(found, expected)
        seen.update(*found)
    assert len(seen) == 11


def test_options_equal_their_twin_on_the_simulated_market(market):
    simulated, batches = market
    sessions = SessionTable(simulated.start_ns + np.arange(-1, 20) * 5 * HOUR // 60)
    config = OptionsConfig(min_sessions=3, min_volume_sessions=2)
    at = simulated.start_ns + np.arange(1, 31, 3) * HOUR // 60
    for instrument in simulated.instrument_ids[:2]:
        batch = rows_of(batches["options"], instrument)
        codes = {"options": np.zeros(batch.num_rows, np.int32)}
        found = decide(OptionsGroup(config, 1, sessions), {"options": batch}, codes, np.zeros(len(at)), at, 1)
        log, before = option_log(batch, sessions), [0, *at[:-1].tolist()]
        parameters = options_parameters(config)
        assert_agree(found, [options_twin(log, int(t), since, parameters) for t, since in zip(at, before, strict=True)])
        assert len(found[-1]) == 13
        assert found[-1]["iv_atm"] == pytest.approx(simulated.volatility, rel=0.9)
