"""Importers on real files: nothing is lost, and what is known of the data is found."""

from __future__ import annotations

import csv
import gzip
import re
import zipfile
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dataflows.importers import ImportOptions, import_files
from schemas.errors import InputError
from sinks.archive import Archive

pytestmark = pytest.mark.real
_GUIDE = Path(__file__).resolve().parents[2] / "docs" / "importing.md"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.create(tmp_path / "archive")


def table(archive: Archive, topic: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in archive.files(topic)])


def guide_map(name: str, folder: Path) -> Path:
    """Write a column map of the guide to a folder."""
    found = re.search(rf"```toml\n(# {name}\.toml\n.*?)```", _GUIDE.read_text(), re.DOTALL)
    assert found
    path = folder / f"{name}.toml"
    path.write_text(found.group(1))
    return path


@pytest.mark.parametrize(("market", "skew"), [("spot", -1.275), ("usdm", -1.272)])
def test_binance_capture_accounts_for_every_line(real_data: Path, archive: Archive, market: str, skew: float) -> None:
    folder = real_data / "binance_capture" / market
    report = import_files("binance-capture", [folder], archive)
    for item in report.files:
        n_lines = len(gzip.decompress(item.path.read_bytes()).splitlines())
        assert item.accepted + sum(item.quarantined.values()) == n_lines
        assert item.skew_ns is not None
        assert item.skew_ns / 1e9 == pytest.approx(skew, abs=0.005)
        assert item.order_violations == 0
        if market == "spot":
            assert item.repaired["event time absent: receive time used"] >= item.rows["quotes"]
    assert report.quarantined == 0


def test_binance_capture_of_two_files_is_one_stream_of_book_updates(real_data: Path, archive: Archive) -> None:
    import_files("binance-capture", [real_data / "binance_capture" / "spot"], archive)
    books = table(archive, "books")
    assert set(books["instrument_id"].to_pylist()) == {"BTCUSDT"}
    assert set(books["partition"].to_pylist()) == {0, 1}
    recv = books["ts_recv"].cast(pa.int64()).to_pylist()
    assert recv == sorted(recv)
    deltas = books.filter(pc.equal(books["kind"], 1))
    first, last = deltas["first_sequence"].to_pylist(), deltas["last_sequence"].to_pylist()
    assert all(begin == end + 1 for begin, end in zip(first[1:], last[:-1], strict=True))
    assert books.num_rows - deltas.num_rows == 1


def test_binance_capture_prices_are_the_nearest_doubles(real_data: Path, archive: Archive) -> None:
    path = real_data / "binance_capture" / "usdm" / "btcusdt_20240808.gz"
    import_files("binance-capture", [path], archive)
    trades = [line for line in gzip.decompress(path.read_bytes()).splitlines() if b"@trade" in line[:80]]
    decoded = [msgspec.json.decode(line.partition(b" ")[2])["data"] for line in trades]
    found = table(archive, "trades")
    assert found["price"].to_pylist() == [float(item["p"]) for item in decoded]
    assert found["trade_id"].to_pylist() == [item["t"] for item in decoded]
    assert found["side"].to_pylist() == [-1 if item["m"] else 1 for item in decoded]


def test_lean_trades_are_as_many_as_lines(real_data: Path, archive: Archive) -> None:
    folder = real_data / "lean_ticks"
    report = import_files("lean", [folder], archive)
    for item in report.files:
        with zipfile.ZipFile(item.path) as file:
            assert item.accepted == len(file.read(file.namelist()[0]).splitlines())
    assert sum(item.rows.get("trades", 0) for item in report.files) == 2_461_080
    assert sum(item.rows.get("quotes", 0) for item in report.files) == 1_052_951
    assert report.quarantined == 0


def test_lean_rows_equal_the_lines_of_the_file(real_data: Path, archive: Archive) -> None:
    path = real_data / "lean_ticks" / "tick" / "bac" / "20131007_trade.zip"
    import_files("lean", [path], archive)
    with zipfile.ZipFile(path) as file:
        lines = list(csv.reader(file.read(file.namelist()[0]).decode().splitlines()))
    found = table(archive, "trades")
    midnight = 1_381_118_400 * 10**9
    assert found["ts_event"].cast(pa.int64()).to_pylist() == [midnight + int(line[0]) * 10**6 for line in lines]
    assert found["price"].to_pylist() == [int(line[1]) / 10_000 for line in lines]
    assert found["venue"].to_pylist() == [line[3] for line in lines]
    assert found["conditions"].to_pylist() == [line[4] + "!" * int(line[5]) for line in lines]


def test_lean_suspicious_trades_of_spy_are_marked(real_data: Path, archive: Archive) -> None:
    import_files("lean", [real_data / "lean_ticks" / "tick" / "spy"], archive)
    marked = pc.ends_with(table(archive, "trades")["conditions"].cast(pa.string()), "!")
    assert pc.sum(marked).as_py() == 10


def test_lean_bars_are_refused(real_data: Path, archive: Archive) -> None:
    with pytest.raises(InputError, match="not bars"):
        import_files("lean", [real_data / "lean_bars" / "minute" / "spy" / "20131007_trade.zip"], archive)


@pytest.mark.parametrize(
    ("schema", "rows"),
    [
        ("trades", {"trades": 2}),
        ("tbbo", {"quotes": 2, "trades": 2}),
        ("mbp-1", {"quotes": 2}),
        ("cmbp-1", {"quotes": 2}),
        ("bbo-1s", {"quotes": 4}),
        ("bbo-1m", {"quotes": 4}),
        ("cbbo-1s", {"quotes": 2}),
        ("mbp-10", {"books": 2}),
    ],
)
def test_dbn_sample_of_a_supported_schema_is_imported(
    real_data: Path, archive: Archive, schema: str, rows: dict[str, int]
) -> None:
    report = import_files("databento", [real_data / "dbn_samples" / f"test_data.{schema}.v3.dbn.zst"], archive)
    assert dict(report.files[0].rows) == rows
    for topic in rows:
        assert set(table(archive, topic)["instrument_id"].to_pylist()) == {"ESH1"}


def test_dbn_sample_values_are_as_published(real_data: Path, archive: Archive) -> None:
    samples = real_data / "dbn_samples"
    import_files("databento", [samples / f"test_data.{name}.v3.dbn.zst" for name in ("trades", "mbp-10")], archive)
    trade = table(archive, "trades").slice(0, 1).to_pylist()[0]
    assert (trade["price"], trade["size"], trade["side"]) == (3720.25, 5.0, -1)
    assert trade["ts_event"].value == 1609160400098821953
    book = table(archive, "books").slice(0, 1).to_pylist()[0]
    assert len(book["bid_prices"]) == len(book["ask_sizes"]) == 10
    assert (book["bid_prices"][:2], book["ask_sizes"][:2]) == ([3720.25, 3720.0], [10.0, 34.0])


@pytest.mark.parametrize("schema", ["mbo", "definition", "imbalance", "statistics", "status", "ohlcv-1s", "ohlcv-1d"])
def test_dbn_sample_of_another_schema_is_refused(real_data: Path, archive: Archive, schema: str) -> None:
    with pytest.raises(InputError, match=f"expected a schema among trades, mbp-1, .*, found `{schema}`"):
        import_files("databento", [real_data / "dbn_samples" / f"test_data.{schema}.v3.dbn.zst"], archive)


@pytest.mark.parametrize(
    ("name", "file", "topic", "rows"),
    [
        ("stocknet", "stocknet/tweets.jsonl.gz", "social", 43_649),
        ("reuters", "reuters/news_2014_2015.csv", "news", 6_701),
        ("earnings", "earnings/calendar_2015.csv", "earnings", 11_886),
    ],
)
def test_table_by_a_map_of_the_guide_takes_every_row(
    real_data: Path, archive: Archive, tmp_path: Path, name: str, file: str, topic: str, rows: int
) -> None:
    options = ImportOptions(map=guide_map(name, tmp_path))
    report = import_files("table", [real_data / file], archive, options=options)
    assert (report.accepted, report.quarantined) == (rows, 0)
    assert report.files[0].order_violations == 0
    found = table(archive, topic)
    assert found.num_rows == rows
    if name == "stocknet":
        assert found["text"][0].as_py().startswith("rt AT_USER summary of yesterday's webcast")
    if name == "earnings":
        empty = sum(line.rstrip().endswith(",") for line in (real_data / file).read_text().splitlines())
        assert found["eps_estimate"].null_count == empty > 0
