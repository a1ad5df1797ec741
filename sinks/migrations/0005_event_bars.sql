-- Tables and their views, derived from schemas/tables.py

CREATE TABLE IF NOT EXISTS event_bars_data
(
    `run_id` LowCardinality(String) COMMENT 'run that wrote the row',
    `series` LowCardinality(String) COMMENT 'kind and threshold as text: whose bars they are',
    `instrument_id` LowCardinality(String) COMMENT 'instrument, as the venue names it',
    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'arrival of the trade that closed the bar: everything in it was known then, UTC ns',
    `number` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'position among the bars of the series since the instrument was first seen, from 1',
    `kind` Enum8('tick' = 1, 'volume' = 2, 'dollar' = 3, 'imbalance' = 4) COMMENT 'what is counted until a bar closes',
    `threshold` Float64 CODEC(ZSTD(1)) COMMENT 'trades, base units or quote currency in a bar; expected trades in imbalance bars',
    `ts_start` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'event time of the first trade in arrival order, UTC ns',
    `ts_end` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'event time of the last trade in arrival order, UTC ns',
    `open` Float64 CODEC(ZSTD(1)) COMMENT 'first price in arrival order, quote currency',
    `high` Float64 CODEC(ZSTD(1)) COMMENT 'highest price',
    `low` Float64 CODEC(ZSTD(1)) COMMENT 'lowest price',
    `close` Float64 CODEC(ZSTD(1)) COMMENT 'last price in arrival order',
    `volume` Float64 CODEC(ZSTD(1)) COMMENT 'quantity traded, base units',
    `notional` Float64 CODEC(ZSTD(1)) COMMENT 'price times quantity, quote currency',
    `vwap` Float64 CODEC(ZSTD(1)) COMMENT 'notional over volume, quote currency',
    `trade_count` Int64 CODEC(Delta, ZSTD(1)) COMMENT 'number of trades',
    `buy_volume` Float64 CODEC(ZSTD(1)) COMMENT 'quantity whose aggressor bought, base units',
    `imbalance` Float64 CODEC(ZSTD(1)) COMMENT 'trades that bought less trades that sold, by flag or else by the tick rule'
)
ENGINE = ReplacingMergeTree()
ORDER BY (`run_id`, `series`, `instrument_id`, `ts`, `number`)
COMMENT 'One bar of trades in arrival order that closed when enough had happened, not at a time.';

CREATE OR REPLACE VIEW event_bars AS
SELECT * FROM event_bars_data FINAL;
