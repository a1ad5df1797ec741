"""One definition of a field and of a schema, from which every other form is derived.

A `Schema` gives the Arrow schema, the numpy dtype, the ClickHouse DDL, the wire type and the
documentation of a record or table. Nothing states a column twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

__all__ = ["Field", "Kind", "Schema"]

Kind = Literal[
    "time", "float", "int", "int32", "bool", "symbol", "text", "bytes", "enum", "levels", "numbers", "codes", "map"
]

_ARROW: dict[str, pa.DataType] = {
    "time": pa.timestamp("ns", tz="UTC"),
    "float": pa.float64(),
    "int": pa.int64(),
    "int32": pa.int32(),
    "bool": pa.bool_(),
    "symbol": pa.dictionary(pa.int32(), pa.string()),
    "text": pa.string(),
    "bytes": pa.binary(),
    "enum": pa.int8(),
    "levels": pa.list_(pa.float64()),
    "numbers": pa.list_(pa.float64()),
    "codes": pa.list_(pa.uint8()),
    "map": pa.map_(pa.string(), pa.float64()),
}
_CLICKHOUSE: dict[str, str] = {
    "time": "DateTime64(9, 'UTC')",
    "float": "Float64",
    "int": "Int64",
    "int32": "Int32",
    "bool": "Bool",
    "symbol": "LowCardinality(String)",
    "text": "String",
    "bytes": "String",
    "levels": "Array(Float64)",
    "numbers": "Array(Float64)",
    "codes": "Array(UInt8)",
    "map": "Map(String, Float64)",
}
_NUMPY: dict[str, np.dtype[np.generic] | type] = {
    "time": np.dtype(np.int64),
    "float": np.dtype(np.float64),
    "int": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "bool": np.dtype(np.bool_),
    "enum": np.dtype(np.int8),
    "symbol": np.dtype(np.int32),
}
_LISTS = frozenset({"levels", "numbers", "codes", "map"})
_NUMBERS = frozenset({"float", "int", "int32"})
_CODECS: dict[str, str] = {
    "time": "CODEC(Delta, ZSTD(1))",
    "float": "CODEC(ZSTD(1))",
    "int": "CODEC(Delta, ZSTD(1))",
    "text": "CODEC(ZSTD(1))",
    "bytes": "CODEC(ZSTD(1))",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One column.

    Parameters
    ----------
    name
        Column name, the same on the wire, in the archive and in ClickHouse.
    kind
        What it holds; see `Kind`. `time` is int64 UTC nanoseconds. `symbol` is a string that
        repeats (dictionary-encoded), `levels` one number per price level.
    doc
        One line: meaning and unit.
    nullable
        Whether a missing value is allowed. It is stored as null, never as a stand-in.
    enum
        The vocabulary of an `enum` field.
    positive
        The value must be finite and above zero.
    non_negative
        The value must be finite and not below zero.
    provenance
        It tells how the row came about in this process, not what the row says: two runs may differ in it. It is text,
        empty where it is not known, and neither part of a key nor of a digest.

    Raises
    ------
    ValueError
        The kind does not allow one of the others.
    """

    name: str
    kind: Kind
    doc: str
    nullable: bool = False
    enum: type[IntEnum] | None = None
    positive: bool = False
    non_negative: bool = False
    provenance: bool = False

    def __post_init__(self) -> None:
        if (self.kind == "enum") != (self.enum is not None):
            raise ValueError(f"field `{self.name}`: expected an enumeration with kind `enum` only, was {self.enum}")
        if self.enum is not None and not all(-128 <= member.value <= 127 for member in self.enum):
            raise ValueError(f"field `{self.name}`: expected values within 8 bits, was {list(self.enum)}")
        if self.nullable and self.kind in _LISTS:
            raise ValueError(f"field `{self.name}`: expected a list that is not nullable; ClickHouse knows none")
        if (self.positive or self.non_negative) and self.kind not in _NUMBERS:
            raise ValueError(f"field `{self.name}`: expected a number where a sign is asked for, was `{self.kind}`")
        if self.provenance and (self.kind != "text" or self.nullable):
            raise ValueError(f"field `{self.name}`: expected provenance as text that is not nullable")

    @property
    def arrow(self) -> pa.Field:
        """The Arrow field."""
        return pa.field(self.name, _ARROW[self.kind], nullable=self.nullable)

    @property
    def clickhouse(self) -> str:
        """The ClickHouse type."""
        if self.enum is not None:
            members = ", ".join(f"'{member.name.lower()}' = {member.value}" for member in self.enum)
            base = f"Enum8({members})"
        else:
            base = _CLICKHOUSE[self.kind]
        if not self.nullable:
            return base
        return "LowCardinality(Nullable(String))" if self.kind == "symbol" else f"Nullable({base})"

    @property
    def codec(self) -> str:
        """The ClickHouse codec clause, empty for the default."""
        return _CODECS.get(self.kind, "")


@dataclass(frozen=True)
class Schema:
    """A record or table: ordered fields, its natural key, and what one row is.

    Parameters
    ----------
    name
        Topic or table name.
    doc
        What one row is.
    fields
        The columns in order.
    key
        Names of the natural key, in sorting order. Two rows with one key are the same row.
    version
        Raised by every breaking change.

    Examples
    --------
    >>> point = Schema("point", "One point.", (Field("ts", "time", "when"), Field("x", "float", "metres")), ("ts",))
    >>> point.names
    ('ts', 'x')
    >>> point.arrow.field("x").type
    DataType(double)
    """

    name: str
    doc: str
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    version: int = 1

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"schema `{self.name}`: expected distinct field names, was {names}")
        if not set(self.key) <= set(names):
            raise ValueError(f"schema `{self.name}`: expected a key among {names}, was {self.key}")
        if set(self.key) & {field.name for field in self.provenance}:
            raise ValueError(f"schema `{self.name}`: expected a key without provenance, was {self.key}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(field.name for field in self.fields)

    @property
    def provenance(self) -> tuple[Field, ...]:
        """Fields that tell how a row came about; writers add them."""
        return tuple(field for field in self.fields if field.provenance)

    @cached_property
    def computed(self) -> tuple[Field, ...]:
        """Fields that are computed from the input: all but the run and the provenance."""
        return tuple(field for field in self.fields if field.name != "run_id" and not field.provenance)

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema; its metadata carries name and version."""
        metadata = {"signalbox.schema": self.name, "signalbox.version": str(self.version)}
        return pa.schema([field.arrow for field in self.fields], metadata=metadata)

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """The numpy structured dtype of the fixed-width columns; a symbol is its dictionary code."""
        return np.dtype([(field.name, _NUMPY[field.kind]) for field in self.fields if field.kind in _NUMPY])

    def field(self, name: str) -> Field:
        """Return one field by name.

        Raises
        ------
        KeyError
            The schema has no such field.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"schema `{self.name}`: expected one of {self.names}, was `{name}`")

    def empty(self) -> pa.RecordBatch:
        """Return a batch of no rows."""
        return pa.RecordBatch.from_arrays([pa.array([], type=field.type) for field in self.arrow], schema=self.arrow)
