"""LEAN, LOBSTER and Databento files, made here."""

from __future__ import annotations

import zipfile
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import databento_dbn as dbn
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.importers import FileReport, ImportOptions, import_files
from dataflows.importers.venue_time import NEW_YORK, day_to_utc
from schemas.errors import InputError
from sinks.archive import Archive


def run(
    format_: str, path: Path, options: ImportOptions | None = None
) -> tuple[FileReport, dict[str, list[dict[str, Any]]]]:
    archive = Archive.create(path.parent / "archive")
    report = import_files(format_, [path], archive, options=options or ImportOptions()).files[0]
    found: dict[str, list[dict[str, Any]]] = {}
    for topic in archive.topics():
        table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in archive.files(topic)])
        for name in ("ts_event", "ts_recv"):
            table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
        found[topic] = table.to_pylist()
    return report, found


@given(
    day=st.dates(date(1990, 1, 1), date(2100, 1, 1)) | st.sampled_from([date(2013, 3, 10), date(2013, 11, 3)]),
    milliseconds=st.integers(0, 86_399_999),
)
def test_day_to_utc_agrees_with_zoneinfo(day: date, milliseconds: int) -> None:
    ts, valid = day_to_utc(day, np.array([float(milliseconds)]), 10**6)
    seconds, rest = divmod(milliseconds, 1000)
    local = datetime(day.year, day.month, day.day, *divmod(seconds // 60, 60), seconds % 60, tzinfo=NEW_YORK)
    expected = (local.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    assert valid.all()
    assert ts[0] == int(expected) * 10**9 + rest * 10**6


@pytest.mark.parametrize("of_day", [-1.0, 86_400_000.0, float("nan"), float("inf"), 1e300])
def test_day_to_utc_of_no_time_of_a_day_is_invalid(of_day: float) -> None:
    ts, valid = day_to_utc(date(2013, 10, 7), np.array([of_day]), 10**6, ZoneInfo("America/New_York"))
    assert (ts[0], valid[0]) == (-1, False)


@pytest.fixture
def lean(tmp_path: Path) -> Path:
    path = tmp_path / "spy" / "20131007_trade.zip"
    path.parent.mkdir()
    lines = b"34200000.367,1674100,100,P,20002000,0\n34200001,1674150,300,D,0,1\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("20131007_spy_Trade_Tick.csv", lines)
    return path


def test_lean_trades_are_in_utc_dollars_and_marked_when_suspicious(lean: Path) -> None:
    _, found = run("lean", lean)
    first, second = found["trades"]
    opening = int(datetime(2013, 10, 7, 13, 30, tzinfo=UTC).timestamp()) * 10**9
    assert (first["ts_event"], first["ts_recv"]) == (opening + 367_000, opening + 367_000)
    assert (first["price"], first["size"], first["side"], first["trade_id"]) == (167.41, 100.0, 0, None)
    assert (first["venue"], first["conditions"]) == ("P", "20002000")
    assert (second["venue"], second["conditions"]) == ("D", "0!")
    assert {first["instrument_id"], second["instrument_id"]} == {"SPY"}


def test_lean_quotes_are_one_sided(tmp_path: Path) -> None:
    path = tmp_path / "20130107_quote.csv"
    path.write_bytes(b"34200000,0,0,140200,500,Q,1,0\n34200000,138400,700,0,0,P,1,0\n34200000,0,700,0,0,P,1,0\n")
    report, found = run("lean", path, ImportOptions(symbol="BAC"))
    ask, bid, hollow = found["quotes"]
    assert (ask["bid_price"], ask["bid_size"], ask["ask_price"], ask["ask_size"]) == (0, 0, 14.02, 500)
    assert (bid["bid_price"], bid["ask_size"], bid["venue"]) == (13.84, 0, "P")
    assert ask["ts_event"] == int(datetime(2013, 1, 7, 14, 30, tzinfo=UTC).timestamp()) * 10**9
    assert hollow["error"] == "out_of_range: expected a `bid_price` where `bid_size` is above zero"
    assert report.quarantined == {hollow["error"]: 1}


def test_lean_time_outside_the_day_is_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "20130107_trade.csv"
    path.write_bytes(b"34200000,1,100,P,0,0\n86400000,1,100,P,0,0\nnan,1,100,P,0,0\n")
    report, _ = run("lean", path)
    assert report.quarantined == {"out_of_range: expected a time within the day": 2}


@pytest.mark.parametrize(
    ("name", "member", "match"),
    [
        ("trades.zip", "20131007_spy_Trade_Tick.csv", "expected a file named `YYYYMMDD_trade.zip`"),
        ("20131307_trade.zip", "20131307_spy_Trade_Tick.csv", "expected a date at the start"),
        ("20131007_trade.zip", "20131007_spy_minute_trade.csv", "only the tick resolution"),
    ],
)
def test_lean_file_of_another_kind_is_refused(tmp_path: Path, name: str, member: str, match: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as file:
        file.writestr(member, b"34200000,1674100,100,1,1,0\n")
    with pytest.raises(InputError, match=match):
        run("lean", tmp_path / name)


MESSAGES = [
    b"34200.004241176,1,16113575,18,5853300,1",
    b"34200.004260640,4,16113575,18,5853300,1",
    b"34200.004447484,5,0,7,5853300,-1",
    b"34200.025551909,7,0,0,-1,-1",
    b"34201,4,5,-3,5853300,1",
    b"x,4,5,3,5853300,1",
    b"34202,1,5,3,5853300,1",
]
BOOKS = [b"5859400,200,5853300,18"] * 5 + [b"5859400,200,5853300,18", b"oops"]
LOBSTER = "AAPL_2012-06-21_34200000_57600000_{}_1.csv"


@pytest.fixture
def lobster(tmp_path: Path) -> Path:
    books = [BOOKS[0], b"9999999999,0,5853300,18", b"5859400,200,-9999999999,0", *BOOKS[3:]]
    (tmp_path / LOBSTER.format("message")).write_bytes(b"\n".join(MESSAGES) + b"\n")
    (tmp_path / LOBSTER.format("orderbook")).write_bytes(b"\n".join(books) + b"\n")
    return tmp_path / LOBSTER.format("message")


def test_lobster_executions_become_trades_of_the_other_side(lobster: Path) -> None:
    _, found = run("lobster", lobster)
    visible, hidden, bad = found["trades"]
    opening = int(datetime(2012, 6, 21, 13, 30, tzinfo=UTC).timestamp()) * 10**9
    assert visible["ts_event"] == opening + 4_260_640
    assert (visible["price"], visible["size"], visible["side"], visible["conditions"]) == (585.33, 18, -1, "visible")
    assert (hidden["side"], hidden["conditions"], hidden["instrument_id"]) == (1, "hidden", "AAPL")
    assert (bad["raw"], bad["error"]) == (MESSAGES[4], "out_of_range: expected `size` finite and above zero")


def test_lobster_every_line_is_a_snapshot_or_quarantined(lobster: Path) -> None:
    report, found = run("lobster", lobster)
    books = found["books"]
    assert len(books) == len(MESSAGES)
    assert [row["last_sequence"] for row in books] == [1, 2, 3, 4, 5, None, None]
    assert (books[0]["ask_prices"], books[0]["bid_sizes"], books[0]["kind"]) == ([585.94], [18.0], 0)
    assert (books[1]["ask_prices"], books[2]["bid_prices"]) == ([], [])
    assert books[5]["raw"] == MESSAGES[5] + b"\n" + BOOKS[5]
    assert books[6]["raw"] == MESSAGES[6] + b"\noops"
    assert [row["error"] for row in books[5:]] == [
        "wrong_type: expected `time` to be a number",
        "malformed: expected 4 fields",
    ]
    assert report.rows == {"books": 5, "trades": 2}


def test_lobster_either_file_or_the_folder_names_the_pair(lobster: Path) -> None:
    archive = Archive.create(lobster.parent / "archive")
    orderbook = lobster.with_name(LOBSTER.format("orderbook"))
    report = import_files("lobster", [orderbook, lobster, lobster.parent], archive)
    assert [item.path for item in report.files] == [lobster]


def test_lobster_pair_that_does_not_fit_is_refused(lobster: Path) -> None:
    orderbook = lobster.with_name(LOBSTER.format("orderbook"))
    orderbook.write_bytes(b"\n".join(BOOKS[:3]))
    with pytest.raises(InputError, match=r"expected as many lines in .*, found 3 and 7 or more"):
        run("lobster", lobster)
    orderbook.unlink()
    with pytest.raises(InputError, match="put both files in one folder"):
        run("lobster", lobster)
    odd = lobster.rename(lobster.with_name("AAPL.csv"))
    with pytest.raises(InputError, match="expected a file named `TICKER_DATE_START_END_message_LEVELS"):
        run("lobster", odd)


RECV = 1_609_160_400_000_000_000
TOP = dbn.BidAskPair(3_720_250_000_000, dbn.UNDEF_PRICE, 24, 0, 1, 0)


def quote(price: int = 3_720_500_000_000, action: dbn.Action = dbn.Action.ADD, **extra: Any) -> dbn.MBP1Msg:
    fields: dict[str, Any] = {"ts_event": RECV - 5, "ts_recv": RECV, "side": dbn.Side.BID} | extra
    return dbn.MBP1Msg(1, 7, price=price, size=3, action=action, depth=0, sequence=9, levels=TOP, **fields)


def write_dbn(path: Path, records: list[Any], schema: dbn.Schema | None = dbn.Schema.MBP_1) -> bytes:
    interval = SimpleNamespace(start_date=date(2020, 12, 28), end_date=date(2020, 12, 29), symbol="7")
    metadata = dbn.Metadata(
        dataset="GLBX.MDP3",
        start=RECV,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=schema,
        mappings=[SimpleNamespace(raw_symbol="ESH1", intervals=[interval])],
    )
    data = bytes(metadata) + b"".join(bytes(record) for record in records)
    path.write_bytes(data)
    return data


def test_dbn_trade_record_is_quote_and_trade_with_names_of_the_day(tmp_path: Path) -> None:
    later = RECV + 2 * 86_400 * 10**9
    records = [quote(), quote(action=dbn.Action.TRADE), quote(ts_recv=later, ts_event=2**64 - 1)]
    write_dbn(tmp_path / "x.dbn", records)
    report, found = run("databento", tmp_path / "x.dbn")
    first, _, last = found["quotes"]
    assert (first["bid_price"], first["bid_size"], first["ask_price"], first["ask_size"]) == (3720.25, 24, 0, 0)
    assert (first["instrument_id"], last["instrument_id"], first["sequence"]) == ("ESH1", "7", 9)
    assert (first["ts_recv"], first["ts_event"], last["ts_event"]) == (RECV, RECV - 5, later)
    trade = found["trades"][0]
    assert (trade["price"], trade["size"], trade["side"], trade["venue"]) == (3720.5, 3, 1, "GLBX.MDP3")
    assert report.repaired == {"event time absent: receive time used": 1}
    assert report.skew_ns == 5


def test_dbn_trade_without_price_is_quarantined_with_its_bytes(tmp_path: Path) -> None:
    bad = quote(price=dbn.UNDEF_PRICE, action=dbn.Action.TRADE)
    write_dbn(tmp_path / "x.dbn", [quote(action=dbn.Action.TRADE), bad])
    _, found = run("databento", tmp_path / "x.dbn")
    assert found["trades"][1]["raw"] == bytes(bad)
    assert len(found["quotes"]) == 2


def test_dbn_mixed_file_quarantines_records_without_a_topic(tmp_path: Path) -> None:
    bar = dbn.OHLCVMsg(dbn.RType.OHLCV_1M, 1, 7, RECV, open=1, high=1, low=1, close=1, volume=1)
    write_dbn(tmp_path / "x.dbn", [quote(), bar], schema=None)
    report, _ = run("databento", tmp_path / "x.dbn")
    assert report.quarantined == {"malformed: expected a record of a supported schema": 1}


def test_dbn_that_is_cut_short_or_no_dbn_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.dbn"
    data = write_dbn(path, [quote(), quote()])
    path.write_bytes(data[:-5])
    with pytest.raises(InputError, match="to end with a whole record"):
        run("databento", path)
    path.write_bytes(b"no such thing" * 50)
    with pytest.raises(InputError, match="expected Databento Binary Encoding"):
        run("databento", path)
    write_dbn(path, [quote()], dbn.Schema.OHLCV_1S)
    with pytest.raises(InputError, match=r"expected a schema among trades, .*mbp-10.*, found `ohlcv-1s`"):
        run("databento", path)
