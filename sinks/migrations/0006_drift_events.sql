-- Tables and their views, derived from schemas/tables.py

CREATE TABLE IF NOT EXISTS drift_events_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `model` LowCardinality(String) COMMENT 'model by its registered name, or content hash of a feature set',
    `stream` LowCardinality(String) COMMENT 'what drifted, by name: a feature, an output, a loss',
    `detector` Enum8('adwin' = 1, 'page_hinkley' = 2) COMMENT 'who found it',
    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when the value at which it was found was known, UTC ns',
    `stream_kind` Enum8('input' = 1, 'score' = 2, 'error' = 3) COMMENT 'what kind of numbers the stream holds',
    `direction` Enum8('up' = 1, 'down' = -1) COMMENT 'where the mean went',
    `mean_before` Float64 CODEC(ZSTD(1)) COMMENT 'mean before the change, in the unit of the stream',
    `mean_after` Float64 CODEC(ZSTD(1)) COMMENT 'mean after the change, in the unit of the stream',
    `n_before` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'values before the change that were looked at',
    `n_after` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'values after it',
    `bound` Float64 CODEC(ZSTD(1)) COMMENT 'what the statistic was above, standard deviations of the stream\'s first values',
    `value` Float64 CODEC(ZSTD(1)) COMMENT 'the detector\'s statistic, standard deviations of the stream\'s first values'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `model`, `stream`, `detector`, `ts`)
COMMENT 'One drift of a stream of numbers about a model or a feature set, with the evidence for it.';

CREATE OR REPLACE VIEW drift_events AS
SELECT * FROM drift_events_data FINAL;
