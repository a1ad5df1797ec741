-- Tables and their views, derived from schemas/tables.py

CREATE TABLE IF NOT EXISTS cross_section_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `instrument_id` LowCardinality(String) COMMENT 'instrument, as the venue names it',
    `interval_ns` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'length of the bar, ns',
    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'decision time: everything in the row was known by then, UTC ns',
    `feature_set` LowCardinality(String) COMMENT 'content hash of the features across instruments that the row follows',
    `missing` Array(UInt8) COMMENT 'why a feature has no value: a `Missing` code for each, ranks last',
    `live` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'instruments of the universe that closed a bar lately',
    `present` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'instruments of the universe that closed a bar at this time',
    `bar_return` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'log return since the complete frame before',
    `market_return` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'weighted mean of the returns, the same in every row',
    `market_beta` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'slope of the return on the market\'s, decayed',
    `market_correlation` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'correlation of the return with the market\'s, decayed',
    `sector_beta` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'slope of the return on its sector\'s, decayed',
    `sector_correlation` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'correlation of the return with its sector\'s, decayed',
    `mean_correlation` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'mean shrunk correlation with the others of the matrix',
    `dispersion` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'weighted deviation of the returns, the same in every row',
    `advancing` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'share of returns above zero, the same in every row',
    `above_average` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'share of closes above their average, the same in every row',
    `ranks` Map(String, Float64) COMMENT 'percentile among all, in [0, 1], by ranked feature'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `interval_ns`, `instrument_id`, `ts`)
COMMENT 'Features of one instrument among all of the universe, at one decision time.';

CREATE OR REPLACE VIEW cross_section AS
SELECT * FROM cross_section_data FINAL;
