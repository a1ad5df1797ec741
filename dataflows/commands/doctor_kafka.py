"""What `signalbox doctor` looks at on the brokers: that they answer, the topics, the clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from dataflows.settings import Settings, load_settings
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.topics import TopicState, describe_topics
from schemas.errors import SignalboxError
from schemas.time import duration_ns, format_duration

__all__ = ["Finding", "look_at_kafka"]

Finding = tuple[str, bool, str, str]
"""What was looked at, whether it is good, what was found, and the remedy."""


def look_at_kafka(path: Path | None) -> list[Finding]:
    """Return what was found; nothing where the configuration names no brokers, or cannot be read."""
    try:
        settings = load_settings(path)
    except SignalboxError:
        return []
    config = settings.kafka
    if config is None:
        return []
    inputs = {config.topic_name(topic): topic for topic in config.topics}
    try:
        states = describe_topics(config, [*inputs, *settings.outputs.topics.values()])
    except SignalboxError as error:
        return [("brokers", False, str(error), "start them, or correct `kafka.brokers` and `kafka.client`")]
    found: list[Finding] = [("brokers", True, f"`{config.brokers}` answer", "")]
    for state in states:
        found.extend(_topic(settings, config, state, inputs.get(state.name)))
    return found


def _topic(settings: Settings, config: KafkaConfig, state: TopicState, topic: str | None) -> Iterator[Finding]:
    name = f"topic `{state.name}`"
    if not state.exists:
        yield name, False, "no such topic", "make it with `signalbox topics create`"
        return
    if state.problems:
        yield name, False, "; ".join(state.problems), "see to the brokers that have its copies"
        return
    yield name, True, f"{len(state.partitions)} partitions, {state.records:,} records", ""
    if topic is None:
        return
    clock, kind = config.topics[topic].clock, state.config.get("message.timestamp.type")
    if clock == "broker" and kind == "CreateTime":
        remedy = "set `message.timestamp.type` of the topic to LogAppendTime, or `clock` to `header`"
        yield f"clock of `{topic}`", False, "`broker`, where producers set the records' time", remedy
    elif clock != "record" and state.newest is not None:
        yield _skew(config, topic, state.newest)


def _skew(config: KafkaConfig, topic: str, newest: int) -> Finding:
    """Compare the time of the newest record with our clock: it cannot have been appended in the future."""
    ahead = newest - time.time_ns()
    margin = duration_ns(config.idle_margin)
    name = f"clock of `{topic}`"
    if ahead > margin:
        text = f"its newest record is {ahead / 1e9:.3f} s ahead of this machine's clock"
        return name, False, text, "set the clocks of brokers and this machine by one time server"
    allowed = format_duration(margin)
    text = f"newest record {-ahead / 1e9:,.3f} s ago; a skew up to `idle_margin` ({allowed}) does no harm"
    return name, True, text, ""
