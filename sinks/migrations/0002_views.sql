-- One row for each natural key, derived from schemas/tables.py

CREATE OR REPLACE VIEW bars AS
SELECT * FROM bars_data FINAL;

CREATE OR REPLACE VIEW features AS
SELECT * FROM features_data FINAL;

CREATE OR REPLACE VIEW signals AS
SELECT * FROM signals_data FINAL;

CREATE OR REPLACE VIEW dead_letters AS
SELECT * FROM dead_letters_data FINAL;

CREATE OR REPLACE VIEW late_events AS
SELECT * FROM late_events_data FINAL;

CREATE OR REPLACE VIEW runs AS
SELECT * FROM runs_data FINAL;

CREATE OR REPLACE VIEW run_counts AS
SELECT * FROM run_counts_data FINAL;

CREATE OR REPLACE VIEW feature_values AS
SELECT run_id, instrument_id, interval_ns, ts, feature_set, missing,
    CAST(map() AS Map(String, Nullable(Float64))) AS values
FROM features_data FINAL;

CREATE OR REPLACE VIEW feature_coverage AS
WITH
    named AS (SELECT DISTINCT run_id, feature_set, splitByChar(',', feature_names) AS names FROM runs),
    counted AS
    (
        SELECT run_id, interval_ns, feature_set, position, code, count() AS rows
        FROM features ARRAY JOIN missing AS code, arrayEnumerate(missing) AS position
        GROUP BY run_id, interval_ns, feature_set, position, code
    )
SELECT c.run_id AS run_id, c.interval_ns AS interval_ns, c.feature_set AS feature_set,
    if(any(n.names)[c.position] = '', concat('feature ', toString(c.position)), any(n.names)[c.position]) AS feature,
    sum(c.rows) AS rows,
    sumIf(c.rows, c.code != 0) / sum(c.rows) AS missing,
    sumIf(c.rows, c.code = 1) / sum(c.rows) AS warming_up,
    sumIf(c.rows, c.code = 2) / sum(c.rows) AS no_input,
    sumIf(c.rows, c.code = 3) / sum(c.rows) AS degenerate,
    sumIf(c.rows, c.code = 4) / sum(c.rows) AS stale,
    sumIf(c.rows, c.code = 5) / sum(c.rows) AS out_of_sync,
    sumIf(c.rows, c.code = 6) / sum(c.rows) AS not_finite
FROM counted AS c LEFT JOIN named AS n ON n.run_id = c.run_id AND n.feature_set = c.feature_set
GROUP BY c.run_id, c.interval_ns, c.feature_set, c.position
ORDER BY c.run_id, c.interval_ns, c.feature_set, c.position;
