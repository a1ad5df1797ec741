"""What a run exports over OTLP/HTTP, to an endpoint that answers, that does not, and that refuses."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.run import cli_main

from dataflows.graph import build_graph
from dataflows.settings import Settings
from dataflows.simulator import FaultConfig, SimulatorConfig, simulate
from dataflows.sources.archive import ArchiveSource
from dataflows.telemetry import TelemetryConfig, register_source, start_telemetry
from schemas.metrics import CATALOGUE, PUBLISH_FAILURES, PUBLISH_LATENCY, PUBLISHED_RECORDS, Histogram
from schemas.telemetry import span
from sinks.archive import Archive
from sinks.store import OUTPUT_TABLES, Run, Store
from sinks.tables import TableSink
from sinks.writer import BufferedWriter
from tests.services.otlp import Endpoint, serve_otlp
from tests.short_windows import ACROSS, EVENT_BARS

OF_PUBLISHING = {metric.name for metric in (PUBLISHED_RECORDS, PUBLISH_FAILURES, PUBLISH_LATENCY)}
"""Metrics that need a broker; see `kafka/test_telemetry_kafka.py`."""
CONSUMER, CLIENT = 5, 3


class WatchedArchive(ArchiveSource):
    """An archive that is behind as a broker's partition can be, and whose first record came out of order."""

    behind = 7

    def lag(self) -> dict[str, int]:
        return dict.fromkeys(self.sources, self.behind)

    def clocks(self) -> dict[str, int]:
        return dict.fromkeys(self.sources, time.time_ns() - 5 * 10**9)

    def queued(self) -> dict[str, int]:
        return dict.fromkeys(self.sources, 1000)

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> Any:
        part = super().build_part(step_id, for_part, resume_state)
        deliver, first = part.next_batch, iter([1])

        def next_batch() -> Any:
            return [replace(arrival, order_violations=next(first, 0)) for arrival in deliver()]

        part.next_batch = next_batch  # type: ignore[method-assign]
        return part


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A minute of three instruments, ten minutes ago, with faults."""
    archive = Archive.create(tmp_path_factory.mktemp("telemetry") / "archive")
    faults = FaultConfig(duplicate_trades=2, late_trades=2, late_by="30s", malformed=2, sequence_gaps=2)
    market: dict[str, Any] = {
        "seed": 3, "instruments": 3, "duration": "1m", "trade_rate": 2.0, "book_rate": 2.0,
        "snapshot_interval": "20s", "news_rate": 60.0, "faults": faults,
        "start": datetime.now(UTC) - timedelta(minutes=10),
    }  # fmt: skip
    simulate(SimulatorConfig(**market), archive)
    return archive


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serve_otlp() as serving:
        yield serving


@pytest.fixture
def config(endpoint: Endpoint) -> TelemetryConfig:
    return TelemetryConfig(endpoint=endpoint.url, metrics_interval="100ms", headers={"authorization": "Bearer x"})


SETTINGS = Settings.model_validate({
    "shards": 2,
    "compute": {
        "bars": {"intervals": ["1s"]},
        "event_bars": EVENT_BARS,
        "strategies": {
            "enabled": ["mean_reversion", "microstructure_alpha"],
            "mean_reversion": {"interval": "1s", "entry_zscore": 1.0},
            "microstructure_alpha": {"entry_zscore": 1.0, "cooldown": "0s"},
        },
    },
    **ACROSS,
})  # fmt: skip


def run(archive: Archive, store: Store, telemetry: TelemetryConfig | None, *, batch_rows: int = 300) -> None:
    source = WatchedArchive(archive, batch_rows=batch_rows)
    features = tuple(name for name in _features())
    store.start_run(Run("r", "v", "c", "f", features, "{}", "s"))
    with start_telemetry(telemetry, "r", "p0") if telemetry else nullcontext():
        register_source(source)
        writer = BufferedWriter(store, run_id="r")
        with writer:
            flow = build_graph(SETTINGS, source, source.sources, TableSink(lambda: writer))
            cli_main(flow, epoch_interval=timedelta(milliseconds=50))


def _features() -> tuple[str, ...]:
    from operators.feature_engine import feature_set

    return feature_set(SETTINGS.compute).names


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Return a function that runs the archive into a database of its own, with telemetry or without."""
    opened: list[Store] = []

    def make(archive: Archive, telemetry: TelemetryConfig | None, **options: Any) -> Store:
        for store in opened:
            store.close()
        opened.append(Store.open(str(tmp_path / f"database-{len(opened)}")))
        run(archive, opened[-1], telemetry, **options)
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def test_spans_of_a_trace_lead_from_delivery_to_insert(stored, archive, endpoint, config):
    store = stored(archive, config)
    spans = {span.span_id: span for span in endpoint.spans}
    stages: dict[str, int] = {}
    for found in endpoint.spans:
        stages[found.name.split()[0]] = stages.get(found.name.split()[0], 0) + 1
        if found.parent_id:
            parent = spans[found.parent_id]
            assert parent.trace_id == found.trace_id
            expected = {"decode": "receive", "align": "decode", "compute": "align", "insert": ("compute", "decode")}
            assert parent.name.startswith(expected[found.name.split()[0]])
        else:
            assert found.name.split()[0] in ("receive", "compute")
        assert len(found.links) <= 8
        assert found.trace_id not in found.links
    assert set(stages) == {"receive", "decode", "align", "compute", "insert"}
    assert stages["receive"] == stages["decode"]

    insert = next(span for span in endpoint.spans if span.name == "insert signals")
    path = [insert]
    while path[-1].parent_id:
        path.append(spans[path[-1].parent_id])
    assert [span.name.split()[0] for span in path] == ["insert", "compute", "align", "decode", "receive"]
    assert path[-1].kind == CONSUMER
    assert insert.kind == CLIENT
    assert insert.attributes["signalbox.rows"] > 1
    assert "db.operation.batch.size" not in insert.attributes
    aligned = [span for span in endpoint.spans if span.name == "align"]
    assert any(span.links for span in aligned), "a frame is made of several topics' arrivals"

    traces = {span.trace_id for span in endpoint.spans}
    for table in ("signals", "dead_letters"):
        rows = store.connection.rows(f"SELECT trace_id, count() FROM {table} GROUP BY trace_id")
        assert rows
        assert {trace for trace, _ in rows} <= traces


def test_every_metric_of_the_catalogue_arrives_and_no_other(stored, archive, endpoint, config):
    store = stored(archive, config)
    assert set(endpoint.metrics) == set(CATALOGUE) - OF_PUBLISHING
    for name, points in endpoint.metrics.items():
        metric = CATALOGUE[name]
        closed = {attribute.name: attribute.values for attribute in metric.attributes if attribute.values}
        for point in points:
            assert point["unit"] == metric.unit
            assert list(point["attributes"]) == [attribute.name for attribute in metric.attributes]
            assert all(point["attributes"][key] in values for key, values in closed.items()), point
            if isinstance(metric, Histogram):
                assert point["bounds"] == list(metric.bounds)
            else:
                assert point["monotonic"] == (metric.kind in ("counter", "observed counter"))

    counts = {(row.kind, row.subject, row.reason): row.count for row in store.counts("r")}
    for kind, name in (("read", "read"), ("decoded", "decoded"), ("dead_lettered", "dead_lettered"), ("late", "late")):
        expected = {key[1:]: count for key, count in counts.items() if key[0] == kind}
        found = endpoint.values(f"signalbox.records.{name}")
        assert {(topic, *(reason or [""])): int(n) for (topic, *reason), n in found.items()} == expected
    assert endpoint.values("signalbox.records.order_violations") == {(topic,): 1 for topic in archive.topics()}
    rows = endpoint.values("signalbox.sink.rows")
    assert rows[("signals",)] == store.connection.rows("SELECT count() FROM signals")[0][0]
    assert endpoint.values("signalbox.source.lag.records")[("trades",)] == 7
    assert 4 < endpoint.values("signalbox.source.lag.duration")[("trades",)] < 30
    assert 4 < endpoint.values("signalbox.watermark.lag")[()] < 30
    assert endpoint.values("signalbox.align.held") == {(): 0}
    assert endpoint.values("signalbox.sink.queue.rows") == {(): 0}
    assert endpoint.values("signalbox.state.instruments") == {(): 3}
    (latency,) = [
        p for p in endpoint.metrics["signalbox.sink.latency"] if p["attributes"]["signalbox.table"] == "bars"
    ][-1:]
    assert 500 < latency["sum"] / latency["value"] < 700


def test_resource_and_headers_are_as_configured(stored, archive, endpoint, config):
    stored(archive, config.model_copy(update={"resource": {"deployment.environment.name": "test"}}))
    for about in endpoint.resources:
        assert about["service.name"] == "signalbox"
        assert about["service.instance.id"] == "r/p0"
        assert about["signalbox.run.id"] == "r"
        assert about["deployment.environment.name"] == "test"
    assert {headers["authorization"] for headers in endpoint.headers} == {"Bearer x"}


def test_rows_are_the_same_with_telemetry_and_without(stored, archive, config):
    without = stored(archive, None)
    expected = without.digest("r")
    assert without.connection.rows("SELECT DISTINCT trace_id FROM signals") == [("",)]
    assert stored(archive, config).digest("r") == expected
    assert all(expected[table].rows for table in OUTPUT_TABLES)


def test_share_of_traces_is_kept_whole(stored, archive, endpoint, config):
    store = stored(archive, config.model_copy(update={"traces": 0.1}), batch_rows=40)
    received = [span for span in endpoint.spans if span.name.startswith("receive")]
    batches = sum(endpoint.values("signalbox.batch.records").values())
    assert 0.02 * batches < len(received) < 0.25 * batches
    ids = {span.span_id for span in endpoint.spans}
    assert all(span.parent_id in ids for span in endpoint.spans if span.parent_id)
    stored_ids = {row[0] for row in store.connection.rows("SELECT DISTINCT trace_id FROM signals")}
    assert "" in stored_ids
    assert stored_ids - {""} <= {span.trace_id for span in endpoint.spans}


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Shown(logging.Handler):
    """What a terminal would show."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_absent_endpoint_leaves_the_run_unaffected(stored, archive):
    expected = stored(archive, None).digest("r")
    absent = TelemetryConfig(endpoint=f"http://127.0.0.1:{_closed_port()}", metrics_interval="100ms")
    began = time.monotonic()
    shown: list[logging.LogRecord] = []
    root = Shown(shown)
    logging.getLogger().addHandler(root)
    try:
        assert stored(archive, absent).digest("r") == expected
    finally:
        logging.getLogger().removeHandler(root)
    assert time.monotonic() - began < 20
    (told,) = [record for record in shown if record.name.startswith(("dataflows.telemetry", "opentelemetry"))]
    assert "found that it does not; the run goes on" in told.getMessage()


def test_endpoint_that_refuses_is_counted(stored, archive, endpoint, config, caplog):
    endpoint.status = 400
    stored(archive, config)
    assert not endpoint.spans
    told = [record for record in caplog.records if record.name == "dataflows.telemetry_export"]
    assert len(told) == 1


def test_failures_are_exported_once_the_endpoint_is_back(endpoint, config):
    endpoint.status = 400
    with start_telemetry(config, "r"):
        endpoint.until(lambda: len(endpoint.headers) > 2)
        endpoint.status = 200
        endpoint.until(lambda: endpoint.values("signalbox.telemetry.export.failures").get(("metrics",), 0) > 1)
    assert endpoint.values("signalbox.telemetry.export.failures")[("traces",)] == 0


def test_endpoint_that_hangs_does_not_hold_up_the_end(endpoint, config):
    endpoint.delay = 60.0
    began = time.monotonic()
    with start_telemetry(config, "r"), span("receive", root=True):
        pass
    assert time.monotonic() - began < 6


def test_log_records_carry_their_span_and_are_exported(endpoint, config):
    logger = logging.getLogger("dataflows.test")
    with start_telemetry(config, "r"):
        with span("decode", root=True) as current:
            logger.warning("a %s", "word")
        logger.warning("outside")
        logging.getLogger("elsewhere").warning("not ours")
    inside, outside = endpoint.logs
    assert inside["body"] == "a word"
    assert inside["severity"] == 13
    assert inside["logger"] == "dataflows.test"
    assert inside["trace_id"] == current.trace[3:35]
    assert outside["trace_id"] == ""
    assert not logger.handlers


def test_log_format_can_show_the_trace(config):
    made = logging.getLogRecordFactory()
    with start_telemetry(config, "r"):
        with span("decode", root=True) as current:
            record = logging.getLogger("dataflows.test").makeRecord("n", 30, "f", 1, "m", (), None)
        assert record.trace_id == current.trace[3:35]
        assert record.span_id == current.trace[36:52]
        after = logging.getLogger("dataflows.test").makeRecord("n", 30, "f", 1, "m", (), None)
        assert (after.trace_id, after.span_id) == ("", "")
    assert logging.getLogRecordFactory() is made


def test_span_of_a_failure_says_so(endpoint, config):
    with start_telemetry(config, "r"), pytest.raises(KeyError), span("decode", root=True):
        raise KeyError("x")
    (found,) = endpoint.spans
    assert found.error
