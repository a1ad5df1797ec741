"""The tables that Signalbox writes. Each row has a natural key, so writing it twice has the effect of once."""

from __future__ import annotations

from schemas.enums import (
    Direction,
    DriftDetector,
    DriftDirection,
    DriftStream,
    EventBarKind,
    Intent,
    OutcomeLabel,
    RunStatus,
)
from schemas.fields import Field, Schema

__all__ = [
    "BARS",
    "CROSS_SECTION",
    "DEAD_LETTERS",
    "DRIFT_EVENTS",
    "EVENT_BARS",
    "FEATURES",
    "LATE_EVENTS",
    "OUTCOMES",
    "PREDICTIONS",
    "PUBLISHED",
    "RUNS",
    "RUN_COUNTS",
    "SIGNALS",
    "TABLES",
]

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

_MODEL = (
    Field("model", "symbol", "specialist by its registered name, or `ensemble`"),
    Field("model_version", "symbol", "content hash of the model's inputs and parameters, not of what it has learnt"),
    Field("horizon_ns", "int", "time from a prediction to its outcome, ns"),
)
PREDICTIONS = Schema(
    "predictions",
    "One answer of a model about one instrument. A model without an answer has no row.",
    (
        _RUN,
        _INSTRUMENT,
        _INTERVAL,
        _TS,
        *_MODEL,
        Field("feature_set", "symbol", "content hash of what the model reads: features and transforms, or members"),
        Field("probability", "float", "that the price rises beyond the cost band, given that it leaves the band"),
        Field("confidence", "float", "reliance on the probability by sample, calibration and coverage, in [0, 1]"),
        Field("score", "float", "log-odds before calibration"),
        Field("explanation", "map", "what inputs or members add to the log-odds; of an ensemble also its weights"),
    ),
    key=("run_id", "model", "instrument_id", "ts"),
)
OUTCOMES = Schema(
    "outcomes",
    "What became of one prediction.",
    (
        _RUN,
        _INSTRUMENT,
        Field("ts", "time", "decision time of the prediction, UTC ns"),
        *_MODEL,
        Field("ts_matured", "time", "decision time of the close that it was judged by, or of giving it up, UTC ns"),
        Field("label", "enum", "side of the cost band", enum=OutcomeLabel),
        Field("horizon_return", "float", "close at the horizon over close at the prediction, less 1", nullable=True),
        Field("probability", "float", "as predicted"),
        Field("loss", "float", "log-loss of the probability, nats; of rises and falls only", nullable=True),
    ),
    key=("run_id", "model", "instrument_id", "ts"),
)

CROSS_SECTION = Schema(
    "cross_section",
    "Features of one instrument among all of the universe, at one decision time.",
    (
        _RUN,
        _INSTRUMENT,
        _INTERVAL,
        _TS,
        Field("feature_set", "symbol", "content hash of the features across instruments that the row follows"),
        Field("missing", "codes", "why a feature has no value: a `Missing` code for each, ranks last"),
        Field("live", "int", "instruments of the universe that closed a bar lately"),
        Field("present", "int", "instruments of the universe that closed a bar at this time"),
        Field("bar_return", "float", "log return since the complete frame before", nullable=True),
        Field("market_return", "float", "weighted mean of the returns, the same in every row", nullable=True),
        Field("market_beta", "float", "slope of the return on the market's, decayed", nullable=True),
        Field("market_correlation", "float", "correlation of the return with the market's, decayed", nullable=True),
        Field("sector_beta", "float", "slope of the return on its sector's, decayed", nullable=True),
        Field("sector_correlation", "float", "correlation of the return with its sector's, decayed", nullable=True),
        Field("mean_correlation", "float", "mean shrunk correlation with the others of the matrix", nullable=True),
        Field("dispersion", "float", "weighted deviation of the returns, the same in every row", nullable=True),
        Field("advancing", "float", "share of returns above zero, the same in every row", nullable=True),
        Field("above_average", "float", "share of closes above their average, the same in every row", nullable=True),
        Field("ranks", "map", "percentile among all, in [0, 1], by ranked feature"),
    ),
    key=("run_id", "interval_ns", "instrument_id", "ts"),
)

DRIFT_EVENTS = Schema(
    "drift_events",
    "One drift of a stream of numbers about a model or a feature set, with the evidence for it.",
    (
        _RUN,
        Field("model", "symbol", "model by its registered name, or content hash of a feature set"),
        Field("stream", "symbol", "what drifted, by name: a feature, an output, a loss"),
        Field("detector", "enum", "who found it", enum=DriftDetector),
        Field("ts", "time", "when the value at which it was found was known, UTC ns"),
        Field("stream_kind", "enum", "what kind of numbers the stream holds", enum=DriftStream),
        Field("direction", "enum", "where the mean went", enum=DriftDirection),
        Field("mean_before", "float", "mean before the change, in the unit of the stream"),
        Field("mean_after", "float", "mean after the change, in the unit of the stream"),
        Field("n_before", "int", "values before the change that were looked at"),
        Field("n_after", "int", "values after it"),
        Field("bound", "float", "what the statistic was above, standard deviations of the stream's first values"),
        Field("value", "float", "the detector's statistic, standard deviations of the stream's first values"),
    ),
    key=("run_id", "model", "stream", "detector", "ts"),
)

EVENT_BARS = Schema(
    "event_bars",
    "One bar of trades in arrival order that closed when enough had happened, not at a time.",
    (
        _RUN,
        Field("series", "symbol", "kind and threshold as text: whose bars they are"),
        _INSTRUMENT,
        Field("ts", "time", "arrival of the trade that closed the bar: everything in it was known then, UTC ns"),
        Field("number", "int", "position among the bars of the series since the instrument was first seen, from 1"),
        Field("kind", "enum", "what is counted until a bar closes", enum=EventBarKind),
        Field("threshold", "float", "trades, base units or quote currency in a bar; expected trades in imbalance bars"),
        Field("ts_start", "time", "event time of the first trade in arrival order, UTC ns"),
        Field("ts_end", "time", "event time of the last trade in arrival order, UTC ns"),
        Field("open", "float", "first price in arrival order, quote currency"),
        Field("high", "float", "highest price"),
        Field("low", "float", "lowest price"),
        Field("close", "float", "last price in arrival order"),
        Field("volume", "float", "quantity traded, base units"),
        Field("notional", "float", "price times quantity, quote currency"),
        Field("vwap", "float", "notional over volume, quote currency"),
        Field("trade_count", "int", "number of trades"),
        Field("buy_volume", "float", "quantity whose aggressor bought, base units"),
        Field("imbalance", "float", "trades that bought less trades that sold, by flag or else by the tick rule"),
    ),
    key=("run_id", "series", "instrument_id", "ts", "number"),
)

TABLES: dict[str, Schema] = {
    schema.name: schema
    for schema in (
        BARS,
        EVENT_BARS,
        FEATURES,
        CROSS_SECTION,
        SIGNALS,
        PREDICTIONS,
        OUTCOMES,
        DRIFT_EVENTS,
        DEAD_LETTERS,
        LATE_EVENTS,
        RUNS,
        RUN_COUNTS,
    )
}
"""Every output table by name."""
PUBLISHED: tuple[Schema, ...] = (SIGNALS, PREDICTIONS, DRIFT_EVENTS, DEAD_LETTERS)
"""Tables whose rows a live run can publish, each to a topic of its own; see `sinks.messages` for their form."""
