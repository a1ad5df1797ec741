"""Where each partition of a run begins and ends: resolved once, kept with the run's first snapshot.

`latest`, a time and an end mean something else every time the brokers are asked. Whoever keeps what they meant at first
can begin again from the same offsets when a run was killed before it had a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer

from dataflows.sources.kafka_client import offset_at, watermarks
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.kafka_pace import NEVER
from dataflows.sources.kafka_topics import TopicState
from dataflows.sources.replay_range import ReplayRange
from schemas.errors import ConfigError, InputError
from schemas.time import duration_ns

__all__ = ["PartitionStart", "check_bounded", "check_same_topic", "keep", "resolve", "restore"]

_MS: Final = 10**6


class PartitionStart(msgspec.Struct, frozen=True):
    """How one partition begins that has no snapshot.

    Parameters
    ----------
    offset
        Offset of its first record.
    end
        Offset at which its input ends, or None where it goes on.
    topic_id
        Id that the brokers gave the topic when it was made; empty where they give none.
    clock
        Arrival clock before its first record, ns: records behind it are raised to it.
    """

    offset: int
    end: int | None
    topic_id: str
    clock: int = NEVER


def keep(starts: Mapping[str, PartitionStart]) -> dict[str, dict[str, Any]]:
    """Return the starts as plain values, which JSON can hold.

    Examples
    --------
    >>> keep({"trades/0": PartitionStart(5, None, "id", clock=7)})
    {'trades/0': {'offset': 5, 'end': None, 'topic_id': 'id', 'clock': 7}}
    """
    return {source: msgspec.to_builtins(start) for source, start in starts.items()}


def resolve(
    consumer: Consumer, config: KafkaConfig, topics: Mapping[str, TopicState], replay: ReplayRange | None
) -> dict[str, PartitionStart]:
    """Ask the brokers where every partition begins and, if the input is bounded, where it ends.

    Raises
    ------
    InputError
        A partition of `start_offsets` does not exist.
    TransientError
        No broker answered in time.
    """
    starts = {}
    for topic, state in topics.items():
        for partition in range(state.partitions):
            low, high = watermarks(consumer, config, config.topic_name(topic), partition)
            if replay is None:
                offset = _configured(consumer, config, topic, partition, low, high)
            else:
                offset = _first_in_range(consumer, config, topic, partition, low, high, replay.start)
            end = None if config.follow else max(high, offset)
            starts[f"{topic}/{partition}"] = PartitionStart(offset, end, state.topic_id)
    absent = sorted(set(config.start_offsets) - set(starts))
    if absent:
        raise InputError(f"`start_offsets`: expected partitions that exist, found {', '.join(absent)}")
    return starts


def _configured(consumer: Consumer, config: KafkaConfig, topic: str, partition: int, low: int, high: int) -> int:
    chosen = config.start_offsets.get(f"{topic}/{partition}")
    if chosen is not None:
        return chosen
    if isinstance(config.start, str):
        return low if config.start == "earliest" else high
    # a fraction of a millisecond belongs to the next one: no record before the moment
    milliseconds = -(-round(config.start.timestamp() * 1e6) // 1000)
    return max(offset_at(consumer, config, config.topic_name(topic), partition, milliseconds, high), low)


def _first_in_range(
    consumer: Consumer, config: KafkaConfig, topic: str, partition: int, low: int, high: int, start: int
) -> int:
    """Return an offset before which no record can have a `ts_recv` of `start` or later.

    The brokers name the first record with a timestamp. What stands before it is older, and so are the times that it
    raises records to; a header is ahead of its record's timestamp by `header_ahead` at most. Of a time within the
    record they know nothing.
    """
    clock = config.topics[topic].clock
    milliseconds = (start - (duration_ns(config.header_ahead) if clock == "header" else 0)) // _MS
    if clock == "record" or milliseconds <= 0:
        return low
    return min(max(offset_at(consumer, config, config.topic_name(topic), partition, milliseconds, high), low), high)


def restore(
    kept: Mapping[str, Any], config: KafkaConfig, topics: Mapping[str, TopicState]
) -> dict[str, PartitionStart]:
    """Check starts that were kept against the topics as they are now.

    Raises
    ------
    ConfigError
        They are not what `keep` gave, or belong to another configuration.
    InputError
        A partition is gone, or a topic was made anew.
    """
    try:
        starts = msgspec.convert(dict(kept), dict[str, PartitionStart])
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"expected the starts of partitions as they were kept, found: {error}; start a new run"
        ) from error
    if {_topic_of(source) for source in starts} != set(config.topics):
        raise ConfigError(
            f"expected starts of topics {', '.join(sorted(config.topics))}, found {', '.join(sorted(starts))}; "
            "a run keeps its topics: start a new run"
        )
    existing = {f"{topic}/{number}" for topic, state in topics.items() for number in range(state.partitions)}
    for source, start in starts.items():
        check_same_topic(source, start.topic_id, topics[_topic_of(source)].topic_id)
        check_bounded(start.end, config)
    gone = sorted(set(starts) - existing)
    if gone:
        raise InputError(f"expected partitions {', '.join(gone)}, found them gone; start a new run")
    return {source: starts[source] for source in sorted(starts, key=_place)}


def check_same_topic(source: str, expected: str, found: str) -> None:
    """Refuse a topic that was deleted and made again: its offsets name other records.

    Raises
    ------
    InputError
        The ids are known and differ.
    """
    if expected and found and expected != found:
        raise InputError(
            f"expected the topic of `{source}` to have id {expected}, found {found}: it was deleted and made anew, and "
            "its offsets name other records; start a new run, which reads the new topic"
        )


def check_bounded(end: int | None, config: KafkaConfig) -> None:
    """Refuse to go on with a bounded input as if it were none, and the other way round.

    Raises
    ------
    ConfigError
        The run began as the other kind.
    """
    if (end is None) != config.follow:
        raise ConfigError(
            f"expected `follow = {str(end is None).lower()}`, with which the run began, was "
            f"{str(config.follow).lower()}; a run cannot change from one to the other"
        )


def _topic_of(source: str) -> str:
    return source.rpartition("/")[0]


def _place(source: str) -> tuple[str, int]:
    topic, _, number = source.rpartition("/")
    return topic, int(number)
