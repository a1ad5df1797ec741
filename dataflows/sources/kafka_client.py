"""The client library: its settings, what the brokers say about topics, and its errors in our words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from dataflows.sources.kafka_config import KafkaConfig
from schemas.errors import InputError, SignalboxError, TransientError
from schemas.time import duration_ns

__all__ = ["STATISTICS_MS", "offset_at", "open_consumer", "partition_count", "refusal", "watermarks"]

_LOG = logging.getLogger(__name__)
STATISTICS_MS: Final = 250
"""Interval of the library's reports, from which we learn whether the leader of a partition still answers."""
_FETCH_WAIT_MS: Final = 100
"""Longest that a broker holds a fetch without records; it answers at once when there is one. Partitions that are to be
read again have to wait for the fetch under way."""
_FETCH_BYTES: Final = 2**20
"""Most bytes of one partition in an answer: what is fetched ahead can exceed its bound by one answer."""
_DENIED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
}
_ABSENT: Final = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}


def open_consumer(
    config: KafkaConfig, on_error: Callable[[KafkaError], None], on_statistics: Callable[[str], None] | None = None
) -> Consumer:
    """Return a consumer that delivers only what it is told to, and says so when it cannot."""
    settings: dict[str, Any] = {key: secret.get_secret_value() for key, secret in config.client.items()}
    settings |= {
        "bootstrap.servers": config.brokers,
        "group.id": config.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "queued.max.messages.kbytes": config.queue_bytes // 1024,
        "fetch.message.max.bytes": min(config.queue_bytes, _FETCH_BYTES),
        "fetch.max.bytes": max(config.queue_bytes, _FETCH_BYTES),
        "fetch.wait.max.ms": _FETCH_WAIT_MS,
        "fetch.queue.backoff.ms": 5,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": duration_ns(config.partitions_interval) // 10**6,
        "error_cb": on_error,
    }
    if on_statistics is not None:
        settings |= {"statistics.interval.ms": STATISTICS_MS, "stats_cb": on_statistics}
    try:
        return Consumer(settings, logger=_LOG)
    except KafkaException as error:
        # the library names the setting and shows its value
        key = next((key for key in config.client if f'"{key}"' in str(error)), None)
        what = f"value of `client.{key}`" if key else "setting"
        raise InputError(f"expected settings that the client library takes, found a {what} that it refused") from None


def refusal(error: KafkaError, where: str) -> SignalboxError | None:
    """Return the error to stop with, or None where the client library will try again by itself."""
    if error.code() in _DENIED:
        return InputError(f"expected to be let in for {where}, found: {error.str()}; check `client` and the ACLs")
    if error.code() in _ABSENT:
        return InputError(f"expected {where}, found none: {error.str()}; was the topic deleted?")
    if error.fatal():
        return InputError(f"expected to read {where}, found: {error.str()}")
    return None


@contextmanager
def _answering(config: KafkaConfig, what: str) -> Iterator[float]:
    """Yield the longest wait, and translate what the client library raises."""
    try:
        yield config.timeout.total_seconds()
    except KafkaException as error:
        reason: KafkaError = error.args[0]
        raise refusal(reason, what) or TransientError(
            f"expected {what} from brokers `{config.brokers}`, found: {reason.str()}; are they running and reachable?"
        ) from error


def partition_count(consumer: Consumer, config: KafkaConfig, topic: str) -> int:
    """Return the number of partitions of a topic.

    Raises
    ------
    InputError
        There is no such topic, or we may not read it.
    TransientError
        No broker answered.
    """
    name = config.topic_name(topic)
    with _answering(config, f"topic `{name}`") as timeout:
        found = consumer.list_topics(name, timeout=timeout).topics.get(name)
    if found is None or (found.error is not None and found.error.code() in _ABSENT) or not found.partitions:
        raise InputError(f"expected topic `{name}` at `{config.brokers}`, found none; create it first")
    if found.error is not None:
        raise InputError(f"expected topic `{name}` at `{config.brokers}`, found: {found.error.str()}")
    return len(found.partitions)


def watermarks(consumer: Consumer, config: KafkaConfig, name: str, partition: int) -> tuple[int, int]:
    """Return the first offset of a partition and the one behind its last readable record."""
    with _answering(config, f"the ends of partition {partition} of `{name}`") as timeout:
        found = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=timeout)
    if found is None:
        raise TransientError(f"expected the ends of partition {partition} of `{name}` in time, found no answer")
    return int(found[0]), int(found[1])


def offset_at(consumer: Consumer, config: KafkaConfig, name: str, partition: int, moment: datetime, end: int) -> int:
    """Return the offset of the first record that the broker stamped with the moment or later, or the end."""
    # a fraction of a millisecond belongs to the next one: no record before the moment
    milliseconds = -(-round(moment.timestamp() * 1e6) // 1000)
    with _answering(config, f"the records of `{name}` since {moment.isoformat()}") as timeout:
        (found,) = consumer.offsets_for_times([TopicPartition(name, partition, milliseconds)], timeout=timeout)
    if found.error is not None:
        raise TransientError(f"expected the records of `{name}` since {moment.isoformat()}, found: {found.error.str()}")
    return found.offset if found.offset >= 0 else end
