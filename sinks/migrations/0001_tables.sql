-- Storage tables, derived from schemas/tables.py

CREATE TABLE IF NOT EXISTS bars_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `instrument_id` LowCardinality(String) COMMENT 'instrument, as the venue names it',
    `interval_ns` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'length of the bar, ns',
    `ts_start` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'start of the window, inclusive, UTC ns',
    `ts_end` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'end of the window, exclusive, UTC ns',
    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'decision time: everything in the row was known by then, UTC ns',
    `open` Float64 CODEC(ZSTD(1)) COMMENT 'first price in arrival order, quote currency',
    `high` Float64 CODEC(ZSTD(1)) COMMENT 'highest price',
    `low` Float64 CODEC(ZSTD(1)) COMMENT 'lowest price',
    `close` Float64 CODEC(ZSTD(1)) COMMENT 'last price in arrival order',
    `volume` Float64 CODEC(ZSTD(1)) COMMENT 'quantity traded, base units',
    `notional` Float64 CODEC(ZSTD(1)) COMMENT 'price times quantity, quote currency',
    `vwap` Float64 CODEC(ZSTD(1)) COMMENT 'notional over volume, quote currency',
    `trade_count` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'number of trades',
    `buy_volume` Float64 CODEC(ZSTD(1)) COMMENT 'quantity whose aggressor bought, base units'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `interval_ns`, `instrument_id`, `ts_start`)
COMMENT 'One bar of trades over a window of event time. A window without a trade has no bar.';

CREATE TABLE IF NOT EXISTS features_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `instrument_id` LowCardinality(String) COMMENT 'instrument, as the venue names it',
    `interval_ns` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'length of the bar, ns',
    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'decision time: everything in the row was known by then, UTC ns',
    `feature_set` LowCardinality(String) COMMENT 'content hash of the feature set that the row follows',
    `missing` Array(UInt8) COMMENT 'why a feature has no value: a `Missing` code for each, in the set\'s order'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `interval_ns`, `instrument_id`, `ts`)
COMMENT 'The feature vector of one instrument at the close of one bar. One more column for each feature.';

CREATE TABLE IF NOT EXISTS signals_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `signal_id` String CODEC(ZSTD(1)) COMMENT 'digest of the natural key without the run: the same decision, the same id',
    `instrument_id` LowCardinality(String) COMMENT 'instrument, as the venue names it',
    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'decision time: everything in the row was known by then, UTC ns',
    `strategy` LowCardinality(String) COMMENT 'strategy by its registered name',
    `direction` Enum8('long' = 1, 'short' = -1) COMMENT 'side of the position',
    `intent` Enum8('enter' = 1, 'exit' = 2, 'reduce' = 3) COMMENT 'what the signal asks for',
    `confidence` Float64 CODEC(ZSTD(1)) COMMENT 'strength of the evidence, in [0, 1]',
    `price` Float64 CODEC(ZSTD(1)) COMMENT 'price that the decision saw, quote currency',
    `parameters_hash` LowCardinality(String) COMMENT 'content hash of the strategy\'s parameters',
    `feature_set` LowCardinality(String) COMMENT 'content hash of the feature set',
    `reason` String CODEC(ZSTD(1)) COMMENT 'why, in a sentence',
    `inputs` Map(String, Float64) COMMENT 'what the decision saw: features, and what the strategy derived from them, by name',
    `thresholds` Map(String, Float64) COMMENT 'parameters that the inputs were compared with, durations in seconds, by parameter'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `strategy`, `instrument_id`, `ts`, `signal_id`)
COMMENT 'One trading decision with what it was made from.';

CREATE TABLE IF NOT EXISTS dead_letters_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `topic` LowCardinality(String) COMMENT 'topic of the record',
    `partition` Int32 COMMENT 'partition of the record',
    `offset` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'position in the partition',
    `ts_recv` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when we had it, UTC ns',
    `instrument_id` LowCardinality(Nullable(String)) COMMENT 'instrument, where it could be read',
    `reason` LowCardinality(String) COMMENT 'a `DeadLetterReason`',
    `detail` String CODEC(ZSTD(1)) COMMENT 'what was expected and what was found',
    `payload` String CODEC(ZSTD(1)) COMMENT 'the record\'s bytes, untouched'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `topic`, `partition`, `offset`)
COMMENT 'One record that was refused, with its bytes.';

CREATE TABLE IF NOT EXISTS late_events_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `topic` LowCardinality(String) COMMENT 'topic of the record',
    `partition` Int32 COMMENT 'partition of the record',
    `offset` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'position in the partition',
    `interval_ns` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'length of the bar, ns',
    `ts_event` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when it happened by its publisher\'s clock, UTC ns',
    `ts_recv` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when we had it, UTC ns',
    `instrument_id` LowCardinality(String) COMMENT 'instrument, as the venue names it',
    `reason` LowCardinality(String) COMMENT 'a `LateReason`',
    `payload` String CODEC(ZSTD(1)) COMMENT 'the record\'s bytes, untouched'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `topic`, `partition`, `offset`, `interval_ns`)
COMMENT 'One trade that arrived after the bar of its event time had closed; a row for each such bar length.';

CREATE TABLE IF NOT EXISTS runs_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `status` Enum8('running' = 1, 'stopped' = 2, 'failed' = 3, 'complete' = 4) COMMENT 'state of the run',
    `version` String CODEC(ZSTD(1)) COMMENT 'version of Signalbox',
    `config_hash` String CODEC(ZSTD(1)) COMMENT 'content hash of the configuration',
    `feature_set` String CODEC(ZSTD(1)) COMMENT 'content hash of the feature set',
    `feature_names` String CODEC(ZSTD(1)) COMMENT 'the set\'s features in order, separated by commas',
    `config` String CODEC(ZSTD(1)) COMMENT 'the configuration, as JSON',
    `source` String CODEC(ZSTD(1)) COMMENT 'what was read'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `status`)
COMMENT 'One run: what was computed, from what, with what.';

CREATE TABLE IF NOT EXISTS run_counts_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `kind` LowCardinality(String) COMMENT 'a `CountKind`',
    `subject` LowCardinality(String) COMMENT 'topic or table that is counted',
    `reason` LowCardinality(String) COMMENT 'reason, empty where the kind has none',
    `count` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'records or rows'
)
ENGINE = ReplacingMergeTree(count)
ORDER BY (`run_id`, `kind`, `subject`, `reason`)
COMMENT 'One counter of a run. Counters only grow, so the largest value is the last.';
