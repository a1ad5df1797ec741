"""Publishes refused records back to the topics that they came from, each once.

What was redriven is kept on a topic of its own, the ledger: `LETTERS.redriven`, compacted, with the record's place as
key and the place of its copy as value. Copies and their entries are published in one transaction, so there is no copy
without its entry and no entry without its copy, wherever the command is stopped. A second command at the same time
takes over, and the first one fails.

A record has one place in its topic, whichever run refused it; it is redriven once for all of them. A copy that is
refused again is another record at another place. Through the ledger it is known how often it has been redriven.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from dataflows.dead_letters import DeadLetter, DeadLetterFilter, Place, parse_dead_letter
from dataflows.sources.kafka_client import open_producer, refusal
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.kafka_decode import ROWS_PER_RECORD
from dataflows.topic_scan import TopicScan
from dataflows.topics import BROKER_DEFAULT, TopicPlan, create_topics, describe_topics
from schemas.errors import InputError, SignalboxError, TransientError
from schemas.time import duration_ns
from sinks.topics import fatal_errors, producer_settings

__all__ = ["Plan", "Redrive", "ledger_topic"]

_BATCH: Final = 200
_BATCH_BYTES: Final = 4 * 2**20
"""Records and bytes of a transaction. While it is open, readers of the source topics do not see what is behind it, so
it takes milliseconds."""
_TIMEOUT: Final = timedelta(seconds=10)
"""After it the brokers end the transaction of a command that was killed."""
_SORTED_BYTES: Final = 64 * 2**20
"""Bytes of records that are held to be published in the order of their places: the topic of the dead letters keeps no
order between its partitions."""
_OVERHEAD_BYTES: Final = 1024
"""What a dead letter takes besides its payload."""
_TAKEN_OVER: Final = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
_REFUSED: Final = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
Progress = Callable[[int, int], None]


def ledger_topic(letters: str) -> str:
    """Return the name of the ledger of a topic of dead letters."""
    return f"{letters}.redriven"


@dataclass(slots=True)
class Plan:
    """What a redrive does, or would do, with the dead letters that a filter takes.

    Parameters
    ----------
    redriven
        Records that are published, by source topic and reason.
    repeated
        Dead letters of a record that occurred before, from a repeated write or another run.
    done
        Records that were redriven by an earlier command.
    refused
        Records that are not redriven, by what stands against it.
    foreign
        Records on the topic that are no dead letters.
    """

    redriven: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeated: int = 0
    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    foreign: int = 0

    @property
    def count(self) -> int:
        """Records that are published."""
        return self.redriven.total()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        redriven = [
            {"topic": topic, "reason": reason, "count": count}
            for (topic, reason), count in sorted(self.redriven.items())
        ]
        return {
            "redriven": self.count,
            "groups": redriven,
            "repeated": self.repeated,
            "already_redriven": self.done,
            "refused": dict(self.refused),
            "foreign": self.foreign,
        }


class _Entry(msgspec.Struct):
    """Where the copy of a redriven record stands, and how often the record has been redriven."""

    topic: str
    partition: int
    offset: int
    times: int


class _Copy(NamedTuple):
    """A dead letter to be published, and how often its record will have been redriven then."""

    letter: DeadLetter
    times: int


@dataclass(slots=True)
class _Ledger:
    """What was redriven before: places of the originals, and how often the record of a copy has been redriven."""

    done: set[Place] = field(default_factory=set)
    times: dict[Place, int] = field(default_factory=dict)


class Redrive:
    """Dead letters that are published back.

    Parameters
    ----------
    config
        Brokers and source topics.
    letters
        Name of the topic of the dead letters.
    scan
        Its records; those after its end are left.
    chosen
        Which of them.
    limit
        Most records that are published; None for all.
    most_times
        How often a record may be redriven.
    """

    def __init__(
        self,
        config: KafkaConfig,
        letters: str,
        scan: TopicScan,
        *,
        chosen: DeadLetterFilter | None = None,
        limit: int | None = None,
        most_times: int = 3,
    ) -> None:
        self._config = config
        self._letters = letters
        self._scan = scan
        self._chosen = chosen or DeadLetterFilter()
        self._limit = limit
        self._most_times = most_times
        self._ledger = ledger_topic(letters)
        names = [config.topic_name(topic) for topic in config.topics]
        self._partitions = {
            topic: len(state.partitions)
            for topic, state in zip(config.topics, describe_topics(config, names), strict=True)
        }

    def plan(self, progress: Progress | None = None) -> Plan:
        """Return what `run` would do now; nothing is changed."""
        plan = Plan()
        for _ in self._choose(plan, self._read_ledger(), progress):
            pass
        return plan

    def run(self, progress: Progress | None = None) -> Plan:
        """Publish the records and return what was done. What is confirmed stays so if an error ends it.

        Raises
        ------
        InputError
            The brokers refuse a topic or a record.
        TransientError
            Brokers did not answer in time, or another redrive took over; the same command goes on from here.
        """
        create_topics(self._config, [TopicPlan(self._ledger, 1, BROKER_DEFAULT, {"cleanup.policy": "compact"})])
        settings = producer_settings(_TIMEOUT) | {
            "transactional.id": f"signalbox-redrive-{self._letters}",
            "transaction.timeout.ms": _TIMEOUT // timedelta(milliseconds=1),
        }
        producer = open_producer(self._config, settings)
        try:
            with self._explaining("a producer with transactions"):
                producer.init_transactions(self._config.timeout.total_seconds())
            # only now has nobody else a transaction under way that could add to it
            ledger, plan, last = self._read_ledger(), Plan(), -1
            for batch in _batches(self._choose(plan, ledger, progress)):
                last = self._publish(producer, batch)
        finally:
            producer.purge()
            with warnings.catch_warnings():
                # it warns that it cannot abort a transaction that another redrive has ended
                warnings.simplefilter("ignore", RuntimeWarning)
                producer.close()
        self._await_ledger(last)
        return plan

    def _read_ledger(self) -> _Ledger:
        ledger = _Ledger()
        (state,) = describe_topics(self._config, [self._ledger])
        if not state.exists:
            return ledger
        with TopicScan(self._config, self._ledger) as scan:
            for message in scan.messages():
                original, entry = self._read_entry(message)
                ledger.done.add(original)
                ledger.times[Place(entry.topic, entry.partition, entry.offset)] = entry.times
        return ledger

    def _read_entry(self, message: Message) -> tuple[Place, _Entry]:
        try:
            topic, partition, offset = (message.key() or b"").decode().rsplit("/", 2)
            return Place(topic, int(partition), int(offset)), msgspec.json.decode(message.value() or b"", type=_Entry)
        except (ValueError, msgspec.MsgspecError) as error:
            raise InputError(
                f"expected entries of redriven records on `{self._ledger}`, found another record at offset "
                f"{message.offset()} ({error}); nobody else may write there"
            ) from error

    def _choose(self, plan: Plan, ledger: _Ledger, progress: Progress | None) -> Iterator[_Copy]:
        """Yield what is to be published, and note in the plan what becomes of the rest."""
        seen: set[Place] = set()
        for message in self._scan.messages(progress):
            if self._limit is not None and plan.count >= self._limit:
                return
            letter = parse_dead_letter(message)
            if letter is None:
                plan.foreign += 1
            elif self._chosen.takes(letter):
                copy = self._judge(letter, seen, ledger, plan)
                if copy is not None:
                    yield copy

    def _judge(self, letter: DeadLetter, seen: set[Place], ledger: _Ledger, plan: Plan) -> _Copy | None:
        """Return what is to be published of a dead letter; otherwise note why there is nothing."""
        if letter.place in seen:
            plan.repeated += 1
            return None
        seen.add(letter.place)
        if letter.place in ledger.done:
            plan.done += 1
            return None
        times = ledger.times.get(self._record_of(letter.place), 0)
        obstacle = self._obstacle(letter, times)
        if obstacle is not None:
            plan.refused[obstacle] += 1
            return None
        plan.redriven[letter.place.topic, letter.reason] += 1
        return _Copy(letter, times + 1)

    def _record_of(self, place: Place) -> Place:
        """Return the place of the Kafka record that holds a row."""
        topic = self._config.topics.get(place.topic)
        if topic is None or topic.format != "arrow":
            return place
        return place._replace(offset=place.offset // ROWS_PER_RECORD)

    def _obstacle(self, letter: DeadLetter, times: int) -> str | None:
        """Return what stands against publishing a record, or None."""
        place = letter.place
        topic = self._config.topics.get(place.topic)
        if topic is None:
            return f"the configuration has no topic `{place.topic}`"
        if place.partition >= self._partitions[place.topic]:
            return f"there is no partition {place.partition} of `{place.topic}`"
        if topic.format == "arrow" and (place.offset % ROWS_PER_RECORD or letter.payload.startswith(b"{")):
            return "a row of an Arrow record stands for itself; its publisher has to send the record anew"
        if topic.format == "avro" and letter.payload.startswith(b"{"):
            return "only the values of an Avro record were kept; its publisher has to send the record anew"
        if times >= self._most_times:
            return f"redriven {times} times already"
        return None

    def _await_ledger(self, offset: int) -> None:
        """Wait until the ledger can be read up to an offset: brokers end a transaction soon after they confirmed it."""
        deadline = time.monotonic() + _TIMEOUT.total_seconds()
        while offset >= 0 and time.monotonic() < deadline:
            with TopicScan(self._config, self._ledger) as scan:
                if scan.end > offset:
                    return
            time.sleep(0.01)

    def _publish(self, producer: Producer, batch: Sequence[_Copy]) -> int:
        """Publish copies with their entries in the ledger, all or none; return the offset of the last entry."""
        with self._explaining("redriven records"):
            producer.begin_transaction()
            try:
                offsets = self._deliver(producer, [self._copy(copy) for copy in batch])
                entries = self._deliver(producer, [self._entry(*pair) for pair in zip(batch, offsets, strict=True)])
                producer.commit_transaction(_TIMEOUT.total_seconds())
            except BaseException:
                with suppress(KafkaException, SystemError):  # the first error is the one to show
                    producer.abort_transaction(_TIMEOUT.total_seconds())
                raise
        return entries[-1]

    def _copy(self, copy: _Copy) -> dict[str, Any]:
        letter = copy.letter
        # what a partition without records would have its clock at: later, and records behind it would be raised
        ts_recv = time.time_ns() - duration_ns(self._config.idle_margin)
        headers = {"redriven": str(copy.times), "dead_letter_id": letter.id, "ts_recv": str(ts_recv)}
        return {
            "topic": self._config.topic_name(letter.place.topic),
            "partition": letter.place.partition,
            "key": letter.instrument_id or None,
            "value": letter.payload,
            "headers": list(headers.items()),
        }

    def _entry(self, copy: _Copy, offset: int) -> dict[str, Any]:
        place = copy.letter.place
        entry = _Entry(place.topic, place.partition, offset, copy.times)
        return {"topic": self._ledger, "key": str(place), "value": msgspec.json.encode(entry)}

    def _deliver(self, producer: Producer, records: Sequence[dict[str, Any]]) -> list[int]:
        """Publish records and return their offsets once every one is confirmed."""
        offsets: dict[int, int] = {}
        failures: list[KafkaError] = []

        def settle(number: int, error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append(error)
            else:
                offsets[number] = message.offset() or 0

        for number, record in enumerate(records):
            producer.produce(**record, on_delivery=partial(settle, number))
        producer.flush(_TIMEOUT.total_seconds())
        if failures:
            raise KafkaException(failures[0])
        if len(offsets) < len(records):
            raise TransientError(
                f"expected {len(records)} redriven records confirmed, found {len(offsets)}; none of them counts, and "
                "the same command goes on from here"
            )
        return [offsets[number] for number in range(len(records))]

    @contextmanager
    def _explaining(self, what: str) -> Iterator[None]:
        try:
            with fatal_errors():
                yield
        except KafkaException as error:
            raise self._explain(error.args[0], what) from error

    def _explain(self, error: KafkaError, what: str) -> SignalboxError:
        if error.code() in _TAKEN_OVER:
            return TransientError(
                f"expected to be the only redrive of `{self._letters}`, found that another one took over; let it end, "
                "then start the same command again"
            )
        if error.code() in _REFUSED:
            return InputError(f"expected the brokers to take {what}, found: {error.str().lower()}")
        return refusal(error, what) or TransientError(
            f"expected the brokers `{self._config.brokers}` to confirm {what}, found: {error.str().lower()}; the same "
            "command goes on from here"
        )


def _batches(copies: Iterable[_Copy]) -> Iterator[list[_Copy]]:
    """Yield copies in the order of their places, as far as memory reaches, cut to transactions."""
    for chunk in _cut(copies, sys.maxsize, _SORTED_BYTES):
        yield from _cut(sorted(chunk, key=lambda copy: copy.letter.place), _BATCH, _BATCH_BYTES)


def _cut(copies: Iterable[_Copy], most: int, most_bytes: int) -> Iterator[list[_Copy]]:
    batch: list[_Copy] = []
    size = 0
    for copy in copies:
        batch.append(copy)
        size += len(copy.letter.payload) + _OVERHEAD_BYTES
        if len(batch) >= most or size >= most_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
