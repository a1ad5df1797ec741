"""Delimited text without quotes, parsed by column; a bad line is found without giving up the others.

A block is parsed at once. Where that fails, it is halved until the bad lines stand alone, so a line is
accepted or refused for itself, whatever stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from dataflows.importers.base import BadRow
from dataflows.importers.reading import split_lines
from operators.columns import FloatArray, IntArray

__all__ = ["SYMBOL", "Layout", "Parsed", "parse_block", "parse_lines"]

SYMBOL: Final = pa.dictionary(pa.int32(), pa.string())
_COLUMN: Final = re.compile(r"In CSV column #(\d+)")
_WANTED: Final[dict[str, str]] = {"double": "a number", "int64": "a whole number", "bool": "true or false"}


@dataclass(frozen=True)
class Layout:
    """The columns of a delimited file.

    Parameters
    ----------
    types
        Column name to Arrow type, in file order.
    """

    types: Mapping[str, pa.DataType]

    @cached_property
    def parse(self) -> Callable[[bytes], pa.RecordBatch]:
        """The parser; it raises `ArrowInvalid` where a line does not fit."""
        read = {"column_names": list(self.types), "use_threads": True}
        parsing = pa_csv.ParseOptions(quote_char=False, double_quote=False)
        conversion = pa_csv.ConvertOptions(
            column_types=dict(self.types),
            null_values=[],
            true_values=["1", "true", "True", "TRUE"],
            false_values=["0", "false", "False", "FALSE"],
        )

        def parse(block: bytes) -> pa.RecordBatch:
            reading = pa_csv.ReadOptions(block_size=len(block) + 1, **read)
            table = pa_csv.read_csv(
                pa.BufferReader(block), read_options=reading, parse_options=parsing, convert_options=conversion
            )
            batches = table.combine_chunks().to_batches()
            # a block of blank lines only has no batch at all
            return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)

        return parse


@dataclass(frozen=True)
class Parsed:
    """The lines of a block.

    Parameters
    ----------
    batch
        Lines that fit the layout, in order.
    positions
        Number of each among the lines that are not blank, shape `(n,)`.
    bad
        Lines that do not fit.
    """

    batch: pa.RecordBatch
    positions: IntArray
    bad: tuple[BadRow, ...]
    _block: bytes

    @cached_property
    def lines(self) -> list[bytes]:
        """All lines that are not blank."""
        return split_lines(self._block)

    def raw(self, row: int) -> bytes:
        """Return the bytes of the line of a row of `batch`."""
        return self.lines[int(self.positions[row])]

    def floats(self, name: str) -> FloatArray:
        """Return a number column."""
        values: FloatArray = self.batch.column(name).to_numpy(zero_copy_only=False)
        return values

    def integers(self, name: str) -> IntArray:
        """Return a whole-number column."""
        values: IntArray = self.batch.column(name).to_numpy(zero_copy_only=False)
        return values

    def flags(self, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return a column of true and false."""
        values: np.ndarray[Any, np.dtype[np.bool_]] = self.batch.column(name).to_numpy(zero_copy_only=False)
        return values


def parse_block(block: bytes, layout: Layout) -> Parsed:
    """Parse a block of whole lines; blank lines are no lines.

    Parameters
    ----------
    block
        Bytes that end at a line's end, or at the file's.
    layout
        Columns.
    """
    n_lines = block.count(b"\n") + (not block.endswith(b"\n"))
    batch, _ = _try(block, layout, n_lines)
    if batch is not None:
        return Parsed(batch, np.arange(n_lines, dtype=np.int64), (), block)
    good: list[tuple[int, pa.RecordBatch]] = []
    bad: list[BadRow] = []
    _salvage(split_lines(block), 0, layout, good, bad)
    if good:
        table = pa.Table.from_batches([part for _, part in good]).unify_dictionaries().combine_chunks()
        batch = table.to_batches()[0]
        positions = np.concatenate([np.arange(start, start + part.num_rows) for start, part in good])
    else:
        schema = pa.schema(list(layout.types.items()))
        batch = pa.RecordBatch.from_arrays([pa.array([], type=type_) for type_ in schema.types], schema=schema)
        positions = np.zeros(0, dtype=np.int64)
    return Parsed(batch, positions, tuple(bad), block)


def parse_lines(lines: list[bytes], layout: Layout) -> Parsed:
    """Parse lines that are not blank."""
    return parse_block(b"\n".join(lines), layout)


def _try(block: bytes, layout: Layout, n_lines: int) -> tuple[pa.RecordBatch | None, str]:
    """Return the rows, if each line is one, else why not."""
    if block.count(b"\r") != block.count(b"\r\n") + block.endswith(b"\r"):
        return None, "malformed: expected one line, found a carriage return within"
    try:
        batch = layout.parse(block)
    except pa.ArrowInvalid as error:
        return None, _reason(str(error), layout)
    return (batch, "") if batch.num_rows == n_lines else (None, "malformed: expected one line")


def _salvage(
    lines: list[bytes], start: int, layout: Layout, good: list[tuple[int, pa.RecordBatch]], bad: list[BadRow]
) -> None:
    if not lines:
        return
    batch, reason = _try(b"\n".join(lines), layout, len(lines))
    if batch is not None:
        good.append((start, batch))
    elif len(lines) == 1:
        bad.append(BadRow(start, lines[0], reason))
    else:
        middle = len(lines) // 2
        _salvage(lines[:middle], start, layout, good, bad)
        _salvage(lines[middle:], start + middle, layout, good, bad)


def _reason(message: str, layout: Layout) -> str:
    """Return the reason of a refused line, from a vocabulary that does not grow with the data."""
    found = _COLUMN.search(message)
    if found is None:
        return f"malformed: expected {len(layout.types)} fields"
    name, type_ = list(layout.types.items())[int(found.group(1))]
    return f"wrong_type: expected `{name}` to be {_WANTED.get(str(type_), 'text in UTF-8')}"
