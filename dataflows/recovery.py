"""The folder in which Bytewax keeps its snapshots.

Bytewax reads its snapshots back as pickles, so whoever can write to the folder can run code in the
engine. It therefore belongs to the account that runs the engine, and to nobody else.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Final

from bytewax.recovery import RecoveryConfig, init_db_dir

from dataflows.snapshots import forget_unfinished
from schemas.errors import ConfigError

__all__ = ["check_private", "discard_recovery", "prepare_recovery"]

_PARTITIONS: Final = 1
"""Recovery partitions of a replay. Their number is fixed for a folder; one process writes them all."""


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


def prepare_recovery(folder: Path, *, fresh: bool = False) -> tuple[RecoveryConfig, bool]:
    """Return the recovery configuration of a folder, and whether there is a snapshot to resume from.

    Parameters
    ----------
    folder
        The folder; made where it is not there.
    fresh
        The database does not know the run: snapshots in the folder have lost their rows and are discarded.

    Raises
    ------
    ConfigError
        The folder cannot be made, or is not private.
    """
    if fresh and folder.is_dir():
        check_private(folder)
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
        forget_unfinished(folder)
    else:
        init_db_dir(folder, _PARTITIONS)
    return RecoveryConfig(str(folder)), resumable


def discard_recovery(folder: Path) -> None:
    """Remove the snapshots of a run that is complete."""
    shutil.rmtree(folder, ignore_errors=True)
