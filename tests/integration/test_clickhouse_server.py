"""The same store behind a URL: the HTTP transport, retries and secrets."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from schemas.enums import RunStatus
from schemas.errors import StorageError
from sinks.query import run_query
from sinks.retry import Backoff
from sinks.store import OUTPUT_TABLES, Run, RunCount, Store
from tests.services.clickhouse_http import Fault

Rows = Callable[..., pa.Table]


def test_server_store_does_what_the_embedded_one_does(
    http_clickhouse: Any, bar_rows: Rows, feature_rows: Rows, signal_rows: Rows
) -> None:
    with Store.open(http_clickhouse.url) as store:
        store.start_run(Run("run", "0.1.0", "cfg", "set", ("a",), "{}", "kafka"))
        for _ in range(2):
            store.insert("bars", bar_rows(50))
            store.insert("features", feature_rows({"a": [1.0, float("nan")]}))
            store.insert("signals", signal_rows([2]))
        store.write_counts("run", [RunCount("read", "trades", "", 4)])
        store.finish_run("run", RunStatus.COMPLETE)
        assert store.run_status("run") is RunStatus.COMPLETE
        rows = {name: found.rows for name, found in store.digest("run").items()}
        assert rows == dict.fromkeys(OUTPUT_TABLES, 0) | {"bars": 50, "features": 2, "signals": 1}
        out = io.BytesIO()
        run_query(store, "SELECT a FROM features ORDER BY ts", "json", out=out)
        assert json.loads(out.getvalue()) == [{"a": 1.0}, {"a": None}]
        with pytest.raises(StorageError, match=r"(?i)readonly"):
            run_query(store, "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')", out=out)


def test_two_clients_share_a_server_and_its_migrations(http_clickhouse: Any, bar_rows: Rows) -> None:
    with Store.open(http_clickhouse.url) as one, Store.open(http_clickhouse.url, read_only=True) as two:
        one.insert("bars", bar_rows(5))
        assert two.digest("run") == one.digest("run")
        with pytest.raises(StorageError, match=r"(?i)readonly"):
            two.insert("bars", bar_rows(5))


def test_transient_failures_are_retried_with_growing_delays(http_clickhouse: Any, bar_rows: Rows) -> None:
    delays: list[float] = []
    backoff = Backoff(attempts=5, first_delay=0.1, max_delay=0.3, sleep=delays.append)
    with Store.open(http_clickhouse.url, backoff=backoff) as store:
        http_clickhouse.faults[:] = [Fault(code=252), Fault(code=209), Fault(code=241)]
        store.insert("bars", bar_rows(5))
        assert store.connection.rows("SELECT count() FROM bars") == [(5,)]
    assert delays == [0.1, 0.2, 0.3]
    assert backoff.retries == 3


@pytest.mark.parametrize(
    "fault",
    [Fault(status=status, code=None) for status in (429, 502, 503, 504)] + [Fault(code=code) for code in (236, 394)],
)
def test_restart_behind_a_proxy_is_transient(http_clickhouse: Any, bar_rows: Rows, fault: Fault) -> None:
    with Store.open(http_clickhouse.url, backoff=Backoff(sleep=lambda _: None)) as store:
        http_clickhouse.faults[:] = [fault] * 6  # the client tries again too
        store.insert("bars", bar_rows(5))
        assert store.connection.rows("SELECT count() FROM bars") == [(5,)]


def test_transient_failures_end_after_the_last_attempt(http_clickhouse: Any, bar_rows: Rows) -> None:
    delays: list[float] = []
    with Store.open(http_clickhouse.url, backoff=Backoff(attempts=3, sleep=delays.append)) as store:
        http_clickhouse.faults[:] = [Fault(code=252)] * 10
        with pytest.raises(StorageError, match=r"bars_data.*out of order.*gave up after 3 attempts"):
            store.insert("bars", bar_rows(5))
        assert len(http_clickhouse.faults) == 7
    assert len(delays) == 2


def test_permanent_failure_is_raised_at_once(http_clickhouse: Any, bar_rows: Rows) -> None:
    with Store.open(http_clickhouse.url) as store:
        before = http_clickhouse.inserts
        http_clickhouse.faults[:] = [Fault(code=60)]
        with pytest.raises(StorageError, match=r"bars_data.*out of order") as found:
            store.insert("bars", bar_rows(5))
        assert http_clickhouse.inserts == before + 1
    assert "gave up" not in str(found.value)


def test_password_is_in_no_message(http_clickhouse: Any) -> None:
    right = "s3cret-word"
    with Store.open(http_clickhouse.url) as store:
        assert right not in store.location
        assert right not in repr(store.connection.location)
    with pytest.raises(StorageError, match=r"AUTHENTICATION_FAILED") as found:
        Store.open(http_clickhouse.url.replace(right, "other-word"))
    assert "other-word" not in str(found.value)
