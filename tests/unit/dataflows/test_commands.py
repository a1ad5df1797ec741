"""What the commands decide before they call, and how they show what came of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dataflows import cli
from dataflows.commands import demo, doctor, importing, kernels, querying, terminal
from dataflows.commands.replaying import replay_range
from dataflows.run_names import recovery_folder
from dataflows.runs import RunResult
from dataflows.simulator import SimulationReport
from dataflows.sources.replay_range import ReplayRange
from schemas.enums import CountKind, RunStatus
from schemas.errors import ConfigError, ExitCode, InputError
from schemas.time import parse_time
from sinks.digests import TableDigest
from sinks.store import RunCount

FIRST, LAST = "2024-08-08T14:00:00Z", "2024-08-08T16:00:00+00:00"


def _result(*counts: tuple[CountKind, str, str, int]) -> RunResult:
    found = tuple(RunCount(kind.value, subject, reason, count) for kind, subject, reason, count in counts)
    return RunResult("r", RunStatus.COMPLETE, False, 1_234_567, 2.0, found, {"bars": TableDigest(1_500, "ab" * 16)})


# --- replay


def test_range_of_both_ends_is_from_the_first_to_before_the_last():
    assert replay_range(FIRST, LAST) == ReplayRange(parse_time(FIRST), parse_time(LAST))


def test_range_of_nothing_is_everything():
    assert replay_range(None, None) == ReplayRange()
    assert replay_range(FIRST, None) == ReplayRange(parse_time(FIRST), ReplayRange().stop)
    assert replay_range(None, LAST) == ReplayRange(ReplayRange().start, parse_time(LAST))


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (LAST, FIRST, "expected `--from` before `--to`"),
        (FIRST, FIRST, "expected `--from` before `--to`"),
        ("2024-08-08T14:00:00", None, "`--from`: expected a time with its zone"),
        (None, "2024-08-08", "`--to`: expected a time with its zone"),
        ("yesterday", None, "`--from`: expected an RFC 3339 time"),
        (None, "1600-01-01T00:00:00Z", "found the first record and 1600-01-01T00:00:00Z"),
    ],
)
def test_range_that_cannot_be_is_refused(start, stop, message):
    with pytest.raises(ConfigError, match=message):
        replay_range(start, stop)


def test_recovery_folder_is_the_one_named_or_inside_the_database():
    assert recovery_folder("db", "r", Path("there")) == Path("there/r")
    assert recovery_folder("db", "r", None) == Path("db/recovery/r")
    assert recovery_folder("http://host/db", "r", None) is None
    assert recovery_folder("http://host/db", "r", Path("there")) == Path("there/r")


# --- demo


def _simulated(dead: dict[str, dict[str, int]], late: dict[str, int]) -> SimulationReport:
    return SimulationReport({}, dead, late, (), {}, {})


DEAD = (CountKind.DEAD_LETTERED, "trades", "duplicate", 3)
LATE = (CountKind.LATE, "trades", "bar_closed", 2)


def test_fault_balance_of_all_found_is_equal():
    read = (CountKind.READ, "trades", "", 100)
    simulated = _simulated({"trades": {"duplicate": 3, "malformed": 0}}, {"bar_closed": 2})
    balance = demo.fault_balance(simulated, _result(read, DEAD, LATE))
    assert balance["equal"]
    assert balance["injected"] == balance["found"] == {"trades/bar_closed": 2, "trades/duplicate": 3}


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((DEAD,), "trades/bar_closed 2 planted, 0 found"),
        ((DEAD, LATE, (CountKind.DEAD_LETTERED, "news", "duplicate", 1)), "news/duplicate 0 planted, 1 found"),
        (((CountKind.DEAD_LETTERED, "trades", "duplicate", 4), LATE), "trades/duplicate 3 planted, 4 found"),
    ],
)
def test_fault_balance_that_differs_is_named(counts, text):
    balance = demo.fault_balance(_simulated({"trades": {"duplicate": 3}}, {"bar_closed": 2}), _result(*counts))
    assert not balance["equal"]
    assert demo._verdict(balance) == f"FAULTS DIFFER: {text}"


def test_demo_of_any_length_has_room_for_its_faults():
    assert demo.demo_config(1, 1, 2).faults.late_trades == 0
    assert demo.demo_config(1, 90, 20).faults.late_trades > 0


def test_demo_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="found a file; name another place with --out"):
        demo._make_room(tmp_path / "file", replace=True)


@pytest.mark.parametrize(("marked", "replace"), [(True, False), (False, True), (False, False)])
def test_demo_folder_with_files_is_emptied_only_if_it_is_a_demos_and_asked(tmp_path, marked, replace):
    (tmp_path / "mine").touch()
    if marked:
        (tmp_path / ".signalbox-demo").touch()
    with pytest.raises(InputError, match="expected a new or empty folder"):
        demo._make_room(tmp_path, replace=replace)
    assert (tmp_path / "mine").exists()


def test_demo_folder_is_marked_and_replaced(tmp_path):
    for _ in range(2):
        demo._make_room(tmp_path / "out", replace=True)
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".signalbox-demo"]
        (tmp_path / "out" / "db").mkdir()


def test_shown_command_can_be_pasted(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "a b" / "signalbox")])
    assert demo._command() == "'a b/signalbox'"
    monkeypatch.setattr(sys, "argv", ["/elsewhere/bin/signalbox"])
    assert demo._command() == "/elsewhere/bin/signalbox"
    monkeypatch.setattr(sys, "argv", ["cli.py"])
    assert demo._command() == "signalbox"


# --- what is shown


def test_run_is_shown_by_topic_and_by_reason(capsys):
    terminal.print_run(
        _result(
            (CountKind.READ, "trades", "", 1_000), (CountKind.DECODED, "trades", "", 997), DEAD, LATE,
            (CountKind.READ, "news", "", 5), (CountKind.DECODED, "news", "", 4),
            (CountKind.DEAD_LETTERED, "news", "duplicate", 1), (CountKind.WRITTEN, "bars", "", 1_500),
        )
    )  # fmt: skip
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["trades", "1,000", "997", "3", "2", "0"] in shown
    assert ["duplicate", "4", "trades", "3,", "news", "1"] in shown
    assert ["bars", "1,500", "ab" * 16] in shown
    assert "counts add up" in " ".join(map(" ".join, shown))
    assert ["1,234,567", "records", "in", "2.0", "s:", "617,284", "a", "second"] in shown


def test_run_that_does_not_add_up_says_so(capsys):
    terminal.print_run(_result((CountKind.READ, "trades", "", 10), (CountKind.DECODED, "trades", "", 9)))
    assert "counts do not add up: {'trades': 1}" in capsys.readouterr().out


def test_run_that_was_stopped_says_what_waits(capsys):
    counts = (CountKind.READ, "trades", "", 10), (CountKind.DECODED, "trades", "", 9)
    terminal.print_run(replace(_result(*counts), status=RunStatus.STOPPED))
    shown = capsys.readouterr().out
    assert "read and kept for when the run goes on, since other sources were behind: trades 1" in shown
    assert "do not add up" not in shown


def test_table_reads_no_markup_and_ends_no_line_with_blanks(capsys):
    terminal.print_table("[red]T", ("a", "b"), [("[bold]x[/]", "1"), (":smile:", "")], numbers=1)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "[red]T"
    assert shown[3] == "[bold]x[/]   1"
    assert shown[4] == ":smile:"


def test_progress_without_a_terminal_writes_nothing(capsys):
    with terminal.progress_bar("work", "rows") as progress:
        progress(1, 2)
        progress(0, 0)
    assert capsys.readouterr() == ("", "")


def test_files_of_one_name_are_told_apart():
    short = importing._short_names
    assert short([Path("/d/spy/1.zip"), Path("/d/bac/1.zip")]) == ["spy/1.zip", "bac/1.zip"]
    assert short([Path("/d/spy/1.zip"), Path("/d/bac/2.zip")]) == ["1.zip", "2.zip"]
    assert short([Path("/d/1.zip"), Path("/d/1.zip")]) == ["1.zip", "1.zip"]
    assert short([]) == []


def test_query_in_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="expected `--format` among table, csv, json, parquet, found `xml`"):
        querying.run_query_command("db", "SELECT 1", "xml")


def test_query_of_parquet_to_a_terminal_is_refused(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(ConfigError, match=r"found a terminal; add `> result.parquet`"):
        querying.run_query_command("db", "SELECT 1", "parquet")


def test_compilation_is_announced_where_few_kernels_are_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kernels, "kernel_folder", lambda: tmp_path)
    kernels.announce_compilation()
    assert "compiling, once on this machine" in capsys.readouterr().err
    for number in range(30):
        (tmp_path / f"{number}.nbi").touch()
    kernels.announce_compilation()
    assert capsys.readouterr().err == ""


# --- doctor


def _raise(error: Exception) -> str:
    raise error


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (InputError("expected a; b, found c; do d"), "expected a; b, found c", "do d"),
        (InputError("refused"), "refused", "see what was found"),
        (ImportError("no chdb"), "cannot be looked at: no chdb", "run `make setup`"),
    ],
)
def test_check_that_fails_has_what_was_found_and_a_remedy(error, found, remedy):
    check = doctor._attempt("x", lambda: _raise(error))
    assert (check.good, check.found, check.remedy) == (False, found, remedy)


def test_check_of_a_missing_package_names_the_remedy():
    check = doctor._package("no-such-package", "no_such_package")
    assert (check.good, check.remedy) == (False, "run `make setup`")


# --- exit codes


def _exit(monkeypatch, error: BaseException) -> int:
    monkeypatch.setattr("dataflows.commands.doctor.run_doctor", lambda **_: _raise(error))
    with pytest.raises(SystemExit) as done:
        cli.main(["doctor"])
    return done.value.code


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("wrong key"), ExitCode.CONFIG, "signalbox: wrong key\n"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "signalbox: stopped\n"),
        (FileExistsError(17, "File exists", "out"), ExitCode.INPUT, "expected to use `out`, found: file exists"),
        (OSError(28, "No space left on device"), ExitCode.INPUT, "expected to use the disk, found: no space left"),
        (OSError(22, "Invalid argument"), ExitCode.INTERNAL, "please report it"),
        (ZeroDivisionError("division by zero"), ExitCode.INTERNAL, "ZeroDivisionError: division by zero\nsignalbox: "),
    ],
)
def test_error_ends_with_its_exit_code_and_message(monkeypatch, capsys, error, code, message):
    assert _exit(monkeypatch, error) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert ("Traceback" in shown) == (code is ExitCode.INTERNAL)


def test_help_names_every_exit_code(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["--help"])
    assert done.value.code == ExitCode.OK
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {str(int(code)) for code in ExitCode} <= shown


def test_version_is_that_of_the_package(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit) as done:
        cli.main(["--version"])
    assert done.value.code == ExitCode.OK
    assert capsys.readouterr().out == f"signalbox {version('signalbox')}\n"


def test_formats_of_the_command_line_are_those_of_the_importers():
    from dataflows.importers.engine import IMPORTERS

    assert {format_.value for format_ in cli.ImportFormat} == set(IMPORTERS)


def test_formats_of_queries_are_those_of_the_database():
    from typing import get_args

    from sinks.query import QueryFormat

    assert {format_.value for format_ in cli.OutputFormat} == set(get_args(QueryFormat))
