"""Numbered SQL files, applied once and in order; the database remembers which, and their text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from schemas.errors import StorageError, VersionError
from sinks.clickhouse import Connection

__all__ = ["Migration", "apply_migrations", "known_migrations"]

_LEDGER: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations (`number` UInt32, `name` String, `sha256` String) "
    "ENGINE = ReplacingMergeTree ORDER BY number"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of statements.

    Each statement can be run again with the same effect, so that a migration that was cut short is
    finished by the next start.
    """

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Digest of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> tuple[str, ...]:
        """Statements in order; each ends with `;` at the end of a line."""
        lines = [line for line in self.text.splitlines() if not line.lstrip().startswith("--")]
        return tuple(part.strip() for part in ("\n".join(lines) + "\n").split(";\n") if part.strip())


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this version in order."""
    folder = files("sinks").joinpath("migrations")
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return tuple(Migration(int(entry.name[:4]), entry.name[:-4], entry.read_text("utf-8")) for entry in found)


def apply_migrations(connection: Connection, migrations: Sequence[Migration] | None = None) -> int:
    """Bring a database to this version; return how many migrations were applied.

    A connection that may only read is checked and not changed.

    Raises
    ------
    VersionError
        A newer version migrated the database, an applied migration had another text, or the connection
        may only read and the database is older.
    """
    known = known_migrations() if migrations is None else tuple(migrations)
    if connection.read_only:
        pending = _pending(connection, known, _applied(connection))
        if pending:
            raise VersionError(
                f"database `{connection.location}`: expected migration {known[-1].number}, found "
                f"{pending[0].number - 1}; open it once for writing (`run`, `replay`) to migrate it"
            )
        return 0
    connection.command(_LEDGER)
    pending = _pending(connection, known, _applied(connection))
    for migration in pending:
        for statement in migration.statements:
            connection.command(statement)
        connection.command(
            f"INSERT INTO schema_migrations VALUES ({migration.number}, '{migration.name}', '{migration.sha256}')"
        )
    return len(pending)


def _applied(connection: Connection) -> dict[int, tuple[str, str]]:
    exists = connection.rows(
        "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'schema_migrations'"
    )
    if not exists[0][0]:
        return {}
    rows = connection.rows("SELECT number, name, sha256 FROM schema_migrations FINAL ORDER BY number")
    return {int(number): (name, sha256) for number, name, sha256 in rows}


def _pending(
    connection: Connection, known: Sequence[Migration], applied: dict[int, tuple[str, str]]
) -> list[Migration]:
    if not known:
        raise StorageError("expected migrations in the installed package, found none; install Signalbox again")
    newest = max(applied, default=0)
    if newest > known[-1].number:
        raise VersionError(
            f"database `{connection.location}`: expected migrations up to {known[-1].number}, found "
            f"{newest} (`{applied[newest][0]}`) of a newer version; upgrade Signalbox or name another database"
        )
    for migration in known:
        name, sha256 = applied.get(migration.number, (migration.name, migration.sha256))
        if sha256 != migration.sha256:
            raise VersionError(
                f"database `{connection.location}`: expected migration {migration.number} as this version has it, "
                f"found `{name}` with another text ({sha256[:12]}); use the version that made the database, or "
                f"write to a new one"
            )
    return [migration for migration in known if migration.number not in applied]
