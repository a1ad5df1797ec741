"""The tables that Signalbox writes. Each row has a natural key, so writing it twice has the effect of once."""

from __future__ import annotations

from schemas.enums import Direction, Intent, RunStatus
from schemas.fields import Field, Schema

__all__ = ["BARS", "DEAD_LETTERS", "FEATURES", "LATE_EVENTS", "RUNS", "RUN_COUNTS", "SIGNALS", "TABLES"]

_RUN = Field("run_id", "symbol", "run that wrote the row")
_INSTRUMENT = Field("instrument_id", "symbol", "instrument, as the venue names it")
_INTERVAL = Field("interval_ns", "int", "length of the bar, ns")
_TS = Field("ts", "time", "decision time: everything in the row was known by then, UTC ns")
_TRACE = Field("trace_id", "text", "trace that computed the row, hexadecimal; empty without tracing", provenance=True)
_LOG = (
    Field("topic", "symbol", "topic of the record"),
    Field("partition", "int32", "partition of the record"),
    Field("offset", "int", "position in the partition"),
)

BARS = Schema(
    "bars",
    "One bar of trades over a window of event time. A window without a trade has no bar.",
    (
        _RUN,
        _INSTRUMENT,
        _INTERVAL,
        Field("ts_start", "time", "start of the window, inclusive, UTC ns"),
        Field("ts_end", "time", "end of the window, exclusive, UTC ns"),
        _TS,
        Field("open", "float", "first price in arrival order, quote currency"),
        Field("high", "float", "highest price"),
        Field("low", "float", "lowest price"),
        Field("close", "float", "last price in arrival order"),
        Field("volume", "float", "quantity traded, base units"),
        Field("notional", "float", "price times quantity, quote currency"),
        Field("vwap", "float", "notional over volume, quote currency"),
        Field("trade_count", "int", "number of trades"),
        Field("buy_volume", "float", "quantity whose aggressor bought, base units"),
    ),
    key=("run_id", "interval_ns", "instrument_id", "ts_start"),
)
FEATURES = Schema(
    "features",
    "The feature vector of one instrument at the close of one bar. One more column for each feature.",
    (
        _RUN,
        _INSTRUMENT,
        _INTERVAL,
        _TS,
        Field("feature_set", "symbol", "content hash of the feature set that the row follows"),
        Field("missing", "codes", "why a feature has no value: a `Missing` code for each, in the set's order"),
    ),
    key=("run_id", "interval_ns", "instrument_id", "ts"),
)
SIGNALS = Schema(
    "signals",
    "One trading decision with what it was made from.",
    (
        _RUN,
        Field("signal_id", "text", "digest of the natural key without the run: the same decision, the same id"),
        _INSTRUMENT,
        _TS,
        Field("strategy", "symbol", "strategy by its registered name"),
        Field("direction", "enum", "side of the position", enum=Direction),
        Field("intent", "enum", "what the signal asks for", enum=Intent),
        Field("confidence", "float", "strength of the evidence, in [0, 1]", non_negative=True),
        Field("price", "float", "price that the decision saw, quote currency", positive=True),
        Field("parameters_hash", "symbol", "content hash of the strategy's parameters"),
        Field("feature_set", "symbol", "content hash of the feature set"),
        Field("reason", "text", "why, in a sentence"),
        Field("inputs", "map", "what the decision saw: features, and what the strategy derived from them, by name"),
        Field("thresholds", "map", "parameters that the inputs were compared with, durations in seconds, by parameter"),
        _TRACE,
    ),
    key=("run_id", "strategy", "instrument_id", "ts", "signal_id"),
)
DEAD_LETTERS = Schema(
    "dead_letters",
    "One record that was refused, with its bytes.",
    (
        _RUN,
        *_LOG,
        Field("ts_recv", "time", "when we had it, UTC ns"),
        Field("instrument_id", "symbol", "instrument, where it could be read", nullable=True),
        Field("reason", "symbol", "a `DeadLetterReason`"),
        Field("detail", "text", "what was expected and what was found"),
        Field("payload", "bytes", "the record's bytes, untouched"),
        _TRACE,
    ),
    key=("run_id", "topic", "partition", "offset"),
)
LATE_EVENTS = Schema(
    "late_events",
    "One trade that arrived after the bar of its event time had closed; a row for each such bar length.",
    (
        _RUN,
        *_LOG,
        _INTERVAL,
        Field("ts_event", "time", "when it happened by its publisher's clock, UTC ns"),
        Field("ts_recv", "time", "when we had it, UTC ns"),
        _INSTRUMENT,
        Field("reason", "symbol", "a `LateReason`"),
        Field("payload", "bytes", "the record's bytes, untouched"),
    ),
    key=("run_id", "topic", "partition", "offset", "interval_ns"),
)
RUNS = Schema(
    "runs",
    "One run: what was computed, from what, with what.",
    (
        _RUN,
        Field("status", "enum", "state of the run", enum=RunStatus),
        Field("version", "text", "version of Signalbox"),
        Field("config_hash", "text", "content hash of the configuration"),
        Field("feature_set", "text", "content hash of the feature set"),
        Field("feature_names", "text", "the set's features in order, separated by commas"),
        Field("config", "text", "the configuration, as JSON"),
        Field("source", "text", "what was read"),
    ),
    key=("run_id", "status"),
)
RUN_COUNTS = Schema(
    "run_counts",
    "One counter of a run. Counters only grow, so the largest value is the last.",
    (
        _RUN,
        Field("kind", "symbol", "a `CountKind`"),
        Field("subject", "symbol", "topic or table that is counted"),
        Field("reason", "symbol", "reason, empty where the kind has none"),
        Field("count", "int", "records or rows"),
    ),
    key=("run_id", "kind", "subject", "reason"),
)

TABLES: dict[str, Schema] = {
    schema.name: schema for schema in (BARS, FEATURES, SIGNALS, DEAD_LETTERS, LATE_EVENTS, RUNS, RUN_COUNTS)
}
"""Every output table by name."""
