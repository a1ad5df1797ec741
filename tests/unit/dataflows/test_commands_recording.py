"""What `signalbox record` decides before it records."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from dataflows.commands.recording import _stopping_on_signals, parse_rolling, parse_start
from dataflows.recording import RecordResult, Rolling
from schemas.enums import RunStatus
from schemas.errors import ConfigError


def test_rolling_of_an_age_and_records():
    assert parse_rolling("90s", 7) == Rolling(age=timedelta(seconds=90), rows=7)


@pytest.mark.parametrize(
    ("age", "message"),
    [
        ("soon", r"`--roll`: expected a number and one of"),
        ("10ms", r"`--roll`: expected at least 1s, found `10ms`"),
        ("-1m", r"`--roll`: expected at least 1s, found `-1m`"),
    ],
)
def test_rolling_of_no_duration_is_refused(age, message):
    with pytest.raises(ConfigError, match=message):
        parse_rolling(age, 1)


def test_start_is_rounded_up_to_what_a_time_can_tell():
    assert parse_start(None) is None
    assert parse_start("2026-03-01T00:00:00Z") == datetime(2026, 3, 1, tzinfo=UTC)
    assert parse_start("2026-03-01T01:00:00.000000001+01:00") == datetime(2026, 3, 1, 0, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "2026-03-01T00:00:00"])
def test_start_without_a_zone_or_no_time_is_refused(text):
    with pytest.raises(ConfigError, match=r"`--from`: expected"):
        parse_start(text)


def test_first_signal_stops_and_the_second_has_its_usual_way():
    stop, before = Event(), signal.getsignal(signal.SIGTERM)
    with _stopping_on_signals(stop):
        assert signal.getsignal(signal.SIGTERM) is not before
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGTERM) is before


def test_result_of_no_time_has_no_rate():
    result = RecordResult(RunStatus.STOPPED, False, {"trades": 3}, 1, 0, {"trades/0": 2}, {"trades/0": 3}, 0.0)
    assert (result.records, result.rows_per_second) == (3, 0.0)
    assert result.to_json()["status"] == "stopped"
