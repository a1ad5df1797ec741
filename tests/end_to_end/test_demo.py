"""The demo and the questions that one asks of it, through the command."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataflows.commands.demo import _QUERIES as SUGGESTED
from operators.strategies import STRATEGIES
from schemas.errors import ExitCode
from schemas.time import parse_time
from sinks.store import OUTPUT_TABLES

SMALL = ("--minutes", 3, "--instruments", 3)
FILLED = {"bars", "features", "cross_section", "signals", "dead_letters"}
"""Tables with rows after so few minutes."""


def _last_json(done) -> dict:
    assert done.returncode == ExitCode.OK, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def result(signalbox, out):
    return _last_json(signalbox("demo", "--out", out, *SMALL, "--json"))


@pytest.fixture
def query(signalbox, out, result):
    def ask(sql, *options):
        done = signalbox("query", "--db", out / "db", *options, sql)
        assert done.returncode == ExitCode.OK, done.stderr
        return done.stdout

    return ask


def test_demo_ends_with_one_line_that_accounts_for_the_run(result):
    assert result["run_id"] == "demo"
    assert result["status"] == "complete"
    assert result["rows"] > 1_000
    assert result["rows_per_second"] > 0
    assert set(result["digests"]) == set(OUTPUT_TABLES)
    kinds = {"read", "decoded", "dead_lettered", "written"}
    assert kinds <= {count["kind"] for count in result["counts"]}
    total = dict.fromkeys(kinds, 0)
    for count in result["counts"]:
        total[count["kind"]] = total.get(count["kind"], 0) + count["count"]
    assert total["read"] == result["rows"] == total["decoded"] + total["dead_lettered"]


def test_demo_finds_every_planted_fault_and_no_other(result):
    assert result["faults"]["equal"]
    assert result["faults"]["injected"] == result["faults"]["found"]
    assert sum(result["faults"]["found"].values()) > 100


def test_demo_leaves_a_report_an_archive_and_a_database(result, out):
    page = (out / "report.html").read_text()
    assert result["report"] == str(out / "report.html")
    assert page.lstrip().lower().startswith("<!doctype html")
    assert result["digests"]["signals"]["digest"] in page or "microstructure_alpha" in page
    assert (out / "archive" / "archive.json").is_file()
    assert result["database"] == str(out / "db")
    assert not list((out / "db" / "recovery").iterdir()), "expected no snapshots of a run that is complete"


def test_demo_of_the_same_seed_has_the_same_digests(signalbox, result, tmp_path):
    again = _last_json(signalbox("demo", "--out", tmp_path / "again", *SMALL, "--seed", 1, "--json"))
    assert again["digests"] == result["digests"]
    assert again["counts"] == result["counts"]


def test_demo_of_another_seed_has_other_digests(signalbox, result, tmp_path):
    other = _last_json(signalbox("demo", "--out", tmp_path / "other", *SMALL, "--seed", 2, "--json"))
    for table in FILLED:
        assert other["digests"][table]["digest"] != result["digests"][table]["digest"], table
    assert other["faults"]["equal"]


def test_demo_into_its_own_output_wants_replace(signalbox, result, out):
    done = signalbox("demo", "--out", out, *SMALL)
    assert done.returncode == ExitCode.INPUT
    assert "found an earlier demo; replace it with --replace" in done.stderr
    assert (out / "report.html").is_file()


def test_demo_touches_no_folder_of_others(signalbox, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = signalbox("demo", "--out", tmp_path, *SMALL, "--replace")
    assert done.returncode == ExitCode.INPUT
    assert "expected a new or empty folder" in done.stderr
    assert "name another folder with --out" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_demo_with_replace_leaves_nothing_of_the_one_before(signalbox, tmp_path):
    out = tmp_path / "out"
    (out / "db").mkdir(parents=True)
    (out / ".signalbox-demo").touch()
    (out / "db" / "old").touch()
    done = signalbox("demo", "--out", out, "--minutes", 1, "--instruments", 2, "--replace")
    assert done.returncode == ExitCode.OK, done.stderr
    assert not (out / "db" / "old").exists()
    assert "each was found, and nothing else was refused" in done.stdout
    assert "counts add up" in done.stdout
    assert max(map(len, done.stdout.split("Try:")[0].splitlines())) <= 120
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sql", SUGGESTED)
def test_demo_suggests_queries_that_work(query, sql):
    assert query(sql).splitlines()[-1].split()[0] != "0"


def test_query_formats_agree(query):
    sql = "SELECT ts, instrument_id, direction, confidence, inputs FROM signals ORDER BY ts, signal_id LIMIT 5"
    rows = json.loads(query(sql, "--format", "json"))
    assert len(rows) == 5
    assert {row["direction"] for row in rows} <= {"long", "short"}
    lines = query(sql, "--format", "csv").splitlines()
    assert lines[0] == '"ts","instrument_id","direction","confidence","inputs"'
    assert [line.split(",")[0].strip('"') for line in lines[1:]] == [row["ts"] for row in rows]
    table = query(sql)
    assert "5 rows" in table
    assert all(row["ts"] in table for row in rows)


def test_query_of_parquet_can_be_redirected(out, result, tmp_path):
    command = [sys.executable, "-m", "dataflows.cli", "query", "--db", str(out / "db"), "--format", "parquet"]
    done = subprocess.run([*command, "SELECT * FROM signals"], capture_output=True, check=True, timeout=60)
    table = pq.read_table(io.BytesIO(done.stdout))
    assert table.num_rows == result["digests"]["signals"]["rows"]
    assert table.schema.field("direction").type == pa.string()


def test_query_whose_reader_leaves_ends_quietly(out, result):
    sql = "SELECT number, repeat('x', 100) FROM numbers(100000)"
    command = [sys.executable, "-m", "dataflows.cli", "query", "--db", str(out / "db"), "--format", "csv", sql]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == ExitCode.OK
    assert process.stderr.read() == b""
    process.stderr.close()


STRATEGIES_ON_SECONDS = """
[compute.strategies]
enabled = ["mean_reversion", "breakout", "microstructure_alpha"]
[compute.strategies.mean_reversion]
interval = "1s"
max_holding = "20s"
[compute.strategies.breakout]
interval = "1s"
max_holding = "20s"
min_relative_volume = 1.1
"""


@pytest.fixture(scope="module")
def explained(signalbox, out, result, tmp_path_factory):
    """Rows of `signal_explanations` of a replay in which every strategy decides often."""
    folder = tmp_path_factory.mktemp("explained")
    (folder / "c.toml").write_text(STRATEGIES_ON_SECONDS)
    arguments = ("--archive", out / "archive", "--db", folder / "db", "--run-id", "r", "--config", folder / "c.toml")
    assert signalbox("replay", *arguments).returncode == ExitCode.OK
    done = signalbox("query", "--db", folder / "db", "--format", "json", "SELECT * FROM signal_explanations")
    rows = json.loads(done.stdout)
    assert {row["strategy"] for row in rows} == {"mean_reversion", "breakout", "microstructure_alpha"}
    return rows


def _seconds(text: str) -> float:
    return (parse_time(text) - parse_time("2026-01-05T00:00:00Z")) / 1e9


def _justified(row, held: float) -> bool:
    """Whether the rule of a strategy on bars holds on what the view shows."""
    sign = 1 if row["direction"] == "long" else -1
    seen, limits = row["inputs"], row["thresholds"]
    if row["reason"] == "held as long as allowed":
        return held >= 20
    if row["strategy"] == "mean_reversion":
        z = sign * seen["zscore"]
        return z <= -limits["entry_zscore"] if row["intent"] == "enter" else z >= -limits["exit_zscore"]
    edge = seen["channel_high"] if sign > 0 else seen["channel_low"]
    if row["intent"] == "exit":
        return sign * row["price"] < sign * (seen["channel_high"] + seen["channel_low"]) / 2
    armed = seen["channel_range"] <= limits["max_range"] and seen["relative_volume"] >= limits["min_relative_volume"]
    return armed and sign * row["price"] > sign * edge


def test_signal_on_a_bar_is_justified_by_its_row_alone(explained):
    rows = [row for row in explained if row["interval_ns"] is not None]
    reasons = {row["reason"] for row in rows}
    assert {
        "held as long as allowed",
        "close came back to its rolling mean",
        "close fell back into the channel",
    } <= reasons
    for row in rows:
        assert row["interval_ns"] == 10**9
        assert row["evidence"] == "decided on the bar of 1s that closed at this time"
        assert {name: row["features"][name] for name in row["inputs"]} == row["inputs"]
        held = _seconds(row["ts"]) - _seconds(row["ts_entered"]) if row["intent"] == "exit" else 0
        assert _justified(row, held), row


def test_signal_on_a_book_update_says_that_there_is_no_bar(explained):
    rows = [row for row in explained if row["strategy"] == "microstructure_alpha"]
    for row in rows:
        assert row["evidence"] == "decided on the book update at this time; updates are not stored"
        assert (row["interval_ns"], row["features"]) == (None, {})
        assert row["intent"] == "exit" or row["inputs"]["spread_bps"] <= row["thresholds"]["max_spread_bps"]


def test_signal_has_the_parameters_of_its_strategy(explained):
    for row in explained:
        parameters = json.loads(row["strategy_config"])
        config = STRATEGIES[row["strategy"]].Config.model_validate(parameters)
        assert STRATEGIES[row["strategy"]](config).thresholds() == row["thresholds"]
        assert (row["ts_entered"] is None) == (row["intent"] == "enter")
        assert row["intent"] == "enter" or row["ts_entered"] < row["ts"]


def test_report_of_the_run_is_written_again(signalbox, out, result, tmp_path):
    done = signalbox("report", "--db", out / "db", "--out", tmp_path / "again.html")
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout == f"report: {tmp_path / 'again.html'}\n"
    unknown = signalbox("report", "--db", out / "db", "--run-id", "other", "--out", tmp_path / "other.html")
    assert unknown.returncode == ExitCode.INPUT
    assert "expected run `other`" in unknown.stderr
    assert not (tmp_path / "other.html").exists()


def test_replay_of_the_archive_agrees_with_the_demo(signalbox, out, result, tmp_path):
    done = signalbox(
        "replay", "--archive", out / "archive", "--db", tmp_path / "db", "--run-id", "again", "--json",
        "--report", tmp_path / "r.html",
    )  # fmt: skip
    assert _last_json(done)["digests"] == result["digests"]
    assert (tmp_path / "r.html").is_file()
    assert done.stderr == ""


def test_replay_of_a_range_without_records_says_so(signalbox, out, result, tmp_path):
    arguments = ("--archive", out / "archive", "--db", tmp_path / "db", "--run-id", "r", "--json")
    done = signalbox("replay", *arguments, "--from", "2030-01-01T00:00:00Z")
    assert _last_json(done)["rows"] == 0
    assert "the archive has no records in this range" in done.stderr


def test_replay_of_a_range_is_the_start_of_the_whole(signalbox, out, result, query, tmp_path):
    cut = "2026-01-05T14:31:30Z"
    arguments = ("--archive", out / "archive", "--db", tmp_path / "db", "--run-id", "r", "--json")
    part = _last_json(signalbox("replay", *arguments, "--to", cut))
    assert 0 < part["rows"] < result["rows"]
    sql = f"SELECT count() AS n FROM signals WHERE ts < parseDateTime64BestEffort('{cut}', 9)"
    assert json.loads(query(sql, "--format", "json")) == [{"n": part["digests"]["signals"]["rows"]}]
