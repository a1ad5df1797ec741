"""An OTLP/HTTP endpoint that keeps what it is sent. For tests only."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Endpoint", "Span", "serve_otlp"]

_SECONDS = 20.0


@dataclass(frozen=True)
class Span:
    """One span that arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    links: tuple[str, ...]
    """trace ids"""
    attributes: dict[str, Any]
    error: bool


@dataclass
class Endpoint:
    """What arrived so far."""

    url: str
    status: int = 200
    delay: float = 0.0
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """by name: `kind`, `unit`, `attributes` and `value` of every point"""
    logs: list[dict[str, Any]] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    def until(self, done: Callable[[], object], seconds: float = _SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.01)

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """The last value of each combination of attributes."""
        return {tuple(point["attributes"].values()): point["value"] for point in self.metrics.get(name, [])}


@contextmanager
def serve_otlp() -> Iterator[Endpoint]:
    """Serve on a free port of loopback."""
    endpoint = Endpoint("")
    lock = threading.Lock()
    takers = {"/v1/traces": _take_spans, "/v1/metrics": _take_metrics, "/v1/logs": _take_logs}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            time.sleep(endpoint.delay)
            with lock:
                endpoint.headers.append({key.lower(): value for key, value in self.headers.items()})
                if endpoint.status == 200:
                    takers[self.path](endpoint, body)
            self.send_response(endpoint.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _take_spans(endpoint: Endpoint, body: bytes) -> None:
    request = ExportTraceServiceRequest.FromString(body)
    for about in request.resource_spans:
        endpoint.resources.append(_attributes(about.resource.attributes))
        for scope in about.scope_spans:
            endpoint.spans += [
                Span(
                    span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.kind,
                    tuple(link.trace_id.hex() for link in span.links), _attributes(span.attributes),
                    span.status.code == 2,
                )
                for span in scope.spans
            ]  # fmt: skip


def _take_metrics(endpoint: Endpoint, body: bytes) -> None:
    request = ExportMetricsServiceRequest.FromString(body)
    for about in request.resource_metrics:
        endpoint.resources.append(_attributes(about.resource.attributes))
        for scope in about.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    found = {"kind": kind, "unit": metric.unit, "attributes": _attributes(point.attributes)}
                    if kind == "histogram":
                        found |= {"value": point.count, "sum": point.sum, "bounds": list(point.explicit_bounds)}
                    else:
                        found["value"] = getattr(point, point.WhichOneof("value"))
                        found["monotonic"] = kind == "sum" and metric.sum.is_monotonic
                    endpoint.metrics.setdefault(metric.name, []).append(found)


def _take_logs(endpoint: Endpoint, body: bytes) -> None:
    request = ExportLogsServiceRequest.FromString(body)
    for about in request.resource_logs:
        for scope in about.scope_logs:
            endpoint.logs += [
                {
                    "logger": scope.scope.name, "body": record.body.string_value, "severity": record.severity_number,
                    "trace_id": record.trace_id.hex(), "attributes": _attributes(record.attributes),
                }
                for record in scope.log_records
            ]  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
