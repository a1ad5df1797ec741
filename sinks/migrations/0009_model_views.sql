-- What models said, what became of it, and how their streams drifted

CREATE OR REPLACE VIEW prediction_outcomes AS
SELECT
    p.run_id AS run_id,
    p.model AS model,
    p.model_version AS model_version,
    p.horizon_ns AS horizon_ns,
    p.instrument_id AS instrument_id,
    p.interval_ns AS interval_ns,
    p.ts AS ts,
    p.probability AS probability,
    p.confidence AS confidence,
    p.score AS score,
    p.explanation AS explanation,
    if(o.matured, toString(o.label), 'open') AS outcome,
    if(o.matured, o.ts_matured, NULL) AS ts_matured,
    if(o.matured, o.horizon_return, NULL) AS horizon_return,
    if(o.matured, o.loss, NULL) AS loss
FROM predictions AS p
LEFT JOIN
(
    SELECT run_id, model, instrument_id, ts, ts_matured, label, horizon_return, loss, true AS matured FROM outcomes
) AS o ON o.run_id = p.run_id AND o.model = p.model AND o.instrument_id = p.instrument_id AND o.ts = p.ts;

CREATE OR REPLACE VIEW prediction_skill AS
SELECT
    run_id, model, model_version, horizon_ns,
    count() AS outcomes,
    countIf(decided) AS judged,
    countIf(label = 'within_cost') AS within_cost,
    countIf(label = 'expired') AS expired,
    avgOrNullIf(rose, decided) AS base_rate,
    avgOrNullIf(probability, decided) AS mean_probability,
    avgOrNullIf(pow(probability - rose, 2), decided) AS brier_score,
    1 - brier_score / nullIf(base_rate * (1 - base_rate), 0) AS brier_skill,
    avgOrNullIf(loss, decided) AS log_loss,
    if(base_rate > 0 AND base_rate < 1,
        arrayROCAUC(groupArrayIf(probability, decided), groupArrayIf(rose, decided)), NULL) AS auc,
    avgOrNullIf(multiIf(probability = 0.5, 0.5, (probability > 0.5) = (rose = 1), 1, 0), decided) AS hit_rate
FROM
(
    SELECT *, label IN ('rise', 'fall') AS decided, toFloat64(label = 'rise') AS rose FROM outcomes
)
GROUP BY run_id, model, model_version, horizon_ns
ORDER BY run_id, model, model_version, horizon_ns;

CREATE OR REPLACE VIEW prediction_skill_by_day AS
SELECT
    run_id, model, model_version, horizon_ns,
    toDate(ts) AS day,
    count() AS outcomes,
    countIf(decided) AS judged,
    countIf(label = 'within_cost') AS within_cost,
    countIf(label = 'expired') AS expired,
    avgOrNullIf(rose, decided) AS base_rate,
    avgOrNullIf(probability, decided) AS mean_probability,
    avgOrNullIf(pow(probability - rose, 2), decided) AS brier_score,
    1 - brier_score / nullIf(base_rate * (1 - base_rate), 0) AS brier_skill,
    avgOrNullIf(loss, decided) AS log_loss,
    if(base_rate > 0 AND base_rate < 1,
        arrayROCAUC(groupArrayIf(probability, decided), groupArrayIf(rose, decided)), NULL) AS auc,
    avgOrNullIf(multiIf(probability = 0.5, 0.5, (probability > 0.5) = (rose = 1), 1, 0), decided) AS hit_rate
FROM
(
    SELECT *, label IN ('rise', 'fall') AS decided, toFloat64(label = 'rise') AS rose FROM outcomes
)
GROUP BY run_id, model, model_version, horizon_ns, day
ORDER BY run_id, model, model_version, horizon_ns, day;

CREATE OR REPLACE VIEW prediction_skill_by_instrument AS
SELECT
    run_id, model, model_version, horizon_ns, instrument_id,
    count() AS outcomes,
    countIf(decided) AS judged,
    countIf(label = 'within_cost') AS within_cost,
    countIf(label = 'expired') AS expired,
    avgOrNullIf(rose, decided) AS base_rate,
    avgOrNullIf(probability, decided) AS mean_probability,
    avgOrNullIf(pow(probability - rose, 2), decided) AS brier_score,
    1 - brier_score / nullIf(base_rate * (1 - base_rate), 0) AS brier_skill,
    avgOrNullIf(loss, decided) AS log_loss,
    if(base_rate > 0 AND base_rate < 1,
        arrayROCAUC(groupArrayIf(probability, decided), groupArrayIf(rose, decided)), NULL) AS auc,
    avgOrNullIf(multiIf(probability = 0.5, 0.5, (probability > 0.5) = (rose = 1), 1, 0), decided) AS hit_rate
FROM
(
    SELECT *, label IN ('rise', 'fall') AS decided, toFloat64(label = 'rise') AS rose FROM outcomes
)
GROUP BY run_id, model, model_version, horizon_ns, instrument_id
ORDER BY run_id, model, model_version, horizon_ns, instrument_id;

CREATE OR REPLACE VIEW prediction_calibration AS
SELECT
    run_id, model, model_version, horizon_ns,
    bin / 10 AS low,
    (bin + 1) / 10 AS high,
    count() AS judged,
    avg(probability) AS mean_probability,
    avg(rose) AS observed_rate,
    avg(pow(probability - rose, 2)) AS brier_score
FROM
(
    SELECT
        *,
        toUInt8(least(floor(probability * 10), 9)) AS bin,
        toFloat64(label = 'rise') AS rose
    FROM outcomes
    WHERE label IN ('rise', 'fall')
)
GROUP BY run_id, model, model_version, horizon_ns, bin
ORDER BY run_id, model, model_version, horizon_ns, bin;

CREATE OR REPLACE VIEW brier_decomposition AS
SELECT
    run_id, model, model_version, horizon_ns,
    sum(n) AS judged,
    any(overall) AS base_rate,
    sum(n * brier) / judged AS brier_score,
    sum(n * pow(forecast - rate, 2)) / judged AS reliability,
    sum(n * pow(rate - overall, 2)) / judged AS resolution,
    base_rate * (1 - base_rate) AS uncertainty,
    brier_score - (reliability - resolution + uncertainty) AS within_bins,
    sum(n * abs(forecast - rate)) / judged AS calibration_error
FROM
(
    SELECT
        run_id, model, model_version, horizon_ns,
        judged AS n,
        mean_probability AS forecast,
        observed_rate AS rate,
        brier_score AS brier,
        sum(n * rate) OVER model_bins / sum(n) OVER model_bins AS overall
    FROM prediction_calibration
    WINDOW model_bins AS (PARTITION BY run_id, model, model_version, horizon_ns)
)
GROUP BY run_id, model, model_version, horizon_ns
ORDER BY run_id, model, model_version, horizon_ns;

CREATE OR REPLACE VIEW prediction_coverage AS
SELECT
    run_id,
    model,
    sum(n) AS asked,
    sumIf(n, reason = 'answered') / nullIf(asked, 0) AS answered,
    sumIf(n, reason = 'no_input') / nullIf(asked, 0) AS no_input,
    sumIf(n, reason = 'warming_up') / nullIf(asked, 0) AS warming_up,
    sumIf(n, reason = 'no_quorum') / nullIf(asked, 0) AS no_quorum,
    sumIf(n, reason = 'no_price') / nullIf(asked, 0) AS no_price
FROM
(
    SELECT run_id, model, 'answered' AS reason, toInt64(count()) AS n
    FROM predictions
    GROUP BY run_id, model
    UNION ALL
    SELECT run_id, subject AS model, reason, count AS n
    FROM run_counts
    WHERE kind = 'unanswered'
)
GROUP BY run_id, model
ORDER BY run_id, model;

CREATE OR REPLACE VIEW ensemble_weights AS
SELECT
    run_id,
    model_version,
    horizon_ns,
    ts,
    substring(entry, length('weight:') + 1) AS member,
    count() AS instruments,
    countIf(weight > 0) AS answered,
    avg(weight) AS mean_weight,
    avg(abs(explanation[member])) AS mean_contribution
FROM predictions
ARRAY JOIN mapKeys(explanation) AS entry, mapValues(explanation) AS weight
WHERE model = 'ensemble' AND startsWith(entry, 'weight:')
GROUP BY run_id, model_version, horizon_ns, ts, member
ORDER BY run_id, model_version, horizon_ns, ts, member;

CREATE OR REPLACE VIEW drift_by_day AS
SELECT
    run_id,
    model,
    stream,
    stream_kind,
    toDate(ts) AS day,
    count() AS events,
    countIf(detector = 'adwin') AS adwin,
    countIf(detector = 'page_hinkley') AS page_hinkley,
    countIf(direction = 'up') AS up,
    countIf(direction = 'down') AS down,
    min(ts) AS first_ts,
    max(ts) AS last_ts,
    argMax(detector, (ts, detector)) AS last_detector,
    argMax(direction, (ts, detector)) AS last_direction,
    argMax(mean_before, (ts, detector)) AS last_mean_before,
    argMax(mean_after, (ts, detector)) AS last_mean_after,
    argMax(n_before, (ts, detector)) AS last_n_before,
    argMax(n_after, (ts, detector)) AS last_n_after,
    argMax(value, (ts, detector)) AS last_value,
    argMax(bound, (ts, detector)) AS last_bound,
    max(value / nullIf(bound, 0)) AS largest_excess
FROM drift_events
GROUP BY run_id, model, stream, stream_kind, day
ORDER BY run_id, model, stream, day;
