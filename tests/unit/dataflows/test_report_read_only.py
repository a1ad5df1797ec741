"""The report of a database that may only be read, where the session returns text in another type."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from dataflows.report import build_report
from schemas.enums import RunStatus
from schemas.tables import DEAD_LETTERS, SIGNALS
from sinks.store import Run, Store


def _fill(store: Store) -> None:
    store.start_run(Run("run", "1", "c", "f", ("x",), "{}", "test"))
    signal = {
        "run_id": "run", "signal_id": "1", "instrument_id": "A", "ts": 10**18, "strategy": "s", "direction": 1,
        "intent": 1, "confidence": 0.5, "price": 2.0, "parameters_hash": "p", "feature_set": "f", "reason": "why",
        "inputs": [("x", 1.0)], "thresholds": [("limit", 2.0)],
    }  # fmt: skip
    store.insert("signals", pa.Table.from_pylist([signal], schema=SIGNALS.arrow))
    letter = {
        "run_id": "run", "topic": "trades", "partition": 0, "offset": 1, "ts_recv": 1, "instrument_id": None,
        "reason": "malformed", "detail": "d", "payload": b"\xff\x00<b>",
    }  # fmt: skip
    store.insert("dead_letters", pa.Table.from_pylist([letter], schema=DEAD_LETTERS.arrow))
    store.finish_run("run", RunStatus.COMPLETE)


def test_report_of_a_database_that_may_only_be_read_has_the_same_bytes(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "db")) as store:
        _fill(store)
        expected = build_report(store, "run", tmp_path / "report.html").read_bytes()
    assert rb"\xff\x00&lt;b&gt;" in expected
    with Store.open(str(tmp_path / "db"), read_only=True) as store:
        assert build_report(store, "run", tmp_path / "again.html").read_bytes() == expected
