"""Where a database is: a folder that one process holds at a time, or the URL of a server."""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from schemas.errors import ConfigError, InputError, StorageLockedError

__all__ = ["FolderLocation", "FolderLock", "Location", "ServerLocation", "parse_location"]

_SCHEMES: Final = {"http": "http", "https": "https", "clickhouse": "http"}
_PORTS: Final = {"http": 8123, "https": 8443}
_OPTIONS: Final = ("verify", "ca_cert", "client_cert", "client_cert_key", "connect_timeout", "send_receive_timeout")
_EXAMPLE: Final = "http://user:password@host:8123/database"
_DATABASE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class FolderLocation:
    """An embedded database.

    Parameters
    ----------
    folder
        Absolute folder; the engine's files are in its `clickhouse`.
    """

    folder: Path
    secrets: ClassVar[tuple[str, ...]] = ()

    @property
    def data(self) -> Path:
        """Folder of the engine."""
        return self.folder / "clickhouse"

    def __str__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True, slots=True)
class ServerLocation:
    """A ClickHouse server; its text never holds the password."""

    interface: str
    host: str
    port: int
    database: str
    username: str | None = None
    password: str = field(default="", repr=False)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no message may hold."""
        return (self.password,) if self.password else ()

    def __str__(self) -> str:
        return f"{self.interface}://{self.host}:{self.port}/{self.database}"


Location = FolderLocation | ServerLocation


def parse_location(text: str) -> Location:
    """Return where a database is.

    Parameters
    ----------
    text
        A folder, or `http://user:password@host:8123/database` (also `https://`, `clickhouse://`).

    Raises
    ------
    ConfigError
        The URL is not of a ClickHouse database. The message does not repeat its user and password.

    Examples
    --------
    >>> str(parse_location("http://reader:secret@db.example/signals"))
    'http://db.example:8123/signals'
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return FolderLocation(Path(text).expanduser().resolve())
    if scheme not in _SCHEMES:
        raise ConfigError(f"expected a folder or a URL of {', '.join(_SCHEMES)}, found a URL of `{scheme}`")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError(f"expected a URL such as `{_EXAMPLE}`, found a bad host or port") from None
    if not parts.hostname:
        raise ConfigError(f"expected a URL such as `{_EXAMPLE}`, found no host")
    interface = _SCHEMES[scheme]
    database = unquote(parts.path.strip("/")) or "default"
    if not _DATABASE.fullmatch(database):
        raise ConfigError(f"expected a database name of letters, digits and `_`, found `{database}`")
    options = dict(parse_qsl(parts.query))
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ConfigError(f"expected options of a database URL among {', '.join(_OPTIONS)}, found {unknown}")
    return ServerLocation(
        interface=interface,
        host=parts.hostname,
        port=port or _PORTS[interface],
        database=database,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password or ""),
        options=options,
    )


class FolderLock:
    """The exclusive lock of an embedded database, held while it is open.

    The kernel releases it when the process ends, however it ends; the file stays.
    """

    _held: ClassVar[FolderLocation | None] = None
    """what this process has open; the engine allows one folder"""

    def __init__(self, location: FolderLocation, descriptor: int) -> None:
        self._location = location
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, location: FolderLocation, *, create: bool) -> FolderLock:
        """Check the folder, make it where asked, and lock it.

        Raises
        ------
        InputError
            There is no database, or something else.
        StorageLockedError
            It is open in another process or in this one, or this process has another folder open.
        """
        cls._check_process(location)
        _check_folder(location, create=create)
        try:
            location.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(location.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"expected a writable folder `{location}`, found: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StorageLockedError(
                f"expected the database `{location}` to be free, found it open in process {holder}; wait until "
                f"that process ends, or stop it, and try again (a server's URL can be shared)"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        FolderLock._held = location
        return cls(location, descriptor)

    @classmethod
    def _check_process(cls, location: FolderLocation) -> None:
        held = cls._held
        if held is None:
            return
        if held == location:
            raise StorageLockedError(
                f"expected the database `{location}` to be closed, found it open in this process ({os.getpid()}); "
                f"share the open store, or close it first"
            )
        raise StorageLockedError(
            f"expected no other database open in this process, found `{held}`; close it before `{location}` is "
            f"opened (the embedded engine holds one folder in a process)"
        )

    def release(self) -> None:
        """Release the lock."""
        FolderLock._held = None
        os.close(self._descriptor)


def _check_folder(location: FolderLocation, *, create: bool) -> None:
    folder = location.folder
    if location.data.is_dir():
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected a folder at `{folder}`, found a file; name another place")
    others = sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.is_dir() else []
    if others:
        raise InputError(
            f"expected a database or an empty folder at `{folder}`, found other things (`{others[0]}`); "
            f"name another folder"
        )
    if not create:
        raise InputError(
            f"expected a database at `{folder}`, found none; make one with `signalbox demo`, `run` or `replay`"
        )
