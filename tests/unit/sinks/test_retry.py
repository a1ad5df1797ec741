"""Bounded retries."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dataflows.settings import SinkConfig
from schemas.errors import StorageError, TransientError
from sinks.retry import Backoff


def _failing(times: int) -> tuple[list[int], object]:
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise TransientError(f"failure {len(calls)}")
        return "stored"

    return calls, call


def test_success_after_failures_is_returned_with_doubling_delays() -> None:
    delays: list[float] = []
    backoff = Backoff(attempts=6, first_delay=1.0, max_delay=5.0, sleep=delays.append)
    calls, call = _failing(4)
    assert backoff.run(call) == "stored"  # type: ignore[arg-type]
    assert delays == [1.0, 2.0, 4.0, 5.0]
    assert (len(calls), backoff.retries) == (5, 4)


@pytest.mark.parametrize("attempts", [1, 3])
def test_last_failure_is_raised_as_storage_error(attempts: int) -> None:
    delays: list[float] = []
    calls, call = _failing(99)
    with pytest.raises(StorageError, match=f"failure {attempts} .gave up after {attempts} attempts"):
        Backoff(attempts=attempts, sleep=delays.append).run(call)  # type: ignore[arg-type]
    assert len(calls) == attempts
    assert len(delays) == attempts - 1


def test_permanent_error_is_not_repeated() -> None:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        raise StorageError("no such table")

    with pytest.raises(StorageError, match="no such table"):
        Backoff(sleep=lambda _: None).run(call)
    assert len(calls) == 1


def test_default_delays_are_bounded() -> None:
    delays: list[float] = []
    _, call = _failing(99)
    with pytest.raises(StorageError, match="gave up"):
        Backoff(sleep=delays.append).run(call)  # type: ignore[arg-type]
    assert sum(delays) == pytest.approx(11.3)


@pytest.mark.parametrize("seconds", [1, 13, 60, 120, 3600])
def test_patience_is_how_long_it_goes_on_at_least(seconds: int) -> None:
    delays: list[float] = []
    backoff = Backoff.lasting(timedelta(seconds=seconds))
    backoff.sleep = delays.append
    _, call = _failing(10_000)
    with pytest.raises(StorageError, match="gave up"):
        backoff.run(call)  # type: ignore[arg-type]
    assert seconds <= sum(delays) <= seconds + 5


def test_default_patience_of_a_live_run_outlasts_a_minute() -> None:
    assert Backoff.lasting(SinkConfig().patience).seconds > 2 * 60


def test_retries_are_told_of_when_they_begin_and_end(caplog: pytest.LogCaptureFixture) -> None:
    _, call = _failing(3)
    Backoff(sleep=lambda _: None).run(call)  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [
        "failure 1; trying again for 11 s",
        "attempt 4 succeeded",
    ]
