"""Text of the report: what comes from outside cannot act, whatever it holds."""

from __future__ import annotations

import html
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.report.text import clock, duration, json_block, moment, number, plot_text, sql_text, visible
from schemas.time import format_time


@given(st.one_of(st.text(), st.binary()), st.integers(1, 40))
def test_visible_of_any_text_is_printable_and_bounded(value: str | bytes, limit: int) -> None:
    shown = visible(value, limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 1


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=50))
def test_visible_of_printable_text_is_the_text(text: str) -> None:
    assert visible(text) == visible(text.encode()) == text


def test_visible_of_invisible_characters_shows_escapes() -> None:
    assert visible("a\u202eb\u200b\x1b[0m\r\n") == r"a\u202eb\u200b\x1b[0m\r\n"


def test_visible_of_cut_utf8_keeps_the_whole_characters() -> None:
    assert visible("äö".encode()[:3]) == r"ä\xc3"


@given(st.text())
def test_plot_text_of_any_text_has_no_markup_and_reads_the_same(text: str) -> None:
    escaped = plot_text(text)
    assert "<" not in escaped
    assert ">" not in escaped
    assert html.unescape(escaped) == html.unescape(html.escape(text))


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_block_of_any_text_cannot_end_its_script_and_reads_the_same(content: object) -> None:
    block = str(json_block(content))
    assert not set("<>&") & set(block)
    assert json.loads(block) == content


def test_json_block_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        json_block([float("nan")])


@given(st.text())
def test_sql_text_of_any_text_is_one_printable_literal(text: str) -> None:
    literal = sql_text(text)
    inner = re.sub(r"\\\\|\\'|\\x[0-9a-f]{2}", "", literal[1:-1])
    assert (literal[0], literal[-1]) == ("'", "'")
    assert "'" not in inner
    assert "\\" not in inner


@given(st.integers(0, 4 * 10**18))
def test_clock_and_moment_of_a_time_are_its_beginning(ts: int) -> None:
    assert format_time(ts).replace("T", " ").startswith(clock(ts))
    assert clock(ts).startswith(moment(ts))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0s"), (59, "59s"), (60, "1m"), (3_600, "1h"), (3_601, "1h"), (90_061, "1d 1h")]
)
def test_duration_of_seconds_names_two_units(seconds: int, expected: str) -> None:
    assert duration(seconds * 10**9) == expected


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_number_without_a_value_is_a_dash(value: float | None) -> None:
    assert number(value) == "—"
