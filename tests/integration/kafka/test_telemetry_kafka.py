"""Traces that come with records and go on with what is published, and the metrics of source and out-topic."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from threading import Event, Timer
from typing import Any

import pytest
from bytewax.run import cli_main
from confluent_kafka import Consumer, TopicPartition

from dataflows.graph import build_graph
from dataflows.settings import Settings
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_client import open_producer
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.telemetry import TelemetryConfig, register_source, start_telemetry
from schemas.metrics import (
    PUBLISH_FAILURES,
    PUBLISH_LATENCY,
    PUBLISHED_RECORDS,
    SOURCE_CLOCK_LAG,
    SOURCE_LAG_DURATION,
    SOURCE_LAG_RECORDS,
    SOURCE_QUEUE,
    WATERMARK_LAG,
)
from sinks.tables import TableSink
from sinks.topics import TopicWriter
from tests.services.otlp import Endpoint, serve_otlp

CONSUMER, PRODUCER = 5, 4
RECORDS = 40


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serve_otlp() as serving:
        yield serving


def traceparent(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


@pytest.fixture
def published(kafka_broker: Any, topic: Callable[..., str]) -> str:
    """A topic of records that are no messages, each published in a trace of its own."""
    name, now = topic(1), time.time_ns() // 1_000_000
    kafka_broker.produce(
        name,
        [
            (b"{", {"partition": 0, "timestamp": now, "headers": [("traceparent", traceparent(number).encode())]})
            for number in range(1, RECORDS + 1)
        ],
    )
    return name


def run(config: KafkaConfig, out: str, telemetry: TelemetryConfig | None, stop: Event | None = None) -> None:
    source = KafkaSource.connect(config, stop=stop)
    with start_telemetry(telemetry or TelemetryConfig(), "r"):
        register_source(source)
        writer = TopicWriter.open(partial(open_producer, config), {"dead_letters": out}, run_id="r")
        try:
            flow = build_graph(Settings(), source, source.sources, TableSink(lambda: writer))
            cli_main(flow, epoch_interval=timedelta(milliseconds=50))
        finally:
            writer.close()


def headers_of(broker: Any, name: str, count: int) -> list[dict[str, bytes]]:
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "headers", "log_level": 0})
    try:
        consumer.assign([TopicPartition(name, 0, 0)])
        found: list[Any] = []
        deadline = time.monotonic() + 20
        while len(found) < count:
            assert time.monotonic() < deadline
            found += consumer.consume(count, 0.1)
        return [dict(message.headers()) for message in found]
    finally:
        consumer.close()


def test_trace_joins_what_was_published_to_what_is_published(kafka_broker, topic, published, endpoint):
    config = KafkaConfig.model_validate(
        {"brokers": kafka_broker.address, "topics": {"trades": {"name": published}}, "follow": False}
    )
    out = topic(1)
    run(config, out, TelemetryConfig(endpoint=endpoint.url, metrics_interval="100ms"))

    received = [span for span in endpoint.spans if span.name == "receive trades"]
    assert sum(span.attributes["messaging.batch.message_count"] for span in received) == RECORDS
    origins = {trace[3:35] for trace in map(traceparent, range(1, RECORDS + 1))}
    for span in received:
        assert span.kind == CONSUMER
        assert 1 <= len(span.links) <= 8
        assert set(span.links) <= origins
        assert not span.parent_id
        assert span.attributes["messaging.destination.name"] == published
    assert received[0].links[0] == traceparent(1)[3:35]

    publish = [span for span in endpoint.spans if span.name == f"publish {out}"]
    assert publish
    spans = {span.span_id: span for span in endpoint.spans}
    for span in publish:
        assert span.kind == PRODUCER
        decode = spans[span.parent_id]
        assert decode.name == "decode trades"
        assert spans[decode.parent_id] in received
    contexts = {f"00-{span.trace_id}-{span.span_id}" for span in publish}
    headers = headers_of(kafka_broker, out, RECORDS)
    assert {found["traceparent"].decode()[:52] for found in headers} == contexts

    assert endpoint.values(PUBLISHED_RECORDS.name) == {(out,): RECORDS}
    assert endpoint.values(PUBLISH_FAILURES.name) == {(out,): 0}
    latency = endpoint.metrics[PUBLISH_LATENCY.name][-1]
    assert 0 < latency["sum"] / latency["value"] < 60


def test_lag_and_clocks_of_a_live_source_are_exported(kafka_broker, topic, published, endpoint):
    config = KafkaConfig.model_validate({"brokers": kafka_broker.address, "topics": {"trades": {"name": published}}})
    stop = Event()
    timer = Timer(3.0, stop.set)
    timer.start()
    try:
        run(config, topic(1), TelemetryConfig(endpoint=endpoint.url, metrics_interval="100ms"), stop)
    finally:
        timer.cancel()
    for metric in (SOURCE_LAG_RECORDS, SOURCE_LAG_DURATION, SOURCE_CLOCK_LAG, SOURCE_QUEUE):
        assert set(endpoint.values(metric.name)) == {("trades/0",)}
    assert endpoint.values(SOURCE_LAG_RECORDS.name)[("trades/0",)] == 0
    assert endpoint.values(SOURCE_LAG_DURATION.name)[("trades/0",)] == 0
    assert 0.04 < endpoint.values(WATERMARK_LAG.name)[()] < 3


def test_without_telemetry_no_trace_is_published(kafka_broker, topic, published):
    config = KafkaConfig.model_validate(
        {"brokers": kafka_broker.address, "topics": {"trades": {"name": published}}, "follow": False}
    )
    out = topic(1)
    run(config, out, None)
    assert not any("traceparent" in found for found in headers_of(kafka_broker, out, RECORDS))
