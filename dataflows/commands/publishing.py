"""`signalbox publish`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import typer

from dataflows.commands.terminal import print_json, print_table, progress_bar, say
from dataflows.publishing import PublishOptions, PublishResult, publish
from dataflows.settings import load_settings
from dataflows.topics import kafka_section
from schemas.errors import ConfigError, ExitCode
from schemas.time import format_time, parse_duration
from sinks.archive import Archive

__all__ = ["publish_options", "run_publish"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def publish_options(
    *, speed: float, heartbeat: str, final_heartbeat: bool, rows_per_record: int, shift_times: bool
) -> PublishOptions:
    """Return the options of a command line.

    Raises
    ------
    ConfigError
        One is out of bounds, or `heartbeat` is no duration.

    Examples
    --------
    >>> publish_options(
    ...     speed=0.0, heartbeat="250ms", final_heartbeat=True, rows_per_record=10, shift_times=False
    ... ).heartbeat
    datetime.timedelta(microseconds=250000)
    """
    try:
        interval = parse_duration(heartbeat)
    except ValueError as error:
        raise ConfigError(f"`--heartbeat`: {error}") from error
    return PublishOptions(speed, interval, final_heartbeat, rows_per_record, shift_times)


def run_publish(archive: Path, config: Path | None, options: PublishOptions, *, as_json: bool) -> None:
    """Publish an archive and print what was published; exit with `INTERRUPTED` if a signal stopped it."""
    kafka = kafka_section(load_settings(config))
    source = Archive.open(archive)
    stop = threading.Event()
    with _stopping_on_signals(stop), progress_bar(f"publish {source.root.name}", "records") as progress:
        result = publish(source, kafka, options, stop=stop, progress=progress)
    if as_json:
        print_json(result.to_json())
    else:
        _print(result)
    for topic, rows in result.left_out.items():
        say(f"left out `{topic}`, {rows:,} records: `[kafka.topics]` does not name it")
    for remark in result.remarks:
        say(remark)
    if not result.complete:
        until = "" if result.last is None else f", up to {format_time(result.last)}"
        say(f"stopped after {result.published:,} of {result.total:,} records{until}; all of these are stored")
        sys.exit(ExitCode.INTERRUPTED)


def _print(result: PublishResult) -> None:
    print_table("", ("topic", "records"), [(topic, f"{rows:,}") for topic, rows in result.rows.items()], numbers=1)
    if result.first is not None and result.last is not None:
        typer.echo(f"arrived from {format_time(result.first)} to {format_time(result.last)}")
    megabytes = result.value_bytes / 1e6
    typer.echo(f"{result.messages:,} Kafka records of {megabytes:,.1f} MB, and {result.heartbeats:,} heartbeats")
    if result.raw_rows:
        typer.echo(f"{result.raw_rows:,} records were published as the bytes that the archive keeps")
    if result.behind:
        typer.echo(f"sent at most {result.behind:.3f} s after they were due")
    rate = result.published / result.seconds if result.seconds else 0.0
    typer.echo(f"{result.published:,} records in {result.seconds:.1f} s: {rate:,.0f} a second; all are stored")


@contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM end publishing once what was sent is stored; a second one ends it at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
