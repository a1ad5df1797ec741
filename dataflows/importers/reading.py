"""Input files: plain, gzip, zip or zstd, told apart by their first bytes and read in bounded blocks."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa

from schemas.errors import InputError

__all__ = ["InputStream", "file_digest", "line_blocks", "open_input", "split_lines"]

BLOCK_BYTES: Final = 4 << 20
"""Bytes of a block: some 10^5 ticks, enough that the cost of a block vanishes, and the whole import
stays within a few hundred megabytes after decoding."""
MAX_LINE_BYTES: Final = 64 << 20
"""A line above this is no line of market data: the largest book snapshots are below a megabyte."""
_DAMAGE: Final = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)


@dataclass(slots=True)
class InputStream:
    """The decompressed bytes of one file.

    Parameters
    ----------
    path
        The file.
    name
        Name of the content: the member's name in a zip file, else the file's own.
    """

    path: Path
    name: str
    _stream: IO[bytes] | Any
    _file: IO[bytes]

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end.

        Raises
        ------
        InputError
            The file is truncated or damaged.
        """
        try:
            data: bytes = self._stream.read(size)
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        return data

    @property
    def bytes_done(self) -> int:
        """Bytes of the file read so far."""
        return self._file.tell()


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"expected `{path}` to be whole, found it damaged or cut short ({error}); fetch the file again")


@contextmanager
def open_input(path: Path) -> Iterator[InputStream]:
    """Open a file for reading, decompressed.

    Raises
    ------
    InputError
        There is no such file, it is empty, cannot be read, or is a zip file of more than one member.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            head = file.read(4)
            file.seek(0)
        except OSError as error:
            raise InputError(
                f"expected a readable file at `{path}`, found {error.strerror}; check the path and its permissions"
            ) from error
        if not head:
            raise InputError(f"expected data in `{path}`, found an empty file; fetch the file again")
        name, stream = _decompressed(path, file, head, stack)
        yield InputStream(path, name, stream, file)


def _decompressed(path: Path, file: IO[bytes], head: bytes, stack: ExitStack) -> tuple[str, Any]:
    try:
        if head.startswith(b"\x1f\x8b"):
            return path.name, stack.enter_context(gzip.GzipFile(fileobj=file))
        if head.startswith(b"PK"):
            return _zip_member(path, stack.enter_context(zipfile.ZipFile(file)), stack)
        if head == b"\x28\xb5\x2f\xfd":
            return path.name, stack.enter_context(pa.input_stream(file, compression="zstd"))
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return path.name, file


def _zip_member(path: Path, archive: zipfile.ZipFile, stack: ExitStack) -> tuple[str, IO[bytes]]:
    members = [item for item in archive.infolist() if not item.is_dir() and not item.filename.startswith("__MACOSX")]
    if len(members) != 1:
        raise InputError(
            f"expected one file within `{path}`, found {len(members)}; unpack it and import the files one by one"
        )
    return Path(members[0].filename).name, stack.enter_context(archive.open(members[0]))


def line_blocks(stream: InputStream, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield blocks of whole lines; only the last may lack its line end.

    Raises
    ------
    InputError
        A line is longer than any format allows, or the file is damaged.
    """
    parts: list[bytes] = []
    held = 0
    while data := stream.read(size):
        cut = data.rfind(b"\n") + 1
        if cut:
            yield b"".join([*parts, data[:cut]])
            parts, held = [], 0
        parts.append(data[cut:])
        held += len(data) - cut
        if held > MAX_LINE_BYTES:
            raise InputError(
                f"expected lines of text in `{stream.path}`, found one above {MAX_LINE_BYTES >> 20} MiB; "
                "name the format that the file has"
            )
    rest = b"".join(parts)
    if rest:
        yield rest


def split_lines(block: bytes) -> list[bytes]:
    r"""Return the lines that are not blank, without their line ends.

    Examples
    --------
    >>> split_lines(b"a\r\n\n b\n")
    [b'a', b' b']
    """
    return [line.removesuffix(b"\r") for line in block.split(b"\n") if line.strip()]


def file_digest(paths: tuple[Path, ...]) -> tuple[int, str]:
    """Return size in bytes and SHA-256 of files, one after the other.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    for path in paths:
        try:
            with path.open("rb") as file:
                while data := file.read(BLOCK_BYTES):
                    digest.update(data)
                    size += len(data)
        except OSError as error:
            raise InputError(
                f"expected a readable file at `{path}`, found {error.strerror}; check the path and its permissions"
            ) from error
    return size, digest.hexdigest()
