"""Binance captures and public data files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataflows.importers import FileReport, ImportOptions, import_files
from schemas.errors import ConfigError, InputError
from sinks.archive import Archive

RECV = 1_723_161_255_000_000_000


def captured(stream: str, data: dict[str, Any], recv: int = RECV) -> bytes:
    return f"{recv} {json.dumps({'stream': stream, 'data': data})}".encode()


TRADE = {"E": 1723161255343, "s": "BTCUSDT", "t": 7, "p": "61837.63", "q": "0.02", "T": 1723161255342, "m": True}
DEPTH = {"E": 1723161255208, "s": "BTCUSDT", "U": 5, "u": 9, "b": [["61737.63", "0.00"]], "a": [["61838", "1.5"]]}
TICKER = {"u": 11, "s": "BTCUSDT", "b": "61837.63", "B": "3.78", "a": "61837.64", "A": "1.5"}
SNAPSHOT = {"lastUpdateId": 6, "bids": [["1.5", "2"], ["1.4", "3"]], "asks": [["1.6", "4"]]}


def run(
    format_: str, path: Path, lines: list[bytes] | bytes, options: ImportOptions | None = None
) -> tuple[FileReport, dict[str, list[dict[str, Any]]]]:
    path.write_bytes(lines if isinstance(lines, bytes) else b"\n".join(lines))
    archive = Archive.create(path.parent / "archive")
    report = import_files(format_, [path], archive, options=options or ImportOptions()).files[0]
    found: dict[str, list[dict[str, Any]]] = {}
    for topic in archive.topics():
        table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in archive.files(topic)])
        for name in ("ts_event", "ts_recv"):
            table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
        found[topic] = table.to_pylist()
    return report, found


def test_capture_trade_of_a_buying_maker_is_sold(tmp_path: Path) -> None:
    lines = [captured("btcusdt@trade", TRADE), captured("btcusdt@trade", TRADE | {"m": False})]
    _, found = run("binance-capture", tmp_path / "btcusdt", lines)
    first, second = found["trades"]
    assert (first["side"], second["side"]) == (-1, 1)
    assert (first["price"], first["size"], first["trade_id"]) == (61837.63, 0.02, 7)
    assert (first["ts_event"], first["ts_recv"]) == (1723161255342_000_000, RECV)
    assert first["venue"] is None


def test_capture_books_keep_sequences_and_snapshot_takes_the_streams_symbol(tmp_path: Path) -> None:
    lines = [
        f"{RECV} {json.dumps(SNAPSHOT)}".encode(),
        captured("btcusdt@depth@100ms", DEPTH),
        captured("btcusdt@depth@0ms", DEPTH | {"pu": 4, "T": 1723161255200}),
    ]
    report, found = run("binance-capture", tmp_path / "whatever", lines)
    snapshot, spot, futures = found["books"]
    assert [row["kind"] for row in found["books"]] == [0, 1, 1]
    assert snapshot["instrument_id"] == "BTCUSDT"
    assert (snapshot["first_sequence"], snapshot["last_sequence"], snapshot["ts_event"]) == (None, 6, RECV)
    assert (spot["first_sequence"], spot["last_sequence"], spot["previous_sequence"]) == (5, 9, None)
    assert (futures["previous_sequence"], futures["ts_event"]) == (4, 1723161255200_000_000)
    assert spot["ts_event"] == 1723161255208_000_000
    assert (snapshot["bid_prices"], snapshot["ask_sizes"], spot["bid_sizes"]) == ([1.5, 1.4], [4.0], [0.0])
    assert report.repaired == {"event time absent: receive time used": 1}


def test_capture_snapshot_alone_takes_the_symbol_of_the_file(tmp_path: Path) -> None:
    _, found = run("binance-capture", tmp_path / "ethusdt_20240808", [f"{RECV} {json.dumps(SNAPSHOT)}".encode()])
    assert found["books"][0]["instrument_id"] == "ETHUSDT"


def test_capture_snapshot_among_several_symbols_is_quarantined(tmp_path: Path) -> None:
    lines = [captured("a@trade", TRADE), captured("b@trade", TRADE | {"s": "B"})]
    report, _ = run("binance-capture", tmp_path / "x", [*lines, f"{RECV} {json.dumps(SNAPSHOT)}".encode()])
    assert report.quarantined == {"missing_field: expected a symbol": 1}
    with pytest.raises(InputError, match="expected one instrument in"):
        run("binance-capture", tmp_path / "x", lines, ImportOptions(symbol="C"))


def test_capture_quote_without_event_time_is_repaired(tmp_path: Path) -> None:
    lines = [captured("b@bookTicker", TICKER), captured("b@bookTicker", TICKER | {"T": 1723161255342, "E": 1})]
    report, found = run("binance-capture", tmp_path / "x", lines, ImportOptions(symbol="S", venue="V"))
    spot, futures = found["quotes"]
    assert (spot["ts_event"], futures["ts_event"]) == (RECV, 1723161255342_000_000)
    assert (spot["sequence"], spot["instrument_id"], spot["venue"]) == (11, "S", "V")
    assert report.repaired == {"event time absent: receive time used": 1}
    assert report.skew_ns == RECV - 1723161255342_000_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"X": "INSURANCE_FUND"}, "out_of_range: expected a trade of the market"),
        ({"X": "NA", "p": "0"}, "out_of_range: expected a trade of the market"),
        ({"p": "0"}, "out_of_range: expected `price` finite and above zero"),
        ({"p": "nan"}, "out_of_range: expected `price` finite and above zero"),
        ({"q": "-1"}, "out_of_range: expected `size` finite and above zero"),
        ({"p": "x"}, "wrong_type: expected `float`, got `str` - at `$.p`"),
        ({"t": -1}, "wrong_type: expected `int` >= 0 - at `$.t`"),
        ({"t": 2**70}, "wrong_type: expected `int` <= "),
        ({"T": 1723161255342000}, "wrong_type: expected `int` <= 7258118399999 - at `$.T`"),
        ({"s": ""}, "wrong_type: expected `str` of length >= 1 - at `$.s`"),
        ({"m": None}, "wrong_type: expected `bool`, got `null` - at `$.m`"),
    ],
)
def test_capture_trade_that_cannot_be_one_is_quarantined(tmp_path: Path, data: dict[str, Any], reason: str) -> None:
    bad = captured("btcusdt@trade", TRADE | data)
    report, found = run("binance-capture", tmp_path / "x", [captured("btcusdt@trade", TRADE), bad])
    assert [text.startswith(reason) for text in report.quarantined] == [True], report.quarantined
    assert found["trades"][1]["raw"] == bad


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (captured("b@depth", {"s": "B"}), "missing_field: object missing required field `U`"),
        (captured("b@depth", DEPTH | {"U": 10}), "out_of_range: expected `first_sequence` at or below"),
        (captured("b@depth", DEPTH | {"b": [["-1", "1"]]}), "out_of_range: expected every one of `bid_prices`"),
        (captured("b@depth", DEPTH | {"a": [["1", "inf"]]}), "out_of_range: expected every one of `ask_sizes`"),
        (captured("b@depth", DEPTH | {"a": [["1"]]}), "wrong_type: expected `array` of length 2"),
        (captured("b@kline_1m", {}), "malformed: expected a stream `depth`"),
        (b"12 {}", "malformed: expected a stream `depth`"),
        (b"x {}", "malformed: expected a receive time"),
        (str(RECV).encode(), "malformed: expected a JSON message"),
        (str(RECV).encode() + b' {"lastUpdateId": 5}', "missing_field: object missing required field `bids`"),
        (b"\xff\xfe " + b"\x00" * 9, "malformed: expected a receive time"),
    ],
)
def test_capture_line_that_is_no_book_is_quarantined_among_the_books(tmp_path: Path, line: bytes, reason: str) -> None:
    report, found = run("binance-capture", tmp_path / "x", [captured("b@depth", DEPTH), line])
    assert [text.startswith(reason) for text in report.quarantined] == [True], report.quarantined
    assert found["books"][1]["raw"] == line


def test_tick_option_quarantines_prices_between_ticks(tmp_path: Path) -> None:
    lines = [captured("b@depth", DEPTH), captured("b@depth", DEPTH | {"b": [["61737.635", "1"]]})]
    lines += [captured("b@trade", TRADE), captured("b@trade", TRADE | {"p": "0.015"})]
    report, _ = run("binance-capture", tmp_path / "x", lines, ImportOptions(tick=0.01))
    assert report.rows == {"books": 1, "trades": 1}
    assert sorted(report.quarantined) == [
        "out_of_range: expected `bid_prices` in whole ticks",
        "out_of_range: expected `price` in whole ticks",
    ]


def test_capture_lines_cut_into_other_blocks_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [captured("b@trade", TRADE | {"t": n}, RECV + n) for n in range(50)]
    lines[20] = b"12 junk"
    lines += [captured("b@depth", DEPTH | {"u": 9 + n}, RECV + 50 + n) for n in range(20)]
    _, whole = run("binance-capture", tmp_path / "x", lines)
    monkeypatch.setattr("dataflows.importers.reading.line_blocks.__defaults__", (64,))
    (tmp_path / "b").mkdir()
    _, cut = run("binance-capture", tmp_path / "b" / "x", lines)
    assert cut == whole


CSV_TRADES = b"10,61837.63,0.02,1236.75,%d,True,True\n11,61838.00,0.5,30919,%d,False,True\n"


def test_csv_trades_in_ms_and_us_without_and_with_header(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-trades-2024-08-08.csv"
    _, found = run("binance-csv", path, CSV_TRADES % (1723075200123, 1735689600123456))
    first, second = found["trades"]
    assert (first["ts_event"], second["ts_event"]) == (1723075200123_000_000, 1735689600123456_000)
    assert first["ts_recv"] == first["ts_event"]
    assert (first["side"], second["side"], first["trade_id"], first["price"]) == (-1, 1, 10, 61837.63)
    (tmp_path / "um").mkdir()
    headed = b"id,price,qty,quote_qty,time,is_buyer_maker\n1,2.5,3,7.5,1723075200123,true\n"
    report, found = run("binance-csv", tmp_path / "um" / path.name, headed, ImportOptions(venue="UM"))
    assert report.rows == {"trades": 1}
    assert (found["trades"][0]["venue"], found["trades"][0]["side"]) == ("UM", -1)


def test_csv_agg_trades_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "ETHUSDT-aggTrades-2024-08.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ETHUSDT-aggTrades-2024-08.csv", b"5,2.5,3,9,9,1723075200123,False,True\n" * 2)
    report, found = run("binance-csv", path, path.read_bytes())
    assert report.rows == {"trades": 2}
    assert (found["trades"][0]["trade_id"], found["trades"][0]["instrument_id"]) == (5, "ETHUSDT")


def test_csv_book_ticker_has_both_times(tmp_path: Path) -> None:
    body = b"update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n"
    body += b"99,61800.20,2.507,61800.30,2.510,1723075200100,1723075200103\n"
    _, found = run("binance-csv", tmp_path / "BTCUSDT-bookTicker-2024-08-08.csv", body)
    row = found["quotes"][0]
    assert row["ts_recv"] - row["ts_event"] == 3_000_000
    assert (row["sequence"], row["bid_price"], row["ask_size"]) == (99, 61800.20, 2.510)


def test_csv_bad_lines_are_quarantined_one_by_one(tmp_path: Path) -> None:
    lines = (CSV_TRADES % (1723075200123, 1723075200124)).splitlines()
    bad = [b"1,2,3", b"x,1,1,1,1723075200123,True,True", b"1,nan,1,1,1723075200123,True,True"]
    bad += [
        b"1,1,1,1,99,maybe,True",
        b"1,1,1,1,99999999999999999,True,True",
        b'1,1,1,"1,1723075200123,True,True',
        b"a\rb",
    ]
    mixed = [lines[0], *bad, lines[1]]
    report, found = run("binance-csv", tmp_path / "BTCUSDT-trades-2024-08-08.csv", mixed)
    assert report.rows == {"trades": 2}
    assert [row["raw"] for row in found["trades"]] == [None, *bad, None]
    assert set(report.quarantined) == {
        "malformed: expected 7 fields",
        "malformed: expected one line, found a carriage return within",
        "wrong_type: expected `id` to be a whole number",
        "wrong_type: expected `is_buyer_maker` to be true or false",
        "wrong_type: expected `quote_qty` to be a number",
        "out_of_range: expected `price` finite and above zero",
        "out_of_range: expected `ts_event` from 1970 to 2200",
    }


def test_csv_kind_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    body = CSV_TRADES % (1723075200123, 1723075200124)
    with pytest.raises(InputError, match="give the options `symbol` and `kind`"):
        run("binance-csv", tmp_path / "x.csv", body)
    with pytest.raises(ConfigError, match="expected a `kind` among"):
        run("binance-csv", tmp_path / "x.csv", body, ImportOptions(symbol="A", kind="klines"))
    with pytest.raises(InputError, match="expected 7 or 8 columns of `aggTrades`"):
        run("binance-csv", tmp_path / "x.csv", b"1,2,3\n", ImportOptions(symbol="A", kind="aggTrades"))
    report, _ = run("binance-csv", tmp_path / "x.csv", body, ImportOptions(symbol="A", kind="trades"))
    assert report.rows == {"trades": 2}
