-- Tables and their views, derived from schemas/tables.py

CREATE TABLE IF NOT EXISTS predictions_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `instrument_id` LowCardinality(String) COMMENT 'instrument, as the venue names it',
    `interval_ns` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'length of the bar, ns',
    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'decision time: everything in the row was known by then, UTC ns',
    `model` LowCardinality(String) COMMENT 'specialist by its registered name, or `ensemble`',
    `model_version` LowCardinality(String) COMMENT 'content hash of the model\'s inputs and parameters, not of what it has learnt',
    `horizon_ns` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'time from a prediction to its outcome, ns',
    `feature_set` LowCardinality(String) COMMENT 'content hash of what the model reads: features and transforms, or members',
    `probability` Float64 CODEC(ZSTD(1)) COMMENT 'that the price rises beyond the cost band, given that it leaves the band',
    `confidence` Float64 CODEC(ZSTD(1)) COMMENT 'reliance on the probability by sample, calibration and coverage, in [0, 1]',
    `score` Float64 CODEC(ZSTD(1)) COMMENT 'log-odds before calibration',
    `explanation` Map(String, Float64) COMMENT 'what inputs or members add to the log-odds; of an ensemble also its weights'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `model`, `instrument_id`, `ts`)
COMMENT 'One answer of a model about one instrument. A model without an answer has no row.';

CREATE OR REPLACE VIEW predictions AS
SELECT * FROM predictions_data FINAL;

CREATE TABLE IF NOT EXISTS outcomes_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `instrument_id` LowCardinality(String) COMMENT 'instrument, as the venue names it',
    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'decision time of the prediction, UTC ns',
    `model` LowCardinality(String) COMMENT 'specialist by its registered name, or `ensemble`',
    `model_version` LowCardinality(String) COMMENT 'content hash of the model\'s inputs and parameters, not of what it has learnt',
    `horizon_ns` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'time from a prediction to its outcome, ns',
    `ts_matured` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'decision time of the close that it was judged by, or of giving it up, UTC ns',
    `label` Enum8('rise' = 1, 'fall' = -1, 'within_cost' = 0, 'expired' = 2) COMMENT 'side of the cost band',
    `horizon_return` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'close at the horizon over close at the prediction, less 1',
    `probability` Float64 CODEC(ZSTD(1)) COMMENT 'as predicted',
    `loss` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'log-loss of the probability, nats; of rises and falls only'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `model`, `instrument_id`, `ts`)
COMMENT 'What became of one prediction.';

CREATE OR REPLACE VIEW outcomes AS
SELECT * FROM outcomes_data FINAL;
