"""What a decision time brings of specialists: answers and outcomes as arrays, rows, and streams for drift monitors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.specialists.base import NoAnswer, Predictions
from models.specialists.calibration import log_loss
from models.specialists.ensemble import EnsemblePredictions
from operators.arrival import Rows
from operators.columns import FloatArray
from operators.pending import Matured
from operators.specialist_rows import Explanations, ModelName, outcome_rows, prediction_rows
from schemas.enums import OutcomeLabel

__all__ = ["Monitored", "SpecialistFrame"]


@dataclass(frozen=True, slots=True)
class Monitored:
    """Values of one stream of one model at one decision time, for drift monitors.

    Parameters
    ----------
    model, model_version
        The model.
    stream
        `score`: probabilities answered; `error`: log-losses of outcomes that matured; `input:NAME`: mean of an input
        over the instruments that have it.
    ts
        Decision time, ns.
    values
        In alphabetical order of instruments, errors by time of the prediction first; finite, shape `(n,)`, `n` at
        least 1.
    """

    model: str
    model_version: str
    stream: str
    ts: int
    values: FloatArray


@dataclass(frozen=True, slots=True)
class SpecialistFrame:
    """What a decision time brought. It is filled while it is made, and not changed after.

    Parameters
    ----------
    ts, interval_ns
        Decision time and length of the bars, ns.
    instruments
        Instruments with a usable close, in alphabetical order.
    probability
        Model to its answers, shape `(n,)`; NaN where it has none.
    rows
        Rows of `predictions` and `outcomes`.
    monitored
        Streams for drift monitors.
    counts
        (Model, `NoAnswer` in lower case) to instruments without its answer; and under the model `outcomes`, what
        matured by `OutcomeLabel` in lower case, and predictions `not_followed` because the queue was full.
    """

    ts: int
    interval_ns: int
    instruments: tuple[str, ...]
    probability: dict[str, FloatArray] = field(default_factory=dict)
    rows: list[Rows] = field(default_factory=list)
    monitored: list[Monitored] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count_unanswered(self, model: str, reason: npt.NDArray[np.uint8]) -> None:
        """Count instruments by why a model has no answer, from `NoAnswer` codes of shape `(n,)`."""
        for code in NoAnswer:
            number = int(np.count_nonzero(reason == code))
            if number and code is not NoAnswer.ANSWERED:
                self.counts[model, code.name.lower()] += number

    def add_inputs(self, name: ModelName, input_names: tuple[str, ...], inputs: FloatArray) -> None:
        """Add the mean of each input, of shape `(n, k)`, over the instruments that have it."""
        present = np.isfinite(inputs)
        n_present = np.count_nonzero(present, axis=0)
        totals = np.where(present, inputs, 0.0).sum(axis=0)
        for index in np.flatnonzero(n_present).tolist():
            mean = totals[index : index + 1] / n_present[index]
            self.monitored.append(Monitored(name.model, name.version, f"input:{input_names[index]}", self.ts, mean))

    def add_answers(
        self, name: ModelName, predictions: Predictions | EnsemblePredictions, explained: Explanations
    ) -> None:
        """Add the answers of one model about `instruments`."""
        probability = predictions.probability
        self.probability[name.model] = probability
        self.count_unanswered(name.model, predictions.reason)
        answered = np.flatnonzero(np.isfinite(probability))
        if not len(answered):
            return
        numbers = {
            "probability": probability[answered],
            "confidence": predictions.confidence[answered],
            "score": predictions.score[answered],
        }
        keys, values = explained
        instruments = [self.instruments[row] for row in answered.tolist()]
        self.rows.append(
            prediction_rows(name, instruments, self.interval_ns, self.ts, numbers, (keys[answered], values[answered]))
        )
        self.monitored.append(Monitored(name.model, name.version, "score", self.ts, probability[answered]))

    def add_outcomes(
        self,
        name: ModelName,
        matured: Matured,
        probability: FloatArray,
        label: npt.NDArray[np.int8],
        returns: FloatArray,
    ) -> None:
        """Add what became of one model's answers.

        Parameters
        ----------
        name
            The model.
        matured
            Predictions whose waiting is over, `m` of them.
        probability
            Its answers, NaN where it had none, shape `(m,)`.
        label
            An `OutcomeLabel` code, shape `(m,)`.
        returns
            Return over the horizon, NaN where there is none, shape `(m,)`.
        """
        answered = np.flatnonzero(np.isfinite(probability))
        if not len(answered):
            return
        probability, label = probability[answered], label[answered]
        decided = np.abs(label) == 1
        loss = np.where(decided, log_loss(probability, np.where(label == OutcomeLabel.RISE, 1.0, 0.0)), np.nan)
        numbers = {"horizon_return": returns[answered], "probability": probability, "loss": loss}
        instruments = [matured.instruments[row] for row in answered.tolist()]
        self.rows.append(outcome_rows(name, instruments, matured.ts[answered], self.ts, label, numbers))
        if decided.any():
            self.monitored.append(Monitored(name.model, name.version, "error", self.ts, loss[decided]))
