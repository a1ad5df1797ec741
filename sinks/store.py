"""The database of runs: open it, write tables, ask how a run went, compare runs.

Analysts read the views; rows of `bars` are in `bars_data`, and so on (see `sinks.ddl`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa

from schemas.enums import RunStatus
from schemas.errors import StorageError
from schemas.fields import Schema
from schemas.metrics import SINK_RETRIES
from schemas.tables import FEATURES, RUN_COUNTS, RUNS, TABLES
from schemas.telemetry import add
from sinks.clickhouse import Connection
from sinks.conform import conform
from sinks.ddl import check_feature_names, feature_column_sql, feature_views_sql, storage_name
from sinks.digests import TableDigest, table_digest
from sinks.locations import parse_location
from sinks.migrate import apply_migrations
from sinks.retry import Backoff

__all__ = ["OUTPUT_TABLES", "Run", "RunCount", "Store"]

OUTPUT_TABLES: Final = tuple(name for name in TABLES if name not in (RUNS.name, RUN_COUNTS.name))
"""Tables whose rows are a pure function of the input."""


@dataclass(frozen=True, slots=True)
class Run:
    """What identifies a run: see the table `runs`."""

    run_id: str
    version: str
    config_hash: str
    feature_set: str
    feature_names: tuple[str, ...]
    config: str
    source: str


@dataclass(frozen=True, slots=True, order=True)
class RunCount:
    """One counter of a run: see the table `run_counts`."""

    kind: str
    subject: str
    reason: str
    count: int


@dataclass(slots=True)
class Store:
    """An open database. Threads may share it; see `sinks.clickhouse` for what processes may.

    Parameters
    ----------
    connection
        The open ClickHouse, migrated.
    backoff
        How inserts are retried.
    """

    connection: Connection
    backoff: Backoff = field(default_factory=Backoff)

    @classmethod
    def open(
        cls, location: str, *, create: bool = True, read_only: bool = False, backoff: Backoff | None = None
    ) -> Self:
        """Open a database, making and migrating it where that is asked and needed.

        Parameters
        ----------
        location
            A folder, or a URL such as `http://user:password@host:8123/database`.
        create
            Whether to make a database that is not there.
        read_only
            Whether it may only be read; it is then not made or migrated.
        backoff
            How inserts are retried.

        Raises
        ------
        ConfigError
            The URL is wrong.
        InputError
            The folder has no database and none was to be made, or it holds something else.
        StorageLockedError
            The folder's database is open in another process, or this process has one open.
        StorageError
            The server cannot be reached, or refuses.
        VersionError
            Another version of Signalbox made the database.
        """
        connection = Connection(parse_location(location), create=create and not read_only, read_only=read_only)
        try:
            apply_migrations(connection)
        except BaseException:
            connection.close()
            raise
        return cls(connection, backoff or Backoff())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self.connection.close()

    @property
    def location(self) -> str:
        """Folder or address of the database, without its password."""
        return str(self.connection.location)

    def insert(self, table: str, rows: pa.RecordBatch | pa.Table, *, run_id: str | None = None) -> int:
        """Write rows and return how many; when it returns, they are stored.

        Writing a row again has no effect. A transient failure is retried within bounds, which is safe
        for the same reason.

        Parameters
        ----------
        table
            Name of the table.
        rows
            Columns as the schema has them, in any order; `features` has one more for each feature.
        run_id
            Run of the rows, where they have no `run_id` column.

        Raises
        ------
        StorageError
            The table or a column is not as expected, or the database refused or stayed away.
        """
        schema = _schema(table)
        stored = conform(schema, rows, run_id)
        if stored.num_rows:
            self._insert(table, stored)
        return int(stored.num_rows)

    def _insert(self, table: str, rows: pa.Table) -> None:
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            self.connection.insert_arrow(storage_name(table), rows)

        try:
            self.backoff.run(attempt)
        finally:
            add(SINK_RETRIES, attempts - 1, table)

    def feature_columns(self) -> tuple[str, ...]:
        """Return the feature columns that the database has, in order."""
        sql = (
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {table:String} "
            "ORDER BY position"
        )
        found = [str(row[0]) for row in self.connection.rows(sql, {"table": storage_name(FEATURES.name)})]
        return tuple(name for name in found if name not in FEATURES.names)

    def ensure_feature_columns(self, names: Sequence[str]) -> None:
        """Make a column for each feature that has none, and show it in the views.

        Raises
        ------
        ConfigError
            A name cannot be a column.
        """
        check_feature_names(names)
        known = self.feature_columns()
        added = [name for name in dict.fromkeys(names) if name not in known]
        if not added:
            return
        columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {feature_column_sql(name)}" for name in added)
        self.connection.command(f"ALTER TABLE {storage_name(FEATURES.name)} {columns}")
        for statement in feature_views_sql(self.feature_columns()):
            self.connection.command(statement)

    def digest(self, run_id: str, tables: Sequence[str] | None = None) -> dict[str, TableDigest]:
        """Return rows and digest of a run's output tables; see `sinks.digests`.

        Parameters
        ----------
        run_id
            The run.
        tables
            Names of tables; all output tables by default.
        """
        names = OUTPUT_TABLES if tables is None else tuple(tables)
        features = self.feature_columns()
        return {
            name: table_digest(self.connection, _schema(name), features if name == FEATURES.name else (), run_id)
            for name in names
        }

    def start_run(self, run: Run) -> None:
        """Make the columns of the run's features and record it as running."""
        self.ensure_feature_columns(run.feature_names)
        self._write_run(run, RunStatus.RUNNING)

    def finish_run(self, run_id: str, status: RunStatus) -> None:
        """Record how a run ended.

        Raises
        ------
        StorageError
            The run was not started here.
        """
        run = self.find_run(run_id)
        if run is None:
            raise StorageError(f"database `{self.location}`: expected run `{run_id}`, found none; start it first")
        self._write_run(run, status)

    def find_run(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        sql = (
            "SELECT version, config_hash, feature_set, feature_names, config, source FROM runs "
            "WHERE run_id = {run:String} ORDER BY status LIMIT 1"
        )
        rows = self.connection.rows(sql, {"run": run_id})
        if not rows:
            return None
        version, config_hash, feature_set, names, config, source = (str(value) for value in rows[0])
        return Run(run_id, version, config_hash, feature_set, tuple(filter(None, names.split(","))), config, source)

    def run_status(self, run_id: str) -> RunStatus | None:
        """Return the furthest state that a run reached, or None for a run that is not here.

        A run that was stopped and resumed is `STOPPED` until it is complete.
        """
        found = self.connection.rows(
            "SELECT max(CAST(status AS Int8)) FROM runs WHERE run_id = {run:String} HAVING count() > 0", {"run": run_id}
        )
        return RunStatus(found[0][0]) if found else None

    def run_ids(self) -> tuple[str, ...]:
        """Return the runs of the database in order of name."""
        return tuple(str(row[0]) for row in self.connection.rows("SELECT DISTINCT run_id FROM runs ORDER BY run_id"))

    def write_counts(self, run_id: str, counts: Iterable[RunCount]) -> None:
        """Write counters of a run; of two values of one counter the larger stays."""
        rows = pa.Table.from_pylist([asdict(count) for count in counts], schema=_without_run(RUN_COUNTS))
        self.insert(RUN_COUNTS.name, rows, run_id=run_id)

    def counts(self, run_id: str) -> list[RunCount]:
        """Return the counters of a run in order."""
        sql = (
            "SELECT kind, subject, reason, count FROM run_counts WHERE run_id = {run:String} "
            "ORDER BY kind, subject, reason"
        )
        return [RunCount(*row) for row in self.connection.rows(sql, {"run": run_id})]

    def _write_run(self, run: Run, status: RunStatus) -> None:
        row: dict[str, Any] = asdict(run) | {"feature_names": ",".join(run.feature_names), "status": status.value}
        self.insert(RUNS.name, pa.Table.from_pylist([row], schema=RUNS.arrow))


def _schema(table: str) -> Schema:
    if table not in TABLES:
        raise StorageError(f"expected a table among {', '.join(TABLES)}, found `{table}`")
    return TABLES[table]


def _without_run(schema: Schema) -> pa.Schema:
    return pa.schema([field.arrow for field in schema.computed])
