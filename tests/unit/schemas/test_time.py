"""Times and durations: exact both ways, and nothing is guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError
from schemas.time import duration_ns, format_duration, format_time, parse_duration, parse_time

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(ts=INT64)
def test_time_written_and_read_is_the_same(ts):
    assert parse_time(format_time(ts)) == ts


@given(
    moment=st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)),  # noqa: DTZ001
    minutes=st.integers(-23 * 60, 23 * 60),
)
def test_time_in_any_zone_is_its_utc(moment, minutes):
    there = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    since = there.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_time(there.isoformat()) == since // timedelta(microseconds=1) * 1_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:00.1Z", 100_000_000),
        ("1970-01-01T00:00:00.1234567891239Z", 123_456_789),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000),
        ("1970-01-01 00:00:01-00:00", 10**9),
    ],
)
def test_time_known_text_is_its_nanoseconds(text, nanoseconds):
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize("text", ["2024-01-02T14:30:00", "2024-01-02T14:30:00.123456789", "2024-01-02"])
def test_time_without_zone_is_refused(text):
    with pytest.raises(DataError, match=r"expected a time with its zone, was .*; add `Z` or an offset") as caught:
        parse_time(text)
    assert caught.value.reason == "naive_time"


@pytest.mark.parametrize(
    "text",
    ["", "now", "1723161253", "2024-13-01T00:00:00Z", "2024-01-02T14:30:60Z", "2024-01-02T14:30:00+25:00",
     "2024-01-02T14:30:00+00:00:00.5", "2024-01-02T14:30:00+00:00:30", "2024-01-02T14:30:00 UTC"],
)  # fmt: skip
def test_time_that_is_none_is_refused(text):
    with pytest.raises(DataError, match="expected an RFC 3339 time, was") as caught:
        parse_time(text)
    assert caught.value.reason == "wrong_type"


@given(microseconds=st.integers(-3_000_000_000_000_000, 3_000_000_000_000_000))
def test_duration_written_and_read_is_the_same(microseconds):
    duration = timedelta(microseconds=microseconds)
    assert duration_ns(duration) == microseconds * 1_000
    assert parse_duration(format_duration(duration_ns(duration))) == duration


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("1000ns", 1_000), ("1us", 1_000), ("0.1ms", 100_000), ("2.5s", 2_500_000_000), ("90m", 5_400 * 10**9),
     ("1.1h", 3_960 * 10**9), ("36525d", 36_525 * 86_400 * 10**9), ("0s", 0), ("-30m", -1_800 * 10**9)],
)  # fmt: skip
def test_duration_known_text_is_its_nanoseconds(text, nanoseconds):
    assert duration_ns(parse_duration(text)) == nanoseconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 s", " 5s", "5S", "5sec", "1e3s", "1_0s", "nan", "infs", ".5s", "5.s", "--5s", "\uff11s", "5s\n"],
)
def test_duration_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"expected a number and one of .* such as `1m`, was"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["1ns", "1500ns", "1.0000001s", "0.5us"])
def test_duration_below_a_microsecond_is_refused_not_rounded(text):
    with pytest.raises(ValueError, match="expected whole microseconds, was"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36526d", "-36526d", "99999999999999999999d", "9" * 400 + "s"])
def test_duration_beyond_a_century_is_refused(text):
    with pytest.raises(ValueError, match="expected at most 36525d, was"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0ns"), (1_000, "1us"), (1_500_000_000, "1500ms"), (90 * 10**9, "90s"), (7 * 86_400 * 10**9, "7d")],
)
def test_duration_is_written_in_the_largest_whole_unit(nanoseconds, text):
    assert format_duration(nanoseconds) == text
