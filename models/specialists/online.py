"""A specialist that learns online: bounded inputs, logistic regression, calibration, and a record of both."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np

from models.specialists.base import CrossSection, NoAnswer, Outcomes, Predictions, Specialist
from models.specialists.calibration import PlattScaling, Reliability, effective_weight, logistic
from models.specialists.config import LearningConfig
from models.specialists.inputs import FloatArray, ModelInput, row_sums
from models.specialists.regression import OnlineLogisticRegression
from schemas.errors import VersionError
from schemas.features import content_hash

__all__ = ["OnlineSpecialist", "features_of"]

_VERSION: Final = 1


def features_of(inputs: tuple[ModelInput, ...]) -> tuple[str, ...]:
    """Return the features that inputs are computed from, each once, in order of first use."""
    return tuple(dict.fromkeys(name for item in inputs for name in item.reads))


class OnlineSpecialist(Specialist):
    r"""Base of the specialists that learn from matured outcomes, one moment after the other.

    A subclass says what it reads: `inputs`, the `required` ones among them, and the `needs` that follow. An
    instrument is answered for where all required inputs and at least `min_inputs` are present. The
    confidence of an answer is

    $$ \frac{\text{inputs present}}{\text{inputs}} \cdot \frac{W}{W + W_0} \cdot
    \max\Big(0, 1 - \frac{\mathrm{ECE}}{e_0}\Big) $$

    with the effective number of outcomes $W$ and the calibration error of its own past estimates.

    Notes
    -----
    One model serves all instruments. Every estimate is judged and calibrated by outcomes after it alone, as its
    score was made before the outcome was learnt. An outcome counts by the overlap of horizons and the assumed
    correlation of instruments (`effective_weight`), so that a day on which the market rose as a whole does not
    pass for hundreds of confirmations. About 0.1 ms a call of `predict` and 1 ms a call of `learn`.
    """

    inputs: ClassVar[tuple[ModelInput, ...]]
    """what the model reads, in order"""
    required: ClassVar[tuple[str, ...]] = ()
    """names of the inputs without which there is no answer"""
    min_inputs: ClassVar[int | None] = None
    """inputs that suffice for an answer, where evidence comes in parts; None for the share `min_coverage`"""

    def __init__(self, config: LearningConfig, *, horizon_ns: int) -> None:
        super().__init__(config, horizon_ns=horizon_ns)
        decay = 0.5 ** (1.0 / config.half_life)
        self._regression = OnlineLogisticRegression(
            self.input_names,
            learning_rate=config.learning_rate,
            l2=config.l2,
            max_deviations=config.max_deviations,
        )
        self.calibration = PlattScaling(decay=decay, prior=config.prior_outcomes)
        self.reliability = Reliability(decay=decay)
        self._required = [self.input_names.index(name) for name in self.required]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(item.name for item in self.inputs)

    @property
    def input_set(self) -> str:
        """Content hash of the inputs: features, transforms and order."""
        return content_hash([item.content() for item in self.inputs])

    @property
    def version(self) -> str:
        """Content hash of name, inputs, parameters and horizon."""
        return content_hash(
            [
                _VERSION,
                self.name,
                self.input_set,
                list(self.required),
                self.min_inputs,
                self.config.content(),
                self.horizon_ns,
            ]
        )

    def predict(self, section: CrossSection) -> Predictions:
        """Answer for each instrument. Changes nothing."""
        inputs = self._extract(section)
        present = np.isfinite(inputs)
        coverage = present.mean(axis=1)
        enough = self.config.min_coverage * len(self.inputs) if self.min_inputs is None else self.min_inputs
        usable = (present.sum(axis=1) >= enough) & present[:, self._required].all(axis=1)
        contributions = self._regression.contributions(inputs)
        score = np.where(usable, row_sums(contributions), np.nan)
        calibrated = self.calibration.scaled(score)
        reliability = self.reliability.confidence(
            convincing=self.config.convincing_outcomes, tolerated=self.config.tolerated_error
        )
        warm = self.reliability.n_effective >= self.config.min_outcomes and self.reliability.n_effective > 0
        answer = NoAnswer.ANSWERED if warm else NoAnswer.WARMING_UP
        return Predictions(
            inputs=inputs,
            score=score,
            estimate=logistic(calibrated),
            confidence=np.where(usable, coverage * reliability, np.nan),
            reason=np.where(usable, np.uint8(answer), np.uint8(NoAnswer.NO_INPUT)),
            log_odds=calibrated,
            contributions=self.calibration.slope * contributions,
            intercept=self.calibration.intercept,
        )

    def _extract(self, section: CrossSection) -> FloatArray:
        absent = np.full(section.n_rows, np.nan)
        columns = {name: section.columns.get(name, absent) for name in self.needs}
        return np.stack([item.compute(columns) for item in self.inputs], axis=1)

    def learn(self, outcomes: Outcomes) -> None:
        """Take the outcomes that matured at one decision time."""
        if not len(outcomes):
            return
        overlap = max(1.0, self.horizon_ns / outcomes.interval_ns)
        weight = effective_weight(len(outcomes), self.config.label_correlation, overlap)
        self.reliability.update(outcomes.estimate, outcomes.label, weight)
        self.calibration.update(outcomes.score, outcomes.label, weight)
        self._regression.learn(outcomes.inputs, outcomes.label)

    def snapshot(self) -> dict[str, Any]:
        """Return what was learnt as plain values, copied."""
        return {
            "version": self.version,
            "regression": self._regression.snapshot(),
            "calibration": self.calibration.snapshot(),
            "reliability": self.reliability.snapshot(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            It is of another specialist, other inputs or other parameters.
        """
        if snapshot["version"] != self.version:
            raise VersionError(
                f"specialist `{self.name}`: expected a snapshot of version {self.version}, found "
                f"{snapshot['version']}; resume with the configuration that wrote it, or start a new run"
            )
        self._regression.restore(snapshot["regression"])
        self.calibration.restore(snapshot["calibration"])
        self.reliability.restore(snapshot["reliability"])
