"""`signalbox query`."""

from __future__ import annotations

import sys
from typing import get_args

from dataflows.commands.terminal import terminal_width
from schemas.errors import ConfigError
from sinks.query import QueryFormat, run_query
from sinks.store import Store

__all__ = ["run_query_command"]


def run_query_command(db: str, sql: str, output_format: str) -> None:
    """Write the result of a query to standard output.

    Raises
    ------
    ConfigError
        The format is unknown, or it is bytes and standard output is a terminal.
    """
    known: dict[str, QueryFormat] = {name: name for name in get_args(QueryFormat)}
    if output_format not in known:
        raise ConfigError(f"expected `--format` among {', '.join(known)}, found `{output_format}`")
    if output_format == "parquet" and sys.stdout.isatty():
        raise ConfigError("expected a file to write Parquet to, found a terminal; add `> result.parquet`")
    with Store.open(db, create=False, read_only=True) as store:
        run_query(store, sql, known[output_format], out=sys.stdout.buffer, width=terminal_width())
    sys.stdout.buffer.flush()
