"""What holds for every format: idempotence, completeness, refusals, progress."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dataflows.importers.recorder as recorder_module
from dataflows.importers import IMPORTERS, ImportOptions, ImportProgress, import_files
from schemas.errors import ConfigError, InputError
from sinks.archive import Archive, ArchiveWriter

BASE_NS = 1_723_161_255_000_000_000


def trade_line(number: int, *, price: str = "61837.63", recv: int | None = None, **extra: object) -> bytes:
    data = {"e": "trade", "E": 1723161255343 + number, "s": "BTCUSDT", "t": number, "p": price, "q": "0.02"}
    data |= {"T": 1723161255342 + number, "m": True} | extra
    message = json.dumps({"stream": "btcusdt@trade", "data": data})
    return f"{BASE_NS + number if recv is None else recv} {message}".encode()


def depth_line(number: int) -> bytes:
    data = {"E": 1723161255343, "s": "BTCUSDT", "U": number, "u": number, "b": [["1.5", "2"]], "a": []}
    return f"{BASE_NS + number} {json.dumps({'stream': 'btcusdt@depth@100ms', 'data': data})}".encode()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.create(tmp_path / "archive")


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "btcusdt_20240808"
    path.write_bytes(b"\n".join([trade_line(1), depth_line(2), trade_line(3)]) + b"\n")
    return path


def rows(archive: Archive, topic: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in archive.files(topic)])


def contents(archive: Archive) -> dict[str, bytes]:
    files = [path for path in sorted(archive.root.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(archive.root)): path.read_bytes() for path in files}


def test_import_files_of_two_topics_writes_a_source_for_each(archive: Archive, capture: Path) -> None:
    report = import_files("binance-capture", [capture], archive)
    assert report.files[0].rows == {"books": 1, "trades": 2}
    notes = [archive.source(topic, report.files[0].source) for topic in ("books", "trades")]
    assert [note["note"]["topics"] for note in notes if note] == [["books", "trades"]] * 2
    assert archive.source("quotes", report.files[0].source) is None


def test_import_files_again_skips_and_changes_nothing(archive: Archive, capture: Path) -> None:
    import_files("binance-capture", [capture], archive)
    before = contents(archive)
    report = import_files("binance-capture", [capture, capture.parent / "btcusdt_20240808"], archive)
    assert [item.skipped for item in report.files] == ["already imported"]
    assert contents(archive) == before


def test_import_files_from_another_folder_with_equal_content_skips(archive: Archive, capture: Path) -> None:
    import_files("binance-capture", [capture], archive)
    other = capture.parent / "copy" / capture.name
    other.parent.mkdir()
    other.write_bytes(capture.read_bytes())
    assert import_files("binance-capture", [other], archive).files[0].skipped


def test_import_files_with_other_options_replaces_the_rows(archive: Archive, capture: Path) -> None:
    import_files("binance-capture", [capture], archive)
    report = import_files("binance-capture", [capture], archive, options=ImportOptions(symbol="X"))
    assert report.files[0].skipped is None
    assert set(rows(archive, "trades")["instrument_id"].to_pylist()) == {"X"}
    assert rows(archive, "trades").num_rows == 2


def test_import_files_with_changed_content_keeps_both_and_remarks(archive: Archive, capture: Path) -> None:
    import_files("binance-capture", [capture], archive)
    capture.write_bytes(trade_line(9))
    report = import_files("binance-capture", [capture], archive)
    assert "another file named `btcusdt_20240808` is in the archive" in report.files[0].remarks[0]
    assert rows(archive, "trades").num_rows == 3


@pytest.mark.parametrize("fails_at", [1, 2])
def test_import_files_cut_short_between_topics_is_done_again(
    archive: Archive, capture: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    clean = Archive.create(capture.parent / "clean")
    import_files("binance-capture", [capture], clean)
    closed = []

    class Dying(ArchiveWriter):
        def close(self) -> None:
            closed.append(self)
            if len(closed) == fails_at:
                raise KeyboardInterrupt
            super().close()

    monkeypatch.setattr(recorder_module, "ArchiveWriter", Dying)
    with pytest.raises(KeyboardInterrupt):
        import_files("binance-capture", [capture], archive)
    monkeypatch.setattr(recorder_module, "ArchiveWriter", ArchiveWriter)
    assert not archive.files("trades")
    assert not list(archive.root.rglob("*.tmp"))
    assert import_files("binance-capture", [capture], archive).files[0].skipped is None
    assert rows(archive, "trades").equals(rows(clean, "trades"))
    assert rows(archive, "books").equals(rows(clean, "books"))
    assert import_files("binance-capture", [capture], archive).files[0].skipped


def test_import_files_whose_reader_fails_midway_leaves_no_file(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "btcusdt.gz"
    lines = b"\n".join(trade_line(number, price=f"{os.urandom(4)[0] + 1}.{number}") for number in range(2000))
    path.write_bytes(gzip.compress(lines)[:-2000])
    monkeypatch.setattr("dataflows.importers.reading.BLOCK_BYTES", 1024)
    with pytest.raises(InputError, match="damaged or cut short"):
        import_files("binance-capture", [path], archive)
    assert not list(archive.root.rglob("*.parquet"))
    assert not list(archive.root.rglob("*.tmp"))


def test_import_files_retires_a_topic_that_the_new_options_do_not_fill(archive: Archive, tmp_path: Path) -> None:
    data, column_map = tmp_path / "x.csv", tmp_path / "m.toml"
    data.write_text("t,p\n1,2.5\n")
    common = '[fields]\ninstrument_id={value="A"}\nts_event={column="t",format="s"}\n'
    column_map.write_text('topic="trades"\n' + common + 'price={column="p"}\nsize={value=1}\nside={value="buy"}\n')
    import_files("table", [data], archive, options=ImportOptions(map=column_map))
    quote = 'bid_price={column="p"}\nbid_size={value=1}\nask_price={value=3}\nask_size={value=1}\n'
    column_map.write_text('topic="quotes"\n' + common + quote)
    import_files("table", [data], archive, options=ImportOptions(map=column_map))
    assert archive.topics() == ("quotes",)
    assert import_files("table", [data], archive, options=ImportOptions(map=column_map)).files[0].skipped


def test_import_files_quarantines_with_bytes_reason_and_the_time_before(archive: Archive, tmp_path: Path) -> None:
    late = b'9999999999999999999 {"stream":"btcusdt@trade","data":{}}'
    future = trade_line(5, price="-1", recv=BASE_NS + 10**18)
    lines = [b"junk", trade_line(1), trade_line(2, price="0"), late, future, trade_line(7)]
    path = tmp_path / "btcusdt"
    path.write_bytes(b"\r\n".join(lines))
    report = import_files("binance-capture", [path], archive).files[0]
    assert report.rows == {"trades": 2}
    assert report.read == len(lines)
    assert report.order_violations == 0
    stray, trades = rows(archive, "books"), rows(archive, "trades")
    table = pa.concat_tables([stray, trades], promote_options="default")
    assert table["raw"].to_pylist() == [lines[0], None, lines[2], lines[3], lines[4], None]
    expected = [BASE_NS + offset for offset in (1, 1, 1, 1, 1, 7)]
    assert table["ts_recv"].cast(pa.int64()).to_pylist() == expected
    bad = table.filter(pa.compute.is_valid(table["error"]))
    assert bad["price"].null_count == bad["instrument_id"].null_count == 4
    assert bad["error"].to_pylist()[1] == "out_of_range: expected `price` finite and above zero"


def test_import_files_reports_progress_up_to_the_total(archive: Archive, capture: Path) -> None:
    second = capture.with_name("btcusdt_20240809")
    second.write_bytes(trade_line(8))
    seen: list[ImportProgress] = []
    import_files("binance-capture", [second, capture], archive, progress=seen.append)
    assert [item.bytes_done for item in seen] == sorted(item.bytes_done for item in seen)
    assert seen[-1].bytes_done == seen[-1].bytes_total == capture.stat().st_size + second.stat().st_size
    assert seen[-1].rows == 4
    assert seen[0].path == capture


def test_import_report_content_is_json(archive: Archive, capture: Path) -> None:
    content = json.loads(json.dumps(import_files("binance-capture", [capture], archive).content()))
    assert content["accepted"] == 3
    assert content["files"][0]["skew_ns"] < 0


def test_import_files_of_a_folder_takes_only_what_the_format_recognises(archive: Archive, capture: Path) -> None:
    folder = capture.parent / "data"
    folder.mkdir()
    capture.rename(folder / capture.name)
    (folder / "README.md").write_text("text")
    (folder / ".hidden").write_bytes(trade_line(1))
    (folder / "empty").write_bytes(b"")
    assert len(import_files("binance-capture", [folder], archive).files) == 1
    with pytest.raises(InputError, match="expected files of format `lean`"):
        import_files("lean", [folder], archive)


def _write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def test_import_files_refuses_what_cannot_be_read(archive: Archive, tmp_path: Path) -> None:
    good = b"1,10000,100,P,0,0\n" * 50_000
    folder = tmp_path / "spy"
    folder.mkdir()
    path = folder / "20131007_trade.zip"
    with pytest.raises(InputError, match="expected a file or folder at"):
        import_files("lean", [path], archive)
    with pytest.raises(InputError, match="expected at least one file"):
        import_files("lean", [], archive)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="found an empty file"):
        import_files("lean", [path], archive)
    _write_zip(path, {"20131007_spy_Trade_Tick.csv": good})
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(InputError, match="damaged or cut short"):
        import_files("lean", [path], archive)
    path.write_bytes(whole[:60] + b"\0\0\0\0" + whole[64:])
    with pytest.raises(InputError, match="damaged or cut short"):
        import_files("lean", [path], archive)
    _write_zip(path, {"a.csv": good, "b.csv": good})
    with pytest.raises(InputError, match="expected one file within"):
        import_files("lean", [path], archive)
    assert not list(archive.root.rglob("*.parquet"))


def test_import_files_of_another_format_is_refused_and_leaves_no_source(archive: Archive, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing of the kind\n" * 5000)
    with pytest.raises(InputError, match=r"found no row that is: .*such as b'nothing of the kind'"):
        import_files("binance-capture", [path], archive)
    path.write_text("\n\n")
    with pytest.raises(InputError, match="no row"):
        import_files("binance-capture", [path], archive)
    assert archive.manifest()["sources"] == {}


def test_import_files_reads_no_further_than_a_thousand_hopeless_rows(archive: Archive, tmp_path: Path) -> None:
    path = tmp_path / "btcusdt"
    path.write_bytes((b"junk" * 50 + b"\n") * 60_000 + trade_line(1))
    seen: list[ImportProgress] = []
    with pytest.raises(InputError, match="name the format"):
        import_files("binance-capture", [path], archive, progress=seen.append)
    assert not seen


def test_import_files_with_unknown_format_or_option_names_what_there_is(archive: Archive, capture: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a format among .*lobster.*, was `csv`"):
        import_files("csv", [capture], archive)
    with pytest.raises(ConfigError, match=r"expected options of `lean` among \['symbol', 'tick'\], was \['kind'\]"):
        import_files("lean", [capture], archive, options=ImportOptions(kind="trades"))
    with pytest.raises(ConfigError, match="expected a `tick` finite and above zero"):
        import_files("lean", [capture], archive, options=ImportOptions(tick=-1.0))


def test_import_files_with_a_line_above_the_bound_is_refused(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "btcusdt"
    path.write_bytes(b"x" * (3 << 20))
    monkeypatch.setattr("dataflows.importers.reading.MAX_LINE_BYTES", 1 << 20)
    with pytest.raises(InputError, match="found one above 1 MiB"):
        import_files("binance-capture", [path], archive)


def test_skew_is_a_low_quantile_that_one_wrong_stamp_does_not_move(archive: Archive, tmp_path: Path) -> None:
    lines = [trade_line(number, recv=BASE_NS + number * 10**6) for number in range(3000)]
    lines[1500] = trade_line(1500, recv=BASE_NS + 1500 * 10**6, T=1723161255342 + 10**9)
    path = tmp_path / "btcusdt"
    path.write_bytes(b"\n".join(lines))
    report = import_files("binance-capture", [path], archive).files[0]
    assert report.skew_ns == BASE_NS - 1723161255342 * 10**6


def test_importers_registry_is_complete_and_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "importing.md").read_text()
    for name, importer in IMPORTERS.items():
        assert importer.name == name
        assert f"## {name}\n" in text
        assert importer.summary
