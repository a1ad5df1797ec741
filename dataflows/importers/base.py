"""What an importer is given and what it gives back: options, chunks of rows, progress, reports."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from operators.columns import IntArray
from schemas.errors import InputError
from schemas.features import content_hash

__all__ = ["BadRow", "Chunk", "FileReport", "ImportOptions", "ImportProgress", "ImportReport", "Importer"]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the caller knows that the files do not say. A format refuses an option that it has no use for.

    Parameters
    ----------
    symbol
        Instrument of every record, in place of the name that the file or its path gives.
    venue
        Venue of every trade and quote that does not name its own.
    map
        TOML file that says which column is which field; only for `table`.
    kind
        What the file holds, where its name does not say it: `trades`, `aggTrades` or `bookTicker`.
    tick
        Price increment; a price that is not a whole number of ticks is quarantined.

    Examples
    --------
    >>> ImportOptions(symbol="BTCUSDT", tick=0.01).given()
    {'symbol': 'BTCUSDT', 'tick': 0.01}
    """

    symbol: str | None = None
    venue: str | None = None
    map: Path | None = None
    kind: str | None = None
    tick: float | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that have a value."""
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}

    def content_hash(self) -> str:
        """Return the hash of what the options say; a map counts by its content."""
        content = self.given()
        if self.map is not None:
            try:
                content["map"] = hashlib.sha256(self.map.read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(
                    f"expected a column map in `{self.map}`, found {error.strerror}; check the path"
                ) from error
        return content_hash(content)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is quarantined.

    Parameters
    ----------
    position
        Place of the row within its chunk.
    raw
        Untouched bytes of the line or record.
    error
        Reason, from a small vocabulary: it is also what the row is counted under.
    ts_recv
        Time of receipt that the row says, int64 UTC ns, if it does; it finds its place where rows are sorted.
    """

    position: int
    raw: bytes
    error: str
    ts_recv: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one topic in file order.

    Parameters
    ----------
    topic
        Topic of the rows.
    batch
        Accepted rows, with the archive schema of the topic.
    bytes_done
        Bytes of the input file that were read by then.
    positions
        Place of each accepted row among all rows of the chunk, shape `(n,)`.
    bad
        Rows to quarantine, by position.
    repaired
        Accepted rows in which something was filled in, by what was.
    latency
        `ts_recv - ts_event` of the rows that carry both clocks, int64 ns.
    """

    topic: str
    batch: pa.RecordBatch
    bytes_done: int
    positions: IntArray
    bad: tuple[BadRow, ...] = ()
    repaired: Mapping[str, int] = field(default_factory=dict)
    latency: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class Importer(ABC):
    """One file format: which files are of it, in what order they go, and how to read one."""

    name: ClassVar[str]
    """name on the command line and in the source's name"""
    summary: ClassVar[str]
    """one line for help and messages"""
    options: ClassVar[frozenset[str]] = frozenset()
    """the options of `ImportOptions` that the format takes"""
    version: ClassVar[int] = 1
    """raised when the same file gives other rows; files imported by an older version are done again"""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Return whether a file of a folder is of this format, by its name."""

    @abstractmethod
    def read(self, path: Path, options: ImportOptions) -> Iterator[Chunk]:
        """Yield the rows of one file in order; memory does not grow with the file.

        Raises
        ------
        InputError
            The file is not of this format, or is damaged.
        """

    def start(self, path: Path) -> str:
        """Return a text that sorts files by the time at which they start: the date in the name, by default."""
        found = re.search(r"(\d{4})-?(\d{2})(?:-?(\d{2}))?(?!\d)", path.name)
        return "".join(part or "" for part in found.groups()) if found else ""

    def label(self, path: Path) -> str:
        """Return the name that the source gets from the file."""
        return path.name

    def members(self, path: Path) -> tuple[Path, ...]:
        """Return every file that is read for `path`; together they are the source."""
        return (path,)

    def variant(self, options: ImportOptions) -> str:
        """Return what tells two imports of one file apart, empty where a second replaces the first."""
        return ""


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import has come.

    Parameters
    ----------
    path
        File that is being read.
    bytes_done, bytes_total
        Input bytes read, and of all files.
    rows
        Rows read, accepted and quarantined.
    """

    path: Path
    bytes_done: int
    bytes_total: int
    rows: int


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one input file.

    Parameters
    ----------
    path
        The file.
    source
        Name of the source in the archive.
    skipped
        Why nothing was done, or None.
    rows
        Accepted rows by topic.
    quarantined
        Rows kept as bytes only, by reason.
    repaired
        Accepted rows in which something was filled in, by what was.
    order_violations
        Records whose `ts_recv` was behind the one before; they were raised to it.
    skew_ns
        Estimate of the recorder's clock less the publisher's plus the shortest latency, ns; None where
        the file has one clock only.
    seconds
        Time taken.
    remarks
        What a person should know of.
    """

    path: Path
    source: str
    skipped: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    repaired: Mapping[str, int] = field(default_factory=dict)
    order_violations: int = 0
    skew_ns: int | None = None
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()

    @property
    def accepted(self) -> int:
        """Accepted rows of every topic."""
        return sum(self.rows.values())

    @property
    def read(self) -> int:
        """Rows read: accepted and quarantined."""
        return self.accepted + sum(self.quarantined.values())

    def content(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "file": str(self.path),
            "source": self.source,
            "skipped": self.skipped,
            "rows": dict(self.rows),
            "quarantined": dict(self.quarantined),
            "repaired": dict(self.repaired),
            "order_violations": self.order_violations,
            "skew_ns": self.skew_ns,
            "seconds": self.seconds,
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of every input file, in the order in which they were read."""

    files: tuple[FileReport, ...]

    @property
    def accepted(self) -> int:
        """Accepted rows of every file."""
        return sum(report.accepted for report in self.files)

    @property
    def quarantined(self) -> int:
        """Quarantined rows of every file."""
        return sum(sum(report.quarantined.values()) for report in self.files)

    def content(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "accepted": self.accepted,
            "quarantined": self.quarantined,
            "files": [report.content() for report in self.files],
        }
