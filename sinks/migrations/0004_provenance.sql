-- How a row came about, derived from schemas/tables.py

ALTER TABLE signals_data ADD COLUMN IF NOT EXISTS `trace_id` String CODEC(ZSTD(1)) COMMENT 'trace that computed the row, hexadecimal; empty without tracing';

CREATE OR REPLACE VIEW signals AS
SELECT * FROM signals_data FINAL;

ALTER TABLE dead_letters_data ADD COLUMN IF NOT EXISTS `trace_id` String CODEC(ZSTD(1)) COMMENT 'trace that computed the row, hexadecimal; empty without tracing';

CREATE OR REPLACE VIEW dead_letters AS
SELECT * FROM dead_letters_data FINAL;
