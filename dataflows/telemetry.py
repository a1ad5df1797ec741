"""Telemetry of a run: what is configured, and what is exported while it lasts.

Metrics, traces and logs go to one OTLP/HTTP endpoint, in batches, from threads of their own. Queues are bounded: what
an endpoint does not take in time is dropped and counted, and the run never waits for it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, Final, Protocol

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr

from schemas.config import ComponentConfig, Duration
from schemas.metrics import (
    SOURCE_CLOCK_LAG,
    SOURCE_LAG_DURATION,
    SOURCE_LAG_RECORDS,
    SOURCE_QUEUE,
    WATERMARK_LAG,
)
from schemas.telemetry import observe
from schemas.time import END_OF_TIME, parse_duration

__all__ = ["TelemetryConfig", "WatchedSource", "register_source", "start_telemetry"]

_ENDPOINT: Final = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?")


def _is_endpoint(value: str) -> str:
    if value and not _ENDPOINT.fullmatch(value):
        raise ValueError(
            "expected a URL such as `http://localhost:4318`, without user, query and fragment, found another text; "
            "credentials go into `headers`"
        )
    return value


def _are_headers(value: Any) -> Any:
    """Refuse what is no table of texts before anything else looks at it: its message would show it."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a table of headers, found a value of type {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(text, (str, SecretStr)):
            raise ValueError(f"expected text for header `{name}`, found a value of type {type(text).__name__}")
    return value


class TelemetryConfig(ComponentConfig):
    """Where metrics, traces and logs go.

    Examples
    --------
    >>> TelemetryConfig(endpoint="http://localhost:4318", headers={"authorization": "Bearer x"}).headers
    {'authorization': SecretStr('**********')}
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    endpoint: Annotated[str, AfterValidator(_is_endpoint)] = Field(
        "", max_length=2048, description="base URL of an OTLP/HTTP endpoint (`http://localhost:4318`); off where empty"
    )
    headers: Annotated[dict[str, SecretStr], BeforeValidator(_are_headers)] = Field(
        default_factory=dict, description="headers of each export, such as `authorization`; never shown"
    )
    traces: float = Field(1.0, ge=0.0, le=1.0, description="share of the delivered batches that are traced")
    metrics_interval: Duration = Field(
        parse_duration("10s"),
        ge=timedelta(milliseconds=100),
        le=timedelta(hours=1),
        description="time between exports of metrics",
    )
    logs: bool = Field(True, description="whether log records are exported too")
    service_name: str = Field("signalbox", min_length=1, max_length=255, description="`service.name` of the resource")
    resource: dict[str, str] = Field(
        default_factory=dict, description="more attributes of the resource, such as `deployment.environment.name`"
    )


class WatchedSource(Protocol):
    """A source whose lag is measured: `dataflows.sources.kafka.KafkaSource`. Each is asked from another thread."""

    def lag(self) -> dict[str, int]:
        """Return how many records each partition is behind."""

    def clocks(self) -> dict[str, int]:
        """Return the arrival clock of each partition, ns."""

    def queued(self) -> dict[str, int]:
        """Return the bytes of each partition that were fetched and not handed on."""


@contextmanager
def start_telemetry(config: TelemetryConfig, run_id: str, process: str = "0") -> Iterator[None]:
    """Export what the run emits until the context is left, then for a few seconds at most what is still queued.

    Parameters
    ----------
    config
        Where to. Without an endpoint nothing is set up, and emitting costs nothing.
    run_id
        Name of the run, the attribute `signalbox.run.id` of all that is exported.
    process
        Tells the processes of a run apart; run and process make `service.instance.id`.

    Examples
    --------
    >>> with start_telemetry(TelemetryConfig(), "a-run"):
    ...     pass
    """
    if not config.endpoint:
        yield
        return
    # the SDK takes 0.1 s to load, which only those pay who use it
    from dataflows.telemetry_export import exporting

    with exporting(config, run_id, process):
        yield


def register_source(source: WatchedSource, clock: Callable[[], int] = time.time_ns) -> None:
    """Measure lag, clocks and queues of a source whenever metrics are exported.

    Parameters
    ----------
    source
        The source; call this within `start_telemetry`, once.
    clock
        Tells UTC ns.
    """

    def lags() -> dict[str, float]:
        now = clock()
        # of partitions that have not begun, or have come to their end, there is no lag
        return {name: (now - at) / 1e9 for name, at in source.clocks().items() if 0 <= at < END_OF_TIME}

    def waiting() -> dict[str, float]:
        behind = source.lag()
        return {name: seconds if behind.get(name) else 0.0 for name, seconds in lags().items()}

    def slowest() -> Iterable[tuple[float, tuple[str, ...]]]:
        known = lags().values()
        return [(max(known), ())] if known else []

    observe(SOURCE_LAG_RECORDS, lambda: _labelled(source.lag()))
    observe(SOURCE_LAG_DURATION, lambda: _labelled(waiting()))
    observe(SOURCE_CLOCK_LAG, lambda: _labelled(lags()))
    observe(SOURCE_QUEUE, lambda: _labelled(source.queued()))
    observe(WATERMARK_LAG, slowest)


def _labelled(values: dict[str, int] | dict[str, float]) -> list[tuple[float, tuple[str, ...]]]:
    return [(value, (name,)) for name, value in values.items()]
