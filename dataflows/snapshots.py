"""Forget the snapshots of an epoch that was not completed.

Bytewax stores the snapshots of an epoch one by one, and last that the epoch is complete. A process that is killed
between leaves snapshots of an epoch that the next process computes anew. That one replaces them, but only those of
keys with input in the epoch, which it need not cut as before; should it be killed too, its successor would take
the rest for good: states that have seen records which the source delivers again. So whatever lies at or behind the
epoch to resume at is removed before Bytewax reads.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError

__all__ = ["forget_unfinished", "resume_epoch"]

_FIRST_EPOCH: Final = 1
"""Epoch at which Bytewax begins."""


def resume_epoch(folder: Path) -> int:
    """Return the epoch at which Bytewax resumes: the first that the last execution did not complete on every worker.

    Parameters
    ----------
    folder
        Folder with all recovery partitions of a dataflow; it is only read.

    Raises
    ------
    ConfigError
        A file is not a recovery partition.
    """
    executions: dict[int, tuple[int, int]] = {}
    frontiers: dict[tuple[int, int], int] = {}
    for part in _parts(folder):
        try:
            with closing(sqlite3.connect(f"{part.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                for number, workers, epoch in connection.execute("SELECT ex_num, worker_count, resume_epoch FROM exs"):
                    executions[number] = workers, epoch
                for number, worker, epoch in connection.execute(
                    "SELECT ex_num, worker_index, worker_frontier FROM fronts"
                ):
                    frontiers[number, worker] = epoch
        except sqlite3.DatabaseError as error:
            raise _unreadable(part, error) from error
    if not executions:
        return _FIRST_EPOCH
    last = max(executions)
    workers, begun = executions[last]
    return min(max(begun, frontiers.get((last, worker), begun)) for worker in range(workers))


def forget_unfinished(folder: Path) -> int:
    """Remove the snapshots of epochs that were not completed; return how many there were.

    Parameters
    ----------
    folder
        Folder with all recovery partitions of a dataflow that does not run.

    Raises
    ------
    ConfigError
        A file is not a recovery partition.
    """
    epoch = resume_epoch(folder)
    forgotten = 0
    for part in _parts(folder):
        try:
            with closing(sqlite3.connect(part)) as connection, connection:
                forgotten += connection.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (epoch,)).rowcount
        except sqlite3.DatabaseError as error:
            raise _unreadable(part, error) from error
    return forgotten


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sqlite3"))


def _unreadable(part: Path, error: sqlite3.DatabaseError) -> ConfigError:
    return ConfigError(
        f"expected a recovery partition in `{part}`, found {error}; remove its folder and start the run over"
    )
