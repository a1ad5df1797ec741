"""How results look: no line too long, no number cut, nothing that a terminal obeys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from sinks.result_table import result_text

TS = "2024-08-08T23:54:13.000000000Z"


def _lines(names, rows, width=80):
    return result_text(names, rows, width).splitlines()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.1 + 0.2, "0.3"),
        (-0.7046252927400468, "-0.704625"),
        (61234.567, "61234.567"),
        (1.08345, "1.08345"),
        (1234567890.5, "1234567890"),
        (0.00001234, "1.234e-05"),
        (1e300, "1e+300"),
        (-0.0, "-0"),
        (True, "true"),
        (None, "-"),
        (18446744073709551615, "18446744073709551615"),
        ({"zscore": -2.3653000341451964, "b": None}, "{zscore: -2.3653, b: -}"),
        ([1, 0.5, "x"], "[1, 0.5, x]"),
        ("\x1b[31mred\u202e", "\\x1b[31mred\\u202e"),
        ("[bold]", "[bold]"),
    ],
)
def test_cell_is_short_and_harmless(value, shown):
    assert _lines(["a"], [[value]])[2] == shown


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([TS, TS], "2024-08-08T23:54:13Z"),
        ([TS, TS.replace(".000", ".250")], "2024-08-08T23:54:13.000Z"),
        ([TS, TS.replace("000Z", "001Z")], TS),
        ([TS, None], "2024-08-08T23:54:13Z"),
    ],
)
def test_times_of_a_column_have_the_decimals_that_it_needs(times, shown):
    assert _lines(["ts"], [[time] for time in times])[2] == shown


def test_table_that_fits_has_a_line_for_each_row():
    assert _lines(["name", "n"], [["a", 5], ["bb", 10]]) == [
        "name    n",
        "─────────",
        "a       5",
        "bb     10",
        "2 rows",
    ]


def test_long_text_gives_way_and_numbers_do_not():
    found = _lines(["text", "n"], [["x" * 500, 123456789012]], 60)
    assert found[2].endswith("…   123456789012")
    assert len(found[2]) == 60


def test_columns_that_do_not_fit_become_records():
    found = _lines([f"c{n}" for n in range(9)], [["0123456789" * 3] * 9] * 2, 60)
    assert found[0] == "row 1"
    assert found[2].split() == ["c0", "0123456789" * 3]
    assert found[-1] == "2 rows"


def test_record_wraps_long_text_and_loses_none():
    text = "".join(chr(ord("a") + n % 26) for n in range(300))
    found = _lines(["key", "number", "text"], [[1, 10**50, text]], 60)
    body = "".join(line[len("number") + 3 :] for line in found[4:-1])
    assert body == text


def test_one_column_keeps_its_lines():
    assert _lines(["plan"], [["first\nsecond"]])[2:4] == ["first", "second"]


def test_line_breaks_beside_other_columns_are_escaped():
    assert _lines(["a", "b"], [["first\nsecond", 1]])[2] == "first\\nsecond   1"


@pytest.mark.parametrize(("rows", "last"), [(0, "0 rows"), (1, "1 row"), (1001, "1001 rows, the first 1000 shown")])
def test_rows_are_counted(rows, last):
    assert _lines(["a"], [[n] for n in range(rows)])[-1] == last


def test_records_beyond_fifty_are_counted():
    found = _lines([f"c{n}" for n in range(9)], [["x" * 30] * 9] * 51, 60)
    assert found[-1] == "51 rows, the first 50 shown"
    assert "row 51" not in found


CELLS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40) | st.just(TS)
RESULTS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=12), min_size=n, max_size=n),
        st.lists(st.lists(CELLS, min_size=n, max_size=n), max_size=5),
    )
)


@settings(max_examples=100, deadline=None)
@given(RESULTS, st.integers(40, 120))
def test_no_line_is_too_long_and_none_holds_a_control_character(result, width):
    names, rows = result
    for line in result_text(names, rows, width).splitlines():
        assert cell_len(line) <= width
        assert line.isprintable()
