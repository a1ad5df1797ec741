"""`signalbox query`."""

from __future__ import annotations

import shutil
import sys
from typing import get_args

from schemas.errors import ConfigError
from sinks.query import QueryFormat, run_query
from sinks.store import Store

__all__ = ["run_query_command"]


def run_query_command(db: str, sql: str, output_format: str) -> None:
    """Write the result of a query to standard output."""
    formats: tuple[QueryFormat, ...] = get_args(QueryFormat)
    for known in formats:
        if known == output_format:
            width = shutil.get_terminal_size((120, 24)).columns
            with Store.open(db, create=False, read_only=True) as store:
                run_query(store, sql, known, out=sys.stdout.buffer, width=width)
            sys.stdout.buffer.flush()
            return
    raise ConfigError(f"expected `--format` among {formats}, was `{output_format}`")
