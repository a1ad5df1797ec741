"""The folder in which Bytewax keeps its snapshots.

Bytewax reads its snapshots back as pickles, so whoever can write to the folder can run code in the
engine. It therefore belongs to the account that runs the engine, and to nobody else. Beside the snapshots a file says
which run they are of.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bytewax.recovery import RecoveryConfig, init_db_dir

from dataflows.snapshots import forget_unfinished
from schemas.errors import ConfigError, VersionError

__all__ = ["Identity", "check_private", "discard_recovery", "keep_starts", "prepare_recovery", "read_identity"]

_FORMAT: Final = 1
_IDENTITY: Final = "run.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose snapshots a folder has.

    Parameters
    ----------
    flow
        Id of the dataflow.
    run_id
        The run.
    config_hash
        Hash of what decides its rows.
    source
        What it reads, in words.
    starts
        Where each source began, as the source says it.
    """

    flow: str
    run_id: str
    config_hash: str
    source: str
    starts: dict[str, Any] = field(default_factory=dict)


def check_private(folder: Path) -> None:
    """Refuse a recovery folder that anybody else owns or can write.

    Raises
    ------
    ConfigError
        Another account owns it, or group or others may write to it.
    """
    for path in (folder, *sorted(folder.iterdir())):
        _check_owned(path)
        mode = path.lstat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"expected `{path}` to be writable by its owner only, found mode {stat.filemode(mode)}; "
                f"if its origin is certain: chmod -R go-w '{folder}'"
            )


def _check_owned(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"expected no link in the recovery folder, found `{path}`; remove it")
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"expected `{path}` to belong to user {os.geteuid()}, found user {found.st_uid}; snapshots run code "
            "when they are read, so remove the folder if its origin is not certain, or give it to this user"
        )


def prepare_recovery(
    folder: Path, identity: Identity | None = None, *, fresh: bool = False, partitions: int = 1
) -> tuple[RecoveryConfig, bool]:
    """Return the recovery configuration of a folder, and whether there is a snapshot to resume from.

    Parameters
    ----------
    folder
        The folder; made where it is not there.
    identity
        Whose snapshots they are; None leaves the folder without a name.
    fresh
        The database does not know the run: snapshots in the folder have lost their rows and are discarded.
    partitions
        Files that snapshots are spread over; their number is fixed when the folder is made.

    Raises
    ------
    ConfigError
        The folder cannot be made, is not private, or has the snapshots of something else.
    VersionError
        A newer version wrote it.
    """
    if fresh and folder.is_dir():
        check_private(folder)
        _check_identity(folder, identity, fresh=True)
        discard_recovery(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"expected a folder for recovery at `{folder}`, found {error.strerror or error}; name another one"
        ) from error
    resumable = any(folder.glob("*.sqlite3"))
    if not resumable:
        _check_owned(folder)
        folder.chmod(0o700)
    check_private(folder)
    if resumable:
        _check_identity(folder, identity, fresh=False)
        forget_unfinished(folder)
    else:
        # first the name: a folder with snapshots is never without
        if identity is not None:
            _write_identity(folder, identity)
        init_db_dir(folder, partitions)
    return RecoveryConfig(str(folder)), resumable


def read_identity(folder: Path) -> Identity | None:
    """Return whose snapshots a folder has, or None where nothing says so.

    Raises
    ------
    ConfigError
        The file is damaged.
    VersionError
        A newer version wrote it.
    """
    path = folder / _IDENTITY
    try:
        content = json.loads(path.read_text())
        written = content.pop("format")
        if written > _FORMAT:
            raise VersionError(
                f"expected a recovery folder of format {_FORMAT} at most in `{folder}`, found {written}; resume with "
                "the version of signalbox that wrote it"
            )
        return Identity(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"expected whose snapshots they are in `{path}`, found {error}; remove the folder") from error


def keep_starts(folder: Path, starts: dict[str, Any]) -> None:
    """Keep where the sources begin from now on, if that has changed."""
    identity = read_identity(folder)
    if identity is not None and identity.starts != starts:
        _write_identity(folder, replace(identity, starts=starts))


def _write_identity(folder: Path, identity: Identity) -> None:
    path = folder / _IDENTITY
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"format": _FORMAT} | asdict(identity)))
    unfinished.chmod(0o600)
    unfinished.replace(path)


def _check_identity(folder: Path, identity: Identity | None, *, fresh: bool) -> None:
    """Refuse the snapshots of another flow or run, and where they would go on, of another configuration or input."""
    found = read_identity(folder)
    if found is None or identity is None:
        return
    for name in ("flow", "run_id") if fresh else ("flow", "run_id", "config_hash", "source"):
        if getattr(found, name) != getattr(identity, name):
            raise ConfigError(
                f"expected the snapshots of {name} `{getattr(identity, name)}` in `{folder}`, found those of "
                f"`{getattr(found, name)}`; name another folder, or resume with what they began with"
            )


def discard_recovery(folder: Path) -> None:
    """Remove the snapshots of a run that is complete."""
    shutil.rmtree(folder, ignore_errors=True)
