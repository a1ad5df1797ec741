"""`python -m benchmarks.ablation`: what is lost without each specialist and each strategy, as a Markdown table.

A specialist is left out of the ensemble on a market in which every specialist has something to find. Without it the
ensemble's log loss rises by what it knows and the others do not. A strategy is alone in its planted market
(`benchmarks.planted`): without it nobody trades the effect, so that its mean return is its contribution. The same on a
market without the effect says what chance gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import ttest_1samp

from benchmarks.planted import PLANTED
from benchmarks.planted_universe import PLANTED_UNIVERSES
from benchmarks.specialist_market import market
from models.specialists import ENSEMBLE, SPECIALISTS
from operators.specialists import SpecialistState
from operators.specialists_config import SpecialistsConfig

__all__ = ["Ablation", "leave_out", "report"]

_STEPS: Final = 300
_INSTRUMENTS: Final = 40
_LEARNT: Final = 100
"""Frames before losses count: the ensemble has to learn its weights first."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """What leaving a specialist out of the ensemble costs.

    Parameters
    ----------
    complete, without
        Mean log loss of the ensemble of all, and of all others, nats.
    p_value
        Chance of such a rise where the specialist adds nothing: t-test of the frames' mean differences, one-sided.
    """

    complete: float
    without: float
    p_value: float

    @property
    def rise(self) -> float:
        """Return by how much the loss is higher without it, nats."""
        return self.without - self.complete


@cache
def _losses(enabled: tuple[str, ...], planted: tuple[str, ...], seed: int) -> pd.Series[float]:
    """Return the ensemble's loss of each outcome, by frame and instrument."""
    config = SpecialistsConfig.model_validate(
        {
            "enabled": enabled, "horizon": "1m", "tolerance": "0s",
            "learning": {"label_correlation": 0.0}, "ensemble": {"label_correlation": 0.0},
        }
    )  # fmt: skip
    state = SpecialistState(config)
    tables: list[pa.RecordBatch] = []
    for frame in market(seed, _STEPS, n=_INSTRUMENTS, planted=planted):
        tables += [rows.batch for rows in state.update(frame).rows if rows.table == "outcomes"]
    columns = ["model", "instrument_id", "ts", "loss"]
    outcomes = pd.DataFrame(
        [row for batch in tables for row in batch.select(columns).to_pylist()], columns=columns
    ).dropna()
    own = outcomes[outcomes["model"] == ENSEMBLE]
    losses: pd.Series[float] = own.set_index(["ts", "instrument_id"])["loss"]
    times = losses.index.get_level_values("ts")
    learnt: pd.Series[float] = losses[times >= times.unique()[_LEARNT]]
    return learnt


def leave_out(name: str, *, planted: tuple[str, ...] = tuple(SPECIALISTS), seed: int = 1) -> Ablation:
    """Return what the ensemble loses without a specialist.

    Parameters
    ----------
    name
        The specialist.
    planted
        Specialists that have something to find.
    seed
        Seed of the market.
    """
    every = tuple(SPECIALISTS)
    complete = _losses(every, planted, seed)
    without = _losses(tuple(each for each in every if each != name), planted, seed)
    both = pd.concat({"complete": complete, "without": without}, axis=1).dropna()
    rise = (both["without"] - both["complete"]).groupby(level="ts").mean()
    found = ttest_1samp(rise.to_numpy(), 0.0, alternative="greater")
    return Ablation(float(np.mean(both["complete"])), float(np.mean(both["without"])), float(found.pvalue))


def report() -> str:
    """Return both tables."""
    lines = [
        "| specialist | loss of the ensemble | without it | rise | p | rise where it has nothing to find |",
        "|---|---|---|---|---|---|",
    ]
    for name in SPECIALISTS:
        found = leave_out(name)
        idle = leave_out(name, planted=tuple(each for each in SPECIALISTS if each != name))
        lines.append(
            f"| {name} | {found.complete:.4f} | {found.without:.4f} | {found.rise:+.4f} | {found.p_value:.0e} "
            f"| {idle.rise:+.4f} |"
        )
    lines += [
        "",
        "| strategy | effect | entries | right | mean, bps | p | right without the effect | mean, bps | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, planted in (PLANTED | PLANTED_UNIVERSES).items():
        cells = [name, planted.effect]
        for skill in (planted.skill(planted=True), planted.skill(planted=False)):
            entries = [str(skill.entries)] if len(cells) == 2 else []
            right = f"{skill.right / max(skill.entries, 1):.0%}"
            cells += [*entries, right, f"{skill.mean_bps:+.2f}", f"{skill.p_value:.1g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
