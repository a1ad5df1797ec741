"""Parameters of the features across instruments."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.config import ComponentConfig

__all__ = ["CrossSectionConfig"]


class CrossSectionConfig(ComponentConfig):
    """Features across the instruments of a universe. A frame is one decision time with enough of them."""

    weighting: Literal["equal", "notional"] = Field(
        "equal", description="how instruments are weighted in the market's and a sector's return"
    )
    notional_half_life: int = Field(
        60, ge=1, le=100_000, description="a bar's share of the weight by notional halves, frames"
    )
    half_life: int = Field(
        120, ge=1, le=100_000, description="a return's share of betas and correlations to market and sector halves, "
        "returns of the instrument",
    )  # fmt: skip
    min_overlap: int = Field(
        30, ge=3, le=100_000, description="least returns that two series have in common before they are compared"
    )
    min_instruments: int = Field(
        10, ge=2, le=100_000, description="least instruments with a value before they are ranked or averaged"
    )
    min_sector_instruments: int = Field(3, ge=2, le=100_000, description="least instruments of a sector with a return")
    sectors: dict[str, str] = Field(
        default_factory=dict, description="sector of each instrument; without one it has no features of its sector"
    )
    max_abs_return: float = Field(
        0.5, gt=0, le=10, description="a log return beyond it is taken for a split or a fault and not used"
    )
    min_deviation: float = Field(
        1e-10,
        gt=0,
        le=0.01,
        description="least standard deviation of log returns; below it a series counts as constant",
    )
    average_span: int = Field(
        20, ge=2, le=100_000, description="span of the moving average that closes are compared with, frames"
    )
    ranked: Annotated[tuple[str, ...], Field(max_length=64)] = Field(
        ("bar_return",), description="features that are ranked: carried ones, or `bar_return`"
    )
    max_correlated: int = Field(
        100, ge=2, le=1_000, description="instruments in the correlation matrix, the greatest by decayed notional; its "
        "cost grows with the square",
    )  # fmt: skip
    window: int = Field(250, ge=10, le=10_000, description="frames that the correlation matrix is made from")
    correlate_every: int = Field(5, ge=1, le=100_000, description="frames between two estimates of the matrix")
    select_every: int = Field(60, ge=1, le=100_000, description="frames between two choices of its instruments")
    shrinkage: Literal["constant_correlation", "identity"] = Field(
        "constant_correlation", description="what the covariance matrix is shrunk towards"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.min_overlap > self.window:
            raise ValueError(f"expected `min_overlap` up to `window`, was {self.min_overlap} and {self.window}")
        if len(set(self.ranked)) != len(self.ranked):
            raise ValueError(f"expected distinct names in `ranked`, was {list(self.ranked)}")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """Features that frames must carry."""
        return tuple(name for name in self.ranked if name != "bar_return")
