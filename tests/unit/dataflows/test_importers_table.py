"""Tables by column map."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.importers import FileReport, ImportOptions, import_files
from dataflows.importers.table_map import load_map
from dataflows.importers.table_values import converters
from schemas.errors import ConfigError, DataError, InputError
from sinks.archive import Archive

TRADES = """
topic = "trades"
{head}
[fields]
instrument_id = {{ column = "s" }}
ts_event = {time}
price = {{ column = "p" }}
size = {{ column = "q" }}
side = {{ column = "d", values = {{ buy = ["B", "b", 1], sell = ["S"] }} }}
trade_id = {{ row_number = true }}
{rest}
"""


def ns(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[misc]


@pytest.fixture
def column_map(tmp_path: Path) -> Any:
    def write(time: str = '{ column = "t", format = "s" }', head: str = "", rest: str = "") -> Path:
        path = tmp_path / "map.toml"
        path.write_text(TRADES.format(time=time, head=head, rest=rest))
        return path

    return write


def run(path: Path, column_map: Path, **options: Any) -> tuple[FileReport, list[dict[str, Any]]]:
    archive = Archive.create(path.parent / "archive")
    report = import_files("table", [path], archive, options=ImportOptions(map=column_map, **options)).files[0]
    table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in archive.files(*archive.topics())])
    for name in ("ts_event", "ts_recv"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
    return report, table.to_pylist()


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.csv"
    path.write_text("s,t,p,q,d\n" + text)
    return path


def test_csv_is_sorted_by_time_and_bad_rows_keep_their_place(tmp_path: Path, column_map: Any) -> None:
    data = csv(tmp_path, "A,30,1.5,2,B\nA,10,1.25,1,b\nA,20,-1,1,S\nA,x,1,1,S\n")
    report, rows = run(data, column_map())
    assert [row["ts_recv"] // 10**9 for row in rows] == [10, 10, 10, 30]
    assert [row["raw"] for row in rows] == [None, b"A,20,-1,1,S", b"A,x,1,1,S", None]
    assert [row["trade_id"] for row in rows] == [2, None, None, 1]
    assert report.order_violations == 0
    assert report.quarantined == {
        "wrong_type: expected `ts_event` to be a number": 1,
        "out_of_range: expected `price` finite and above zero": 1,
    }


def test_csv_in_file_order_raises_times_that_go_back(tmp_path: Path, column_map: Any) -> None:
    data = csv(tmp_path, "A,30,1.5,2,B\nA,10,1.25,1,b\n")
    report, rows = run(data, column_map(head='order = "file"'), symbol="Z", venue="V")
    assert [(row["ts_event"], row["ts_recv"]) for row in rows] == [(30 * 10**9,) * 2, (10 * 10**9, 30 * 10**9)]
    assert report.order_violations == 1
    assert (rows[0]["instrument_id"], rows[0]["venue"]) == ("Z", "V")


def test_quoted_csv_record_may_span_lines_and_a_stray_quote_costs_one_line(tmp_path: Path, column_map: Any) -> None:
    data = csv(tmp_path, '"A\nB",1,1.5,2,B\n"A,1,1.5,2,B\nA,3,1.5,2,B\nA,4,1.5,2\n')
    report, rows = run(data, column_map(head='order = "file"'))
    assert [row["instrument_id"] for row in rows] == ["A\nB", None, "A", None]
    assert [row["raw"] for row in rows if row["raw"]] == [b'"A,1,1.5,2,B', b"A,4,1.5,2"]
    assert set(report.quarantined) == {"malformed: expected CSV in UTF-8", "malformed: expected 5 fields"}


def test_side_outside_the_vocabulary_is_quarantined(tmp_path: Path, column_map: Any) -> None:
    report, rows = run(csv(tmp_path, "A,1,1.5,2,sell\nA,1,1.5,2,1\nA,1,1.5,2,?\n"), column_map())
    assert [row["side"] for row in rows] == [-1, 1, None]
    assert list(report.quarantined) == [
        "wrong_type: expected `side` to be one of ['buy', 'sell', 'unknown'] or of its `values`"
    ]


def test_parquet_timestamps_need_a_zone(tmp_path: Path, column_map: Any) -> None:
    path = tmp_path / "x.parquet"
    times = pa.array([1_380_000_000_000_001, None], type=pa.timestamp("us"))
    columns = {"s": ["A", "A"], "p": [1.5, float("nan")], "q": [1, 2], "d": ["B", "S"]}
    pq.write_table(pa.table({"t": times, **columns}), path)
    with pytest.raises(InputError, match="expected a zone for the column `t`"):
        run(path, column_map('{ column = "t", format = "ns" }'))
    report, rows = run(path, column_map('{ column = "t", format = "ns", zone = "America/New_York" }'))
    assert rows[0]["ts_event"] == 1_380_000_000_000_001_000 + 4 * 3600 * 10**9
    assert rows[1]["raw"] == b'{"t":null,"s":"A","p":null,"q":2,"d":"S"}'
    assert report.quarantined == {"missing_field: expected a `ts_event`": 1}
    path.write_bytes(b"PAR1 not")
    with pytest.raises(InputError, match="expected a Parquet file"):
        run(path, column_map())


def test_jsonl_books_take_lists_and_split_texts(tmp_path: Path) -> None:
    column_map, data = tmp_path / "m.toml", tmp_path / "x.jsonl"
    column_map.write_text(
        'topic = "books"\n[fields]\ninstrument_id = { value = "A" }\nts_event = { column = "t", format = "rfc3339" }\n'
        'ts_recv = { column = "r", format = "us" }\nkind = { value = "snapshot" }\nlast_sequence = { column = "n" }\n'
        'bid_prices = { column = "b", split = ";", scale = 0.01 }\nbid_sizes = { column = "B" }\n'
        'ask_prices = { column = "a" }\nask_sizes = { column = "A" }\n'
    )
    good = '{"t":"1970-01-01T00:00:01Z","r":1000002,"n":5,"b":"101;100","B":[1,2],"a":[],"A":[]}'
    short = good.replace("[1,2]", "[1]").replace("1000002", "1000003")
    naive = good.replace("01Z", "01")
    data.write_text("\n".join([good, short, naive, "[1]", good.replace("[1,2]", "3")]))
    report, rows = run(data, column_map)
    assert rows[0]["bid_prices"] == [1.01, 1.0]
    assert (rows[0]["ts_recv"] - rows[0]["ts_event"], report.skew_ns) == (2000, 2000)
    assert report.quarantined == {
        "out_of_range: expected as many `bid_sizes` as `bid_prices`": 1,
        "naive_time: expected `ts_event` with its zone": 1,
        "malformed: expected a JSON object": 1,
        "wrong_type: expected `bid_sizes` to be a list of numbers": 1,
    }


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ('format = "ms"', "1380000000000.5", 1_380_000_000_000_500_000),
        ('format = "s"', 1.000000001, 1_000_000_001),
        (
            'format = "rfc3339", zone = "America/New_York"',
            "2013-10-07T09:30:00.123456789",
            ns(2013, 10, 7, 13, 30) + 123456789,
        ),
        ('format = "rfc3339"', "2013-10-07T09:30:00-04:00", ns(2013, 10, 7, 13, 30)),
        ('format = "yyyymmdd", time = "end_of_day", zone = "America/New_York"', "20131103", ns(2013, 11, 4, 5) - 1),
        ('format = "yyyymmdd", time = "start_of_day", zone = "UTC"', 20131103, ns(2013, 11, 3)),
        ('format = "yyyy-mm-dd", time = "16:00:00", zone = "America/New_York"', "2013-12-02", ns(2013, 12, 2, 21)),
        ('format = "yyyy-mm-dd", time = "16:00:00", zone = "UTC", shift = "-1d"', "2013-12-02", ns(2013, 12, 1, 16)),
        ('format = "%d.%m.%Y %H:%M %z"', "02.12.2013 01:00 +0100", ns(2013, 12, 2)),
    ],
)
def test_time_rule_gives_utc(column_map: Any, rule: str, value: Any, expected: int) -> None:
    convert = converters(load_map(column_map(f'{{ column = "t", {rule} }}')))
    assert convert["ts_event"]({"t": value}, 1) == expected


@pytest.mark.parametrize(
    "value", ["", None, "x", "nan", "1e400", "-1", "1e999999999", "99999999999999999999", True, [1], {}]
)
def test_time_that_is_none_is_refused(column_map: Any, value: Any) -> None:
    convert = converters(load_map(column_map()))
    with pytest.raises(DataError, match="ts_event"):
        convert["ts_event"]({"t": value}, 1)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=8))
def test_scaled_decimal_is_the_nearest_double(number: Decimal) -> None:
    from dataflows.importers.table_map import FieldRule
    from dataflows.importers.table_values import _converter
    from schemas.records import TRADES as SCHEMA

    convert = _converter(SCHEMA.field("price"), FieldRule(column="p", scale=0.0001))
    assert convert({"p": str(number)}, 1) == float(number.scaleb(-4))


@pytest.mark.parametrize(
    ("time", "head", "rest", "match"),
    [
        ('{ column = "t" }', "", "", "fields.ts_event: expected a `format`"),
        ('{ column = "t", format = "s", value = 1 }', "", "", "fields.ts_event`: .*expected one of `column`"),
        ('{ column = "t", format = "hours" }', "", "", "expected a `format` among"),
        ('{ column = "t", format = "yyyymmdd", zone = "UTC" }', "", "", "expected `time` with a format of a date"),
        ('{ column = "t", format = "s", time = "end_of_day" }', "", "", "expected `time` with a format of a date"),
        ('{ column = "t", format = "yyyymmdd", time = "end_of_day" }', "", "", "expected a `zone`"),
        ('{ column = "t", format = "rfc3339", zone = "Mars" }', "", "", "expected a zone such as"),
        ('{ column = "t", format = "yyyymmdd", zone = "UTC", time = "noon" }', "", "", "expected `start_of_day`"),
        ('{ column = "t", format = "s" }', 'colour = "red"', "", "`colour`: Extra inputs"),
        ('{ column = "t", format = "s" }', "", 'colour = { value = "red" }', r"expected `fields` of `trades` among"),
        (
            '{ column = "t", format = "s" }',
            "",
            'venue = { value = "V", scale = 2.0 }',
            "fields.venue: expected no `scale`",
        ),
        ('{ column = "t", format = "s", skale = 1 }', "", "", "`fields.ts_event.skale`: Extra inputs"),
        ("{", "", "", "expected TOML in"),
    ],
)
def test_map_that_is_wrong_is_refused_by_name(column_map: Any, time: str, head: str, rest: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_map(column_map(time, head, rest))


def test_map_without_a_needed_field_or_topic_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('topic = "news"\n[fields]\ninstrument_id = { value = "A" }\n')
    with pytest.raises(ConfigError, match=r"none was given for \['headline', 'news_id', 'source', 'ts_event'\]"):
        load_map(path)
    path.write_text('topic = "rumours"\n[fields]\n')
    with pytest.raises(ConfigError, match="expected a `topic` among"):
        load_map(path)
    with pytest.raises(ConfigError, match="expected a column map in"):
        load_map(tmp_path / "none.toml")


def test_table_without_map_columns_or_known_suffix_is_refused(tmp_path: Path, column_map: Any) -> None:
    data = csv(tmp_path, "A,1,1.5,2,B\n")
    archive = Archive.create(tmp_path / "archive")
    with pytest.raises(ConfigError, match="expected the option `map`"):
        import_files("table", [data], archive)
    with pytest.raises(InputError, match="expected a column map in"):
        import_files("table", [data], archive, options=ImportOptions(map=tmp_path / "none.toml"))
    with pytest.raises(InputError, match=r"expected columns \['other'\] in"):
        run(data, column_map('{ column = "other", format = "s" }'))
    with pytest.raises(InputError, match="name the `format` in the column map"):
        run(data.rename(tmp_path / "x.data"), column_map())
    wrong = column_map().read_text().replace("buy =", "bought =")
    column_map().write_text(wrong)
    with pytest.raises(ConfigError, match=r"expected `values` of `side` among"):
        run(tmp_path / "x.data", tmp_path / "map.toml")


def test_table_corrected_map_replaces_the_rows(tmp_path: Path, column_map: Any) -> None:
    data = csv(tmp_path, "A,1,1.5,2,B\n")
    run(data, column_map('{ column = "t", format = "ms" }'))
    _, rows = run(data, column_map('{ column = "t", format = "s" }'))
    assert [row["ts_event"] for row in rows] == [10**9]


def test_table_too_large_to_sort_is_refused(tmp_path: Path, column_map: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflows.importers.table.MAX_SORTED_ROWS", 1)
    with pytest.raises(InputError, match='say `order = "file"`'):
        run(csv(tmp_path, "A,1,1.5,2,B\nA,1,1.5,2,B\n"), column_map())
