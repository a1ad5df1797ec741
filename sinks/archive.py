"""The archive: Parquet per topic and day, with the columns of the topic and its transport.

`ROOT/archive.json` says which version wrote it and gives each source (an imported file, a partition
of a topic) its partition number. `ROOT/TOPIC/YYYY-MM-DD/NUMBER.parquet` holds records that were received
on one UTC day, in arrival order. A file appears whole or not at all.

In an archive of imported files the number is that of a partition, and the file has its records. In a
recording (see `sinks.recording`) it counts the rolls, and a file has the records of all partitions.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from schemas.batches import times
from schemas.errors import InputError, VersionError
from schemas.records import TOPICS, archive_schema
from sinks.day_files import ROW_GROUP_ROWS, DayFiles, sync_folder

__all__ = ["ARCHIVE_VERSION", "RECORDER_LOCK", "ROW_GROUP_ROWS", "Archive", "ArchiveWriter"]

ARCHIVE_VERSION: Final = 1
_MANIFEST: Final = "archive.json"
_UNFINISHED: Final = f".{_MANIFEST}.tmp"
_LOCK: Final = ".lock"
RECORDER_LOCK: Final = ".recorder.lock"
"""File in the archive's folder that its one recorder holds locked."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder of recorded topics.

    Parameters
    ----------
    root
        Folder of the archive.
    """

    root: Path

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open an existing archive.

        Raises
        ------
        InputError
            There is no archive at `root`.
        VersionError
            A newer version wrote it.
        """
        archive = cls(root)
        if not root.is_dir() or not (root / _MANIFEST).is_file():
            raise InputError(
                f"expected an archive at `{root}`, found none; make one with `signalbox import` or `signalbox demo`"
            )
        archive.manifest()
        return archive

    @classmethod
    def create(cls, root: Path) -> Self:
        """Open an archive, making it where there is none."""
        root.mkdir(parents=True, exist_ok=True)
        if (root / _MANIFEST).exists():
            return cls.open(root)
        if any(path.name not in (RECORDER_LOCK, _UNFINISHED) for path in root.iterdir()):
            raise InputError(
                f"expected an empty folder or an archive at `{root}`, found other files; name another folder"
            )
        archive = cls(root)
        archive._write_manifest({"version": ARCHIVE_VERSION, "sources": {}})
        return archive

    def manifest(self) -> dict[str, Any]:
        """Return the manifest.

        Raises
        ------
        InputError
            The manifest is damaged.
        VersionError
            A newer version wrote it.
        """
        path = self.root / _MANIFEST
        try:
            manifest: dict[str, Any] = json.loads(path.read_text())
            version = manifest["version"]
            manifest["sources"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"expected an archive manifest in `{path}`, found {error!r}; import the data again"
            ) from error
        if version > ARCHIVE_VERSION:
            raise VersionError(
                f"expected an archive of version {ARCHIVE_VERSION} or older in `{self.root}`, found version {version}; "
                "upgrade signalbox"
            )
        return manifest

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        temporary = self.root / _UNFINISHED
        with temporary.open("w") as file:
            file.write(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.root / _MANIFEST)
        sync_folder(self.root)

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yield the manifest under an exclusive lock and store what became of it, whole or not at all."""
        with (self.root / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            manifest = self.manifest()
            yield manifest
            self._write_manifest(manifest)

    def source(self, topic: str, source: str) -> dict[str, Any] | None:
        """Return what is known of a source, or None: its `partition`, and `complete` with its `rows` and `note`."""
        found: dict[str, Any] | None = self.manifest()["sources"].get(f"{topic}/{source}")
        return found

    def _claim(self, topic: str, source: str) -> int:
        with self.changing() as manifest:
            if "recording" in manifest:
                raise InputError(
                    f"expected an archive for files at `{self.root}`, found a recording of topics; name another folder"
                )
            key = f"{topic}/{source}"
            taken = [entry["partition"] for name, entry in manifest["sources"].items() if name.startswith(f"{topic}/")]
            known = manifest["sources"].get(key)
            partition = known["partition"] if known else max(taken, default=-1) + 1
            manifest["sources"][key] = {"partition": partition, "complete": False}
        return int(partition)

    def _complete(self, topic: str, source: str, rows: int, note: dict[str, Any]) -> None:
        with self.changing() as manifest:
            entry = manifest["sources"][f"{topic}/{source}"]
            entry.update(complete=True, rows=rows, **({"note": note} if note else {}))

    def contents(self) -> dict[str, tuple[Path, ...]]:
        """Return the files of every topic that has a record, in the order that breaks ties, all as of one moment."""
        manifest = self.manifest()
        found = {name: self._files(name, manifest) for name in TOPICS}
        return {name: files for name, files in found.items() if files}

    def topics(self) -> tuple[str, ...]:
        """Return the topics that have a record, in the order that breaks ties."""
        return tuple(self.contents())

    def files(self, topic: str) -> tuple[Path, ...]:
        """Return the topic's files by day and number; those of a source that is not complete are left out.

        Of a recording those are left out that are not committed yet.
        """
        return self._files(topic, self.manifest())

    def _files(self, topic: str, manifest: dict[str, Any]) -> tuple[Path, ...]:
        found = sorted((self.root / topic).glob("*/*.parquet"))
        if "recording" in manifest:
            return tuple(path for path in found if int(path.stem) < manifest["recording"]["roll"])
        incomplete = {
            entry["partition"]
            for name, entry in manifest["sources"].items()
            if name.startswith(f"{topic}/") and not entry["complete"]
        }
        return tuple(path for path in found if int(path.stem) not in incomplete)


class ArchiveWriter:
    """Writes the records of one source to an archive, a file per UTC day of receipt.

    Use it as a context manager: leaving it normally publishes every file at once, leaving it by an
    exception removes what was written. Writing a source again replaces it.

    Parameters
    ----------
    archive
        The archive.
    topic
        Topic of the records.
    source
        Name of the source, distinct within the topic: the imported file's name, say. It gets a
        partition number of its own.
    note
        Plain JSON to keep with the source in the manifest, such as a digest of its input.

    Attributes
    ----------
    rows
        Records written.
    order_violations
        Records whose `ts_recv` was behind the one before; they were raised to it.
    """

    def __init__(self, archive: Archive, topic: str, source: str, *, note: dict[str, Any] | None = None) -> None:
        self._archive = archive
        self._topic = topic
        self._source = source
        self._note = dict(note or {})
        self._schema = archive_schema(topic)
        self._partition = archive._claim(topic, source)
        self._files = DayFiles(archive.root / topic, self._partition, self._schema)
        self._last_recv = -(2**63)
        self.rows = 0
        self.order_violations = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def note(self, **facts: Any) -> None:
        """Keep more plain JSON facts with the source in the manifest."""
        self._note.update(facts)

    def append(self, batch: pa.RecordBatch) -> None:
        """Append records in arrival order; `partition` and `offset` are assigned here.

        Parameters
        ----------
        batch
            Records with the archive schema of the topic (see `schemas.batches.make_batch`).
        """
        if not batch.num_rows:
            return
        recv = np.maximum.accumulate(np.concatenate(([self._last_recv], times(batch, "ts_recv"))))[1:]
        self.order_violations += int(np.count_nonzero(recv != times(batch, "ts_recv")))
        self._last_recv = int(recv[-1])
        offsets = np.arange(self.rows, self.rows + batch.num_rows, dtype=np.int64)
        self.rows += batch.num_rows
        replaced = {
            "ts_recv": pa.array(recv).cast(self._schema.field("ts_recv").type),
            "partition": pa.array(np.full(batch.num_rows, self._partition, dtype=np.int32)),
            "offset": pa.array(offsets),
        }
        columns = [replaced.get(name, batch.column(name)) for name in self._schema.names]
        self._files.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Publish every file and mark the source complete."""
        self._files.finish()
        self._remove_published()
        self._files.publish()
        self._archive._complete(self._topic, self._source, self.rows, self._note)

    def abort(self) -> None:
        """Remove what was written; a version published before stays hidden until the source is written again."""
        self._files.discard()

    def _remove_published(self) -> None:
        for old in (self._archive.root / self._topic).glob(f"*/{self._partition:05d}.parquet"):
            old.unlink()
