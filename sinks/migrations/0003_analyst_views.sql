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
WITH
    run_configs AS
    (
        SELECT run_id, version, config_hash, config FROM runs ORDER BY run_id, status DESC LIMIT 1 BY run_id
    ),
    -- A strategy on bars names their length in its parameters; one on book updates has none.
    decisions AS
    (
        SELECT
            s.*,
            JSONExtractRaw(r.config, 'compute', 'strategies', s.strategy) AS strategy_config,
            JSONExtractString(r.config, 'compute', 'strategies', s.strategy, 'interval') AS length,
            toInt64OrZero(extract(length, '^[0-9]+')) * transform(
                extract(length, '[a-z]+$'),
                ['ns', 'us', 'ms', 's', 'm', 'h', 'd'],
                [1, 1000, 1000000, 1000000000, 60000000000, 3600000000000, 86400000000000],
                0) AS bar_ns,
            r.version AS version,
            r.config_hash AS config_hash,
            -- An exit ends the position that the last entry before it opened.
            maxIf(s.ts, s.intent = 'enter') OVER (
                PARTITION BY s.run_id, s.strategy, s.instrument_id
                ORDER BY s.ts, s.intent = 'enter'
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last_entry
        FROM signals AS s LEFT JOIN run_configs AS r ON r.run_id = s.run_id
    )
SELECT
    d.run_id AS run_id,
    d.signal_id AS signal_id,
    d.ts AS ts,
    d.instrument_id AS instrument_id,
    d.strategy AS strategy,
    d.direction AS direction,
    d.intent AS intent,
    d.confidence AS confidence,
    d.price AS price,
    d.reason AS reason,
    d.inputs AS inputs,
    d.thresholds AS thresholds,
    if(d.intent = 'enter' OR d.last_entry <= toDateTime64(0, 9, 'UTC'), NULL, d.last_entry) AS ts_entered,
    multiIf(
        d.strategy_config = '', 'the run does not say what it decided on',
        d.bar_ns = 0, 'decided on the book update at this time; updates are not stored',
        empty(f.features), 'decided on the bar that closed at this time; its features are not stored',
        concat('decided on the bar of ', d.length, ' that closed at this time')) AS evidence,
    nullIf(d.bar_ns, 0) AS interval_ns,
    f.features AS features,
    d.strategy_config AS strategy_config,
    d.parameters_hash AS parameters_hash,
    d.version AS version,
    d.config_hash AS config_hash,
    d.feature_set AS feature_set
FROM decisions AS d
LEFT JOIN
(
    SELECT run_id, interval_ns, instrument_id, ts, feature_set, values AS features
    FROM feature_values
    WHERE (run_id, interval_ns, instrument_id, ts) IN (SELECT run_id, bar_ns, instrument_id, ts FROM decisions)
) AS f ON f.run_id = d.run_id AND f.interval_ns = d.bar_ns AND f.instrument_id = d.instrument_id AND f.ts = d.ts
    AND f.feature_set = d.feature_set;
