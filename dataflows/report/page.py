"""Writes the report of a run: one HTML file that holds everything and asks nothing of the network.

Two walls stand between text from data and the reader's browser: every template escapes what it is
given, and the page's content security policy runs the two scripts of this package, by their digest,
and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from dataflows.report import text
from dataflows.report.accounts import run_accounts
from dataflows.report.content import (
    feature_content,
    head_content,
    instrument_content,
    loss_content,
    plot_interval,
    signal_content,
    thinning_note,
)
from dataflows.report.queries import Queries
from dataflows.report.suggestions import suggested_queries
from schemas.errors import InputError
from schemas.time import format_duration
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["build_report"]

_FILTERS: Final = ("clock", "count", "decimals", "json_block", "moment", "number", "percent", "visible")
"""Functions of `dataflows.report.text` that templates use."""
_RUNS_NAMED: Final = 5
"""Runs that an error names."""


def build_report(
    store: Store, run_id: str, path: Path, *, archive: Archive | None = None, elapsed: float | None = None
) -> Path:
    """Write the report of a run and return its path. The same rows give the same bytes.

    Parameters
    ----------
    store
        The open database; it is only read.
    run_id
        The run.
    path
        The file, replaced as a whole.
    archive
        What the run read, to state its records beside those read.
    elapsed
        Seconds that the run took, to state its rate.

    Raises
    ------
    InputError
        The database has no such run, or the file cannot be written.
    """
    run = store.find_run(run_id)
    if run is None:
        known = ", ".join(f"`{text.visible(name, 60)}`" for name in store.run_ids()[-_RUNS_NAMED:])
        raise InputError(
            f"expected run `{text.visible(run_id, 60)}` in `{store.location}`, found {known or 'no run'}; "
            "name one that is there"
        )
    queries = Queries(store, run_id)
    accounts = run_accounts(queries, archive)
    interval = plot_interval(queries.intervals())
    instruments, names = instrument_content(queries, interval, run.feature_names)
    content = {
        "head": head_content(queries, run, accounts, elapsed),
        "accounts": accounts,
        "archived": archive is not None,
        "written": any(table.written is not None for table in accounts.tables),
        "reasons": [
            (text.visible(row.subject), row.kind.replace("_", "-"), text.visible(row.reason), text.count(row.count))
            for row in accounts.reasons
        ],
        "interval": format_duration(interval),
        "instruments": instruments,
        "thinning": thinning_note(),
        **signal_content(queries),
        **feature_content(queries, interval, run.feature_names, names),
        **loss_content(queries),
        "queries": suggested_queries(run_id, interval),
    }
    _write(path, _render(content))
    return path


def _render(content: dict[str, Any]) -> str:
    scripts = {"plotly": get_plotlyjs(), "script": _resource("report.js")}
    digests = " ".join(f"'{_digest(f'{source}')}'" for source in scripts.values())
    policy = (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    trusted = {name: Markup(source) for name, source in scripts.items()}
    page = _environment().get_template("report.html.j2")
    return page.render(**content, **trusted, style=Markup(_resource("style.css")), policy=policy)


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _resource(name: str) -> str:
    return files("dataflows.report").joinpath("templates", name).read_text("utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dataflows.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(text, name) for name in _FILTERS})
    return environment


def _write(path: Path, page: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"expected to write a report to `{path}`, found {error.strerror or error}; name another file"
        ) from error
