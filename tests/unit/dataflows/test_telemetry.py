"""Configuration of telemetry, and what is read of a source."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from dataflows.settings import Settings, parse_settings
from dataflows.telemetry import register_source, start_telemetry
from schemas.errors import ConfigError
from schemas.telemetry import installed, is_measuring, is_tracing
from schemas.time import END_OF_TIME

SECOND = 10**9
SECRET = "Bearer hush"


def test_telemetry_is_off_by_default():
    with start_telemetry(Settings().telemetry, "r"):
        assert not is_measuring()
        assert not is_tracing()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"endpoint": "localhost:4318"}, "expected a URL such as"),
        ({"endpoint": f"http://me:{SECRET[7:]}@host"}, "expected a URL such as"),
        ({"endpoint": "http://host/x?y=1"}, "expected a URL such as"),
        ({"headers": SECRET}, "expected a table of headers, found a value of type str"),
        (
            {"headers": {"authorization": [SECRET]}},
            "expected text for header `authorization`, found a value of type list",
        ),
        ({"traces": 1.5}, "expected at most 1"),
        ({"metrics_interval": "1ms"}, "expected at least"),
        ({"endpont": "http://host"}, "close to `endpoint`"),
    ],
)
def test_wrong_settings_are_named_without_their_secrets(content, message):
    with pytest.raises(ConfigError, match=message) as found:
        parse_settings({"telemetry": content}, "c.toml")
    assert SECRET[7:] not in str(found.value)


def test_headers_are_shown_nowhere():
    settings = parse_settings({"telemetry": {"headers": {"authorization": SECRET}}}, "c.toml")
    assert SECRET[7:] not in settings.model_dump_json() + repr(settings) + str(settings.content())
    assert settings.telemetry.headers["authorization"].get_secret_value() == SECRET


class Partitions:
    """A source with partitions that run, wait, have ended, and have not begun."""

    def lag(self) -> dict[str, int]:
        return {"t/0": 5, "t/1": 0, "t/2": 0, "t/3": 9}

    def clocks(self) -> dict[str, int]:
        return {"t/0": 90 * SECOND, "t/1": 99 * SECOND, "t/2": END_OF_TIME, "t/3": -(2**63) + 1}

    def queued(self) -> dict[str, int]:
        return dict.fromkeys(self.lag(), 100)


def read(source: Any) -> dict[str, dict[str, float]]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with installed(provider, None):
        register_source(source, clock=lambda: 100 * SECOND)
        data: Any = reader.get_metrics_data()
    provider.shutdown()
    return {
        metric.name: {point.attributes.get("signalbox.source", ""): point.value for point in metric.data.data_points}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }


def test_source_is_read_for_lag_clocks_and_queues():
    assert read(Partitions()) == {
        "signalbox.source.lag.records": {"t/0": 5, "t/1": 0, "t/2": 0, "t/3": 9},
        "signalbox.source.lag.duration": {"t/0": 10.0, "t/1": 0.0},
        "signalbox.source.clock.lag": {"t/0": 10.0, "t/1": 1.0},
        "signalbox.watermark.lag": {"": 10.0},
        "signalbox.source.queue.size": dict.fromkeys(("t/0", "t/1", "t/2", "t/3"), 100),
    }


def test_source_without_telemetry_is_not_read():
    register_source(Partitions())
