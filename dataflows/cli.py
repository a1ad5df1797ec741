"""The `signalbox` command. It parses and hands over; heavy imports wait until a command needs them."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dataflows.cli_catalogue import catalogue
from dataflows.cli_dead_letters import dlq_app
from dataflows.cli_topics import publish, topics_app
from schemas.errors import ExitCode, SignalboxError

__all__ = ["app", "main"]

_HELP = """Trading signals from streams, and backtests that agree with them.

Start with `signalbox demo`: it simulates a market, runs it through the graph, and leaves a database and
a report.
"""
_EXIT_CODES = """\b
Exit codes:
  0    fine
  1    unforeseen fault of signalbox
  2    wrong command line
  3    wrong configuration or option; nothing was started
  4    a file, folder or archive is missing or unreadable
  5    the database is open in another process, or the archive has another recorder
  6    data was written by a newer version
  7    the database refused, or could not be reached; no room for a recording
  8    the command worked and found faults or differences (`doctor`, `compare`, `import --strict`)
  9    too many dead letters: the run stopped before more were drained
  10   stopping took longer than allowed; the run goes on from its last snapshot
  130  stopped by a signal; a replay or recording is resumed by the same command
"""

app = typer.Typer(
    name="signalbox",
    help=_HELP,
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(
    help="Check, show and describe the configuration.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(config_app, name="config")
app.add_typer(dlq_app, name="dlq")
app.add_typer(topics_app, name="topics")


class OutputFormat(StrEnum):
    """Formats of a query's result."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class ImportFormat(StrEnum):
    """Formats that can be imported."""

    BINANCE_CAPTURE = "binance-capture"
    BINANCE_CSV = "binance-csv"
    LEAN = "lean"
    LOBSTER = "lobster"
    DATABENTO = "databento"
    TABLE = "table"


Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON for machines.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", envvar="SIGNALBOX_CONFIG", help="Configuration, TOML; the defaults without it."
    ),
]
Database = Annotated[
    str,
    typer.Option(
        "--db",
        metavar="FOLDER|URL",
        envvar="SIGNALBOX_DB",
        help="Folder of the embedded database, or URL of a ClickHouse server.",
    ),
]
Recovery = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder of snapshots; by default inside an embedded database's folder."),
]
Workers = Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Worker threads; the result is the same.")]
Processes = Annotated[
    int, typer.Option(metavar="N", min=1, max=256, help="Processes of the cluster; the result is the same.")
]
Addresses = Annotated[
    str, typer.Option(metavar="HOST:PORT,...", help="Address of each process, the same list for all.")
]
ProcessId = Annotated[int, typer.Option(metavar="N", min=0, help="Which of the processes this one is, from 0.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"signalbox {version('signalbox')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take what stands before the command."""


@app.command(short_help="Simulate a market, run it, leave a database and a report.")
def demo(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for archive, database and report; new, or empty.")
    ] = Path("demo-output"),
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the market: the same seed, the same output.")
    ] = 1,
    minutes: Annotated[int, typer.Option(metavar="N", min=1, max=1440, help="Length of the market, minutes.")] = 90,
    instruments: Annotated[int, typer.Option(metavar="N", min=2, max=1000, help="Number of instruments.")] = 20,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the output of an earlier demo; no other folder is touched.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Simulate a market with faults, run it through the graph, and leave a database and a report."""
    from dataflows.commands.demo import run_demo

    run_demo(out, seed=seed, minutes=minutes, instruments=instruments, replace=replace, as_json=as_json)


@app.command("import", short_help="Bring data files into an archive.")
def import_(
    format_: Annotated[ImportFormat, typer.Argument(metavar="FORMAT", help="Format of the files.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or folders of files.")],
    archive: Annotated[Path, typer.Option(metavar="FOLDER", help="The archive; made if it is not there.")],
    symbol: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Instrument, where the files do not name it.")
    ] = None,
    venue: Annotated[str | None, typer.Option(metavar="TEXT", help="Venue, where the files do not name it.")] = None,
    map_: Annotated[Path | None, typer.Option("--map", metavar="FILE", help="Column map (TOML), for `table`.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="For `binance-csv`, where a file's name does not say it: trades, aggTrades, bookTicker.",
        ),
    ] = None,
    tick: Annotated[
        float | None, typer.Option(metavar="PRICE", help="Quarantine prices that are no multiple of this.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 8 if a row was quarantined.")] = False,
    as_json: Json = False,
) -> None:
    """Bring market, news or social data files into an archive.

    A file that was imported before is skipped. A row that cannot be accepted is quarantined: kept with a
    reason, and sent to the dead letters by a replay. The formats and column maps are in docs/importing.md.
    """
    from dataflows.commands.importing import run_import
    from dataflows.importers.base import ImportOptions

    options = ImportOptions(symbol=symbol, venue=venue, map=map_, kind=kind, tick=tick)
    run_import(format_.value, paths, archive, options, strict=strict, as_json=as_json)


@app.command(short_help="Run live topics through the graph into a database.")
def run(
    db: Database,
    run_id: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the run; the same name goes on from where it stopped.")
    ] = "live",
    config: Config = None,
    recovery: Recovery = None,
    workers: Workers = 1,
    processes: Processes = 1,
    addresses: Addresses = "",
    process_id: ProcessId = 0,
    as_json: Json = False,
) -> None:
    """Run the topics of the configuration through the graph into a database, until SIGTERM or Ctrl-C.

    A signal drains: what was read is computed and stored, and a snapshot taken; the exit code is then 0. A run that
    was stopped or killed goes on by the same command, with the same result. A second signal ends it at once.
    """
    from dataflows.cluster import parse_cluster
    from dataflows.commands.running import run_live

    cluster = parse_cluster(processes, addresses, process_id)
    run_live(db, run_id, workers=workers, cluster=cluster, config=config, recovery=recovery, as_json=as_json)


@app.command(short_help="Record live topics to an archive.")
def record(
    archive: Annotated[Path, typer.Option(metavar="FOLDER", help="The archive; made if it is not there.")],
    config: Config = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop where the topics end now; otherwise record until stopped.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Begin at the first records that the brokers have stamped with this time; a recording that has "
            "begun goes on where it was left.",
        ),
    ] = None,
    roll: Annotated[
        str, typer.Option(metavar="DURATION", help="Longest time until records are seen by readers of the archive.")
    ] = "15m",
    roll_records: Annotated[
        int, typer.Option(metavar="N", min=1, max=10**9, help="Most records, about, until then.")
    ] = 5_000_000,
    as_json: Json = False,
) -> None:
    """Record the topics of the configuration to an archive, until SIGTERM or Ctrl-C, or to their end.

    A recording that was stopped or killed goes on by the same command: no record is missing, none is there twice.
    A signal archives what was read; the exit code is then 130.
    """
    from dataflows.commands.recording import run_record

    run_record(
        archive, config=config, until_end=until_end, start=start, roll=roll, roll_records=roll_records, as_json=as_json
    )


app.command(short_help="Publish an archive to Kafka topics.")(publish)


@app.command(short_help="Run recorded history through the graph into a database.")
def replay(
    db: Database,
    run_id: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the run; the name of an unfinished run resumes it.")
    ],
    archive: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The archive.")] = None,
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT,...",
            help="Brokers, instead of an archive: the configured topics up to where they end now.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="Records received from this time on, such as 2024-08-08T14:00:00Z."
        ),
    ] = None,
    stop: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Records received before this time.")] = None,
    workers: Workers = 1,
    processes: Processes = 1,
    addresses: Addresses = "",
    process_id: ProcessId = 0,
    batch_rows: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000_000, help="Records in a batch; the result is the same.")
    ] = 262_144,
    config: Config = None,
    recovery: Recovery = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML report of the run there.")] = None,
    as_json: Json = False,
) -> None:
    """Run an archive, or the history that topics hold, through the graph into a database.

    A replay that was stopped or killed is resumed by the same command, with the same result.
    """
    from dataflows.cluster import parse_cluster
    from dataflows.commands.replaying import run_replay

    run_replay(
        archive, kafka, db, run_id, start=start, stop=stop, workers=workers,
        cluster=parse_cluster(processes, addresses, process_id), batch_rows=batch_rows, config=config,
        recovery=recovery, report=report, as_json=as_json,
    )  # fmt: skip


@app.command(short_help="Show how a live run is.")
def status(
    run_id: Annotated[str, typer.Option(metavar="NAME", help="Name of the run.")] = "live",
    db: Annotated[
        str | None,
        typer.Option("--db", metavar="FOLDER|URL", envvar="SIGNALBOX_DB", help="Database that the run writes to."),
    ] = None,
    recovery: Recovery = None,
    check: Annotated[bool, typer.Option("--check", help="Say only what is wrong; exit with 8 if anything is.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show the processes of a live run: state, rate, lag and clock of each source, age of the last snapshot.

    It reads what the processes write beside their snapshots once a second; the database is not touched.
    """
    from dataflows.commands.status import run_status

    run_status(db, run_id, recovery=recovery, check=check, watch=watch, as_json=as_json)


@app.command(short_help="Ask the database in SQL.")
def query(
    db: Database,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement that reads.")],
    format_: Annotated[
        OutputFormat, typer.Option("--format", help="Format of the result; a table is rounded, the others are not.")
    ] = OutputFormat.TABLE,
) -> None:
    """Ask the database in ClickHouse's SQL; nothing can be changed.

    Tables: bars, event_bars, features, cross_section, signals, predictions, outcomes, drift_events,
    dead_letters, late_events, runs, run_counts. Views: signal_explanations,
    signal_summary, feature_coverage, feature_values, latest_runs, prediction_outcomes, prediction_skill,
    prediction_skill_by_day, prediction_skill_by_instrument, prediction_calibration, brier_decomposition,
    prediction_coverage, ensemble_weights, drift_by_day. Columns: `DESCRIBE bars`, docs/data_model.md.
    """
    from dataflows.commands.querying import run_query_command

    run_query_command(db, sql, format_.value)


@app.command(short_help="Write the HTML report of a run.")
def report(
    db: Database,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")] = Path("report.html"),
    run_id: Annotated[
        str | None, typer.Option(metavar="NAME", help="The run; may be left out where there is only one.")
    ] = None,
) -> None:
    """Write the HTML report of a run: one file that a browser opens alone."""
    from dataflows.commands.reporting import run_report

    run_report(db, out, run_id)


@app.command(short_help="Show what differs between two runs, and why.")
def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="A run.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="The run to compare it with.")],
    db: Database,
    db_b: Annotated[
        str | None, typer.Option("--db-b", metavar="FOLDER|URL", help="Database of RUN_B, where it is another.")
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="Compare this table only; may be given several times."),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Examples of each table.")] = 10,
    as_json: Json = False,
) -> None:
    """Show which rows differ between two runs, by table, with the cause where it is known, and digests.

    The exit code is 0 if every row is the same to the last bit, otherwise 8.
    """
    from dataflows.commands.comparing import run_compare

    run_compare(run_a, run_b, db=db, db_b=db_b, tables=tables or (), limit=limit, as_json=as_json)


@app.command(short_help="Check this installation.")
def doctor(
    db: Annotated[str | None, typer.Option("--db", metavar="FOLDER|URL", help="Look at this database too.")] = None,
    archive: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Look at this archive too.")] = None,
    config: Config = None,
    recovery: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Look at these snapshots too; else at those of `--db`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check this installation, and the database, archive, snapshots and configuration that are named.

    Of a configuration with brokers, the brokers, topics and clocks are looked at too.

    Each check has a verdict and, where it is not good, a remedy; the exit code is then 8.
    """
    from dataflows.commands.doctor import run_doctor

    run_doctor(db=db, archive=archive, config=config, recovery=recovery, as_json=as_json)


app.command(short_help="Show every feature, strategy and specialist.")(catalogue)


@config_app.command("check", short_help="Check a configuration file.")
def config_check(config: Annotated[Path, typer.Argument(metavar="FILE", help="Configuration, TOML.")]) -> None:
    """Check a configuration file; nothing is started."""
    from dataflows.settings import load_settings

    settings = load_settings(config)
    typer.echo(f"{config}: good, content hash {settings.content_hash()}")


@config_app.command("show", short_help="Show every key with its value in force.")
def config_show(
    config: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Configuration, TOML; the defaults without it.")
    ] = None,
) -> None:
    """Show every key with its value in force, as JSON."""
    from dataflows.settings import load_settings

    typer.echo(json.dumps(load_settings(config).content(), indent=2))


@config_app.command("schema", short_help="Show every key, its bounds and meaning.")
def config_schema() -> None:
    """Show every key, its bounds and meaning, as a JSON schema."""
    from dataflows.settings import settings_schema

    typer.echo(json.dumps(settings_schema(), indent=2))


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its documented code."""
    command: Any = typer.main.get_command(app)
    # the client logs what it raises as well; a user gets one message
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    code: int = ExitCode.OK
    try:
        # not `command.main`, which has ways of its own with interrupts and closed pipes
        with command.make_context("signalbox", sys.argv[1:] if arguments is None else arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        code = done.exit_code
    except SignalboxError as error:
        code = _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = _fail("stopped", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        code = _close_output()
    except OSError as error:
        code = _file_fault(error)
    except Exception as error:
        code = _usage_or_fault(error)
    cluster = sys.modules.get("dataflows.cluster")
    if cluster is not None and cluster.LOST.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(int(code))


def _fail(message: str, code: ExitCode) -> ExitCode:
    typer.echo(f"signalbox: {message}", err=True)
    return code


def _close_output() -> ExitCode:
    """End quietly when whoever reads our output has gone, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def _file_fault(error: OSError) -> ExitCode:
    """Name a file or folder that cannot be used; an error without one is a fault of ours."""
    if error.filename is None and error.errno != errno.ENOSPC:
        return _usage_or_fault(error)
    where = "the disk" if error.filename is None else f"`{error.filename}`"
    reason = (error.strerror or str(error)).lower()
    return _fail(f"expected to use {where}, found: {reason}; correct it or name another place", ExitCode.INPUT)


def _usage_or_fault(error: Exception) -> ExitCode:
    """Show an error of the command line; any other is a fault of ours, shown whole."""
    show = getattr(error, "show", None)
    if show is not None:
        show()
        return ExitCode.USAGE
    traceback.print_exception(error)
    return _fail("this is a fault of signalbox; please report it with the lines above", ExitCode.INTERNAL)


if __name__ == "__main__":
    main()
