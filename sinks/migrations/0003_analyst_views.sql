-- Views that explain what was decided

CREATE OR REPLACE VIEW signal_summary AS
SELECT
    run_id,
    strategy,
    intent,
    count() AS signals,
    uniqExact(instrument_id) AS instruments,
    countIf(direction = 'long') AS long,
    countIf(direction = 'short') AS short,
    avg(confidence) AS mean_confidence,
    min(ts) AS first_ts,
    max(ts) AS last_ts
FROM signals
GROUP BY run_id, strategy, intent
ORDER BY run_id, strategy, intent;

CREATE OR REPLACE VIEW latest_runs AS
SELECT
    r.run_id AS run_id,
    r.status AS status,
    r.version AS version,
    r.config_hash AS config_hash,
    r.feature_set AS feature_set,
    r.source AS source,
    c.read AS read,
    c.decoded AS decoded,
    c.dead_lettered AS dead_lettered,
    c.late AS late,
    c.written AS written
FROM (SELECT * FROM runs ORDER BY run_id, status DESC LIMIT 1 BY run_id) AS r
LEFT JOIN
(
    SELECT
        run_id,
        sumIf(count, kind = 'read') AS read,
        sumIf(count, kind = 'decoded') AS decoded,
        sumIf(count, kind = 'dead_lettered') AS dead_lettered,
        sumIf(count, kind = 'late') AS late,
        sumIf(count, kind = 'written') AS written
    FROM run_counts
    GROUP BY run_id
) AS c ON c.run_id = r.run_id
ORDER BY run_id;

CREATE OR REPLACE VIEW signal_explanations AS
SELECT
    s.run_id AS run_id,
    s.signal_id AS signal_id,
    s.ts AS ts,
    s.instrument_id AS instrument_id,
    s.strategy AS strategy,
    s.direction AS direction,
    s.intent AS intent,
    s.confidence AS confidence,
    s.price AS price,
    s.reason AS reason,
    s.inputs AS inputs,
    s.thresholds AS thresholds,
    s.parameters_hash AS parameters_hash,
    JSONExtractRaw(r.config, 'compute', 'strategies', s.strategy) AS strategy_config,
    r.version AS version,
    r.config_hash AS config_hash,
    s.feature_set AS feature_set,
    f.feature_rows AS feature_rows
FROM signals AS s
LEFT JOIN (SELECT * FROM runs ORDER BY run_id, status DESC LIMIT 1 BY run_id) AS r ON r.run_id = s.run_id
LEFT JOIN
(
    SELECT
        run_id,
        instrument_id,
        ts,
        feature_set,
        arraySort(groupArray(CAST((interval_ns, values) AS Tuple(interval_ns Int64, values Map(String, Nullable(Float64)))))) AS feature_rows
    FROM feature_values
    WHERE (run_id, instrument_id, ts) IN (SELECT run_id, instrument_id, ts FROM signals)
    GROUP BY run_id, instrument_id, ts, feature_set
) AS f ON f.run_id = s.run_id AND f.instrument_id = s.instrument_id AND f.ts = s.ts AND f.feature_set = s.feature_set;
