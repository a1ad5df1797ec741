"""One field, every form: Arrow, numpy and ClickHouse say the same."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from schemas.enums import Side
from schemas.fields import Field, Kind, Schema

KINDS = get_args(Kind)
CLICKHOUSE = {
    "time": "DateTime64(9, 'UTC')",
    "float": "Float64",
    "int": "Int64",
    "int32": "Int32",
    "bool": "Bool",
    "symbol": "LowCardinality(String)",
    "text": "String",
    "bytes": "String",
    "enum": "Enum8('unknown' = 0, 'buy' = 1, 'sell' = -1)",
    "levels": "Array(Float64)",
    "numbers": "Array(Float64)",
    "codes": "Array(UInt8)",
    "map": "Map(String, Float64)",
}
EXAMPLE: dict[str, Any] = {
    "time": 5, "float": 1.5, "int": 2**62, "int32": 7, "bool": True, "symbol": "A", "text": "a", "bytes": b"\xff",
    "enum": -1, "levels": [1.0], "numbers": [2.0], "codes": [3], "map": [("a", 1.0)],
}  # fmt: skip
LISTS = ("levels", "numbers", "codes", "map")


def make(kind: str, **options: Any) -> Field:
    return Field("x", kind, "a column", enum=Side if kind == "enum" else None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_field_every_kind_has_every_form(kind):
    field = make(kind)
    assert field.clickhouse == CLICKHOUSE[kind]
    assert field.arrow.name == "x"
    assert not field.arrow.nullable
    values = pa.array([EXAMPLE[kind]], type=pa.string()).dictionary_encode() if kind == "symbol" else None
    array = values if values is not None else pa.array([EXAMPLE[kind]], type=field.arrow.type)
    assert array.cast(field.arrow.type).to_pylist()[0] is not None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (*LISTS, "text", "bytes")])
def test_field_numpy_holds_what_arrow_holds(kind):
    dtype = Schema("s", "d", (make(kind),), ("x",)).dtype["x"]
    arrow = make(kind).arrow.type
    stored = arrow.index_type if pa.types.is_dictionary(arrow) else arrow
    if kind == "time":
        stored = pa.int64()
    assert pa.from_numpy_dtype(dtype) == stored


@pytest.mark.parametrize("kind", KINDS)
def test_field_clickhouse_integers_and_floats_have_the_width_of_arrow(kind):
    widths = {"Int64": pa.int64(), "Int32": pa.int32(), "Float64": pa.float64(), "Bool": pa.bool_()}
    if CLICKHOUSE[kind] in widths:
        assert make(kind).arrow.type == widths[CLICKHOUSE[kind]]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in LISTS])
def test_field_nullable_is_nullable_in_every_form(kind):
    field = make(kind, nullable=True)
    assert field.arrow.nullable
    expected = "LowCardinality(Nullable(String))" if kind == "symbol" else f"Nullable({CLICKHOUSE[kind]})"
    assert field.clickhouse == expected


@pytest.mark.parametrize("kind", LISTS)
def test_field_nullable_list_is_refused(kind):
    """ClickHouse has no nullable arrays: an empty one would stand in for a missing one."""
    with pytest.raises(ValueError, match="field `x`: expected a list that is not nullable"):
        make(kind, nullable=True)


def test_field_enum_without_vocabulary_is_refused():
    with pytest.raises(ValueError, match="field `x`: expected an enumeration with kind `enum`"):
        Field("x", "enum", "a column")


def test_field_vocabulary_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="field `x`: expected an enumeration with kind `enum`"):
        Field("x", "int", "a column", enum=Side)


def test_field_vocabulary_beyond_eight_bits_is_refused():
    wide = IntEnum("wide", {"BIG": 128})
    with pytest.raises(ValueError, match="field `x`: expected values within 8 bits"):
        Field("x", "enum", "a column", enum=wide)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("float", "int", "int32")])
def test_field_sign_of_what_is_no_number_is_refused(kind):
    with pytest.raises(ValueError, match="field `x`: expected a number where a sign is asked for"):
        make(kind, positive=True)


def test_schema_repeated_name_is_refused():
    with pytest.raises(ValueError, match="schema `s`: expected distinct field names"):
        Schema("s", "d", (make("int"), make("float")), ())


def test_schema_key_that_is_no_field_is_refused():
    with pytest.raises(ValueError, match="schema `s`: expected a key among"):
        Schema("s", "d", (make("int"),), ("y",))


def test_schema_field_that_it_lacks_is_named():
    with pytest.raises(KeyError, match=r"schema `s`: expected one of .* was `y`"):
        Schema("s", "d", (make("int"),), ()).field("y")


def test_schema_metadata_says_name_and_version():
    schema = Schema("s", "d", (make("int"),), (), version=3)
    assert schema.arrow.metadata == {b"signalbox.schema": b"s", b"signalbox.version": b"3"}
    assert schema.empty().schema == schema.arrow
    assert schema.empty().num_rows == 0
    assert schema.field("x") == schema.fields[0]
    assert schema.dtype == np.dtype([("x", np.int64)])
