"""Specialists on frames: learning only from what has matured, rows, counts, snapshots, skill of the ensemble."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import bytewax.operators as op
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from benchmarks.specialist_market import market
from models.specialists import ENSEMBLE, SPECIALISTS
from models.specialists.calibration import logistic
from operators.specialists import SpecialistState, specialists
from operators.specialists_config import SpecialistsConfig
from operators.universe import UniverseFrame
from schemas.enums import Missing, OutcomeLabel
from schemas.errors import InvariantError, VersionError
from schemas.tables import OUTCOMES, PREDICTIONS
from sinks.conform import conform

MINUTE = 60 * 10**9
MODELS = (*SPECIALISTS, ENSEMBLE)
FREE = {"label_correlation": 0.0}


def config(**changes):
    defaults = {
        "horizon": "2m",
        "tolerance": "1m",
        "learning": FREE | {"min_outcomes": 5},
        "ensemble": FREE,
    }
    return SpecialistsConfig(**(defaults | changes))


NEEDS = config().needs


def rows_of(frames, table):
    """Return all rows of a table as one Arrow table with the stored columns."""
    schema = {PREDICTIONS.name: PREDICTIONS, OUTCOMES.name: OUTCOMES}[table]
    parts = [conform(schema, rows.batch, "run") for frame in frames for rows in frame.rows if rows.table == table]
    return pa.concat_tables([schema.arrow.empty_table(), *parts]).unify_dictionaries().combine_chunks()


def text(frame):
    """Return everything that a frame brought, to the last bit."""
    probability = {name: values.tobytes() for name, values in frame.probability.items()}
    rows = [(rows.table, repr(rows.batch.to_pylist())) for rows in frame.rows]
    seen = [(item.model, item.stream, item.values.tobytes()) for item in frame.monitored]
    return repr((frame.ts, frame.instruments, probability, rows, seen, sorted(frame.counts.items())))


def run(state, frames):
    return [state.update(frame) for frame in frames]


def test_corrupted_future_changes_nothing_before():
    frames = market(1, 40, absent=0.1, gone=0.1)
    expected = [text(each) for each in run(SpecialistState(config()), frames)]
    for cut in (3, 17, 30):
        broken = [replace(frame, close=frame.close[::-1] * 3, values=-frame.values) for frame in frames[cut:]]
        found = [text(each) for each in run(SpecialistState(config()), [*frames[:cut], *broken])]
        assert found[:cut] == expected[:cut]
        assert found[cut:] != expected[cut:]


def test_outcome_teaches_at_the_frame_that_closes_its_horizon_and_not_before():
    """Closes from the third frame on differ: so does what is learnt, as the horizon is two frames."""
    frames = market(2, 8)
    other = [*frames[:2], *(replace(frame, close=100 * 1.01 ** (-1.0) ** np.arange(30)) for frame in frames[2:])]
    one, two = SpecialistState(config()), SpecialistState(config())
    same = []
    for frame, changed in zip(frames, other, strict=True):
        one.update(frame)
        two.update(changed)
        same.append([a.snapshot() == b.snapshot() for a, b in zip(one.members, two.members, strict=True)])
    assert same[:2] == [[True] * 5] * 2
    assert same[2] == [False] * 5


def test_nothing_is_learnt_before_the_horizon():
    state = SpecialistState(config(horizon="1h"))
    before = [member.snapshot() for member in state.members]
    run(state, market(3, 60))
    assert [member.snapshot() for member in state.members] == before
    state.update(replace(market(3, 61)[60], close=np.full(30, 90.0)))
    assert all(member.snapshot() != old for member, old in zip(state.members, before, strict=True))


def test_outcomes_are_what_a_slow_search_through_the_frames_says():
    frames = market(4, 60, n=12, gone=0.3)
    done = run(SpecialistState(config(cost_band_bps=5.0)), frames)
    made = rows_of(done, "predictions").to_pylist()
    found = {(row["model"], row["instrument_id"], row["ts"]): row for row in rows_of(done, "outcomes").to_pylist()}
    closes = {frame.ts: dict(zip(frame.instruments, frame.close.tolist(), strict=True)) for frame in frames}
    checked = Counter()
    for row in made:
        ts = row["ts"].value
        due = [t for t in closes if t >= ts + 2 * MINUTE]
        exits = [t for t in due if t <= ts + 3 * MINUTE and row["instrument_id"] in closes[t]]
        over = [t for t in due if t > ts + 3 * MINUTE]
        outcome = found.pop((row["model"], row["instrument_id"], row["ts"]), None)
        if exits:
            move = closes[exits[0]][row["instrument_id"]] / closes[ts][row["instrument_id"]] - 1
            label = OutcomeLabel.WITHIN_COST if abs(move) <= 5e-4 else OutcomeLabel(int(np.sign(move)))
            assert outcome["horizon_return"] == pytest.approx(move)
            assert outcome["ts_matured"].value == exits[0]
        elif over:
            label = OutcomeLabel.EXPIRED
            assert outcome["horizon_return"] is None
            assert outcome["ts_matured"].value == over[0]
        else:
            assert outcome is None
            continue
        checked[label] += 1
        assert (outcome["label"], outcome["probability"]) == (label, row["probability"])
        hit = row["probability"] if label == OutcomeLabel.RISE else 1 - row["probability"]
        assert outcome["loss"] is None if abs(label) != 1 else outcome["loss"] == pytest.approx(-np.log(hit))
    assert not found
    assert set(checked) == set(OutcomeLabel)


@pytest.mark.parametrize("skilled", SPECIALISTS)
def test_planted_effect_is_found_by_its_specialist_and_by_the_ensemble_only(skilled):
    other = "news" if skilled != "news" else "options"
    state = SpecialistState(config(enabled=(skilled, other), horizon="1m", tolerance="0s"))
    outcomes = rows_of(run(state, market(5, 180, planted=(skilled,))), "outcomes").to_pandas()
    area = {
        model: roc_auc_score(rows["label"] == 1, rows["probability"])
        for model, rows in outcomes[outcomes["label"].abs() == 1].groupby("model", observed=True)
    }
    assert area[skilled] > 0.68
    assert area[ENSEMBLE] > area[skilled] - 0.02
    assert abs(area[other] - 0.5) < 0.04
    weights = dict(zip(state.ensemble.names, state.ensemble.weights, strict=True))
    assert weights[skilled] > 0.9


def test_ensemble_of_two_effects_knows_more_than_either():
    enabled = ("technical", "news", "options")
    state = SpecialistState(config(enabled=enabled, horizon="1m", tolerance="0s"))
    outcomes = rows_of(run(state, market(6, 250, planted=("news", "options"))), "outcomes").to_pandas()
    loss = outcomes[outcomes["ts"] > outcomes["ts"].median()].groupby("model", observed=True)["loss"].mean()
    assert loss[ENSEMBLE] < min(loss["news"], loss["options"]) - 0.01
    assert loss["technical"] > np.log(2) - 0.01


def test_noise_teaches_nothing():
    state = SpecialistState(config(horizon="1m", tolerance="0s"))
    outcomes = rows_of(run(state, market(7, 150, n=50)), "outcomes").to_pandas()
    for _, rows in outcomes.groupby("model", observed=True):
        assert abs(roc_auc_score(rows["label"] == 1, rows["probability"]) - 0.5) < 0.03
        assert rows["loss"].mean() < np.log(2) + 0.02


def test_resumed_at_every_frame_gives_the_same():
    frames = market(8, 30, absent=0.2, gone=0.2)
    state = SpecialistState(config())
    expected = [text(each) for each in run(state, frames)]
    found, resumed = [], SpecialistState(config())
    for frame in frames:
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(resumed.snapshot()))
        resumed = SpecialistState(config())
        resumed.restore(kept)
        found.append(text(resumed.update(frame)))
    assert found == expected
    assert repr(resumed.snapshot()) == repr(state.snapshot())


def test_snapshot_holds_plain_values_that_later_frames_do_not_change():
    def check(value):
        assert value is None or type(value) in (bool, int, float, str, bytes, list, dict)
        for part in value.items() if isinstance(value, dict) else value if isinstance(value, list) else ():
            for each in part if isinstance(part, tuple) else (part,):
                check(each)

    state, frames = SpecialistState(config()), market(9, 20)
    run(state, frames[:10])
    kept = state.snapshot()
    check(kept)
    before = repr(kept)
    run(state, frames[10:])
    assert repr(kept) == before


def test_snapshot_of_another_configuration_is_refused():
    with pytest.raises(VersionError, match="expected a snapshot of specialists of version 1 with configuration"):
        SpecialistState(config()).restore(SpecialistState(config(cost_band_bps=1.0)).snapshot())


def test_quorum_is_kept_and_what_does_not_answer_is_counted():
    """Only the technical features are there: one specialist answers, the others and the ensemble say why not."""
    names = SPECIALISTS["technical"].needs
    *_, last = run(SpecialistState(config()), market(10, 30, n=20, names=names))
    assert np.isfinite(last.probability["technical"]).all()
    assert np.isnan(last.probability[ENSEMBLE]).all()
    unanswered = {key: value for key, value in last.counts.items() if key[0] != "outcomes"}
    silent = {(name, "no_input"): 20 for name in SPECIALISTS if name != "technical"}
    assert unanswered == silent | {(ENSEMBLE, "no_quorum"): 20}
    *_, alone = run(SpecialistState(config(ensemble=FREE | {"quorum": 1})), market(10, 30, n=20, names=names))
    assert np.isfinite(alone.probability[ENSEMBLE]).all()


def test_predictions_have_finite_numbers_and_an_explanation_that_sums_to_the_log_odds():
    rows = rows_of(run(SpecialistState(config()), market(11, 30, absent=0.1)), "predictions").to_pylist()
    assert {row["model"] for row in rows} == set(MODELS)
    for row in rows:
        explained = dict(row["explanation"])
        assert len(explained) == len(row["explanation"])
        assert np.isfinite([row["probability"], row["confidence"], row["score"], *explained.values()]).all()
        assert 0 <= row["confidence"] <= 1
        added = sum(value for key, value in explained.items() if not key.startswith(("weight:", "disagreement")))
        assert logistic(np.array([added]))[0] == pytest.approx(row["probability"], abs=1e-12)
        if row["model"] == ENSEMBLE:
            assert sum(value for key, value in explained.items() if key.startswith("weight:")) == pytest.approx(1.0)
        else:
            named = set(explained) - {"intercept", "other"}
            assert len(named) == 5
            assert named <= {item.name for item in SPECIALISTS[row["model"]].inputs}


def test_keys_are_distinct():
    done = run(SpecialistState(config()), market(12, 25, gone=0.2))
    for schema in (PREDICTIONS, OUTCOMES):
        rows = rows_of(done, schema.name).select(schema.key).to_pylist()
        assert len(rows) == len({tuple(row.values()) for row in rows}) > 0


@pytest.mark.parametrize("hostile", [0.0, -1.0, np.nan, np.inf, 1e308, 5e-324])
def test_hostile_closes_affect_their_own_outcomes_only(hostile):
    frames = market(13, 30)
    broken = [replace(frame, close=frame.close.copy()) for frame in frames]
    for frame in broken[5:15:3]:
        frame.close[4] = hostile
    done = run(SpecialistState(config()), broken)
    usable = np.isfinite(hostile) and hostile > 0
    assert all(("I004" in each.instruments) or not usable for each in done)
    assert sum(each.counts[ENSEMBLE, "no_price"] for each in done) == (0 if usable else 4)
    outcomes = rows_of(done, "outcomes").to_pylist()
    assert all(row["horizon_return"] is None or np.isfinite(row["horizon_return"]) for row in outcomes)
    others = [row for row in outcomes if row["instrument_id"] != "I004"]
    assert others
    assert all(np.isfinite(row["probability"]) and abs(row["horizon_return"]) < 0.1 for row in others)


def test_hostile_features_do_not_last():
    frames = market(14, 150, planted=("technical",))
    rng = np.random.default_rng(14)
    worst = [0.0, -1.0, np.inf, -np.inf, 1e308, -1e308, 5e-324]
    for frame in frames[:25]:
        frame.values[:] = np.where(
            rng.random(frame.values.shape) < 0.3, rng.choice(worst, frame.values.shape), frame.values
        )
    outcomes = rows_of(
        run(SpecialistState(config(enabled=("technical", "news"), horizon="1m")), frames), "outcomes"
    ).to_pandas()
    late = outcomes[(outcomes["model"] == "technical") & (outcomes["ts"] > outcomes["ts"].median())]
    assert roc_auc_score(late["label"] == 1, late["probability"]) > 0.68


def test_value_that_is_marked_missing_is_not_read():
    frames = market(15, 12)
    marked = [replace(frame, missing=np.full_like(frame.missing, Missing.STALE)) for frame in frames]
    state = SpecialistState(config())
    assert all(each.counts["technical", "no_input"] == 30 for each in run(state, marked))
    assert state.pending == 0


def test_empty_frame_gives_nothing_and_unknown_features_do_not_matter():
    state = SpecialistState(config())
    empty = replace(market(16, 1)[0], instruments=(), close=np.empty(0), volume=np.empty(0),
                    values=np.empty((0, len(config().needs))),
                    missing=np.empty((0, len(config().needs)), np.uint8))  # fmt: skip
    made = state.update(empty)
    assert (made.rows, made.monitored, made.instruments, state.pending) == ([], [], (), 0)
    bare = UniverseFrame(MINUTE, MINUTE, ("A",), np.ones(1), np.ones(1), ("other",), np.ones((1, 1)),
                         np.zeros((1, 1), np.uint8))  # fmt: skip
    assert np.isnan(state.update(bare).probability[ENSEMBLE]).all()


def test_pending_rows_are_bounded_and_what_is_not_followed_is_counted():
    state = SpecialistState(config(horizon="10m", max_pending=100))
    done = run(state, market(17, 30))
    assert state.pending <= 100
    assert sum(each.counts["outcomes", "not_followed"] for each in done) > 0
    assert sum(each.counts["outcomes", "rise"] for each in done) > 50


def test_state_is_bounded_while_instruments_come_and_go():
    state, sizes = SpecialistState(config()), []
    for time, frame in enumerate(market(18, 60, n=15)):
        state.update(replace(frame, instruments=tuple(f"{time // 5:03d}-{name}" for name in frame.instruments)))
        sizes.append((state.pending, len(msgspec.msgpack.encode(state.snapshot()))))
    rows, size = (max(column) for column in zip(*sizes[15:35], strict=True))
    assert max(row for row, _ in sizes[35:]) <= rows
    assert max(length for _, length in sizes[35:]) <= size + 2_000


def test_inputs_are_not_written():
    frames = market(19, 15)
    for frame in frames:
        for array in (frame.close, frame.values, frame.missing, frame.volume):
            array.flags.writeable = False
    run(SpecialistState(config()), frames)


def test_monitored_streams_are_scores_errors_and_means_of_inputs():
    *_, last = run(SpecialistState(config()), market(20, 30, absent=0.1))
    streams = {(item.model, item.stream): item.values for item in last.monitored}
    assert all(np.isfinite(values).all() and len(values) for values in streams.values())
    for model in MODELS:
        answers = last.probability[model]
        np.testing.assert_array_equal(streams[model, "score"], answers[np.isfinite(answers)])
        lost = [rows.batch["loss"].to_numpy() for rows in last.rows
                if rows.table == "outcomes" and rows.batch["model"][0].as_py() == model]  # fmt: skip
        np.testing.assert_array_equal(streams[model, "error"], lost[0][np.isfinite(lost[0])])
    for name in SPECIALISTS["news"].inputs:
        assert abs(streams["news", f"input:{name.name}"][0]) < 1
    versions = {item.model: item.model_version for item in last.monitored}
    assert len(set(versions.values())) == len(MODELS)


def test_frame_that_is_not_later_is_refused():
    state, (first, second) = SpecialistState(config()), market(21, 2)
    state.update(second)
    for frame in (second, first):
        with pytest.raises(InvariantError, match="expected a frame after"):
            state.update(frame)


def test_no_specialist_enabled_gives_nothing():
    state = SpecialistState(config(enabled=()))
    done = run(state, market(22, 5))
    assert all(not each.rows and not each.monitored and not each.probability for each in done)
    twin = SpecialistState(config(enabled=()))
    twin.restore(state.snapshot())
    assert twin.ensemble is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enabled": ("astrology",)}, "expected distinct names among"),
        ({"enabled": ("news", "news")}, "expected distinct names among"),
        ({"enabled": ("news",)}, "expected `ensemble.quorum` of at most 1"),
        ({"horizon": "0s"}, "greater than"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_configuration_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        SpecialistsConfig(**changes)


def test_operator_gives_what_the_state_gives():
    frames, found = market(23, 12), []
    flow = Dataflow("specialists")
    up = op.input("frames", flow, TestingSource([("universe", frame) for frame in frames], batch_size=5))
    op.output("found", specialists("specialists", up, config=config()), TestingSink(found))
    run_main(flow)
    assert [text(each) for _, each in found] == [text(each) for each in run(SpecialistState(config()), frames)]
