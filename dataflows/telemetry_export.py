"""Sets up OpenTelemetry's SDK for one run and takes it down again, whether the endpoint answers or not."""

from __future__ import annotations

import logging
import os
import resource as usage
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Final

from opentelemetry._logs import LogRecord as OtelLogRecord
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import get_current
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from dataflows.telemetry import TelemetryConfig
from schemas.metrics import EXPORT_FAILURES, PROCESS_CPU, PROCESS_MEMORY
from schemas.telemetry import add, installed, observe
from schemas.time import duration_ns

__all__ = ["exporting"]

_LOG = logging.getLogger(__name__)
_PACKAGES: Final = ("dataflows", "operators", "sinks", "models", "schemas")
_QUEUE: Final = 8192
"""Spans, or log records, that wait for an export: some 10 MB, and seconds of a busy graph."""
_BATCH: Final = 512
_EVERY_MS: Final = 1000
_TIMEOUT: Final = 5.0
"""Seconds that an export may take with its retries; what it held is then dropped."""
_FLUSH: Final = 3.0
"""Seconds that the end of a run may wait for the last exports. An endpoint that answers takes milliseconds."""


_Shutdowns = list[tuple[Callable[[], Any], Callable[[], Any]]]
"""What exports the rest and ends, and what ends at once, of each signal."""


class _Outcome:
    """Counts exports that failed, and says so once."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._told = False
        self._lock = Lock()

    def note(self, signal: str, *, failed: bool) -> None:
        add(EXPORT_FAILURES, int(failed), signal)
        with self._lock:
            tell, self._told = failed and not self._told, self._told or failed
        if tell:
            _LOG.warning(
                "expected `%s` to take %s, found that it does not; the run goes on, and what is not taken is lost "
                "without another word: see `telemetry.endpoint`",
                self._endpoint, signal,
            )  # fmt: skip


class _SpanExporter(OTLPSpanExporter):
    def __init__(self, outcome: _Outcome, **options: Any) -> None:
        super().__init__(**options)
        self._outcome = outcome

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        self._outcome.note("traces", failed=result is not SpanExportResult.SUCCESS)
        return result


class _MetricExporter(OTLPMetricExporter):
    def __init__(self, outcome: _Outcome, **options: Any) -> None:
        super().__init__(**options)
        self._outcome = outcome

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = None, **kwargs: Any
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        self._outcome.note("metrics", failed=result is not MetricExportResult.SUCCESS)
        return result


class _LogExporter(OTLPLogExporter):
    def __init__(self, outcome: _Outcome, **options: Any) -> None:
        super().__init__(**options)
        self._outcome = outcome

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        result = super().export(batch)
        self._outcome.note("logs", failed=result is not LogRecordExportResult.SUCCESS)
        return result


class _Handler(logging.Handler):
    """Hands log records to OpenTelemetry with the span in which they were written."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        attributes: dict[str, Any] = {"code.file.path": record.pathname, "code.line.number": record.lineno}
        if record.exc_info and record.exc_info[0] is not None:
            attributes["exception.type"] = record.exc_info[0].__name__
            attributes["exception.message"] = str(record.exc_info[1])
            attributes["exception.stacktrace"] = logging.Formatter().formatException(record.exc_info)
        self._provider.get_logger(record.name).emit(
            OtelLogRecord(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time.time_ns(),
                context=get_current(),
                severity_text=record.levelname,
                severity_number=_severity(record.levelno),
                body=record.getMessage(),
                attributes=attributes,
            )
        )


def _severity(level: int) -> SeverityNumber:
    """Return OpenTelemetry's number of a level: of `DEBUG` 5, and 4 more for each of the levels above."""
    return SeverityNumber(min(max(level // 10, 0), 5) * 4 + 1)


@contextmanager
def exporting(config: TelemetryConfig, run_id: str, process: str) -> Iterator[None]:
    """Export what is emitted until the context is left; see `dataflows.telemetry.start_telemetry`."""
    outcome = _Outcome(config.endpoint)
    described = Resource.create(
        {
            **config.resource,
            "service.name": config.service_name,
            "service.instance.id": f"{run_id}/{process}",
            "signalbox.run.id": run_id,
            "process.pid": os.getpid(),
        }
    )
    shutdowns: _Shutdowns = []
    with ExitStack() as stack:
        stack.callback(lambda: _shut_down(shutdowns))
        stack.enter_context(_sdk_is_silent())
        tracers = _tracers(config, described, outcome, shutdowns) if config.traces else None
        stack.enter_context(installed(_meters(config, described, outcome, shutdowns), tracers))
        if config.logs:
            stack.enter_context(_logging_to(_loggers(config, described, outcome, shutdowns)))
        stack.enter_context(_logs_know_their_span())
        _observe_process()
        for signal in ("traces", "metrics", "logs"):
            add(EXPORT_FAILURES, 0, signal)
        yield


def _options(config: TelemetryConfig, path: str) -> dict[str, Any]:
    return {
        "endpoint": f"{config.endpoint.rstrip('/')}/v1/{path}",
        "headers": {name: text.get_secret_value() for name, text in config.headers.items()},
        "timeout": _TIMEOUT,
        "compression": Compression.Gzip,
    }


def _tracers(config: TelemetryConfig, about: Resource, outcome: _Outcome, shutdowns: _Shutdowns) -> TracerProvider:
    exporter = _SpanExporter(outcome, **_options(config, "traces"))
    sampler = ParentBased(TraceIdRatioBased(config.traces))
    provider = TracerProvider(sampler=sampler, resource=about, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, _QUEUE, _EVERY_MS, _BATCH))
    shutdowns.append((provider.shutdown, exporter.shutdown))
    return provider


def _meters(config: TelemetryConfig, about: Resource, outcome: _Outcome, shutdowns: _Shutdowns) -> MeterProvider:
    exporter = _MetricExporter(outcome, **_options(config, "metrics"))
    reader = PeriodicExportingMetricReader(exporter, duration_ns(config.metrics_interval) / 1e6, _TIMEOUT * 1000)
    provider = MeterProvider([reader], about, shutdown_on_exit=False, exemplar_filter=AlwaysOffExemplarFilter())
    shutdowns.append((provider.shutdown, exporter.shutdown))
    return provider


def _loggers(config: TelemetryConfig, about: Resource, outcome: _Outcome, shutdowns: _Shutdowns) -> LoggerProvider:
    exporter = _LogExporter(outcome, **_options(config, "logs"))
    provider = LoggerProvider(about, shutdown_on_exit=False)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(
            exporter, schedule_delay_millis=_EVERY_MS, max_export_batch_size=_BATCH, max_queue_size=_QUEUE
        )
    )
    shutdowns.append((provider.shutdown, exporter.shutdown))
    return provider


def _shut_down(shutdowns: _Shutdowns) -> None:
    """Export what is queued, for all signals at once, and give up after the deadline."""
    deadline = time.monotonic() + _FLUSH
    threads = [Thread(target=flush, name="signalbox-telemetry", daemon=True) for flush, _ in shutdowns]
    for thread in threads:
        thread.start()
    for thread, (_, abort) in zip(threads, shutdowns, strict=True):
        thread.join(max(deadline - time.monotonic(), 0.0))
        if thread.is_alive():
            abort()


@contextmanager
def _sdk_is_silent() -> Iterator[None]:
    """Keep the SDK's own warnings from the terminal: it repeats them for every export.

    It stays silent after an end without the endpoint, because a thread of it may then still be waiting.
    """
    logger = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    yield


@contextmanager
def _logging_to(provider: LoggerProvider) -> Iterator[None]:
    handler = _Handler(provider)
    for name in _PACKAGES:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in _PACKAGES:
            logging.getLogger(name).removeHandler(handler)


@contextmanager
def _logs_know_their_span() -> Iterator[None]:
    """Give every log record `trace_id` and `span_id`, empty where no span is current, for any format to show."""
    before = logging.getLogRecordFactory()

    def make(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = before(*arguments, **options)
        found = get_current_span().get_span_context()
        record.trace_id = format_trace_id(found.trace_id) if found.is_valid else ""
        record.span_id = format_span_id(found.span_id) if found.is_valid else ""
        return record

    logging.setLogRecordFactory(make)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def _observe_process() -> None:
    observe(PROCESS_CPU, _cpu_time)
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        page = os.sysconf("SC_PAGE_SIZE")
        observe(PROCESS_MEMORY, lambda: [(int(statistics.read_text().split()[1]) * page, ())])


def _cpu_time() -> Iterable[tuple[float, tuple[str, ...]]]:
    found = usage.getrusage(usage.RUSAGE_SELF)
    return [(found.ru_utime, ("user",)), (found.ru_stime, ("system",))]
