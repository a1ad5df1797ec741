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
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            raise ConfigError(f"expected no link in the recovery folder, found `{path}`; remove it")
        if found.st_uid != os.geteuid():
            raise ConfigError(
                f"expected `{path}` to belong to user {os.geteuid()}, found user {found.st_uid}; snapshots run code "
                "when they are read, so remove the folder if its origin is not certain, or give it to this user"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"expected `{path}` to be writable by its owner only, found mode {stat.filemode(found.st_mode)}; "
                f"if its origin is certain: chmod -R go-w '{folder}'"
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
        The folder is not private.
    """
    resumable = folder.is_dir() and any(folder.glob("*.sqlite3"))
    if resumable:
        check_private(folder)
    if resumable and fresh:
        discard_recovery(folder)
        resumable = False
    if not resumable:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        init_db_dir(folder, _PARTITIONS)
    check_private(folder)
    return RecoveryConfig(str(folder)), resumable


def discard_recovery(folder: Path) -> None:
    """Remove the snapshots of a run that is complete."""
    shutil.rmtree(folder, ignore_errors=True)
