"""The two runs that are compared, wherever they are stored.

The embedded engine holds one folder in a process, so two folders are opened in turn, and each question is put to both
sides at once. Servers, and a folder beside a server, stay open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Self, TypeVar

from schemas.enums import RunStatus
from schemas.errors import ConfigError, InputError
from schemas.tables import FEATURES
from sinks.ddl import storage_name
from sinks.digests import TableDigest
from sinks.locations import FolderLocation, parse_location
from sinks.store import Run, RunCount, Store

__all__ = ["RunFacts", "RunReference", "Sides", "read_facts"]

_Answer = TypeVar("_Answer")
_RUNS_SHOWN: Final = 20
"""Runs that a message lists."""


@dataclass(frozen=True, slots=True)
class RunReference:
    """A run and where it is.

    Parameters
    ----------
    database
        A folder, or the URL of a server.
    run_id
        Name of the run.
    """

    database: str
    run_id: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a database knows about a run as a whole.

    Parameters
    ----------
    database
        Folder or address, without its password.
    run
        What identifies the run.
    status
        Furthest state that it reached.
    counts
        Its counters.
    digests
        Rows and digest of each compared table.
    stored
        Feature columns of the database.
    present
        Feature columns in which the run has a value.
    """

    database: str
    run: Run
    status: RunStatus
    counts: tuple[RunCount, ...]
    digests: dict[str, TableDigest]
    stored: tuple[str, ...]
    present: tuple[str, ...]


class Sides:
    """Both runs, to be asked.

    Parameters
    ----------
    a, b
        The runs.

    Raises
    ------
    ConfigError
        They are the same run, or a URL is wrong.
    """

    def __init__(self, a: RunReference, b: RunReference) -> None:
        self.references = (a, b)
        self._locations = tuple(parse_location(reference.database) for reference in self.references)
        self._open: dict[int, Store] = {}
        if a.run_id == b.run_id and self._locations[0] == self._locations[1]:
            raise ConfigError(
                f"expected two runs, found `{a.run_id}` of `{self._locations[0]}` twice; "
                "name another run, or another database with `--db-b`"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._open.values():
            store.close()
        self._open.clear()

    def ask(self, question: Callable[[Store, int], _Answer]) -> tuple[_Answer, _Answer]:
        """Return the answers of both sides; the question gets the side's store and its position, 0 or 1."""
        if 1 in self._open and 0 not in self._open:
            second = question(self._store(1), 1)
            return question(self._store(0), 0), second
        return question(self._store(0), 0), question(self._store(1), 1)

    def _store(self, side: int) -> Store:
        if self._locations[0] == self._locations[1]:
            side = 0
        if side not in self._open:
            if isinstance(self._locations[side], FolderLocation):
                self._close_folder()
            self._open[side] = Store.open(self.references[side].database, create=False, read_only=True)
        return self._open[side]

    def _close_folder(self) -> None:
        for side in list(self._open):
            if isinstance(self._locations[side], FolderLocation):
                self._open.pop(side).close()


def read_facts(store: Store, run_id: str, tables: Sequence[str]) -> RunFacts:
    """Return what a database knows about a run.

    Raises
    ------
    InputError
        It has no such run.
    """
    run = store.find_run(run_id)
    status = store.run_status(run_id)
    if run is None or status is None:
        raise InputError(_unknown(store, run_id))
    stored = store.feature_columns()
    return RunFacts(
        database=store.location,
        run=run,
        status=status,
        counts=tuple(store.counts(run_id)),
        digests=store.digest(run_id, tables),
        stored=stored,
        present=_present(store, run_id, stored),
    )


def _unknown(store: Store, run_id: str) -> str:
    runs = store.run_ids()
    if not runs:
        return f"expected run `{run_id}` in `{store.location}`, found no runs; name another database"
    near = get_close_matches(run_id, runs, n=1)
    close = f"; did you mean `{near[0]}`?" if near else ";"
    more = f" and {len(runs) - _RUNS_SHOWN} more" if len(runs) > _RUNS_SHOWN else ""
    listed = ", ".join(f"`{run}`" for run in runs[:_RUNS_SHOWN])
    return f"expected run `{run_id}` in `{store.location}`, found none of that name{close} its runs are {listed}{more}"


def _present(store: Store, run_id: str, stored: Sequence[str]) -> tuple[str, ...]:
    if not stored:
        return ()
    counts = ", ".join(f"count(`{name}`)" for name in stored)
    sql = f"SELECT {counts} FROM {storage_name(FEATURES.name)} WHERE run_id = {{run:String}}"
    found = store.connection.rows(sql, {"run": run_id})[0]
    return tuple(name for name, count in zip(stored, found, strict=True) if count)
