"""Every metric that Signalbox emits: name, kind, unit, attributes, meaning.

Names follow OpenTelemetry's conventions and units are UCUM, in which `{record}` is a count of records. Code emits a
metric by its entry here (`schemas.telemetry`), so a name that is not in the catalogue cannot be emitted. The page
`docs/metrics.md` is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from schemas.enums import DeadLetterReason, LateReason, OutcomeLabel
from schemas.tables import TABLES

__all__ = [
    "ALIGN_HELD",
    "BATCH_RECORDS",
    "CATALOGUE",
    "EPOCH_DURATION",
    "EXPORT_FAILURES",
    "FRAME_RECORDS",
    "MODEL_OUTCOMES",
    "MODEL_UNANSWERED",
    "ORDER_VIOLATIONS",
    "PROCESS_CPU",
    "PROCESS_MEMORY",
    "PUBLISHED_RECORDS",
    "PUBLISH_FAILURES",
    "PUBLISH_LATENCY",
    "RECORDS_DEAD_LETTERED",
    "RECORDS_DECODED",
    "RECORDS_LATE",
    "RECORDS_READ",
    "SINK_ERRORS",
    "SINK_INSERTS",
    "SINK_INSERT_DURATION",
    "SINK_LATENCY",
    "SINK_QUEUE",
    "SINK_RETRIES",
    "SINK_ROWS",
    "SNAPSHOT_DURATION",
    "SNAPSHOT_SIZE",
    "SOURCE_CLOCK_LAG",
    "SOURCE_LAG_DURATION",
    "SOURCE_LAG_RECORDS",
    "SOURCE_QUEUE",
    "STAGE_DURATION",
    "STATE_INSTRUMENTS",
    "WATERMARK_LAG",
    "Attribute",
    "Counter",
    "Histogram",
    "Metric",
    "Observed",
    "Stage",
    "UpDownCounter",
]

Stage = Literal["receive", "decode", "align", "compute", "insert", "publish"]
"""A step of the graph that handles batches."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """What a metric is told apart by.

    Parameters
    ----------
    name
        Name of the attribute.
    doc
        What it names.
    values
        The values that it can have; empty where they follow from the configuration.
    """

    name: str
    doc: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name
        Name by OpenTelemetry's conventions.
    unit
        Unit in UCUM.
    doc
        What is measured, when, by whom.
    attributes
        What it is told apart by; each measurement gives a value for each, in this order.
    """

    name: str
    unit: str
    doc: str
    attributes: tuple[Attribute, ...] = ()

    @property
    def kind(self) -> str:
        """Kind of instrument, in words."""
        raise TypeError(f"expected a kind of metric, found `{self.name}` without one")

    def labels(self, values: tuple[str, ...]) -> dict[str, str]:
        """Return the attributes of a measurement by name.

        Raises
        ------
        ValueError
            There are more or fewer values than attributes.

        Examples
        --------
        >>> RECORDS_READ.labels(("trades",))
        {'signalbox.topic': 'trades'}
        """
        return {of.name: value for of, value in zip(self.attributes, values, strict=True)}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Counter(Metric):
    """A sum that only grows."""

    @property
    def kind(self) -> str:
        """Kind of instrument, in words."""
        return "counter"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UpDownCounter(Metric):
    """A sum of what is there now."""

    @property
    def kind(self) -> str:
        """Kind of instrument, in words."""
        return "up-down counter"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Histogram(Metric):
    """A distribution.

    Parameters
    ----------
    bounds
        Upper bounds of the buckets, inclusive, ascending; one more takes what is above.
    """

    bounds: tuple[float, ...]

    @property
    def kind(self) -> str:
        """Kind of instrument, in words."""
        return "histogram"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Observed(Metric):
    """What is read whenever metrics are exported: a value of now, or a sum that only grows.

    Parameters
    ----------
    of
        What the values are.
    """

    of: Literal["gauge", "counter", "up-down counter"] = field(default="gauge")

    @property
    def kind(self) -> str:
        """Kind of instrument, in words."""
        return f"observed {self.of}"


_TOPIC: Final = Attribute("signalbox.topic", "input topic, by our name for it")
_SOURCE: Final = Attribute("signalbox.source", "partition of a topic, such as `trades/0`")
_TABLE: Final = Attribute("signalbox.table", "table of the database", tuple(TABLES))
_MODEL: Final = Attribute("signalbox.model", "model, by its registered name")
_OUTCOME: Final = Attribute(
    "signalbox.outcome", "what became of it", (*(label.name.lower() for label in OutcomeLabel), "not_followed")
)
_STAGE: Final = Attribute("signalbox.stage", "stage of the graph", ("receive", "decode", "align", "compute"))
_STEP: Final = Attribute("signalbox.step", "step with a state", ("align", "compute", "sink"))
_OUT_TOPIC: Final = Attribute("messaging.destination.name", "topic that is published to, by its name on the brokers")
_DEAD_LETTER_REASON: Final = Attribute(
    "signalbox.reason", "why it was refused", tuple(reason.value for reason in DeadLetterReason)
)
_LATE_REASON: Final = Attribute("signalbox.reason", "what it missed", tuple(reason.value for reason in LateReason))

# a stage takes between some 50 us (a few rows) and a second (a large batch of a replay)
_SHORT: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# from a record's arrival to its row: milliseconds where rows are published, the age of an insert where they are stored
_LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0)
_COUNTS: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5)
_BYTES: Final = (1e3, 1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 1e9)

RECORDS_READ = Counter(
    name="signalbox.records.read", unit="{record}", doc="Records that the sources delivered.", attributes=(_TOPIC,)
)
RECORDS_DECODED = Counter(
    name="signalbox.records.decoded",
    unit="{record}",
    doc="Records that were taken into the computation. What is read is decoded, dead-lettered or still held back.",
    attributes=(_TOPIC,),
)
RECORDS_DEAD_LETTERED = Counter(
    name="signalbox.records.dead_lettered",
    unit="{record}",
    doc="Records that were refused; each is a row of `dead_letters`.",
    attributes=(_TOPIC, _DEAD_LETTER_REASON),
)
RECORDS_LATE = Counter(
    name="signalbox.records.late",
    unit="{record}",
    doc="Records that arrived after the window of their event time had closed.",
    attributes=(_TOPIC, _LATE_REASON),
)
ORDER_VIOLATIONS = Counter(
    name="signalbox.records.order_violations",
    unit="{record}",
    doc="Records whose `ts_recv` was raised to the clock of their source.",
    attributes=(_TOPIC,),
)
MODEL_UNANSWERED = Counter(
    name="signalbox.models.unanswered",
    unit="{answer}",
    doc="Instruments at a decision time without an answer of a model.",
    attributes=(_MODEL, Attribute("signalbox.reason", "why there was none")),
)
MODEL_OUTCOMES = Counter(
    name="signalbox.models.outcomes",
    unit="{outcome}",
    doc="Predictions whose waiting is over, or that were not followed because too many waited.",
    attributes=(_OUTCOME,),
)
SOURCE_LAG_RECORDS = Observed(
    name="signalbox.source.lag.records",
    unit="{record}",
    doc="Offsets between what a partition has handed on and its end; markers and compacted records count too.",
    attributes=(_SOURCE,),
)
SOURCE_LAG_DURATION = Observed(
    name="signalbox.source.lag.duration",
    unit="s",
    doc="Time since the arrival of the last record that a partition handed on, zero where none is waiting. It means "
    'little where `ts_recv` is not of today (`clock = "record"`).',
    attributes=(_SOURCE,),
)
SOURCE_CLOCK_LAG = Observed(
    name="signalbox.source.clock.lag",
    unit="s",
    doc="Time by which the arrival clock of a partition is behind the wall clock. The slowest holds up all others.",
    attributes=(_SOURCE,),
)
WATERMARK_LAG = Observed(
    name="signalbox.watermark.lag",
    unit="s",
    doc="The largest lag of a clock among the partitions of the process: how far behind the wall clock it computes.",
)
SOURCE_QUEUE = Observed(
    name="signalbox.source.queue.size",
    unit="By",
    doc="Bytes of a partition's records that were fetched and not handed on.",
    attributes=(_SOURCE,),
)
BATCH_RECORDS = Histogram(
    name="signalbox.batch.records",
    unit="{record}",
    doc="Records in a batch that a source delivered.",
    attributes=(_TOPIC,),
    bounds=_COUNTS,
)
FRAME_RECORDS = Histogram(
    name="signalbox.frame.records",
    unit="{record}",
    doc="Records in a frame of a shard, of frames that have any. Its count is the number of such frames.",
    bounds=_COUNTS,
)
ALIGN_HELD = UpDownCounter(
    name="signalbox.align.held",
    unit="{record}",
    doc="Records that the shards of the process hold back until the slowest source has come so far.",
)
STATE_INSTRUMENTS = UpDownCounter(
    name="signalbox.state.instruments",
    unit="{instrument}",
    doc="Instruments that the shards of the process have state for.",
)
STAGE_DURATION = Histogram(
    name="signalbox.stage.duration",
    unit="s",
    doc="Time that a stage took for a batch.",
    attributes=(_STAGE,),
    bounds=_SHORT,
)
EPOCH_DURATION = Histogram(
    name="signalbox.epoch.duration",
    unit="s",
    doc="Time between two snapshots of a shard. Above `recovery.snapshot_interval` by what an epoch takes to end.",
    bounds=(0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 300.0),
)
SNAPSHOT_DURATION = Histogram(
    name="signalbox.snapshot.duration",
    unit="s",
    doc="Time that a step took at the end of an epoch: copying a shard's state, or storing all rows written so far.",
    attributes=(_STEP,),
    bounds=_SHORT,
)
SNAPSHOT_SIZE = Histogram(
    name="signalbox.snapshot.size",
    unit="By",
    doc="Size of a shard's snapshot as MessagePack; as Bytewax stores it, it is about the same.",
    attributes=(_STEP,),
    bounds=_BYTES,
)
SINK_ROWS = Counter(
    name="signalbox.sink.rows", unit="{row}", doc="Rows stored; one written again counts again.", attributes=(_TABLE,)
)
SINK_INSERTS = Counter(
    name="signalbox.sink.inserts", unit="{insert}", doc="Inserts that succeeded.", attributes=(_TABLE,)
)
SINK_INSERT_DURATION = Histogram(
    name="signalbox.sink.insert.duration",
    unit="s",
    doc="Time of an insert with its retries.",
    attributes=(_TABLE,),
    bounds=_SHORT,
)
SINK_RETRIES = Counter(
    name="signalbox.sink.retries", unit="{retry}", doc="Inserts that were tried again.", attributes=(_TABLE,)
)
SINK_ERRORS = Counter(
    name="signalbox.sink.errors",
    unit="{error}",
    doc="Inserts that failed; the run ends.",
    attributes=(_TABLE,),
)
SINK_QUEUE = Observed(
    name="signalbox.sink.queue.rows",
    unit="{row}",
    doc="Rows that wait in the writer's buffers and queue, or are being inserted.",
)
SINK_LATENCY = Histogram(
    name="signalbox.sink.latency",
    unit="s",
    doc="Time from a row's `ts`, or the `ts_recv` of a refused or late record, until it is stored, "
    "of 16 rows spread over each insert. Rows of more than a day ago are history and not measured.",
    attributes=(_TABLE,),
    bounds=_LATENCY,
)
PUBLISHED_RECORDS = Counter(
    name="signalbox.publish.records",
    unit="{record}",
    doc="Records whose delivery the brokers confirmed.",
    attributes=(_OUT_TOPIC,),
)
PUBLISH_FAILURES = Counter(
    name="signalbox.publish.failures",
    unit="{record}",
    doc="Records that could not be delivered; the run ends.",
    attributes=(_OUT_TOPIC,),
)
PUBLISH_LATENCY = Histogram(
    name="signalbox.publish.latency",
    unit="s",
    doc="As `signalbox.sink.latency`, until the brokers confirmed the record.",
    attributes=(_OUT_TOPIC,),
    bounds=_LATENCY,
)
EXPORT_FAILURES = Counter(
    name="signalbox.telemetry.export.failures",
    unit="{export}",
    doc="Exports of telemetry that failed; what they held is lost.",
    attributes=(Attribute("signalbox.signal", "what was exported", ("traces", "metrics", "logs")),),
)
PROCESS_CPU = Observed(
    name="process.cpu.time",
    unit="s",
    doc="Processor time of the process.",
    attributes=(Attribute("cpu.mode", "where it was spent", ("user", "system")),),
    of="counter",
)
PROCESS_MEMORY = Observed(
    name="process.memory.usage", unit="By", doc="Resident memory of the process.", of="up-down counter"
)

CATALOGUE: Final[dict[str, Metric]] = {
    metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)
}
"""Every metric by name, in order."""
