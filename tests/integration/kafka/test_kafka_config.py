"""The configuration refuses what cannot be meant, and never shows a secret. Needs no broker."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_config import KafkaConfig
from schemas.errors import InputError

SECRET = "hunter-2-hunter"


def make(**changes) -> KafkaConfig:
    return KafkaConfig.model_validate({"brokers": "localhost:9092", "topics": {"trades": {}}} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topics": {}}, "at least 1 item"),
        ({"topics": {"ticks": {}}}, "`topics`: expected topics among .*trades, found ticks"),
        ({"topics": {"trades": {"name": "x"}, "news": {"name": "x"}}}, "expected a name of its own for each topic"),
        ({"topics": {"trades": {"clock": "wall"}}}, "'broker', 'header' or 'record'"),
        ({"start_offsets": {"trades": 3}}, "`start_offsets`: expected partitions such as `trades/0`, found `trades`"),
        ({"start_offsets": {"news/0": 3}}, "`start_offsets`: expected partitions .*, found `news/0`"),
        ({"start": "2026-01-01T00:00:00"}, "timezone"),
        ({"brokers": "a b"}, "brokers"),
        ({"batch_record": 5}, "batch_record"),
        ({"client": {"auto.offset.reset": "latest"}}, "found `auto.offset.reset`; the source sets everything else"),
    ],
)
def test_config_inconsistent_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        make(**changes)


def test_config_client_tables_are_joined():
    """TOML reads `sasl.password = "x"` as a table within a table."""
    config = make(client={"sasl": {"password": SECRET, "username": "me"}, "enable": {"ssl": {"x": True}}})
    found = {key: value.get_secret_value() for key, value in config.client.items()}
    assert found == {"sasl.password": SECRET, "sasl.username": "me", "enable.ssl.x": "true"}


def test_config_never_shows_a_secret():
    config = make(client={"sasl.password": SECRET})
    shown = [repr(config), str(config), config.model_dump_json(), json.dumps(config.content())]
    assert not any(SECRET in text for text in shown)


@pytest.mark.parametrize(
    "client", [{"password": SECRET}, {"sasl.password": [SECRET]}, {"sasl.password": None, "sasl.key": SECRET}, SECRET]
)
def test_config_refused_never_shows_a_secret(client):
    with pytest.raises(ValidationError) as caught:
        make(client=client)
    details = caught.value.errors(include_url=False)
    assert SECRET not in str(caught.value)
    assert SECRET not in json.dumps(details, default=str)
    assert SECRET not in repr(details)


def test_config_value_that_the_library_refuses_is_named_without_it():
    with pytest.raises(InputError, match=r"a value of `client.security.protocol` that it refused") as caught:
        KafkaSource.connect(make(client={"security.protocol": SECRET}))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
