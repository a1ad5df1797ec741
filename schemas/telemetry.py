"""Metrics and spans, as the steps of the graph emit them.

Nothing is installed by default, and then each call costs a look at one variable. `installed` puts providers of
OpenTelemetry in place for as long as it lasts; what exports them is not known here.

A trace context travels within the items of the graph as text, as W3C's `traceparent` has it, because a context
variable does not cross operators, and items may cross processes. It is empty where nothing is traced. Whether a trace
is kept is decided once, where it begins: of one that is not, only its context is handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import context as contexts
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.metrics import CATALOGUE, STAGE_DURATION, Counter, Histogram, Metric, Observed, Stage, UpDownCounter

__all__ = [
    "MAX_LINKS",
    "Span",
    "add",
    "current_trace",
    "distinct",
    "installed",
    "is_measuring",
    "is_sampled",
    "is_tracing",
    "observe",
    "read_traceparent",
    "record",
    "span",
    "stage",
    "trace_id",
    "within",
]

MAX_LINKS: Final = 8
"""Links of a span. A batch can come of thousands of records, and a backend shows a handful."""
_SCOPE: Final = "signalbox"
_SAMPLED: Final = "13579bdf"
"""Last digits of a `traceparent` whose lowest flag is set."""
_KINDS: Final = {"receive": SpanKind.CONSUMER, "publish": SpanKind.PRODUCER, "insert": SpanKind.CLIENT}
_PROPAGATOR: Final = TraceContextTextMapPropagator()

Reader = Callable[[], Iterable[tuple[float, tuple[str, ...]]]]
"""Returns the values of an observed metric, each with the values of its attributes."""


class _Installed:
    """The instruments of one meter and the tracer."""

    def __init__(self, meter: Meter | None, tracer: Tracer | None) -> None:
        self.tracer = tracer
        self.readers: dict[Metric, list[Reader]] = {}
        self.instruments: dict[Metric, Any] = {}
        if meter is not None:
            self.instruments = {metric: self._make(meter, metric) for metric in CATALOGUE.values()}

    def _make(self, meter: Meter, metric: Metric) -> Any:
        facts = {"unit": metric.unit, "description": metric.doc}
        if isinstance(metric, Counter):
            return meter.create_counter(metric.name, **facts)
        if isinstance(metric, UpDownCounter):
            return meter.create_up_down_counter(metric.name, **facts)
        if isinstance(metric, Histogram):
            return meter.create_histogram(metric.name, **facts, explicit_bucket_boundaries_advisory=list(metric.bounds))
        made = {
            "observed gauge": meter.create_observable_gauge,
            "observed counter": meter.create_observable_counter,
            "observed up-down counter": meter.create_observable_up_down_counter,
        }[metric.kind]
        self.readers[metric] = []
        return made(metric.name, [lambda _: self._read(metric, _)], **facts)

    def _read(self, metric: Metric, _: CallbackOptions) -> Iterator[Observation]:
        for reader in self.readers[metric]:
            for value, labels in reader():
                yield Observation(value, metric.labels(labels))


_current: _Installed | None = None


@contextmanager
def installed(meters: MeterProvider | None, tracers: TracerProvider | None) -> Iterator[None]:
    """Emit to these providers, from every thread of the process, until the context is left.

    Parameters
    ----------
    meters
        Where metrics go, or None.
    tracers
        Where spans go, or None.
    """
    global _current
    before = _current
    meter = meters.get_meter(_SCOPE) if meters is not None else None
    _current = _Installed(meter, tracers.get_tracer(_SCOPE) if tracers is not None else None)
    try:
        yield
    finally:
        _current = before


def is_measuring() -> bool:
    """Return whether metrics go anywhere, for who would compute something only for them."""
    return _current is not None and bool(_current.instruments)


def is_tracing() -> bool:
    """Return whether spans go anywhere."""
    return _current is not None and _current.tracer is not None


def add(metric: Counter | UpDownCounter, amount: float, *values: str) -> None:
    """Add to a sum.

    Parameters
    ----------
    metric
        The entry of the catalogue.
    amount
        What to add, in the metric's unit; zero makes the sum appear.
    values
        The values of the metric's attributes, in order.
    """
    if _current is not None and _current.instruments:
        _current.instruments[metric].add(amount, metric.labels(values))


def record(metric: Histogram, value: float, *values: str) -> None:
    """Put a value into a distribution; see `add`."""
    if _current is not None and _current.instruments:
        _current.instruments[metric].record(value, metric.labels(values))


def observe(metric: Observed, reader: Reader) -> None:
    """Let a metric be read by calling a function, from a thread of its own, for as long as the providers stay."""
    if _current is not None and _current.instruments:
        _current.readers[metric].append(reader)


class Span:
    """What a stage does with one batch, as a context manager. Made by `span` and `stage`.

    Attributes
    ----------
    trace
        Context to hand on with what comes of it; that of the parent where the span is not kept.
    """

    __slots__ = ("_discarded", "_span", "_token", "trace")

    def __init__(self, trace: str, started: ApiSpan | None = None) -> None:
        self.trace = trace
        self._span = started
        self._discarded = False
        self._token: Any = None

    @property
    def is_kept(self) -> bool:
        """Whether anybody will see it."""
        return self._span is not None

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute."""
        if self._span is not None:
            self._span.set_attribute(name, value)

    def link(self, traces: Iterable[str]) -> None:
        """Link to other traces, but for its own."""
        if self._span is not None:
            for found in _others(traces, self.trace):
                self._span.add_link(found)

    def discard(self) -> None:
        """Leave no trace: there was nothing to do after all."""
        self._discarded = True
        self.trace = ""

    def __enter__(self) -> Self:
        if self._span is not None:
            self._token = contexts.attach(set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        contexts.detach(self._token)
        if error is not None:
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        if error is not None or not self._discarded:
            self._span.end()


def span(
    name: str,
    *,
    parent: str = "",
    links: Iterable[str] = (),
    kind: SpanKind = SpanKind.INTERNAL,
    root: bool = False,
    attributes: Mapping[str, str | int] | None = None,
) -> Span:
    """Return a span that has begun.

    Parameters
    ----------
    name
        What is done, and to what.
    parent
        Context of the span that it is part of. There is no span where that is not sampled.
    links
        Contexts of other traces that it comes of; `MAX_LINKS` of them are kept.
    kind
        Kind of the span.
    root
        Whether it begins a trace where it has no parent. Otherwise there is no span then.
    attributes
        What else is known of it.

    Examples
    --------
    >>> with span("decode", parent="") as current:
    ...     current.trace
    ''
    """
    tracer = _current.tracer if _current is not None else None
    if tracer is None or not (is_sampled(parent) or (root and not parent)):
        return Span(parent)
    above = _span_context(parent)
    place = contexts.Context() if above is None else set_span_in_context(NonRecordingSpan(above), contexts.Context())
    linked = [Link(found) for found in _others(links, parent)]
    started = tracer.start_span(name, place, kind, attributes, linked)
    trace = _traceparent(started.get_span_context())
    return Span(trace, started) if started.is_recording() else Span(trace)


@contextmanager
def stage(
    name: Stage,
    subject: str = "",
    *,
    parent: str = "",
    links: Iterable[str] = (),
    root: bool = False,
    attributes: Mapping[str, str | int] | None = None,
) -> Iterator[Span]:
    """Time a stage's work on one batch, as a measurement of `signalbox.stage.duration` and as a span; see `span`.

    Parameters
    ----------
    name
        The stage. Inserts and publishing have measurements of their own, and only the span comes from here.
    subject
        Topic or table, in the span's name.
    parent, links, root, attributes
        Of the span.
    """
    if _current is None:
        yield Span(parent)
        return
    began = time.perf_counter()
    title, kind = f"{name} {subject}".rstrip(), _KINDS.get(name, SpanKind.INTERNAL)
    with span(title, parent=parent, links=links, kind=kind, root=root, attributes=attributes) as current:
        yield current
    if name not in ("insert", "publish"):
        record(STAGE_DURATION, time.perf_counter() - began, name)


@contextmanager
def within(trace: str) -> Iterator[None]:
    """Make a trace context the current one of this thread, for a call that hands on no context.

    Examples
    --------
    >>> trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    >>> with within(trace):
    ...     current_trace() == trace
    True
    >>> current_trace()
    ''
    """
    found = _span_context(trace)
    if found is None:
        yield
        return
    token = contexts.attach(set_span_in_context(NonRecordingSpan(found)))
    try:
        yield
    finally:
        contexts.detach(token)


def current_trace() -> str:
    """Return the current trace context of this thread, empty where there is none."""
    found = get_current_span().get_span_context()
    return _traceparent(found) if found.is_valid else ""


def is_sampled(trace: str) -> bool:
    """Return whether the spans of a trace are kept.

    Examples
    --------
    >>> is_sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), is_sampled("")
    (True, False)
    """
    return trace[-1:] in _SAMPLED and bool(trace)


def trace_id(trace: str) -> str:
    """Return the id of a trace that is kept, as 32 hexadecimal digits, else an empty text.

    Examples
    --------
    >>> trace_id("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    '0af7651916cd43dd8448eb211c80319c'
    """
    return trace[3:35] if is_sampled(trace) else ""


def distinct(traces: Iterable[str], most: int = MAX_LINKS) -> list[str]:
    """Return the first sampled contexts, one of each trace.

    Examples
    --------
    >>> first = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    >>> distinct([first, "", first]) == [first]
    True
    """
    found: dict[str, str] = {}
    for trace in traces:
        if len(found) == most:
            break
        if is_sampled(trace):
            found.setdefault(trace_id(trace), trace)
    return list(found.values())


def read_traceparent(value: bytes | str | None) -> str:
    """Return a `traceparent` that somebody else wrote as we hand it on, empty where it is none.

    Examples
    --------
    >>> read_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00'
    >>> read_traceparent(b"00-zz"), read_traceparent(None)
    ('', '')
    """
    if not value:
        return ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    found = get_current_span(_PROPAGATOR.extract({"traceparent": text}, contexts.Context())).get_span_context()
    return _traceparent(found) if found.is_valid else ""


def _traceparent(found: SpanContext) -> str:
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def _others(traces: Iterable[str], own: str) -> list[SpanContext]:
    """Return some contexts of other traces."""
    known = map(_span_context, distinct(trace for trace in traces if trace_id(trace) != trace_id(own)))
    return [found for found in known if found is not None]


def _span_context(trace: str) -> SpanContext | None:
    """Return the context that one of our texts stands for."""
    if not trace:
        return None
    return SpanContext(int(trace[3:35], 16), int(trace[36:52], 16), True, TraceFlags(int(trace[53:], 16)))
