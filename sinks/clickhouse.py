"""One connection to ClickHouse, embedded or served, with its errors sorted by who must act.

A location is a folder, whose database the in-process engine (chDB) opens, or the URL of a server. The
engine is fast and needs no service, and has limits that this module turns into clear errors:

- one process holds a folder at a time: a second one gets `StorageLockedError` from a lock file that
  names the holder, not the engine's `BAD_ARGUMENTS`;
- one folder is open in a process at a time. Closing it and opening another (or the same one again)
  works, and takes 30 to 80 ms after a first start of about 1 s (chDB 4.4, two cores);
- an open engine does not survive `fork`: open after forking.

Statements of one connection run one at a time, under a lock, so that threads may share it. The engine
releases the interpreter lock while it works.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from schemas.errors import SignalboxError, StorageError, TransientError
from sinks.locations import FolderLocation, FolderLock, Location, ServerLocation

__all__ = ["Connection"]

_Result = TypeVar("_Result")

INSERT_SETTINGS: Final[dict[str, int]] = {
    "async_insert": 0,
    "insert_deduplicate": 0,
    "deduplicate_blocks_in_dependent_materialized_views": 0,
    "input_format_null_as_default": 0,
    "optimize_on_insert": 0,
}
"""Stated on every insert, because defaults differ between versions. An insert returns when its rows are
stored; rows are deduplicated by their key and never by a token, which could drop a second, different
block; a null where none is allowed is refused, not stored as zero; and a block is not collapsed before
it is written, which views do on reading and which would cost 40 % of the insert."""

_READ_SETTINGS: Final[dict[str, Any]] = {
    "output_format_json_array_of_rows": 1,
    "output_format_json_validate_utf8": 1,
    "date_time_output_format": "iso",
    "format_csv_null_representation": "",
    "output_format_arrow_string_as_string": 0,
    "readonly": 1,
}
"""Session of queries from outside; `readonly` is last, because it forbids setting anything after it."""

_TRANSIENT_CODES: Final = frozenset({159, 202, 203, 209, 210, 225, 236, 241, 242, 252, 285, 319, 394, 425, 999})
"""Too much at once, out of memory, network, Keeper, replicas that are away, and statements that a shutdown ended."""
_TRANSIENT_STATUS: Final = re.compile(r"HTTP status (429|502|503|504)\b")
"""What a proxy says while the server behind it is away."""
_UNKNOWN_DATABASE: Final = 81
_MESSAGE_LIMIT: Final = 400
"""Characters of a ClickHouse message that are shown; a parser's list of expected tokens alone has thousands."""


class Connection:
    """An open ClickHouse.

    Parameters
    ----------
    location
        Folder or server.
    create
        Whether to make what is not there.
    read_only
        Whether every statement of the connection may only read.

    Raises
    ------
    InputError
        There is no database in the folder, or the folder holds something else.
    StorageLockedError
        The folder's database is open elsewhere.
    StorageError
        The server cannot be reached or refuses the login.
    """

    def __init__(self, location: Location, *, create: bool, read_only: bool) -> None:
        self.location = location
        self.read_only = read_only
        self._mutex = threading.RLock()
        self._reader: Any = None
        self._lock = FolderLock.acquire(location, create=create) if isinstance(location, FolderLocation) else None
        try:
            settings = _READ_SETTINGS if read_only else {}
            self._client: Any = self._guarded("open", lambda: self._connect(create, settings))
        except TransientError as error:
            self._release()
            raise StorageError(f"{error}; start the server, or correct the URL") from None
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, create: bool, settings: Mapping[str, Any]) -> Any:
        location = self.location
        if isinstance(location, FolderLocation):
            return clickhouse_connect.get_client(interface="chdb", path=str(location.data), settings=dict(settings))
        try:
            return _connect_server(location, location.database, settings)
        except ClickHouseError as error:
            if not create or getattr(error, "code", None) != _UNKNOWN_DATABASE:
                raise
        first = _connect_server(location, None, {})
        try:
            first.command(f"CREATE DATABASE IF NOT EXISTS `{location.database}`")
        finally:
            first.close()
        return _connect_server(location, location.database, settings)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def close(self) -> None:
        """Close the connection and release the folder; a second call does nothing."""
        with self._mutex:
            for client in (self._reader, self._client):
                if client is not None:
                    client.close()
            self._reader = self._client = None
            self._release()

    def command(self, sql: str) -> None:
        """Run a statement that returns nothing."""
        self._run(sql, lambda client: client.command(sql))

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query; `parameters` bind `{name:Type}` in it."""
        found = self._run(sql, lambda client: client.query(sql, parameters=dict(parameters or {})).result_rows)
        return [tuple(row) for row in found]

    def arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the result of a query as Arrow; a `String` is binary, because it need not be UTF-8."""
        settings = {} if self.read_only else {"output_format_arrow_string_as_string": 0}
        return self._run(
            sql, lambda client: client.query_arrow(sql, parameters=dict(parameters or {}), settings=settings)
        )

    def read_raw(self, sql: str, output_format: str) -> bytes:
        """Return the result of a query that may only read, as bytes in a ClickHouse output format."""
        with self._mutex:
            if self._reader is None and not self.read_only:
                self._reader = self._guarded("open", lambda: self._connect(False, _READ_SETTINGS))
            reader = self._client if self.read_only else self._reader
            # The client puts `FORMAT` behind the text, where it could end an unfinished expression.
            self._guarded("query", lambda: reader.raw_query(f"EXPLAIN AST {sql}"))
            raw: bytes = self._guarded("query", lambda: reader.raw_query(sql, fmt=output_format))
            return raw

    def insert_arrow(self, table: str, data: pa.Table) -> None:
        """Append rows to a storage table.

        Raises
        ------
        TransientError
            The same insert may succeed later.
        StorageError
            The rows are refused.
        """
        self._run(
            f"insert into `{table}`", lambda client: client.insert_arrow(table, data, settings=dict(INSERT_SETTINGS))
        )

    def _run(self, what: str, call: Callable[[Any], _Result]) -> _Result:
        with self._mutex:
            if self._client is None:
                raise StorageError(f"expected an open database `{self.location}`, found it closed; open it again")
            return self._guarded(what, lambda: call(self._client))

    def _guarded(self, what: str, call: Callable[[], _Result]) -> _Result:
        try:
            return call()
        except ClickHouseError as error:
            raise self._translated(what, error) from None
        except OSError as error:
            raise TransientError(f"database `{self.location}`: {self._scrubbed(str(error))}") from None

    def _translated(self, what: str, error: ClickHouseError) -> SignalboxError:
        message = self._scrubbed(short_message(str(error)))
        code = getattr(error, "code", None)
        away = code is None and (isinstance(error, OperationalError) or _TRANSIENT_STATUS.search(message))
        if code in _TRANSIENT_CODES or away:
            return TransientError(f"database `{self.location}`, {_subject(what)}: {message}")
        return StorageError(f"database `{self.location}`, {_subject(what)}: {message}")

    def _scrubbed(self, message: str) -> str:
        for secret in self.location.secrets:
            message = message.replace(secret, "***")
        return message


def _connect_server(location: ServerLocation, database: str | None, settings: Mapping[str, Any]) -> Any:
    return clickhouse_connect.get_client(
        interface=location.interface,
        host=location.host,
        port=location.port,
        username=location.username,
        password=location.password,
        database=database,
        settings=dict(settings),
        # Without a session, requests of two clients (or a retry) never wait for each other.
        autogenerate_session_id=False,
        **location.options,
    )


def _subject(what: str) -> str:
    line = " ".join(what.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


_NOISE: Final[Sequence[tuple[str, str]]] = (
    (r"^.*?(?=Code: \d+)", ""),
    (r"Code: \d+\. ", ""),
    (r"DB::Exception: ", ""),
    (r"\(version [^)]*\)|\(official build\)|\(in file/uri [^)]*\)", ""),
    (r"Expected one of:.*$", ""),
    (r"Stack trace:.*$", ""),
    # of the transport: what happened, without addresses and the statement in a URL
    (r"^Error (.*) executing HTTP request attempt \d+.*$", r"\1"),
    (r"^HTTPS?ConnectionPool\([^)]*\): ", ""),
    (r"^Max retries exceeded .*\(Caused by \w+\([\"']+(.*)[\"']\)\)$", r"\1"),
    (r"^HTTPS?Connection\([^)]*\): ", ""),
)


def short_message(message: str) -> str:
    """Return one clear line of a ClickHouse message: without codes, versions and lists of tokens.

    Examples
    --------
    >>> short_message("Code: 60. DB::Exception: Unknown table 'x'. (UNKNOWN_TABLE) (version 26.9)")
    "Unknown table 'x'. (UNKNOWN_TABLE)"
    """
    for pattern, replacement in _NOISE:
        message = re.sub(pattern, replacement, message, flags=re.DOTALL)
    line = " ".join(message.split())
    return line if len(line) <= _MESSAGE_LIMIT else f"{line[: _MESSAGE_LIMIT - 3]}..."
