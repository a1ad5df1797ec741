"""Parameters of learning, the same for each specialist, and of the ensemble."""

from __future__ import annotations

from pydantic import Field

from schemas.config import ComponentConfig

__all__ = ["EnsembleConfig", "JudgementConfig", "LearningConfig"]


class JudgementConfig(ComponentConfig):
    """How predictions are calibrated and judged by their outcomes."""

    half_life: int = Field(
        5_000, ge=10, le=10_000_000,
        description="decision times with outcomes after which an outcome counts half; 5,000 minutes are some two weeks "
        "of sessions. Shorter follows a change sooner and estimates calibration less well",
    )  # fmt: skip
    label_correlation: float = Field(
        0.2, ge=0, le=1,
        description="correlation of outcomes at one time, as a market moves them together: `n` of them count as "
        "`n / (1 + (n - 1) * label_correlation)`",
    )  # fmt: skip
    prior_outcomes: float = Field(
        50.0, gt=0, le=1e6, description="outcomes' worth of trust in the uncalibrated probability"
    )
    convincing_outcomes: float = Field(
        200.0, gt=0, le=1e9, description="effective outcomes at which confidence reaches one half"
    )
    tolerated_error: float = Field(
        0.1, gt=0, le=1, description="expected calibration error at which confidence reaches zero"
    )


class LearningConfig(JudgementConfig):
    """How a specialist learns from matured outcomes."""

    learning_rate: float = Field(0.05, gt=0, le=10, description="step of AdaGrad")
    l2: float = Field(1e-4, ge=0, le=10, description="pull of the weights towards zero")
    max_deviations: float = Field(
        5.0, ge=1, le=100, description="standard deviations from the mean at which an input is held"
    )
    min_coverage: float = Field(0.5, gt=0, le=1, description="least share of a specialist's inputs for an answer")
    min_outcomes: float = Field(
        50.0, ge=0, le=1e9, description="effective outcomes before the first answer, by count, correlation and overlap"
    )


class EnsembleConfig(JudgementConfig):
    """How the answers of specialists are combined."""

    quorum: int = Field(2, ge=1, le=64, description="least number of answering specialists; below it, no answer")
    weight_floor: float = Field(
        0.05, gt=0, lt=1, description="share of the weight that is spread equally, whatever the skill"
    )
    skill_outcomes: float = Field(
        100.0, gt=0, le=1e9, description="effective outcomes' worth of doubt in a specialist's skill"
    )
