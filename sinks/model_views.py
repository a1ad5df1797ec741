r"""Views for analysts on what models said, what became of it, and how their streams drifted.

With probabilities $p_i$ and $y_i = 1$ for a rise, 0 for a fall, over the $N$ outcomes of a group that left the cost
band, and $\bar y$ their base rate:

$$ \mathrm{BS} = \frac{1}{N} \sum_i (p_i - y_i)^2, \qquad
\mathrm{BSS} = 1 - \frac{\mathrm{BS}}{\bar y (1 - \bar y)}, \qquad
\mathrm{LL} = -\frac{1}{N} \sum_i \big( y_i \ln p_i + (1 - y_i) \ln (1 - p_i) \big) $$

The area under the ROC curve is the share of pairs of a rise and a fall in which the rise had the higher probability, a
tie counting half. A hit is a rise above one half or a fall below it; one half itself counts half. Over ten equal bins
$k$ of the probability, with $n_k$ outcomes, mean probability $\bar p_k$ and observed rate $\bar y_k$,

$$ \mathrm{BS} = \underbrace{\frac{1}{N} \sum_k n_k (\bar p_k - \bar y_k)^2}_\text{reliability}
- \underbrace{\frac{1}{N} \sum_k n_k (\bar y_k - \bar y)^2}_\text{resolution}
+ \underbrace{\bar y (1 - \bar y)}_\text{uncertainty} + \text{within bins} $$

where the last term is 0 if the probabilities of a bin are equal, and
$\mathrm{ECE} = \frac{1}{N} \sum_k n_k |\bar p_k - \bar y_k|$.

All read the views that give each key once. A measure that has no value is null, never NaN: a group with neither rises
nor falls has no score, one with only one of them has no skill and no area. Outcomes whose horizons overlap, or of one
time, are alike: there are fewer independent ones than `judged`.

References
----------
Brier, G. (1950). Verification of forecasts expressed in terms of probability. Monthly Weather Review 78(1).
Murphy, A. (1973). A new vector partition of the probability score. Journal of Applied Meteorology 12(4).
DeGroot, M. and Fienberg, S. (1983). The comparison and evaluation of forecasters. The Statistician 32.
Hanley, J. and McNeil, B. (1982). The meaning and use of the area under a receiver operating characteristic (ROC)
curve. Radiology 143(1).
Stephenson, D., Coelho, C. and Jolliffe, I. (2008). Two extra components in the Brier score decomposition. Weather and
Forecasting 23(4): what is left within bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.enums import CountKind

__all__ = ["MODEL_VIEWS", "ModelView"]

_BINS: Final = 10
_ANSWERED: Final = "answered"
_REASONS: Final = ("no_input", "warming_up", "no_quorum", "no_price")
"""Why a model has no answer, as it is counted. Imported from the models it would cost each command a second."""
_MODEL: Final = ("run_id", "model", "model_version", "horizon_ns")


@dataclass(frozen=True, slots=True)
class ModelView:
    """One view.

    Parameters
    ----------
    doc
        What it shows.
    select
        The query.
    """

    doc: str
    select: str


def _skill(*groups: tuple[str, str]) -> str:
    """Return the query for skill by model and by further groups: name and expression of each."""
    names = ", ".join((*_MODEL, *(name for name, _ in groups)))
    shown = "\n".join(f"    {expression} AS {name}," for name, expression in groups if name != expression)
    plain = "".join(f", {name}" for name, expression in groups if name == expression)
    return (
        f"SELECT\n    {', '.join(_MODEL)}{plain},\n" + (f"{shown}\n" if shown else "") + "    count() AS outcomes,\n"
        "    countIf(decided) AS judged,\n"
        "    countIf(label = 'within_cost') AS within_cost,\n"
        "    countIf(label = 'expired') AS expired,\n"
        "    avgOrNullIf(rose, decided) AS base_rate,\n"
        "    avgOrNullIf(probability, decided) AS mean_probability,\n"
        "    avgOrNullIf(pow(probability - rose, 2), decided) AS brier_score,\n"
        "    1 - brier_score / nullIf(base_rate * (1 - base_rate), 0) AS brier_skill,\n"
        "    avgOrNullIf(loss, decided) AS log_loss,\n"
        "    if(base_rate > 0 AND base_rate < 1,\n"
        "        arrayROCAUC(groupArrayIf(probability, decided), groupArrayIf(rose, decided)), NULL) AS auc,\n"
        "    avgOrNullIf(multiIf(probability = 0.5, 0.5, (probability > 0.5) = (rose = 1), 1, 0), decided)"
        " AS hit_rate\n"
        "FROM\n(\n"
        "    SELECT *, label IN ('rise', 'fall') AS decided, toFloat64(label = 'rise') AS rose FROM outcomes\n)\n"
        f"GROUP BY {names}\nORDER BY {names}"
    )


_OUTCOMES: Final = """SELECT
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
) AS o ON o.run_id = p.run_id AND o.model = p.model AND o.instrument_id = p.instrument_id AND o.ts = p.ts"""

_CALIBRATION: Final = f"""SELECT
    {", ".join(_MODEL)},
    bin / {_BINS} AS low,
    (bin + 1) / {_BINS} AS high,
    count() AS judged,
    avg(probability) AS mean_probability,
    avg(rose) AS observed_rate,
    avg(pow(probability - rose, 2)) AS brier_score
FROM
(
    SELECT
        *,
        toUInt8(least(floor(probability * {_BINS}), {_BINS - 1})) AS bin,
        toFloat64(label = 'rise') AS rose
    FROM outcomes
    WHERE label IN ('rise', 'fall')
)
GROUP BY {", ".join(_MODEL)}, bin
ORDER BY {", ".join(_MODEL)}, bin"""

_DECOMPOSITION: Final = f"""SELECT
    {", ".join(_MODEL)},
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
        {", ".join(_MODEL)},
        judged AS n,
        mean_probability AS forecast,
        observed_rate AS rate,
        brier_score AS brier,
        sum(n * rate) OVER model_bins / sum(n) OVER model_bins AS overall
    FROM prediction_calibration
    WINDOW model_bins AS (PARTITION BY {", ".join(_MODEL)})
)
GROUP BY {", ".join(_MODEL)}
ORDER BY {", ".join(_MODEL)}"""


def _coverage() -> str:
    """Return the query for the share of answers, and of each reason to have none."""
    shares = ",\n".join(
        f"    sumIf(n, reason = '{reason}') / nullIf(asked, 0) AS {reason}" for reason in (_ANSWERED, *_REASONS)
    )
    return (
        f"SELECT\n    run_id,\n    model,\n    sum(n) AS asked,\n{shares}\nFROM\n(\n"
        f"    SELECT run_id, model, '{_ANSWERED}' AS reason, toInt64(count()) AS n\n"
        "    FROM predictions\n    GROUP BY run_id, model\n    UNION ALL\n"
        "    SELECT run_id, subject AS model, reason, count AS n\n"
        f"    FROM run_counts\n    WHERE kind = '{CountKind.UNANSWERED.value}'\n)\n"
        "GROUP BY run_id, model\nORDER BY run_id, model"
    )


_WEIGHTS: Final = """SELECT
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
ORDER BY run_id, model_version, horizon_ns, ts, member"""

_LAST: Final = ("detector", "direction", "mean_before", "mean_after", "n_before", "n_after", "value", "bound")
_DRIFT: Final = (
    """SELECT
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
"""
    + "\n".join(f"    argMax({name}, (ts, detector)) AS last_{name}," for name in _LAST)
    + """
    max(value / nullIf(bound, 0)) AS largest_excess
FROM drift_events
GROUP BY run_id, model, stream, stream_kind, day
ORDER BY run_id, model, stream, day"""
)

MODEL_VIEWS: Final[dict[str, ModelView]] = {
    "prediction_outcomes": ModelView(
        "Each prediction with what became of it: `rise`, `fall`, `within_cost`, `expired`, or `open` where nothing has "
        "(its horizon is not over, or the run ended before, or the queue of those that are followed was full).",
        _OUTCOMES,
    ),
    "prediction_skill": ModelView(
        "Per run and model: outcomes and those `judged` (rises and falls); base rate, mean probability, Brier score "
        "and its skill against the base rate, log-loss in nats, area under the ROC curve, hit rate.",
        _skill(),
    ),
    "prediction_skill_by_day": ModelView("The same for each UTC day of prediction.", _skill(("day", "toDate(ts)"))),
    "prediction_skill_by_instrument": ModelView(
        "The same for each instrument.", _skill(("instrument_id", "instrument_id"))
    ),
    "prediction_calibration": ModelView(
        "The reliability table of each model: per tenth of the probability, from `low` inclusive to `high`, outcomes "
        "judged, mean probability, observed rate of rises, Brier score. A tenth without outcomes has no row.",
        _CALIBRATION,
    ),
    "brier_decomposition": ModelView(
        "Murphy's parts of each model's Brier score over these tenths: reliability, resolution, uncertainty, and what "
        "is left within them; the expected calibration error.",
        _DECOMPOSITION,
    ),
    "prediction_coverage": ModelView(
        "Per run and model: how often it was `asked`, the share that it answered, and the share by reason of no "
        "answer. Of a run that goes on, the reasons are up to some seconds old.",
        _coverage(),
    ),
    "ensemble_weights": ModelView(
        "Per decision time and member of the ensemble: instruments that the ensemble answered for, those among them "
        "that the member answered for, its mean weight (they sum to 1), and the mean size of what it added to the "
        "log-odds.",
        _WEIGHTS,
    ),
    "drift_by_day": ModelView(
        "Per model, stream and UTC day: drifts by detector and direction, first and last, the evidence of the last, "
        "and the greatest ratio of a statistic to its bound.",
        _DRIFT,
    ),
}
"""Every view by its name, in the order in which they are created."""
