"""`signalbox record`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Final

import typer

from dataflows.commands.terminal import print_json, print_table, progress_bar, say
from dataflows.recording import RecordResult, Rolling, record
from dataflows.settings import load_settings
from schemas.enums import RunStatus
from schemas.errors import ConfigError, DataError, ExitCode
from schemas.time import parse_duration, parse_time
from sinks.recording import Roll

__all__ = ["parse_rolling", "parse_start", "run_record"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST_AGE: Final = timedelta(seconds=1)
"""Every roll is files of its own: more often than this they would be mostly footers."""


def run_record(
    archive: Path,
    *,
    config: Path | None,
    until_end: bool,
    start: str | None,
    roll: str,
    roll_records: int,
    as_json: bool,
) -> None:
    """Record the configured topics, and print what was archived."""
    settings = load_settings(config)
    if settings.kafka is None:
        raise ConfigError("expected a section `[kafka]` in the configuration, found none; name its file with --config")
    rolling = parse_rolling(roll, roll_records)
    moment = parse_start(start)
    stop = Event()

    def rolled(what: Roll, lag: int) -> None:
        say(f"roll {what.number}: {sum(what.rows.values()):,} records in {what.files} files, lag {lag:,}")

    with _stopping_on_signals(stop), progress_bar("record", "records") as progress:
        result = record(
            settings.kafka,
            archive,
            limits=settings.compute.decode,
            until_end=until_end,
            start=moment,
            rolling=rolling,
            stop=stop,
            progress=lambda step: progress(step.rows, step.rows + step.lag),
            rolled=rolled,
        )
    if as_json:
        print_json({"archive": str(archive)} | result.to_json())
    else:
        _print(result, archive)
    if result.status is RunStatus.STOPPED:
        say("stopped with everything up to here archived; the same command goes on behind it")
        sys.exit(ExitCode.INTERRUPTED)


def parse_rolling(age: str, records: int) -> Rolling:
    """Return when files are finished.

    Raises
    ------
    ConfigError
        The age is not a duration, or below a second.
    """
    try:
        duration = parse_duration(age)
    except ValueError as error:
        raise ConfigError(f"`--roll`: {error}") from error
    if duration < _LEAST_AGE:
        raise ConfigError(f"`--roll`: expected at least 1s, found `{age}`; files of less would be mostly footers")
    return Rolling(age=duration, rows=records)


def parse_start(text: str | None) -> datetime | None:
    """Return the time that `--from` names, to the next microsecond.

    Raises
    ------
    ConfigError
        It is not a time, or names no zone.
    """
    if text is None:
        return None
    try:
        nanoseconds = parse_time(text)
    except DataError as error:
        raise ConfigError(f"`--from`: {error.detail}") from error
    return _EPOCH + timedelta(microseconds=-(-nanoseconds // 1000))


def _print(result: RecordResult, archive: Path) -> None:
    rows = [(topic, f"{count:,}") for topic, count in result.rows.items()]
    print_table("Archived", ("topic", "records"), rows, numbers=1)
    if result.order_violations:
        typer.echo(f"{result.order_violations:,} records went back in time and were raised")
    typer.echo(
        f"{result.records:,} records in {result.rolls} rolls, {result.seconds:.1f} s: {result.rows_per_second:,.0f} a "
        f"second; lag {sum(result.lag.values()):,}; archive: {archive}"
    )


@contextmanager
def _stopping_on_signals(stop: Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the recording with what is read and aligned; a second one ends the process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
