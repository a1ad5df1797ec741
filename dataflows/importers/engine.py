"""Imports files into an archive: each once, whole or not at all, every row accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from dataflows.importers.base import FileReport, Importer, ImportOptions, ImportProgress, ImportReport
from dataflows.importers.binance_capture import BinanceCaptureImporter
from dataflows.importers.binance_csv import BinanceCsvImporter
from dataflows.importers.databento import DatabentoImporter
from dataflows.importers.lean import LeanImporter
from dataflows.importers.lobster import LobsterImporter
from dataflows.importers.reading import file_digest
from dataflows.importers.recorder import FileRecorder
from dataflows.importers.table import TableImporter
from schemas.errors import ConfigError, InputError
from schemas.records import TOPICS
from sinks.archive import Archive

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
    source = f"{importer.name}:{importer.label(path)}#{digest[:12]}{'@' + variant if variant else ''}"
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
    with FileRecorder(archive, source, note, path, importer) as recorder:
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
    prefix = f"{importer.name}:{importer.label(path)}#"
    names = {key.partition("/")[2] for key, entry in archive.manifest()["sources"].items() if entry["complete"]}
    others = sorted(name for name in names if name.startswith(prefix) and name != source)
    return tuple(f"another file named `{path.name}` is in the archive as `{name}`; both are kept" for name in others)
