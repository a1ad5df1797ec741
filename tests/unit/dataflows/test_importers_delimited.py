"""Blocks of delimited lines: what is blank is no line, wherever the block was cut."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dataflows.importers.delimited import Layout, parse_block

LAYOUT = Layout({"price": pa.float64(), "size": pa.int64()})


@pytest.mark.parametrize("block", [b"", b"\r", b"\r\n", b"\n", b"\r\n\r\n", b" \n"])
def test_parse_block_of_blank_lines_has_no_row(block):
    parsed = parse_block(block, LAYOUT)
    assert (parsed.batch.num_rows, parsed.bad, parsed.lines) == (0, (), [])
    assert parsed.batch.schema.names == list(LAYOUT.types)


@pytest.mark.parametrize("block", [b"1.5,2", b"1.5,2\r\n\r", b"\r\n1.5,2\n", b"\n\n1.5,2\r\n"])
def test_parse_block_skips_blank_lines(block):
    parsed = parse_block(block, LAYOUT)
    assert parsed.batch.to_pylist() == [{"price": 1.5, "size": 2}]
    assert parsed.raw(0) == b"1.5,2"
    assert not parsed.bad


def test_parse_block_keeps_the_lines_that_do_not_fit():
    parsed = parse_block(b"1.5,2\nx,3\n4\n5.5,6\n", LAYOUT)
    assert parsed.floats("price").tolist() == [1.5, 5.5]
    assert [parsed.raw(row) for row in range(2)] == [b"1.5,2", b"5.5,6"]
    assert [(bad.raw, bad.error) for bad in parsed.bad] == [
        (b"x,3", "wrong_type: expected `price` to be a number"),
        (b"4", "malformed: expected 2 fields"),
    ]
