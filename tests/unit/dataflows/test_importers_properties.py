"""Whatever stands in a file, nothing crashes, and every line is accepted or kept as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.importers import ImportOptions, import_files
from sinks.archive import Archive

MAP = """
topic = "trades"
format = "{kind}"
order = "{order}"
{columns}
[fields]
instrument_id = {{ column = "s" }}
ts_event = {{ column = "t", format = "ms" }}
price = {{ column = "p", scale = 0.5 }}
size = {{ column = "q" }}
side = {{ column = "d", values = {{ buy = ["B"] }} }}
trade_id = {{ column = "i" }}
"""
CSV_COLUMNS = 'columns = ["s", "t", "p", "q", "d", "i"]'
RECV = b"1723161255343000000"
SEEDS = {
    "binance-capture": [
        RECV + b' {"stream":"b@trade","data":{"s":"B","t":7,"p":"1.5","q":"2","T":1723161255342,"m":true}}',
        RECV + b' {"stream":"b@depth","data":{"s":"B","U":5,"u":9,"b":[["1","2"]],"a":[],"E":1723161255342}}',
        RECV + b' {"stream":"b@bookTicker","data":{"s":"B","u":9,"b":"1","B":"2","a":"3","A":"4"}}',
        RECV + b' {"lastUpdateId":3,"bids":[["1","2"]],"asks":[]}',
    ],
    "binance-csv": [b"10,61837.63,0.02,1236.75,1723075200123,True,True"],
    "lean": [b"34200000.367,1674100,100,P,20002000,0"],
    "csv": [b"A,1723075200123,1.5,2,B,5"],
    "jsonl": [b'{"s":"A","t":1723075200123,"p":1.5,"q":2,"d":"B","i":5}'],
}
NAMES = {
    "binance-capture": "btcusdt_20240808",
    "binance-csv": "BTCUSDT-trades-2024-08-08.csv",
    "lean": "20131007_trade.csv",
    "csv": "x.csv",
    "jsonl": "x.jsonl",
}
HOSTILE = [
    b"nan",
    b"NaN",
    b"inf",
    b"-inf",
    b"1e999",
    b"-1",
    b"0",
    b"9" * 30,
    b"",
    b" ",
    b"null",
    b"\xff",
    b'"',
    b"\r",
    b"{",
]
HOSTILE += [
    b"1e-400",
    b"1e999999999",
    b"[[[[",
    b"\x00",
    b"\\ud800",
    b"True",
    b",",
    b"99999999999999999",
    b"\xe2\x80\xa8",
]


@st.composite
def line(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A good line, a good line with one part replaced, or any bytes."""
    seed = draw(st.sampled_from(seeds))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return seed
    if kind == 1:
        return draw(st.binary(max_size=40)).replace(b"\n", b"")
    token = draw(st.sampled_from(HOSTILE))
    if kind == 2:
        parts = seed.split(b",")
        parts[draw(st.integers(0, len(parts) - 1))] = token
        return b",".join(parts)
    start = draw(st.integers(0, len(seed)))
    return seed[:start] + token + seed[draw(st.integers(start, len(seed))) :]


@pytest.mark.parametrize("order", ["file", "time"])
@pytest.mark.parametrize("name", list(SEEDS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_line_is_accepted_or_kept(name: str, order: str, data: st.DataObject) -> None:
    seeds = SEEDS[name]
    lines = [seeds[0], *data.draw(st.lists(line(seeds), max_size=12))]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = root / NAMES[name]
        path.write_bytes(b"\n".join(lines))
        column_map = root / "map.toml"
        column_map.write_text(MAP.format(kind=name, order=order, columns=CSV_COLUMNS if name == "csv" else ""))
        is_table = name in ("csv", "jsonl")
        options = ImportOptions(map=column_map) if is_table else ImportOptions()
        archive = Archive.create(root / "archive")
        report = import_files("table" if is_table else name, [path], archive, options=options).files[0]
        tables = [pq.read_table(file, partitioning=None) for topic in archive.topics() for file in archive.files(topic)]
    kept = [raw for table in tables for raw in table["raw"].to_pylist() if raw is not None]
    expected = [item.removesuffix(b"\r") for item in lines if item.strip()]
    # A quoted CSV field may join lines, so lines of a table are counted by their bytes.
    if name != "csv":
        assert report.read == len(expected)
    assert report.accepted == sum(table["error"].null_count for table in tables) >= 1
    assert sum(report.quarantined.values()) == len(kept)
    pool = list(expected)
    for raw in kept:
        for part in raw.split(b"\n") if name == "csv" else [raw]:
            pool.remove(part)
    for table in tables:
        recv = table["ts_recv"].cast(pa.int64()).to_pylist()
        assert recv == sorted(recv)
        good = table.filter(pa.compute.is_null(table["error"]))
        for column in set(good.schema.names) & {"price", "size"}:
            assert all(0 < value < float("inf") for value in good[column].to_pylist())
