"""Metrics and spans through OpenTelemetry's own SDK, kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from schemas.metrics import ALIGN_HELD, BATCH_RECORDS, RECORDS_READ, SOURCE_QUEUE
from schemas.telemetry import (
    MAX_LINKS,
    add,
    current_trace,
    distinct,
    installed,
    is_measuring,
    is_sampled,
    is_tracing,
    observe,
    read_traceparent,
    record,
    span,
    stage,
    trace_id,
    within,
)

FOREIGN = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 30)]


@contextmanager
def tracing(sampler: Sampler = ALWAYS_ON) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with installed(None, provider):
        yield exporter


@contextmanager
def measuring() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with installed(provider, None):
        yield reader
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data: Any = reader.get_metrics_data()
    found = data.resource_metrics[0].scope_metrics[0].metrics if data is not None else []
    return {metric.name: list(metric.data.data_points) for metric in found}


def test_nothing_is_emitted_by_default():
    assert not is_measuring()
    assert not is_tracing()
    add(RECORDS_READ, 1, "trades")
    with stage("decode", "trades", parent=FOREIGN[0], root=True) as current:
        assert current.trace == FOREIGN[0]
        assert not current.is_kept
        assert not current_trace()


def test_measurements_arrive_with_their_attributes():
    with measuring() as reader:
        assert is_measuring()
        add(RECORDS_READ, 2, "trades")
        add(RECORDS_READ, 3, "trades")
        add(ALIGN_HELD, 5)
        add(ALIGN_HELD, -2)
        record(BATCH_RECORDS, 7.0, "news")
        observe(SOURCE_QUEUE, lambda: [(9, ("trades/0",))])
        found = points(reader)
    (read,), (held,), (batch,), (queue,) = (
        found[metric.name] for metric in (RECORDS_READ, ALIGN_HELD, BATCH_RECORDS, SOURCE_QUEUE)
    )
    assert (read.value, dict(read.attributes)) == (5, {"signalbox.topic": "trades"})
    assert held.value == 3
    assert (batch.count, batch.explicit_bounds) == (1, BATCH_RECORDS.bounds)
    assert (queue.value, dict(queue.attributes)) == (9, {"signalbox.source": "trades/0"})


def test_stage_is_measured_and_inserts_are_not():
    with measuring() as reader:
        for name in ("decode", "insert"):
            with stage(name):
                pass
        (point,) = points(reader)["signalbox.stage.duration"]
    assert dict(point.attributes) == {"signalbox.stage": "decode"}


def test_providers_are_gone_after_the_context():
    with measuring() as outer:
        with measuring():
            add(RECORDS_READ, 1, "trades")
        assert not points(outer)
    assert not is_measuring()


def test_spans_of_a_trace_hang_together_across_threads():
    with tracing() as exporter:
        with stage("receive", "trades", root=True) as first:
            pass

        def decode() -> None:
            with stage("decode", parent=first.trace, links=FOREIGN) as second:
                assert current_trace() == second.trace

        thread = Thread(target=decode)
        thread.start()
        thread.join()
        received, decoded = exporter.get_finished_spans()
    assert received.name == "receive trades"
    assert decoded.parent is not None
    assert decoded.parent.span_id == received.context.span_id
    assert len(decoded.links) == MAX_LINKS
    assert trace_id(first.trace) == f"{decoded.context.trace_id:032x}"


def test_span_without_a_parent_is_none_unless_it_is_a_root():
    with tracing() as exporter:
        with span("align") as current:
            assert current.trace == ""
        with span("compute", root=True) as current:
            assert is_sampled(current.trace)
    assert [found.name for found in exporter.get_finished_spans()] == ["compute"]


def test_trace_that_is_not_kept_is_handed_on_and_costs_no_spans():
    with tracing(ALWAYS_OFF) as exporter:
        with span("receive", root=True) as first:
            assert first.trace
            assert not is_sampled(first.trace)
        with span("decode", parent=first.trace) as second:
            assert second.trace == first.trace
            assert not second.is_kept
    assert not exporter.get_finished_spans()
    assert trace_id(first.trace) == ""


def test_discarded_span_leaves_nothing():
    with tracing() as exporter:
        with span("compute", root=True) as current:
            current.discard()
        assert current.trace == ""
    assert not exporter.get_finished_spans()


def test_failure_is_kept_even_where_the_span_was_discarded():
    def fail() -> None:
        with span("compute", root=True) as current:
            current.discard()
            raise KeyError

    with tracing() as exporter, pytest.raises(KeyError):
        fail()
    (found,) = exporter.get_finished_spans()
    assert not found.status.is_ok
    assert current_trace() == ""


def test_links_leave_out_the_own_trace_and_doubles():
    with tracing() as exporter:
        with span("receive", root=True) as first:
            pass
        with span("align", parent=first.trace) as second:
            second.link([first.trace, FOREIGN[0], FOREIGN[0], "", *FOREIGN[1:3]])
    assert [f"{link.context.trace_id:032x}" for link in exporter.get_finished_spans()[1].links] == [
        trace[3:35] for trace in FOREIGN[:3]
    ]


def test_current_trace_is_that_of_the_call():
    with within(FOREIGN[0]):
        assert current_trace() == FOREIGN[0]
        with within(""):
            assert current_trace() == FOREIGN[0]
    assert current_trace() == ""


def test_distinct_takes_one_of_each_sampled_trace():
    again = f"{FOREIGN[0][:36]}{7:016x}-01"
    unsampled = f"{FOREIGN[3][:-2]}00"
    assert distinct(["", unsampled, FOREIGN[0], again, FOREIGN[1], FOREIGN[2]], 2) == FOREIGN[:2]


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_traceparent_of_strangers_is_read_or_refused(value):
    found = read_traceparent(value)
    assert found == "" or len(found) == 55


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_traceparent_is_read_as_it_was_written(trace, span_id, sampled):
    text = f"00-{trace:032x}-{span_id:016x}-{int(sampled):02x}"
    assert read_traceparent(text.encode()) == text
    assert is_sampled(text) == sampled


@pytest.mark.parametrize("text", [f"00-{0:032x}-{1:016x}-01", f"ff-{1:032x}-{1:016x}-01", f"00-{1:032x}-{0:016x}-01"])
def test_traceparent_without_meaning_is_none(text):
    assert read_traceparent(text) == ""
