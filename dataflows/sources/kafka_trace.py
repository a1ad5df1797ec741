"""What the span of a delivery says of its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from confluent_kafka import Message

from schemas.telemetry import MAX_LINKS, Span, read_traceparent

__all__ = ["describe_records"]

_HEADER: Final = "traceparent"


def describe_records(span: Span, name: str, partition: int, messages: Sequence[Message]) -> None:
    """Describe consecutive records of a partition, and link to what published some of them.

    Headers are read of few records, spread evenly over the batch, because reading them costs 1 us each; of a span that
    is not kept, none are read.

    Parameters
    ----------
    span
        The span of the delivery.
    name
        Name of the topic on the brokers.
    partition
        Its partition.
    messages
        The records, at least one.
    """
    if not span.is_kept:
        return
    span.set("messaging.system", "kafka")
    span.set("messaging.operation.name", "receive")
    span.set("messaging.operation.type", "receive")
    span.set("messaging.destination.name", name)
    span.set("messaging.destination.partition.id", str(partition))
    span.set("messaging.batch.message_count", len(messages))
    span.set("messaging.kafka.offset", messages[0].offset() or 0)
    span.link(_published(messages))


def _published(messages: Sequence[Message]) -> Iterator[str]:
    last = len(messages) - 1
    for row in sorted({last * part // (MAX_LINKS - 1) for part in range(MAX_LINKS)}):
        headers: Any = messages[row].headers()
        for key, value in headers or ():
            if key == _HEADER:
                yield read_traceparent(value)
                break
