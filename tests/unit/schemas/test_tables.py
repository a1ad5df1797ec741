"""The output tables: natural keys that name one row."""

from __future__ import annotations

import pytest

from schemas.tables import TABLES

EVERY = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@EVERY
def test_table_key_begins_with_the_run(table):
    assert table.fields[0].name == "run_id"
    assert table.key[0] == "run_id"


@EVERY
def test_table_key_fields_exist_and_are_never_null(table):
    assert len(set(table.key)) == len(table.key)
    for name in table.key:
        assert not table.field(name).nullable
        assert table.field(name).kind in ("symbol", "text", "time", "int", "int32", "enum")


@EVERY
def test_table_says_what_each_column_is(table):
    assert table.doc.endswith(".")
    assert all(field.doc for field in table.fields)


@EVERY
def test_table_is_filed_under_its_name(table):
    assert TABLES[table.name] is table


@EVERY
def test_table_times_say_that_they_are_utc(table):
    for field in table.fields:
        if field.kind == "time":
            assert field.name.startswith("ts")
            assert field.doc.endswith("UTC ns")


@EVERY
def test_table_durations_say_their_unit(table):
    for field in table.fields:
        if field.name.endswith("_ns"):
            assert field.doc.endswith("ns")
