"""The `signalbox` command. It parses and hands over; heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import ExitCode, SignalboxError

__all__ = ["app", "main"]

_HELP = """Trading signals from streams, and backtests that agree with them.

Start with `signalbox demo`: it simulates a market, runs it through the graph, and leaves a database
and a report.

Exit codes: 0 fine, 1 unforeseen fault, 2 wrong command line, 3 configuration, 4 input missing or
unreadable, 5 database locked by another process, 6 written by a newer version, 7 database refused,
8 findings, 130 stopped by a signal (resume with the same command)."""

app = typer.Typer(
    name="signalbox",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Check, show and describe the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")


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
Config = Annotated[Path | None, typer.Option("--config", help="TOML file; the defaults without it.")]
Database = Annotated[str, typer.Option("--db", help="Folder of the embedded database, or URL of a ClickHouse server.")]
RunId = Annotated[str | None, typer.Option("--run-id", help="Run; may be left out where there is one only.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for archive, database and report.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the market: the same seed, the same bytes.")] = 1,
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="Length of the market.")] = 90,
    instruments: Annotated[int, typer.Option(min=2, max=1000, help="Number of instruments.")] = 20,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the output of a demo before.")] = False,
    as_json: Json = False,
) -> None:
    """Simulate a market with faults, run it through the graph, and write a database and a report."""
    from dataflows.commands.demo import run_demo

    run_demo(out, seed=seed, minutes=minutes, instruments=instruments, replace=replace, as_json=as_json)


@app.command("import")
def import_(
    format_: Annotated[ImportFormat, typer.Argument(metavar="FORMAT", help="Format of the files.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or folders of files.")],
    archive: Annotated[Path, typer.Option(help="Folder of the archive; made if it is not there.")],
    symbol: Annotated[str | None, typer.Option(help="Instrument, where the files do not name it.")] = None,
    venue: Annotated[str | None, typer.Option(help="Venue, where the files do not name it.")] = None,
    map_: Annotated[Path | None, typer.Option("--map", help="Column map (TOML), for `table`.")] = None,
    kind: Annotated[str | None, typer.Option(help="What the files hold, for `binance-csv`.")] = None,
    tick: Annotated[float | None, typer.Option(help="Price increment that every price must be a multiple of.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 8 if a row was quarantined.")] = False,
    as_json: Json = False,
) -> None:
    """Bring market, news or social data files into an archive."""
    from dataflows.commands.importing import run_import
    from dataflows.importers.base import ImportOptions

    options = ImportOptions(symbol=symbol, venue=venue, map=map_, kind=kind, tick=tick)
    run_import(format_.value, paths, archive, options, strict=strict, as_json=as_json)


@app.command()
def replay(
    archive: Annotated[Path, typer.Option(help="Folder of the archive.")],
    db: Database,
    run_id: Annotated[str, typer.Option(help="Name of the run; the name of an unfinished run resumes it.")],
    start: Annotated[str | None, typer.Option("--from", help="First time of receipt, RFC 3339.")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Last time of receipt, exclusive, RFC 3339.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker threads.")] = 1,
    batch_rows: Annotated[int, typer.Option(min=1, max=10_000_000, help="Records in a batch.")] = 262_144,
    config: Config = None,
    recovery: Annotated[
        Path | None, typer.Option(help="Folder of snapshots; by default inside an embedded database's folder.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report of the run there.")] = None,
    as_json: Json = False,
) -> None:
    """Replay an archive through the graph into a database; a killed replay is resumed by the same command."""
    from dataflows.commands.replaying import run_replay

    run_replay(
        archive, db, run_id, start=start, stop=stop, workers=workers, batch_rows=batch_rows, config=config,
        recovery=recovery, report=report, as_json=as_json,
    )  # fmt: skip


@app.command()
def query(
    db: Database,
    sql: Annotated[str, typer.Argument(help="One statement that reads.")],
    format_: Annotated[OutputFormat, typer.Option("--format", help="Format of the result.")] = OutputFormat.TABLE,
) -> None:
    """Ask the database: tables `bars features signals dead_letters late_events runs run_counts` and views."""
    from dataflows.commands.querying import run_query_command

    run_query_command(db, sql, format_.value)


@app.command()
def report(
    db: Database,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
    run_id: RunId = None,
) -> None:
    """Write the HTML report of a run: one file, opened by a browser alone."""
    from dataflows.commands.reporting import run_report

    run_report(db, out, run_id)


@app.command()
def doctor(
    db: Annotated[str | None, typer.Option("--db", help="Database to look at too.")] = None,
    archive: Annotated[Path | None, typer.Option(help="Archive to look at too.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check this installation, and a database, archive and configuration if named; exit with 8 if one is not well."""
    from dataflows.commands.doctor import run_doctor

    run_doctor(db=db, archive=archive, config=config, as_json=as_json)


@config_app.command("check")
def config_check(config: Annotated[Path, typer.Argument(help="TOML file.")]) -> None:
    """Check a configuration file; nothing is started."""
    from dataflows.settings import load_settings

    settings = load_settings(config)
    typer.echo(f"{config}: good, content hash {settings.content_hash()}")


@config_app.command("show")
def config_show(
    config: Annotated[Path | None, typer.Argument(help="TOML file; the defaults without it.")] = None,
) -> None:
    """Show every key with its value in force."""
    from dataflows.settings import load_settings

    typer.echo(json.dumps(load_settings(config).content(), indent=2))


@config_app.command("schema")
def config_schema() -> None:
    """Show the JSON schema of the configuration: every key, its bounds and meaning."""
    from dataflows.settings import settings_schema

    typer.echo(json.dumps(settings_schema(), indent=2))


def _fail(error: SignalboxError) -> int:
    typer.echo(f"signalbox: {error}", err=True)
    return int(error.exit_code)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its documented code."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="signalbox", standalone_mode=False)
    except SignalboxError as error:
        code = _fail(error)
    except KeyboardInterrupt:
        typer.echo("signalbox: stopped", err=True)
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = ExitCode.OK
    except Exception as error:
        code = _usage_or_raise(error)
    sys.exit(int(code or ExitCode.OK))


def _usage_or_raise(error: Exception) -> int:
    """Show an error of the command line; raise any other, which is a fault of ours."""
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return int(ExitCode.USAGE)


if __name__ == "__main__":
    main()
