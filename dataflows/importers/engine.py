"""Imports files into an archive: each once, whole or not at all, every row accounted for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from dataflows.importers.base import (
    BadRow,
    Chunk,
    FileReport,
    Importer,
    ImportOptions,
    ImportProgress,
    ImportReport,
)
from dataflows.importers.binance_capture import BinanceCaptureImporter
from dataflows.importers.binance_csv import BinanceCsvImporter
from dataflows.importers.databento import DatabentoImporter
from dataflows.importers.lean import LeanImporter
from dataflows.importers.lobster import LobsterImporter
from dataflows.importers.reading import file_digest
from dataflows.importers.table import TableImporter
from operators.columns import IntArray
from schemas.batches import concat_batches, make_batch, times
from schemas.errors import ConfigError, InputError
from schemas.records import TOPICS
from sinks.archive import Archive, ArchiveWriter

__all__ = ["IMPORTERS", "import_files"]

IMPORTERS: Final[dict[str, Importer]] = {
    importer.name: importer
    for importer in (
        BinanceCaptureImporter(),
        BinanceCsvImporter(),
        LeanImporter(),
        LobsterImporter(),
        DatabentoImporter(),
        TableImporter(),
    )
}
"""Every format by name."""

HOPELESS_ROWS: Final = 1_000
"""Rows of which not one could be read, after which a file is taken for another format's."""
_MAX_REASONS: Final = 64
"""Reasons counted apart per file; the rest is counted together."""
_SKEW_QUANTILE: Final = 0.001
"""The shortest latencies show the clocks' difference best; the very shortest may be a wrong stamp."""
_SKEW_KEPT: Final = 4_096
"""Smallest differences kept: the quantile is exact to four million rows, and near it beyond."""
UNSTARTED: Final = -1
"""Stands for the time of the last accepted row before there is one."""
_DEFAULT: Final = ImportOptions()


def import_files(
    format: str,  # noqa: A002
    paths: Sequence[Path],
    archive: Archive,
    *,
    options: ImportOptions = _DEFAULT,
    progress: Callable[[ImportProgress], None] | None = None,
) -> ImportReport:
    """Import files, or every file of the format in folders, into an archive.

    Each file is one source of the archive, `FORMAT:FILENAME#DIGEST`. A file whose content was imported
    before with the same options is skipped; one whose import was cut short is done again. A row that
    cannot be accepted is kept in the archive as its bytes and a reason.

    Parameters
    ----------
    format
        A key of `IMPORTERS`.
    paths
        Files and folders. They are read in the order of the times at which they start.
    archive
        Where to.
    options
        What the caller knows that the files do not say.
    progress
        Called after each chunk of rows.

    Raises
    ------
    InputError
        A file is missing, damaged, empty or of another format; files before it have been imported.
    ConfigError
        The format is not known, an option is not one of the format's, or the column map is wrong.
    """
    importer = _importer(format, options)
    files = _expand(importer, paths)
    sizes = {path: sum(member.stat().st_size for member in importer.members(path)) for path in files}
    total = sum(sizes.values())
    reports: list[FileReport] = []
    done = rows = 0

    def report_progress(path: Path, file_bytes: int, file_rows: int) -> None:
        if progress is not None:
            progress(ImportProgress(path, done + min(file_bytes, sizes[path]), total, rows + file_rows))

    for path in files:
        report = _import_file(importer, path, archive, options, report_progress)
        reports.append(report)
        report_progress(path, sizes[path], report.read)
        done += sizes[path]
        rows += report.read
    return ImportReport(tuple(reports))


def _importer(name: str, options: ImportOptions) -> Importer:
    if name not in IMPORTERS:
        raise ConfigError(f"expected a format among {sorted(IMPORTERS)}, was `{name}`; name one of them")
    importer = IMPORTERS[name]
    foreign = sorted(set(options.given()) - importer.options)
    if foreign:
        raise ConfigError(
            f"expected options of `{name}` among {sorted(importer.options)}, was {foreign}; leave them out"
        )
    if options.tick is not None and not 0 < options.tick < float("inf"):
        raise ConfigError(f"expected a `tick` finite and above zero, was {options.tick}; give the price increment")
    return importer


def _expand(importer: Importer, paths: Sequence[Path]) -> list[Path]:
    """Return the files that `paths` name, each once, by the time at which they start."""
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _files_of(importer, path):
            leader = importer.members(file)[0]
            found.setdefault(leader.resolve(), leader)
    if not found:
        raise InputError(
            f"expected at least one file to import as `{importer.name}`, found none; name files or folders"
        )
    return sorted(found.values(), key=lambda path: (importer.start(path), path.name, str(path)))


def _files_of(importer: Importer, path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"expected a file or folder at `{path}`, found none; check the path")
    inside = (item for item in path.rglob("*") if item.is_file() and not item.name.startswith("."))
    files = [item for item in inside if importer.recognises(item)]
    if not files:
        raise InputError(
            f"expected files of format `{importer.name}` ({importer.summary}) below `{path}`, found none; "
            "name the format that they have, or the files themselves"
        )
    return files


def _import_file(
    importer: Importer,
    path: Path,
    archive: Archive,
    options: ImportOptions,
    report_progress: Callable[[Path, int, int], None],
) -> FileReport:
    began = time.perf_counter()
    size, digest = file_digest(importer.members(path))
    variant = importer.variant(options)
    source = f"{importer.name}:{path.name}#{digest[:12]}{'@' + variant if variant else ''}"
    note: dict[str, Any] = {
        "file": path.name,
        "size": size,
        "sha256": digest,
        "options": options.content_hash(),
        "importer": importer.version,
    }
    known = {name: entry for name in TOPICS if (entry := archive.source(name, source)) is not None}
    if _is_imported(known, note):
        return FileReport(path, source, skipped="already imported")
    with _FileRecorder(archive, source, note, path, importer) as recorder:
        for chunk in importer.read(path, options):
            recorder.write(chunk)
            report_progress(path, chunk.bytes_done, recorder.read)
        recorder.finish(retire=known)
    remarks = _remarks(archive, importer, path, source)
    return recorder.report(seconds=time.perf_counter() - began, remarks=remarks)


def _is_imported(known: dict[str, dict[str, Any]], note: dict[str, Any]) -> bool:
    """Return whether every topic of the file is complete with this content and these options."""
    notes = {name: entry.get("note", {}) for name, entry in known.items() if entry["complete"]}
    same = {name for name, found in notes.items() if all(found.get(key) == value for key, value in note.items())}
    return any(set(notes[name].get("topics", [])) <= same for name in same)


def _remarks(archive: Archive, importer: Importer, path: Path, source: str) -> tuple[str, ...]:
    prefix = f"{importer.name}:{path.name}#"
    names = {key.partition("/")[2] for key, entry in archive.manifest()["sources"].items() if entry["complete"]}
    others = sorted(name for name in names if name.startswith(prefix) and name != source)
    return tuple(f"another file named `{path.name}` is in the archive as `{name}`; both are kept" for name in others)


class _FileRecorder:
    """Writes the chunks of one file: a source per topic, opened with the file's first accepted row."""

    def __init__(self, archive: Archive, source: str, note: dict[str, Any], path: Path, importer: Importer) -> None:
        self._archive = archive
        self._source = source
        self._note = note
        self._path = path
        self._importer = importer
        self._writers: dict[str, ArchiveWriter] = {}
        self._waiting: list[Chunk] = []
        self._last: dict[str, int] = {}
        self._rows: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._latency: IntArray = np.zeros(0, dtype=np.int64)
        self._n_latency = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for writer in self._writers.values():
                writer.abort()

    @property
    def read(self) -> int:
        """Rows so far, accepted and quarantined."""
        return self._rows.total() + self._quarantined.total()

    def write(self, chunk: Chunk) -> None:
        """Take the next rows.

        Raises
        ------
        InputError
            So many rows in a row are no rows of this format that the file must be of another.
        """
        self._count(chunk)
        if not self._rows.total():
            self._waiting.append(chunk)
            if self._quarantined.total() >= HOPELESS_ROWS:
                raise self._hopeless()
            return
        # The rows that waited were bad: they get the time of the first good one, whatever its topic.
        waiting, self._waiting = self._waiting, []
        if not self._last:
            first = int(times(chunk.batch, "ts_recv")[0])
            for early in waiting:
                self._append(early, first)
        self._append(chunk, self._last.get(chunk.topic, max(self._last.values(), default=UNSTARTED)))

    def _count(self, chunk: Chunk) -> None:
        if chunk.batch.num_rows:
            self._rows[chunk.topic] += chunk.batch.num_rows
        for row in chunk.bad:
            known = row.error in self._quarantined or len(self._quarantined) < _MAX_REASONS
            self._quarantined[row.error if known else "other"] += 1
        self._repaired.update(chunk.repaired)
        self._n_latency += len(chunk.latency)
        kept = np.concatenate([self._latency, chunk.latency])
        self._latency = np.partition(kept, _SKEW_KEPT)[:_SKEW_KEPT] if len(kept) > _SKEW_KEPT else kept

    def _append(self, chunk: Chunk, last: int) -> None:
        batch = _interleave(chunk, last)
        if not batch.num_rows:
            return
        if chunk.topic not in self._writers:
            self._writers[chunk.topic] = ArchiveWriter(self._archive, chunk.topic, self._source, note=self._note)
        self._writers[chunk.topic].append(batch)
        self._last[chunk.topic] = int(times(batch, "ts_recv")[-1])

    def _hopeless(self) -> InputError:
        reason, _ = self._quarantined.most_common(1)[0] if self._quarantined else ("no row", 0)
        raw = next((row.raw for chunk in self._waiting for row in chunk.bad), b"")
        return InputError(
            f"expected `{self._path}` to be of format `{self._importer.name}` ({self._importer.summary}), found no row "
            f"that is: {reason}, such as {raw[:80]!r}; name the format that the file has"
        )

    @property
    def skew_ns(self) -> int | None:
        """Low quantile of `ts_recv - ts_event`, ns, or None where no row has two clocks."""
        if not self._n_latency:
            return None
        rank = min(int(self._n_latency * _SKEW_QUANTILE), len(self._latency) - 1)
        return int(np.partition(self._latency, rank)[rank])

    def finish(self, retire: Iterable[str]) -> None:
        """Publish every topic; those in `retire` that an earlier import wrote and this one did not become empty.

        Raises
        ------
        InputError
            No row of the file could be read.
        """
        if not self._rows.total():
            raise self._hopeless()
        for name in retire:
            if name not in self._writers:
                self._writers[name] = ArchiveWriter(self._archive, name, self._source, note=self._note)
        topics = sorted(self._writers)
        for name in topics:
            self._writers[name].note(topics=topics, skew_ns=self.skew_ns, quarantined=dict(self._quarantined))
        for name in topics:
            self._writers[name].close()

    def report(self, *, seconds: float, remarks: tuple[str, ...]) -> FileReport:
        """Return what became of the file."""
        return FileReport(
            path=self._path,
            source=self._source,
            rows=dict(sorted(self._rows.items())),
            quarantined=dict(self._quarantined),
            repaired=dict(self._repaired),
            order_violations=sum(writer.order_violations for writer in self._writers.values()),
            skew_ns=self.skew_ns,
            seconds=seconds,
            remarks=remarks,
        )


def _interleave(chunk: Chunk, last: int) -> pa.RecordBatch:
    """Return accepted and quarantined rows in file order.

    A quarantined row has its own time of receipt where it says one that lies between its accepted
    neighbours, else that of the one before it: a wrong stamp must not push the clock of those behind it.
    """
    if not chunk.bad:
        return chunk.batch
    good = times(chunk.batch, "ts_recv")
    stamps = [_stamp(row, chunk.positions, good, last) for row in chunk.bad]
    quarantined = make_batch(
        chunk.topic,
        {"ts_recv": stamps, "raw": [row.raw for row in chunk.bad], "error": [row.error for row in chunk.bad]},
        len(chunk.bad),
    )
    positions = np.concatenate([chunk.positions, [row.position for row in chunk.bad]])
    return concat_batches([chunk.batch, quarantined]).take(pa.array(np.argsort(positions, kind="stable")))


def _stamp(row: BadRow, positions: IntArray, good: IntArray, last: int) -> int:
    index = int(np.searchsorted(positions, row.position))
    before = int(good[index - 1]) if index else last
    after = int(good[index]) if index < len(good) else before
    if before == UNSTARTED:
        before = after
    own = before if row.ts_recv is None else row.ts_recv
    return min(max(own, before), max(after, before))
