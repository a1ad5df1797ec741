"""Where the rows of a live run go: the database, and the topics that are configured."""

from __future__ import annotations

from functools import partial
from typing import Final

from dataflows.settings import Settings
from dataflows.sources.kafka_client import open_producer
from dataflows.sources.kafka_config import ArrivalClock, KafkaConfig
from sinks.dead_letter_limit import DeadLetterLimit
from sinks.drift_tally import DriftTally, StreamDrift
from sinks.order_warning import OrderWarning
from sinks.tables import RowWriter
from sinks.tee import ClosableWriter, Tee
from sinks.topics import TopicWriter
from sinks.writer import BufferedWriter

__all__ = ["Outlets"]

_SKEWED: Final = (
    "synchronise the clocks of this machine and of the brokers, then raise `kafka.idle_margin` above what is left"
)
_REMEDIES: Final[dict[ArrivalClock, str]] = {
    "broker": _SKEWED,
    "header": _SKEWED,
    "record": "publish each partition in the order of `ts_recv`, and no heartbeat ahead of it",
}
"""What to do about records behind the clock of their partition, by whose clock it is."""


class Outlets:
    """Makes the writer that all rows of a process go through.

    Parameters
    ----------
    settings
        The configuration.
    config
        The brokers.
    run_id
        The run.
    """

    def __init__(self, settings: Settings, config: KafkaConfig, run_id: str) -> None:
        self._settings = settings
        self._config = config
        self._run_id = run_id
        self._database: BufferedWriter | None = None
        self._topics: TopicWriter | None = None
        self._tally: DriftTally | None = None

    def __call__(self, database: BufferedWriter) -> RowWriter:
        """Return the writer over that of the database."""
        self._database = database
        outputs = self._settings.outputs
        writer: ClosableWriter = database
        if outputs.topics:
            producer = partial(open_producer, self._config)
            self._topics = TopicWriter.open(producer, outputs.topics, run_id=self._run_id)
            # first what somebody waits for
            writer = Tee((self._topics, database))
        limited = DeadLetterLimit(writer, most=outputs.max_dead_letters, window=outputs.dead_letter_window)
        self._tally = DriftTally(limited)
        return OrderWarning(
            self._tally, {topic: _REMEDIES[entry.clock] for topic, entry in self._config.topics.items()}
        )

    @property
    def written(self) -> dict[str, int]:
        """Rows stored by this process, by table."""
        return dict(self._database.written) if self._database is not None else {}

    @property
    def drift(self) -> dict[str, StreamDrift]:
        """Drifts found by this process, by `model/stream`."""
        return self._tally.found if self._tally is not None else {}

    def close(self) -> None:
        """Let go of the producer."""
        if self._topics is not None:
            self._topics.close()
