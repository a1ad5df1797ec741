"""The views on models: against pandas and scikit-learn on random rows, and on rows that specialists make."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from models.specialists import ENSEMBLE
from models.specialists.base import NoAnswer
from operators.specialists import SpecialistState
from operators.specialists_config import SpecialistsConfig
from operators.universe import UniverseFrame
from schemas.enums import CountKind, DriftDetector, OutcomeLabel
from schemas.fields import Schema
from schemas.tables import DRIFT_EVENTS, PREDICTIONS, TABLES
from scripts.generate_docs import data_model
from sinks.model_views import MODEL_VIEWS
from sinks.store import RunCount, Store

SECOND = 10**9
DAY = 86_400 * SECOND
START = 1_700_000_000 * SECOND
HORIZON = 60 * SECOND
MINUTE = 60 * SECOND
LABELS = {label.value: label.name.lower() for label in OutcomeLabel}
DECIDED = (OutcomeLabel.RISE, OutcomeLabel.FALL)
Frames = dict[str, pd.DataFrame]


def as_arrow(schema: Schema, frame: pd.DataFrame) -> pa.Table:
    """Return rows as the store takes them: times are numbers, a NaN is null where there may be one."""
    columns = {}
    for field in schema.fields:
        kind = field.arrow.type
        given = frame[field.name]
        if pa.types.is_timestamp(kind):
            columns[field.name] = pa.array(given.to_numpy()).cast(kind)
        elif pa.types.is_dictionary(kind):
            columns[field.name] = pa.array(given.tolist()).dictionary_encode().cast(kind)
        elif field.name == "explanation":
            columns[field.name] = pa.array([list(entries.items()) for entries in given], kind)
        else:
            columns[field.name] = pa.array(given.to_numpy(), kind, from_pandas=field.nullable)
    return pa.table(columns)


def random_rows(seed: int, n: int = 3_000) -> Frames:
    """Return predictions of some models, and outcomes of most of them."""
    rng = np.random.default_rng(seed)
    predictions = pd.DataFrame({
        "run_id": rng.choice(["one", "two"], n),
        "model": rng.choice(["technical", "news", ENSEMBLE], n),
        "instrument_id": rng.choice(["A", "B", "C"], n),
        "ts": START + rng.integers(0, 3 * DAY, n),
        "interval_ns": MINUTE,
        "model_version": "v",
        "horizon_ns": HORIZON,
        "feature_set": "set",
        # coarse, so that probabilities tie, and some lie on the edges of bins
        "probability": np.clip(rng.random(n).round(2), 0.01, 0.99),
        "confidence": rng.random(n),
        "score": rng.normal(size=n),
        "explanation": [{"a": 0.5}] * n,
    }).drop_duplicates(list(PREDICTIONS.key))  # fmt: skip
    outcomes = predictions.sample(frac=0.9, random_state=seed).copy()
    size = len(outcomes)
    rose = rng.random(size) < 0.2 + 0.6 * outcomes["probability"]
    label = np.where(rose, OutcomeLabel.RISE, OutcomeLabel.FALL)
    label = np.where(rng.random(size) < 0.2, OutcomeLabel.WITHIN_COST, label)
    outcomes["label"] = np.where(rng.random(size) < 0.1, OutcomeLabel.EXPIRED, label)
    outcomes["ts_matured"] = outcomes["ts"] + HORIZON
    outcomes["horizon_return"] = np.where(outcomes["label"] == OutcomeLabel.EXPIRED, np.nan, rng.normal(size=size))
    of_label = np.where(outcomes["label"] == OutcomeLabel.RISE, outcomes["probability"], 1 - outcomes["probability"])
    outcomes["loss"] = np.where(outcomes["label"].isin(DECIDED), -np.log(of_label), np.nan)
    return {"predictions": predictions, "outcomes": outcomes}


def insert(store: Store, frames: Frames) -> None:
    """Write rows twice, as after a crash."""
    for _ in range(2):
        for table, frame in frames.items():
            store.insert(table, as_arrow(TABLES[table], frame))


def rows(store: Store, view: str, where: str = "1") -> list[dict[str, Any]]:
    return fetched(store, f"SELECT * FROM {view} WHERE {where}")


def fetched(store: Store, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query, with text as text and enumerations as their numbers; none has a NaN."""
    found = [{name: as_text(value) for name, value in row.items()} for row in store.connection.arrow(sql).to_pylist()]
    assert_no_nan(found)
    return found


def as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return [(as_text(name), entry) for name, entry in value] if isinstance(value, list) else value


def assert_no_nan(found: list[dict[str, Any]]) -> None:
    for row in found:
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in row.values()), row


def judged(frames: Frames, **equal: Any) -> pd.DataFrame:
    """Return rises and falls with `rose`."""
    found = frames["outcomes"]
    for column, value in equal.items():
        found = found[found[column] == value]
    found = found[found["label"].isin(DECIDED)].copy()
    found["rose"] = (found["label"] == OutcomeLabel.RISE).astype(float)
    return found


def expected_skill(known: pd.DataFrame) -> dict[str, float]:
    """Return the measures of rises and falls by scikit-learn."""
    rose, probability = known["rose"].to_numpy(), known["probability"].to_numpy()
    brier = brier_score_loss(rose, probability)
    clear = known[known["probability"] != 0.5]
    hits = accuracy_score(clear["rose"], (clear["probability"] > 0.5).astype(float), normalize=False)
    return {
        "judged": len(known),
        "base_rate": rose.mean(),
        "mean_probability": probability.mean(),
        "brier_score": brier,
        "brier_skill": 1 - brier / brier_score_loss(rose, np.full(len(rose), rose.mean())),
        "log_loss": log_loss(rose, probability),
        "auc": roc_auc_score(rose, probability),
        "hit_rate": (hits + 0.5 * (len(known) - len(clear))) / len(known),
    }


SKILL_VIEWS: dict[str, dict[str, Callable[[pd.DataFrame], pd.Series[Any]]]] = {
    "prediction_skill": {},
    "prediction_skill_by_day": {"day": lambda known: pd.to_datetime(known["ts"], utc=True).dt.date},
    "prediction_skill_by_instrument": {"instrument_id": lambda known: known["instrument_id"]},
}


@pytest.mark.parametrize("view", SKILL_VIEWS)
def test_skill_is_that_of_scikit_learn(store: Store, view: str) -> None:
    frames = random_rows(1)
    insert(store, frames)
    known = judged(frames)
    for name, of in SKILL_VIEWS[view].items():
        known[name] = of(known)
    groups = ["run_id", "model", *SKILL_VIEWS[view]]
    found = {tuple(row[name] for name in groups): row for row in rows(store, view)}
    assert len(found) == known.groupby(groups).ngroups > 5
    for key, group in known.groupby(groups):
        row = found[key]
        expected = expected_skill(group)
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-12, abs=1e-12), key
        assert (row["model_version"], row["horizon_ns"]) == ("v", HORIZON)


def test_skill_counts_every_outcome_by_label(store: Store) -> None:
    frames = random_rows(2)
    insert(store, frames)
    outcomes = frames["outcomes"]
    for row in rows(store, "prediction_skill"):
        labels = outcomes[(outcomes["run_id"] == row["run_id"]) & (outcomes["model"] == row["model"])]["label"]
        count = labels.value_counts()
        assert row["outcomes"] == len(labels)
        assert (row["within_cost"], row["expired"]) == (count[OutcomeLabel.WITHIN_COST], count[OutcomeLabel.EXPIRED])
        assert row["judged"] == row["outcomes"] - row["within_cost"] - row["expired"]


MEASURES = ("base_rate", "mean_probability", "brier_score", "brier_skill", "log_loss", "auc", "hit_rate")


@pytest.mark.parametrize(
    ("labels", "absent"),
    [
        ((OutcomeLabel.EXPIRED, OutcomeLabel.WITHIN_COST), MEASURES),
        ((OutcomeLabel.RISE, OutcomeLabel.EXPIRED), ("brier_skill", "auc")),
        ((OutcomeLabel.FALL,), ("brier_skill", "auc")),
    ],
)
def test_measure_without_a_value_is_null(store: Store, labels: tuple[int, ...], absent: tuple[str, ...]) -> None:
    frames = random_rows(3)
    outcomes = frames["outcomes"]
    frames["outcomes"] = outcomes[outcomes["label"].isin(labels)]
    insert(store, frames)
    for view in SKILL_VIEWS:
        for row in rows(store, view):
            assert {name for name in MEASURES if row[name] is None} == set(absent)


def test_probability_of_one_half_is_half_a_hit(store: Store) -> None:
    frames = random_rows(4, 200)
    for frame in frames.values():
        frame["probability"] = 0.5
    insert(store, frames)
    assert {(row["hit_rate"], row["auc"]) for row in rows(store, "prediction_skill")} == {(0.5, 0.5)}


def test_calibration_is_the_table_of_its_bins(store: Store) -> None:
    frames = random_rows(5)
    insert(store, frames)
    known = judged(frames)
    known["bin"] = np.minimum(np.floor(known["probability"] * 10), 9)
    found = {(row["run_id"], row["model"], row["low"]): row for row in rows(store, "prediction_calibration")}
    grouped = known.groupby(["run_id", "model", "bin"])
    assert len(found) == grouped.ngroups == 60
    for (run, model, number), group in grouped:
        row = found[run, model, number / 10]
        assert row["high"] == (number + 1) / 10
        assert row["judged"] == len(group)
        assert row["mean_probability"] == pytest.approx(group["probability"].mean(), rel=1e-12)
        assert row["observed_rate"] == pytest.approx(group["rose"].mean(), rel=1e-12)
        assert row["brier_score"] == pytest.approx(brier_score_loss(group["rose"], group["probability"]), rel=1e-12)
        assert row["low"] <= row["mean_probability"] < row["high"]


def test_calibration_is_the_curve_of_scikit_learn(store: Store) -> None:
    frames = random_rows(6)
    for frame in frames.values():
        frame["probability"] += 1e-3  # no probability on an edge, which belongs to the bin below there
    insert(store, frames)
    known = judged(frames, run_id="one", model=ENSEMBLE)
    observed, mean = calibration_curve(known["rose"], known["probability"], n_bins=10)
    found = rows(store, "prediction_calibration", f"run_id = 'one' AND model = '{ENSEMBLE}'")
    assert [row["observed_rate"] for row in found] == pytest.approx(observed.tolist(), rel=1e-12)
    assert [row["mean_probability"] for row in found] == pytest.approx(mean.tolist(), rel=1e-12)


def test_calibration_takes_certainty_into_the_outer_bins(store: Store) -> None:
    frames = random_rows(7, 300)
    for frame in frames.values():
        frame["probability"] = np.where(frame["score"] > 0, 1.0, 0.0)
    insert(store, frames)
    bins = {(row["low"], row["high"]) for row in rows(store, "prediction_calibration")}
    assert bins == {(0.0, 0.1), (0.9, 1.0)}


@pytest.mark.parametrize("equal", [False, True], ids=["spread", "equal within bins"])
def test_parts_of_the_brier_score_sum_to_it(store: Store, *, equal: bool) -> None:
    frames = random_rows(8)
    for frame in frames.values() if equal else ():
        frame["probability"] = (np.floor(frame["probability"] * 10) + 0.5) / 10
    insert(store, frames)
    skill = {(row["run_id"], row["model"]): row for row in rows(store, "prediction_skill")}
    found = rows(store, "brier_decomposition")
    assert len(found) == len(skill) == 6
    for row in found:
        of = skill[row["run_id"], row["model"]]
        known = judged(frames, run_id=row["run_id"], model=row["model"])
        bins = known.assign(bin=np.minimum(np.floor(known["probability"] * 10), 9)).groupby("bin")
        n, mean, rate = bins.size().to_numpy(), bins["probability"].mean().to_numpy(), bins["rose"].mean().to_numpy()
        base = known["rose"].mean()
        expected = {
            "judged": len(known),
            "base_rate": base,
            "brier_score": of["brier_score"],
            "reliability": np.average((mean - rate) ** 2, weights=n),
            "resolution": np.average((rate - base) ** 2, weights=n),
            "uncertainty": base * (1 - base),
            "calibration_error": np.average(np.abs(mean - rate), weights=n),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)
        parts = row["reliability"] - row["resolution"] + row["uncertainty"] + row["within_bins"]
        assert parts == pytest.approx(row["brier_score"], rel=1e-12)
        assert (abs(row["within_bins"]) < 1e-12) == equal


def test_prediction_outcomes_has_each_prediction_once_with_what_became_of_it(store: Store) -> None:
    frames = random_rows(9)
    insert(store, frames)
    keys = ["run_id", "model", "instrument_id", "ts"]
    merged = frames["predictions"].merge(
        frames["outcomes"][[*keys, "label", "horizon_return", "loss"]], on=keys, how="left"
    )
    sql = "SELECT *, toUnixTimestamp64Nano(ts) AS t, toUnixTimestamp64Nano(ts_matured) AS m FROM prediction_outcomes"
    found = fetched(store, sql)
    assert len(found) == len(merged) == len(frames["predictions"])
    by_key = {(row["run_id"], row["model"], row["instrument_id"], row["t"]): row for row in found}
    for row in merged.to_dict("records"):
        shown = by_key[row["run_id"], row["model"], row["instrument_id"], row["ts"]]
        is_open = math.isnan(row["label"])
        assert shown["outcome"] == ("open" if is_open else LABELS[int(row["label"])])
        assert shown["m"] == (None if is_open else row["ts"] + HORIZON)
        for name in ("horizon_return", "loss"):
            assert shown[name] == (None if math.isnan(row[name]) else row[name])
        for name in ("probability", "confidence", "score", "interval_ns", "model_version", "horizon_ns"):
            assert shown[name] == row[name]
        assert dict(shown["explanation"]) == {"a": 0.5}


def drift_frame(seed: int, n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({
        "run_id": rng.choice(["one", "two"], n),
        "model": rng.choice(["news", "technical"], n),
        "stream": rng.choice(["score", "input:rsi"], n),
        "detector": rng.choice([detector.value for detector in DriftDetector], n),
        "ts": START + rng.integers(0, 3 * 24, n) * 3_600 * SECOND,
        "direction": rng.choice([1, -1], n),
        "mean_before": rng.normal(size=n), "mean_after": rng.normal(size=n),
        "n_before": rng.integers(30, 100, n), "n_after": rng.integers(30, 100, n),
        "bound": rng.uniform(0.1, 1, n), "value": rng.uniform(1, 2, n),
    }).assign(
        stream_kind=lambda found: np.where(found["stream"] == "score", 2, 1)
    ).drop_duplicates(list(DRIFT_EVENTS.key))  # fmt: skip


def test_drift_by_day_counts_and_shows_the_evidence_of_the_last(store: Store) -> None:
    frame = drift_frame(1)
    insert(store, {"drift_events": frame})
    frame["day"] = pd.to_datetime(frame["ts"], utc=True).dt.date
    groups = frame.groupby(["run_id", "model", "stream", "day"])
    found = {(row["run_id"], row["model"], row["stream"], row["day"]): row for row in rows(store, "drift_by_day")}
    assert len(found) == groups.ngroups > 20
    for key, group in groups:
        row = found[key]
        last = group.sort_values(["ts", "detector"]).iloc[-1]
        by_detector, by_direction = group["detector"].value_counts(), group["direction"].value_counts()
        assert row["events"] == len(group) == row["adwin"] + row["page_hinkley"] == row["up"] + row["down"]
        assert row["adwin"] == by_detector.get(DriftDetector.ADWIN, 0)
        assert row["up"] == by_direction.get(1, 0)
        assert (row["first_ts"].value, row["last_ts"].value) == (group["ts"].min(), group["ts"].max())
        for name in ("mean_before", "mean_after", "n_before", "n_after", "value", "bound"):
            assert row[f"last_{name}"] == last[name]
        assert (row["last_detector"], row["last_direction"]) == (last["detector"], last["direction"])
        assert row["largest_excess"] == (group["value"] / group["bound"]).max()


def market(seed: int, steps: int, names: tuple[str, ...], n: int = 6) -> list[UniverseFrame]:
    """Return frames of random features; some are missing, and some instruments have no price."""
    rng = np.random.default_rng(seed)
    close = np.full(n, 100.0)
    frames = []
    for step in range(steps):
        close = close * np.exp(rng.choice([-0.002, 0.0, 0.002], n))
        shown = np.where(rng.random(n) < 0.1, np.nan, close)
        values = np.exp(rng.normal(size=(n, len(names))))
        absent = rng.random(values.shape) < 0.3
        values[absent] = np.nan
        frames.append(
            UniverseFrame(
                START + step * MINUTE, MINUTE, tuple(f"I{number}" for number in range(n)), shown, np.ones(n), names,
                values, np.where(absent, 2, 0).astype(np.uint8),
            )
        )  # fmt: skip
    return frames


@pytest.fixture
def specialists_run(store: Store) -> tuple[Store, list[Any]]:
    """A store with what specialists say and learn on 150 frames; and these frames."""
    free = {"label_correlation": 0.0}
    config = SpecialistsConfig(
        horizon="2m", tolerance="1m", enabled=("technical", "news", "earnings"),
        learning=free | {"min_outcomes": 5, "min_coverage": 0.3}, ensemble=free,
    )  # fmt: skip
    state = SpecialistState(config)
    counts: Counter[tuple[str, str]] = Counter()
    made = []
    for frame in market(1, 150, config.needs):
        found = state.update(frame)
        made.append(found)
        counts.update(found.counts)
    for table in ("predictions", "outcomes"):
        written = [rows.batch for frame in made for rows in frame.rows if rows.table == table]
        store.insert(table, pa.Table.from_batches(written).unify_dictionaries(), run_id="run")
    store.write_counts(
        "run",
        [
            RunCount(CountKind.OUTCOME, reason, "", n)
            if model == "outcomes"
            else RunCount(CountKind.UNANSWERED, model, reason, n)
            for (model, reason), n in counts.items()
        ],
    )
    return store, made


def test_coverage_accounts_for_every_instrument_of_every_frame(specialists_run: tuple[Store, list[Any]]) -> None:
    store, made = specialists_run
    reasons = [reason.name.lower() for reason in NoAnswer]
    found = rows(store, "prediction_coverage")
    assert [row["model"] for row in found] == ["earnings", ENSEMBLE, "news", "technical"]
    for row in found:
        model = row["model"]
        counts: Counter[str] = Counter()
        for frame in made:
            counts["answered"] += int(np.isfinite(frame.probability.get(model, np.empty(0))).sum())
            for (name, reason), n in frame.counts.items():
                counts[reason] += n if name == model else 0
        assert row["asked"] == 6 * len(made)
        shares = {reason: row[reason] for reason in reasons}
        assert shares == pytest.approx({reason: counts[reason] / row["asked"] for reason in reasons}, rel=1e-12)
        assert sum(shares.values()) == pytest.approx(1)
        assert 0 < shares["answered"] < 1


def test_coverage_knows_every_reason_of_no_answer(store: Store) -> None:
    described = store.connection.rows("DESCRIBE prediction_coverage")
    assert [name for name, *_ in described] == ["run_id", "model", "asked", *(r.name.lower() for r in NoAnswer)]


def test_ensemble_weights_are_those_in_its_explanations(specialists_run: tuple[Store, list[Any]]) -> None:
    store, _ = specialists_run
    said = fetched(
        store, f"SELECT toUnixTimestamp64Nano(ts) AS t, explanation FROM predictions WHERE model = '{ENSEMBLE}'"
    )
    entries = pd.DataFrame([
        {"t": row["t"], "member": name.partition(":")[2], "weight": weight,
         "added": abs(dict(row["explanation"])[name.partition(":")[2]])}
        for row in said for name, weight in row["explanation"] if name.startswith("weight:")
    ])  # fmt: skip
    grouped = entries.groupby(["t", "member"])
    found = {(row["ts"].value, row["member"]): row for row in rows(store, "ensemble_weights")}
    assert len(found) == grouped.ngroups > 100
    for key, group in grouped:
        row = found[key]
        assert (row["instruments"], row["answered"]) == (len(group), (group["weight"] > 0).sum())
        assert row["mean_weight"] == pytest.approx(group["weight"].mean(), abs=1e-12)
        assert row["mean_contribution"] == pytest.approx(group["added"].mean(), abs=1e-12)
    totals = Counter[int]()
    for (ts, _), row in found.items():
        totals[ts] += row["mean_weight"]
    assert list(totals.values()) == pytest.approx([1.0] * len(totals))


def test_skill_of_what_specialists_wrote_is_that_of_scikit_learn(specialists_run: tuple[Store, list[Any]]) -> None:
    store, _ = specialists_run
    sql = "SELECT model, probability, toString(label) AS label FROM outcomes WHERE label IN ('rise', 'fall')"
    written = pd.DataFrame(fetched(store, sql))
    written["rose"] = (written["label"] == "rise").astype(float)
    found = {row["model"]: row for row in rows(store, "prediction_skill")}
    assert set(found) == {"technical", "news", "earnings", ENSEMBLE}
    for model, group in written.groupby("model"):
        expected = expected_skill(group)
        assert {name: found[model][name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_views_of_an_empty_database_are_empty(store: Store) -> None:
    for view in MODEL_VIEWS:
        assert rows(store, view) == []


@pytest.mark.parametrize("view", MODEL_VIEWS)
def test_view_filters_by_run(store: Store, view: str) -> None:
    insert(store, random_rows(10, 400) | {"drift_events": drift_frame(2)})
    store.insert("predictions", as_arrow(PREDICTIONS, _ensemble_row()))
    every = rows(store, view)
    one, two = (rows(store, view, f"run_id = '{run}'") for run in ("one", "two"))
    assert one
    assert len(one) + len(two) == len(every)


def _ensemble_row() -> pd.DataFrame:
    found = random_rows(11, 40)["predictions"]
    return found.assign(run_id="one", model=ENSEMBLE, explanation=[{"news": 0.1, "weight:news": 1.0}] * len(found))


def test_every_view_is_documented(store: Store) -> None:
    page = data_model()
    found = store.connection.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
    )
    names = {name for (name,) in found} - set(TABLES)
    assert set(MODEL_VIEWS) < names
    assert [name for name in sorted(names) if f"| `{name}` |" not in page] == []
