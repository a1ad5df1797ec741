"""Specialists on the frames of the universe: answers at each decision time, learning from outcomes as they mature."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import bytewax.operators as op
import numpy as np
import numpy.typing as npt
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from models.specialists import ENSEMBLE, SPECIALISTS
from models.specialists.base import CrossSection, NoAnswer, Outcomes, Predictions, Specialist
from models.specialists.ensemble import Ensemble, EnsembleOutcomes, EnsemblePredictions
from operators.columns import FloatArray
from operators.pending import Matured, PendingOutcomes
from operators.specialist_frame import SpecialistFrame
from operators.specialist_rows import Explanations, ModelName, explanations
from operators.specialists_config import SpecialistsConfig
from operators.universe import UniverseFrame
from schemas.enums import Missing, OutcomeLabel
from schemas.errors import InvariantError, VersionError
from schemas.failure import noted
from schemas.features import content_hash
from schemas.time import duration_ns

__all__ = ["SpecialistState", "specialists"]

_VERSION: Final = 1
_BEGINNING: Final = -(2**63)
_BPS: Final = 1e-4


@dataclass(frozen=True, slots=True)
class _Member:
    """A specialist and the columns of a pending record that are its."""

    specialist: Specialist
    name: ModelName
    inputs: slice
    score: int
    estimate: int
    probability: int


class SpecialistState:
    r"""Specialists, their ensemble, and the predictions that await their outcome.

    A frame of time $T$ first matures: predictions of $t \le T - h$ whose instrument has a close now are labelled by
    $r = C_T / C_t - 1$ against the cost band $c$: a rise where $r > c$, a fall where $r < -c$, else neither. Every
    specialist that had an estimate learns from its rises and falls, all of this time at once. Then every specialist
    answers for the instruments of the frame, and the ensemble combines the answers.

    Parameters
    ----------
    config
        Which specialists, what horizon, how they learn.

    Notes
    -----
    Outcomes are learnt at the frame that closes their horizon and never before, so that no later frame changes an
    earlier answer. An instrument without a finite close above zero is left out of the frame: it has no answers
    (`no_price`), and matures nothing. A return that overflows expires its prediction. State is bounded by
    `max_pending` and the number of inputs. About 8 ms a frame and 8 microseconds an instrument, with five
    specialists and their rows; a snapshot has some 500 bytes for each pending prediction.

    Examples
    --------
    >>> from operators.columns import MissingArray
    >>> state = SpecialistState(SpecialistsConfig(enabled=("technical",), ensemble={"quorum": 1}))
    >>> values, missing = np.array([[55.0, 0.3]]), np.zeros((1, 2), dtype=np.uint8)
    >>> frame = UniverseFrame(0, 60 * 10**9, ("A",), np.ones(1), np.ones(1), ("rsi", "zscore"), values, missing)
    >>> state.update(frame).counts
    Counter({('technical', 'no_input'): 1, ('ensemble', 'no_quorum'): 1})
    """

    def __init__(self, config: SpecialistsConfig) -> None:
        self._config = config
        self._horizon = duration_ns(config.horizon)
        self._band = config.cost_band_bps * _BPS
        members, width = [], 1
        for name in config.enabled:
            specialist = SPECIALISTS[name](config.learning, horizon_ns=self._horizon)
            members.append(self._member(specialist, width))
            width = members[-1].probability + 1
        self._members = tuple(members)
        self._score, self._estimate = width, width + 1
        self._ensemble = Ensemble(config.enabled, config.ensemble, horizon_ns=self._horizon) if members else None
        self._ensemble_name = self._name_ensemble()
        self._pending = PendingOutcomes(
            width + 2,
            horizon_ns=self._horizon,
            tolerance_ns=duration_ns(config.tolerance),
            max_rows=config.max_pending,
        )
        self._last = _BEGINNING

    def _member(self, specialist: Specialist, first: int) -> _Member:
        name = ModelName(specialist.name, specialist.version, specialist.input_set, self._horizon)
        end = first + len(specialist.input_names)
        return _Member(specialist, name, slice(first, end), end, end + 1, end + 2)

    def _name_ensemble(self) -> ModelName:
        member_set = content_hash([member.name.version for member in self._members])
        own = self._ensemble.version if self._ensemble else ""
        return ModelName(ENSEMBLE, content_hash([own, member_set]), member_set, self._horizon)

    @property
    def pending(self) -> int:
        """Predictions that await their outcome."""
        return self._pending.rows

    @property
    def members(self) -> tuple[Specialist, ...]:
        """The specialists, in order."""
        return tuple(member.specialist for member in self._members)

    @property
    def ensemble(self) -> Ensemble | None:
        """The ensemble, where any specialist is enabled."""
        return self._ensemble

    def update(self, frame: UniverseFrame) -> SpecialistFrame:
        """Take the next frame; mature, learn, then answer.

        Raises
        ------
        InvariantError
            The frame is not later than the one before.
        """
        if frame.ts <= self._last:
            raise InvariantError(
                f"expected a frame after {self._last}, found one at {frame.ts}; frames come in order of time"
            )
        self._last = frame.ts
        priced = np.isfinite(frame.close) & (frame.close > 0)
        names = tuple([name for name, usable in zip(frame.instruments, priced.tolist(), strict=True) if usable])
        made = SpecialistFrame(frame.ts, frame.interval_ns, names)
        if self._ensemble is None:
            return made
        close = frame.close[priced]
        matured = self._pending.mature(frame.ts, dict(zip(names, close.tolist(), strict=True)))
        if len(matured):
            self._settle(self._ensemble, matured, made)
        unpriced = np.full(len(priced) - len(names), np.uint8(NoAnswer.NO_PRICE))
        for name in (*(member.name for member in self._members), self._ensemble_name):
            made.count_unanswered(name.model, unpriced)
        if names:
            values = np.where(frame.missing == Missing.OK, frame.values, np.nan)[priced]
            columns = {name: values[:, index] for index, name in enumerate(frame.names)}
            self._answer(self._ensemble, CrossSection(len(names), frame.interval_ns, columns), close, made)
        return made

    def _settle(self, ensemble: Ensemble, matured: Matured, made: SpecialistFrame) -> None:
        """Label what matured, report it, and learn from it."""
        with np.errstate(over="ignore"):
            returns = matured.exit_close / matured.records[:, 0] - 1.0
        returns = np.where(np.isfinite(returns), returns, np.nan)
        label = self._labels(returns)
        for outcome in OutcomeLabel:
            if number := int(np.count_nonzero(label == outcome)):
                made.counts["outcomes", outcome.name.lower()] = number
        for name, column in [
            *((member.name, member.probability) for member in self._members),
            (self._ensemble_name, self._estimate),
        ]:
            made.add_outcomes(name, matured, matured.records[:, column], label, returns)
        decided = np.abs(label) == 1
        records = matured.records[decided]
        rose = np.where(label[decided] == OutcomeLabel.RISE, 1.0, 0.0)
        ensemble.learn(
            EnsembleOutcomes(
                members=records[:, [member.estimate for member in self._members]],
                score=records[:, self._score],
                estimate=records[:, self._estimate],
                label=rose,
                interval_ns=made.interval_ns,
            )
        )
        for member in self._members:
            known = np.isfinite(records[:, member.score])
            if known.any():
                member.specialist.learn(
                    Outcomes(
                        inputs=records[known, member.inputs],
                        score=records[known, member.score],
                        estimate=records[known, member.estimate],
                        label=rose[known],
                        interval_ns=made.interval_ns,
                    )
                )

    def _labels(self, returns: FloatArray) -> npt.NDArray[np.int8]:
        label = np.full(len(returns), int(OutcomeLabel.WITHIN_COST), dtype=np.int8)
        label[returns > self._band] = OutcomeLabel.RISE
        label[returns < -self._band] = OutcomeLabel.FALL
        label[np.isnan(returns)] = OutcomeLabel.EXPIRED
        return label

    def _answer(self, ensemble: Ensemble, section: CrossSection, close: FloatArray, made: SpecialistFrame) -> None:
        """Ask every specialist, combine, report, and keep what was said until its outcome."""
        said = [member.specialist.predict(section) for member in self._members]
        for member, predictions in zip(self._members, said, strict=True):
            input_names = member.specialist.input_names
            explained = explanations(
                input_names, predictions.contributions, predictions.intercept, predictions.log_odds,
                self._config.explained_inputs,
            )  # fmt: skip
            made.add_inputs(member.name, input_names, predictions.inputs)
            made.add_answers(member.name, predictions, explained)
        together = ensemble.predict(np.column_stack([predictions.probability for predictions in said]))
        made.add_answers(self._ensemble_name, together, _explained_ensemble(ensemble.names, together))
        self._follow(close, said, together, made)

    def _follow(
        self, close: FloatArray, said: list[Predictions], together: EnsemblePredictions, made: SpecialistFrame
    ) -> None:
        """Keep the rows in which any specialist has an estimate, until their outcome."""
        parts = [close[:, None]]
        for predictions in said:
            parts.append(predictions.inputs)
            parts.append(np.column_stack([predictions.score, predictions.estimate, predictions.probability]))
        parts.append(np.column_stack([together.score, together.estimate]))
        records = np.concatenate(parts, axis=1)
        estimated = np.isfinite(records[:, [member.estimate for member in self._members]]).any(axis=1)
        names = tuple([made.instruments[row] for row in np.flatnonzero(estimated).tolist()])
        if not self._pending.add(made.ts, names, records[estimated]):
            made.counts["outcomes", "not_followed"] += len(names)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain values: text, numbers, bytes, lists and maps."""
        return {
            "version": _VERSION,
            "config": self._config.content_hash(),
            "last": self._last,
            "pending": self._pending.snapshot(),
            "specialists": {member.name.model: member.specialist.snapshot() for member in self._members},
            "ensemble": None if self._ensemble is None else self._ensemble.snapshot(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            Another version or configuration wrote it.
        """
        expected = (_VERSION, self._config.content_hash())
        if (snapshot["version"], snapshot["config"]) != expected:
            raise VersionError(
                f"expected a snapshot of specialists of version {_VERSION} with configuration {expected[1]}, found "
                f"version {snapshot['version']} with {snapshot['config']}; resume with the version and "
                "configuration that wrote it, or start a new run"
            )
        self._last = snapshot["last"]
        self._pending.restore(snapshot["pending"])
        for member in self._members:
            member.specialist.restore(snapshot["specialists"][member.name.model])
        if self._ensemble is not None:
            self._ensemble.restore(snapshot["ensemble"])


def _explained_ensemble(names: tuple[str, ...], together: EnsemblePredictions) -> Explanations:
    """Return what each member adds, and its weight and the disagreement, which are no part of the sum."""
    keys, values = explanations(names, together.contributions, together.intercept, together.log_odds, len(names))
    further = np.array([*(f"weight:{name}" for name in names), "disagreement"], dtype=object)
    keys = np.concatenate([keys, np.broadcast_to(further, (len(keys), len(further)))], axis=1)
    return keys, np.column_stack([values, together.weights, together.disagreement])


class _SpecialistsLogic(StatefulBatchLogic[UniverseFrame, SpecialistFrame, dict[str, Any]]):
    def __init__(self, config: SpecialistsConfig, resume: dict[str, Any] | None) -> None:
        self._state = SpecialistState(config)
        if resume is not None:
            self._state.restore(resume)

    @noted
    def on_batch(self, values: list[UniverseFrame]) -> tuple[Iterable[SpecialistFrame], bool]:
        return [self._state.update(frame) for frame in values], StatefulBatchLogic.RETAIN

    @noted
    def snapshot(self) -> dict[str, Any]:
        return self._state.snapshot()


@operator
def specialists(
    step_id: str, up: KeyedStream[UniverseFrame], *, config: SpecialistsConfig
) -> KeyedStream[SpecialistFrame]:
    """Let specialists answer at each decision time, and learn from outcomes as they mature.

    Parameters
    ----------
    step_id
        Unique id.
    up
        Frames of the universe, under one key.
    config
        Which specialists, what horizon, how they learn.
    """
    return op.stateful_batch("state", up, noted(lambda resume: _SpecialistsLogic(config, resume)))
