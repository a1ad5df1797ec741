"""Real captures and ticks through the product: import, replay, query."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.book_intake import BookIntake
from operators.refusals import Refusals
from operators.shard_config import BookConfig
from schemas.batches import integers, times
from schemas.time import END_OF_TIME
from sinks.archive import Archive

pytestmark = pytest.mark.real
INTERVALS = ("1s", "10s", "1m", "5m")


def signalbox(*arguments: object) -> str:
    command = [sys.executable, "-m", "dataflows.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def last_json(output: str) -> dict:
    return json.loads(output.strip().splitlines()[-1])


def query(db: Path, sql: str, out: Path) -> pd.DataFrame:
    command = [sys.executable, "-m", "dataflows.cli", "query", "--db", str(db), sql, "--format", "parquet"]
    out.write_bytes(subprocess.run(command, capture_output=True, timeout=300, check=True).stdout)
    return pd.read_parquet(out)


def lean_ticks(folder: Path, symbol: str) -> pd.DataFrame:
    days = []
    for path in sorted((folder / symbol).glob("*_trade.zip")):
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as lines:
            ticks = pd.read_csv(lines, header=None, usecols=[0, 1, 2], names=["ms", "price", "size"])
        midnight = pd.Timestamp(path.name[:8], tz="America/New_York").tz_convert("UTC").value
        days.append(ticks.assign(ts=midnight + ticks["ms"].to_numpy() * 1_000_000, price=ticks["price"] / 10_000.0))
    return pd.concat(days, ignore_index=True).assign(instrument_id=symbol.upper())


def kahan(values: np.ndarray) -> float:
    """Return the compensated sum in order: what pandas does within a group."""
    total = compensation = 0.0
    for value in values.tolist():
        y = value - compensation
        t = total + y
        compensation = t - total - y
        total = t
    return total


def test_lean_ticks_bars_in_the_database_equal_a_pandas_group_by(real_data, tmp_path):
    folder = real_data / "lean_ticks" / "tick"
    trades = [path for symbol in ("spy", "bac") for path in sorted((folder / symbol).glob("*_trade.zip"))]
    signalbox("import", "lean", *trades, "--archive", tmp_path / "archive")
    config = tmp_path / "c.toml"
    config.write_text(f"[compute.bars]\nintervals = {list(INTERVALS)}\n")
    done = last_json(
        signalbox(
            "replay", "--archive", tmp_path / "archive", "--db", tmp_path / "db", "--run-id", "lean",
            "--config", config, "--json", "--workers", 2,
        )
    )  # fmt: skip
    counts = {(item["kind"], item["subject"]): item["count"] for item in done["counts"]}
    assert counts["read", "trades"] == counts["decoded", "trades"] == 2_461_080
    assert done["digests"]["late_events"]["rows"] == done["digests"]["dead_letters"]["rows"] == 0

    ticks = pd.concat([lean_ticks(folder, "spy"), lean_ticks(folder, "bac")], ignore_index=True)
    ticks["size"] = ticks["size"].astype(float)
    ticks["notional"] = ticks["price"] * ticks["size"]
    columns = "interval_ns, instrument_id, toInt64(toUnixTimestamp64Nano(ts_start)) AS start"
    values = "open, high, low, close, volume, notional, vwap, trade_count, buy_volume"
    found = query(
        tmp_path / "db", f"SELECT {columns}, {values} FROM bars ORDER BY interval_ns, instrument_id, start",
        tmp_path / "bars.parquet",
    )  # fmt: skip
    total = 0
    for text in INTERVALS:
        interval = pd.Timedelta(text).value
        groups = ticks.groupby(["instrument_id", ticks["ts"] // interval * interval], sort=True)
        expected = groups.agg(
            open=("price", "first"), high=("price", "max"), low=("price", "min"), close=("price", "last"),
            volume=("size", "sum"), trade_count=("price", "size"),
        )  # fmt: skip
        expected["notional"] = groups["notional"].agg(lambda group: kahan(group.to_numpy()))
        expected["vwap"] = expected["notional"] / expected["volume"]
        expected["buy_volume"] = 0.0
        own = found[found["interval_ns"] == interval].set_index(["instrument_id", "start"])
        total += len(own)
        assert list(own.index) == list(expected.index)
        for column in values.split(", "):
            assert (own[column].to_numpy() == expected[column].to_numpy()).all(), (text, column)
    assert total == len(found) == 218_682


def _merged(archive: Archive, topic: str) -> pa.RecordBatch:
    table = pa.concat_tables(pq.read_table(path) for path in archive.files(topic))
    return (
        table.sort_by([("ts_recv", "ascending"), ("partition", "ascending"), ("offset", "ascending")])
        .combine_chunks()
        .to_batches()[0]
    )


@pytest.mark.parametrize(
    ("market", "files", "allowed", "comparable"),
    [
        ("spot", ("btcusdt_20240808.gz", "btcusdt_20240809.gz"), 2, 6_490),
        ("usdm", ("btcusdt_20240808.gz",), 0, 6_545),
    ],
)
def test_binance_capture_rebuilt_book_equals_the_venues_best_prices(
    real_data, tmp_path, market, files, allowed, comparable
):
    paths = [real_data / "binance_capture" / market / name for name in files]
    report = last_json(signalbox("import", "binance-capture", *paths, "--archive", tmp_path / "archive", "--json"))
    assert report["quarantined"] == 0
    assert all(-1.28e9 < file["skew_ns"] < -1.26e9 for file in report["files"])

    archive = Archive.open(tmp_path / "archive")
    books, quotes = _merged(archive, "books"), _merged(archive, "quotes")
    intake = BookIntake(BookConfig())
    intake.ensure(1)
    refusals = Refusals()
    top = intake.update({"books": books}, {"books": np.zeros(books.num_rows, np.int32)}, END_OF_TIME, refusals)
    reasons = {reason for _, _, reason in refusals.counts if reason}
    assert reasons <= {"superseded"}, "expected no gap and no crossed book"
    assert (top.bid_price < top.ask_price).all()

    last = dict(zip(times(books, "ts_recv").tolist(), integers(books, "last_sequence").tolist(), strict=True))
    ticker = pd.DataFrame(
        {"u": integers(quotes, "sequence"), "bid": quotes["bid_price"], "ask": quotes["ask_price"]}
    ).sort_values("u", kind="stable")
    position = np.searchsorted(ticker["u"].to_numpy(), [last[ts] for ts in top.ts.tolist()], side="right") - 1
    known = position >= 0
    bid, ask = ticker["bid"].to_numpy()[position], ticker["ask"].to_numpy()[position]
    differs = known & ((bid != top.bid_price) | (ask != top.ask_price))
    assert abs(int(known.sum()) - comparable) <= 10
    assert int(differs.sum()) <= allowed

    run = last_json(
        signalbox(
            "replay", "--archive", tmp_path / "archive", "--db", tmp_path / "db", "--run-id", market, "--json"
        )
    )  # fmt: skip
    counts = {(item["kind"], item["subject"], item["reason"]): item["count"] for item in run["counts"]}
    assert (
        counts["read", "books", ""] == counts["decoded", "books", ""] + counts["dead_lettered", "books", "superseded"]
    )
    assert not [key for key in counts if key[0] == "dead_lettered" and key[2] != "superseded"]
