"""A recording: an archive that grows roll by roll, and keeps where each partition goes on with what it holds.

A roll is a number of files, one per topic and UTC day, all of one number. The manifest says how many rolls are part
of the archive and where each partition stood behind them. It is replaced in one step, so that records and positions
are committed together: files above that number are not seen by readers, and the next recorder removes them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from schemas.batches import integers
from schemas.errors import ConfigError, InputError, StorageError, StorageLockedError, VersionError
from schemas.records import archive_schema
from sinks.archive import RECORDER_LOCK, Archive
from sinks.day_files import DayFiles

__all__ = ["Recording", "Roll"]

_VERSION: Final = 1
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Roll:
    """What became part of the archive in one step.

    Parameters
    ----------
    number
        Number of the roll; that of its files.
    rows
        Records by topic.
    files
        Number of files.
    size
        Bytes of the files.
    """

    number: int
    rows: dict[str, int]
    files: int
    size: int


class Recording:
    """The one writer of a recording. Use `Recording.open`, as a context manager.

    Leaving it without `commit` discards what was appended since the last one.

    Parameters
    ----------
    archive
        The archive, locked.
    lock
        Descriptor of the lock.
    """

    def __init__(self, archive: Archive, lock: int) -> None:
        self._archive = archive
        self._lock = lock
        manifest = archive.manifest()
        self._number: int = manifest["recording"]["roll"]
        self._positions = {name: entry["note"] for name, entry in manifest["sources"].items()}
        self._files: dict[str, DayFiles] = {}
        self._rows: dict[str, int] = {}
        self._failed = False

    @classmethod
    def open(cls, root: Path, topics: Mapping[str, Any]) -> Self:
        """Begin a recording, or go on with one; what was not committed is removed.

        Parameters
        ----------
        root
            Folder of the archive; made where there is none.
        topics
            How each topic is read, in plain JSON. It stays as it was when the recording began.

        Raises
        ------
        StorageLockedError
            Another recorder has it open.
        InputError
            There is something else, or an archive of imported files.
        ConfigError
            The recording began with other topics, or reads them in another way.
        VersionError
            A newer version wrote it.
        StorageError
            There is no room to write.
        """
        with _storing(root):
            root.mkdir(parents=True, exist_ok=True)
            lock = _acquire(root)
        try:
            with _storing(root):
                archive = Archive.create(root)
                _begin(archive, dict(topics))
                _remove_uncommitted(archive)
            return cls(archive, lock)
        except BaseException:
            os.close(lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def positions(self) -> dict[str, dict[str, Any]]:
        """Return where each partition stood at the last commit, by source; empty for a recording without one."""
        return dict(self._positions)

    @property
    def failed(self) -> bool:
        """Whether something could not be written: what was appended since the last commit is lost to this recorder."""
        return self._failed

    @property
    def rows(self) -> int:
        """Records appended since the last commit."""
        return sum(self._rows.values())

    @property
    def size(self) -> int:
        """Bytes written since the last commit; the rows that wait for their row group are not among them."""
        return sum(files.size for files in self._files.values())

    def append(self, topic: str, batch: pa.RecordBatch) -> None:
        """Take records of a topic in arrival order, of all its partitions together.

        Raises
        ------
        StorageError
            They could not be written; nothing more can be.
        """
        with self._failing():
            if topic not in self._files:
                folder = self._archive.root / topic
                self._files[topic] = DayFiles(folder, self._number, archive_schema(topic), durable=True)
            self._files[topic].append(batch)
        partitions = integers(batch, "partition")
        for partition, count in zip(*np.unique(partitions, return_counts=True), strict=True):
            source = f"{topic}/{partition}"
            self._rows[source] = self._rows.get(source, 0) + int(count)

    def commit(self, positions: Mapping[str, dict[str, Any]]) -> Roll | None:
        """Make what was appended part of the archive, together with where each partition goes on.

        Parameters
        ----------
        positions
            Plain JSON by source, `topic/partition`.

        Returns
        -------
        Roll or None
            The roll, or None where there was no record and only the positions moved.

        Raises
        ------
        StorageError
            It could not be written; the archive is as it was before.
        """
        with self._failing():
            count = sum(files.publish() for files in self._files.values())
            size = sum(files.size for files in self._files.values())
            number = self._number + 1 if count else self._number
            with self._archive.changing() as manifest:
                manifest["recording"]["roll"] = number
                for source, position in positions.items():
                    self._account(manifest["sources"], source, position)
        topics: dict[str, int] = {}
        for source, rows in self._rows.items():
            topic = source.partition("/")[0]
            topics[topic] = topics.get(topic, 0) + rows
        roll = Roll(self._number, topics, count, size) if count else None
        self._number, self._files, self._rows, self._positions = number, {}, {}, dict(positions)
        return roll

    def _account(self, sources: dict[str, Any], source: str, position: dict[str, Any]) -> None:
        known = sources.get(source, {"rows": 0})["rows"]
        sources[source] = {
            "partition": int(source.rpartition("/")[2]),
            "complete": True,
            "rows": known + self._rows.get(source, 0),
            "note": position,
        }

    @contextmanager
    def _failing(self) -> Iterator[None]:
        if self._failed:
            raise StorageError("expected a recording that can be written, found one that failed; open it again")
        try:
            with _storing(self._archive.root):
                yield
        except BaseException:
            self._failed = True
            raise

    def close(self) -> None:
        """Remove what was not committed and let another recorder in."""
        # files that have their names stay: whether they were committed is for the next recorder to read
        for files in self._files.values():
            files.discard()
        self._files = {}
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _acquire(root: Path) -> int:
    descriptor = os.open(root / RECORDER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StorageLockedError(
            f"expected the archive `{root}` to have no recorder, found process {holder} recording into it; stop that "
            "process, or record into another folder"
        ) from None
    with suppress(OSError):  # only tells others who we are; a full disk is found where records are written
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _begin(archive: Archive, topics: dict[str, Any]) -> None:
    known = archive.manifest().get("recording")
    if known is None:
        with archive.changing() as manifest:
            if manifest["sources"]:
                raise InputError(
                    f"expected a recording or an empty archive at `{archive.root}`, found an archive of files; "
                    "name another folder"
                )
            manifest["recording"] = {"version": _VERSION, "roll": 0, "topics": topics}
        return
    if known["version"] > _VERSION:
        raise VersionError(
            f"expected a recording of version {_VERSION} or older at `{archive.root}`, found version "
            f"{known['version']}; upgrade signalbox"
        )
    if known["topics"] != topics:
        before = known["topics"]
        differing = sorted(name for name in {*before, *topics} if before.get(name) != topics.get(name))
        raise ConfigError(
            f"expected the topics with which the recording at `{archive.root}` began, {before}, found other "
            f"settings of {', '.join(f'`{name}`' for name in differing)}; restore them, or record into another folder"
        )


def _remove_uncommitted(archive: Archive) -> None:
    number = archive.manifest()["recording"]["roll"]
    for topic in archive.manifest()["recording"]["topics"]:
        for path in (archive.root / topic).glob("*/*"):
            if path.suffix == ".tmp" or (path.suffix == ".parquet" and int(path.stem) >= number):
                path.unlink()


@contextmanager
def _storing(root: Path) -> Iterator[None]:
    """Say what to do where the disk is full or fails, or the folder cannot be used."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in _NO_ROOM:
            raise StorageError(
                f"expected room for the recording at `{root}`, found: {reason}; what was committed is whole: free some "
                "space and give the same command, which goes on behind it"
            ) from error
        kind = StorageError if error.errno == errno.EIO else InputError
        raise kind(
            f"expected to write the recording at `{root}`, found: {reason}; what was committed is whole: correct it "
            "and give the same command, which goes on behind it"
        ) from error
