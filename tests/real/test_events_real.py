"""Features of earnings and options on a published calendar and on published option chains."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import exchange_calendars
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import norm

from operators.book_features import NAMES, BookFeatureColumns
from operators.events.config import EarningsConfig, OptionsConfig
from operators.events.earnings import EarningsGroup
from operators.events.options import OptionsGroup
from operators.events.sessions import session_table
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FeatureGroup, FrameInputs
from schemas.batches import make_batch
from schemas.enums import Missing
from schemas.time import duration_ns, parse_time
from tests.twins.events import options_twin

pytestmark = pytest.mark.real

DAY = 86_400 * 10**9
NO_BOOK = BookFeatureColumns(
    np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, len(NAMES))), np.empty((0, len(NAMES)), np.uint8)
)
Floats = npt.NDArray[np.float64]


def update(group: FeatureGroup, topic: str, batch: pa.RecordBatch, code: Any, at_code: Any, at: Any) -> Any:
    at_code = np.asarray(at_code, dtype=np.int32)
    decisions = DecisionColumns(at_code, np.zeros(len(at), np.int32), np.asarray(at, dtype=np.int64))
    for state in group.states().values():
        state.ensure(1 + max(code.max(initial=0), at_code.max(initial=0)))
    values, missing = group.update(FrameInputs({topic: batch}, {topic: code}, 2**62, NO_BOOK, Refusals()), decisions)
    return pd.DataFrame(values, columns=[spec.name for spec in group.specs()]), missing


@pytest.mark.filterwarnings("ignore:Series.values returning:DeprecationWarning")  # in exchange_calendars
def test_calendar_of_reports_equals_pandas(real_data: Path) -> None:
    """Each report is announced a week ahead and due at the end of its day; figures are not in the file."""
    table = pd.read_csv(
        real_data / "earnings" / "calendar_2015.csv",
        names=["ticker", "date", "estimate"],
        keep_default_na=False,
        na_values={"estimate": [""]},
    )
    table = table.sort_values(["date", "ticker"], kind="stable", ignore_index=True)
    due = pd.to_datetime(table["date"]).astype("datetime64[ns]").astype(np.int64).to_numpy() + DAY
    ts, (code, tickers) = due - 7 * DAY, pd.factorize(table["ticker"])
    columns = {
        "ts_recv": ts, "report_id": (table["ticker"] + table["date"]).tolist(), "ts_report": due,
        "eps_estimate": table["estimate"].to_numpy(),
    }  # fmt: skip
    batch = make_batch("earnings", columns, len(table))
    code = code.astype(np.int32)
    moments = np.array([parse_time(f"2015-{month:02}-15T15:00:00Z") for month in range(2, 13)])
    at, at_code = np.repeat(moments, len(tickers)), np.tile(np.arange(len(tickers)), len(moments))
    config = EarningsConfig(window="5d")
    group = EarningsGroup(config)
    found, missing = update(group, "earnings", batch, code, at_code, at)
    assert len(table) > 11_000
    assert group.dropped == 0
    asked = pd.DataFrame({"at": at, "code": at_code}).reset_index()
    reports = pd.DataFrame({"at": due, "due": due, "code": code.astype(np.int64), "known": ts}).sort_values("at")
    last = pd.merge_asof(asked, reports, on="at", by="code").sort_values("index")
    np.testing.assert_allclose(found["earnings_days_since"], (at - last["due"].to_numpy()) / DAY, rtol=1e-12)
    ahead = pd.merge_asof(asked, reports, on="at", by="code", direction="forward", allow_exact_matches=False)
    ahead = ahead.sort_values("index")
    known = (ahead["known"] < ahead["at"]).to_numpy()
    expected = np.where(known, (ahead["due"].to_numpy() - at) / DAY, np.nan)
    np.testing.assert_allclose(found["earnings_days_until"], expected, rtol=1e-12)
    np.testing.assert_array_equal(found["earnings_window"], np.where(known, expected <= 5, np.nan))
    assert known.sum() > 1_000
    calendar = exchange_calendars.get_calendar("XNYS", start="2015-01-01", end="2016-01-31")
    closes = calendar.closes.dt.as_unit("ns").astype("int64").to_numpy()
    for row in np.flatnonzero(known)[::97]:
        passed = ((closes > at[row]) & (closes <= ahead["due"].iloc[row])).sum()
        assert found["earnings_sessions_until"][row] == passed
    assert (missing[:, [spec.name for spec in group.specs()].index("earnings_surprise")] == Missing.NO_INPUT).all()


def chains(folder: Path, days: list[str]) -> pd.DataFrame:
    """Return the published chains of AAPL; a day's file holds closes, taken as known a quarter past four."""
    parts = []
    for day in days:
        with (folder / "options" / "aapl_universe" / f"{day}.csv").open() as file:
            underlying, *rows = list(csv.reader(file))[1:]
        ts = int(pd.Timestamp(f"{day} 16:15", tz="America/New_York").value)
        part = pd.DataFrame(rows).iloc[:, [0, 1, 2, 6, 7, 8, 9, 10]].replace("", np.nan)
        part.columns = ["expiry", "strike", "right", "price", "volume", "open_interest", "volatility", "delta"]
        part["right"] = part["right"].map({"C": 1, "P": -1}).astype(np.int8)
        part["ident"] = part["expiry"] + "/" + part["strike"] + "/" + part["right"].astype(str)
        # contracts stop at four o'clock of the day before the Saturday that they are named by
        part["expiry"] = [
            int(pd.Timestamp(text, tz="America/New_York").value) - 8 * DAY // 24 for text in part["expiry"]
        ]
        for name in ("strike", "price", "volume", "open_interest", "volatility", "delta"):
            part[name] = part[name].astype(float)
        part["ts"], part["spot"] = ts, float(underlying[6])
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def option_batch(log: pd.DataFrame, *, published: bool) -> pa.RecordBatch:
    columns = {
        "ts_recv": log["ts"].to_numpy(), "contract_id": log["ident"].tolist(), "ts_expiry": log["expiry"].to_numpy(),
        "underlying_price": log["spot"].to_numpy(),
    } | {name: log[name].to_numpy() for name in ("strike", "right", "price", "volume", "open_interest")}  # fmt: skip
    if published:
        columns |= {"implied_volatility": log["volatility"].to_numpy(), "delta": log["delta"].to_numpy()}
    return make_batch("options", columns, len(log))


DAYS = ["20140602", "20140603", "20140604", "20140605"]
"""before the split of seven for one"""
CONFIG = OptionsConfig(max_contracts=4096, min_sessions=2, min_volume_sessions=2)


def test_published_chains_equal_the_twin(real_data: Path) -> None:
    log = chains(real_data, DAYS)
    log["price"] = np.nan  # so that no volatility is computed
    batch, code = option_batch(log, published=True), np.zeros(len(log), np.int32)
    at = np.unique(log["ts"]) + 1
    group = OptionsGroup(CONFIG, 1)
    found, _ = update(group, "options", batch, code, np.zeros(len(at)), at)
    assert group.dropped == 0
    log["volatility"] = log["volatility"].where((log["volatility"] >= 1e-4) & (log["volatility"] <= 10))
    log["session"] = session_table("XNYS").index(log["ts"].to_numpy())
    deviation = log["volatility"] * np.sqrt(np.maximum(log["expiry"] - log["ts"], 1) / (365 * DAY))
    computed = log["right"] * norm.cdf(log["right"] * (np.log(log["spot"] / log["strike"]) / deviation + deviation / 2))
    usable = (log["delta"] * log["right"] > 0) & (log["delta"].abs() < 1)
    log["delta"] = log["delta"].where(usable, computed)
    parameters = SimpleNamespace(
        maturity=float(duration_ns(CONFIG.maturity)), far_maturity=float(duration_ns(CONFIG.far_maturity)),
        tolerance=CONFIG.maturity_tolerance, band=CONFIG.moneyness_band, max_age=duration_ns(CONFIG.max_age),
        window=CONFIG.window, min_sessions=2, min_volume_sessions=2, decay=2 / (CONFIG.volume_span + 1), memory={},
    )  # fmt: skip
    for row, (now, since) in enumerate(zip(at.tolist(), [0, *at[:-1].tolist()], strict=True)):
        expected = options_twin(log, now, since, parameters)
        own = {name: value for name, value in found.iloc[row].items() if not np.isnan(value)}
        assert own.keys() == expected.keys()
        for name, value in own.items():
            assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-12), (row, name)
    assert {"iv_rank", "iv_skew", "option_volume_ratio", "open_interest_change"} <= own.keys()


def test_volatility_of_prices_is_what_the_stock_had(real_data: Path) -> None:
    """The prices say what the market thought in June 2014, a quarter a year; the published volatilities do not."""
    log = chains(real_data, DAYS)
    batch, code = option_batch(log, published=False), np.zeros(len(log), np.int32)
    at = np.unique(log["ts"]) + 1
    found, _ = update(OptionsGroup(CONFIG, 1), "options", batch, code, np.zeros(len(at)), at)
    assert found["iv_atm"].between(0.18, 0.32).all()
    assert found["iv_skew"].abs().max() < 0.1  # closes of contracts that seldom trade are old
    assert found["iv_term_slope"].abs().max() < 0.05
    assert log["volatility"][log["volatility"] > 0].median() > 0.6
