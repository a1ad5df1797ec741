"""Names of runs, and the folders that follow from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError

__all__ = ["check_run_id", "recovery_folder"]

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_run_id(run_id: str) -> str:
    """Return a run id that is safe as a name of a folder.

    Raises
    ------
    ConfigError
        It is not: letters, digits, `.`, `_` and `-`, at most 100, the first a letter or digit.

    Examples
    --------
    >>> check_run_id("2024-08-08_btc")
    '2024-08-08_btc'
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigError(f"expected a run id of letters, digits, `.`, `_` and `-`, at most 100, was {run_id!r}")
    return run_id


def recovery_folder(db: str, run_id: str, given: Path | None) -> Path | None:
    """Return where snapshots go: the folder that was named, else one inside an embedded database's folder.

    A database on a server has no folder of its own; without a named one the run has no snapshots.
    """
    if given is not None:
        return given / run_id
    return None if "://" in db else Path(db) / "recovery" / run_id
