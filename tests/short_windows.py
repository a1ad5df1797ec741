"""Sections of a configuration whose windows are so short that a small market fills every table."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ACROSS", "EVENT_BARS", "STRATEGIES"]

EVENT_BARS: Final[dict[str, Any]] = {"ticks": [3], "volumes": [5.0], "notionals": [1e4], "imbalances": [4]}
STRATEGIES: Final[dict[str, Any]] = {
    "enabled": ["mean_reversion", "breakout", "microstructure_alpha", "news_analytics"],
    "mean_reversion": {"interval": "1s", "entry_zscore": 1.5},
    "breakout": {"interval": "1s", "min_relative_volume": 0.5},
    "microstructure_alpha": {"entry_zscore": 1.0, "cooldown": "0s"},
    "news_analytics": {"interval": "1s", "entry_level": 0.2, "half_life": "5s", "coalesce": "1s"},
}
ACROSS: Final[dict[str, Any]] = {
    "universe": {"members": {"interval": "1s", "live_within": "5s", "min_coverage": 0.3}},
    "specialists": {
        "horizon": "2s", "tolerance": "2s", "cost_band_bps": 0.1,
        "learning": {"min_outcomes": 2.0, "min_coverage": 0.2}, "ensemble": {"quorum": 1},
    },
    "drift": {"min_instances": 30, "threshold": 2.0, "allowance": 0.1, "cooldown": "1s"},
}  # fmt: skip
