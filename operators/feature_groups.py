"""The registry of feature groups, in the order of their columns in the feature vector, behind the bar features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from operators.book_group import BookGroup
from operators.events.earnings import EarningsGroup
from operators.events.options import OptionsGroup
from operators.flow import FlowGroup
from operators.sampled import FeatureGroup
from operators.shard_config import ShardConfig
from operators.text.group import TextGroup

__all__ = ["GROUPS", "make_groups"]

GROUPS: Final[dict[str, Callable[[ShardConfig], FeatureGroup]]] = {
    "book": lambda config: BookGroup(config.book, len(config.bars.intervals)),
    "flow": lambda config: FlowGroup(config.flow, len(config.bars.intervals)),
    "news": lambda config: TextGroup("news", config.news),
    "social": lambda config: TextGroup("social", config.social),
    "earnings": lambda config: EarningsGroup(config.earnings),
    "options": lambda config: OptionsGroup(config.options, len(config.bars.intervals)),
}
"""How each group is made from the configuration of a shard, by name."""


def make_groups(config: ShardConfig) -> dict[str, FeatureGroup]:
    """Return fresh groups that the configuration names, by name, in the order of the registry."""
    return {name: make(config) for name, make in GROUPS.items() if name in config.features.groups}
