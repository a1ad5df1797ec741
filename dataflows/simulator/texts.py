"""Words of the news items and posts: clearly good, clearly bad, or neither, in the language of finance."""

from __future__ import annotations

from typing import Final

__all__ = ["AUTHORS", "BODIES", "BOT_TEXT", "HEADLINES", "PLATFORMS", "POSTS", "SOURCES"]

SOURCES: Final = ("Harbour Wire", "Ledger Daily", "Northgate Press", "Meridian News")
PLATFORMS: Final = ("chirper", "tradetalk", "boards")
AUTHORS: Final = tuple(f"user{number:03d}" for number in range(200))

HEADLINES: Final[dict[int, tuple[str, ...]]] = {
    1: (
        "{name} beats estimates and raises full-year guidance",
        "{name} surges on record profit and strong demand",
        "Analysts upgrade {name} to buy after excellent results",
        "{name} wins major contract, shares rally to a new high",
        "{name} announces dividend increase and share buyback",
        "{name} posts robust growth, outperforms rivals",
    ),
    0: (
        "{name} schedules annual meeting of shareholders",
        "{name} to present at industry conference",
        "{name} files its quarterly report",
        "{name} appoints member of the board",
        "{name} publishes agenda of investor day",
        "{name} moves head office to a building nearby",
    ),
    -1: (
        "{name} misses estimates and cuts full-year guidance",
        "{name} plunges on weak demand and heavy losses",
        "Analysts downgrade {name} to sell after poor results",
        "{name} faces fraud investigation, shares tumble",
        "{name} warns of bankruptcy risk as debt defaults loom",
        "{name} slumps on lawsuit and product recall",
    ),
}

BODIES: Final[dict[int, tuple[str, ...]]] = {
    1: (
        "Profit rose well above expectations and the outlook was improved.",
        "Strong gains in all regions; management is confident and optimistic.",
    ),
    0: (
        "The date and the agenda are on the company's site.",
        "The company gave no further details.",
    ),
    -1: (
        "Losses widened far beyond expectations and the outlook was cut.",
        "Weakness in all regions; management is worried and pessimistic.",
    ),
}

POSTS: Final[dict[int, tuple[str, ...]]] = {
    1: (
        "${name} looks strong, great numbers, buying more",
        "bullish on ${name}, breakout and excellent growth",
        "love this rally in ${name}, upgrade was deserved",
        "${name} crushing it, record profit, huge win",
    ),
    0: (
        "${name} reports on Thursday",
        "anyone else watching ${name} today?",
        "what is the ticker size of ${name}",
        "${name} chart for the week, levels in the thread",
    ),
    -1: (
        "${name} looks terrible, awful numbers, selling all of it",
        "bearish on ${name}, breakdown and weak demand",
        "hate this crash in ${name}, downgrade was deserved",
        "${name} in trouble, heavy losses, fraud risk",
    ),
}

BOT_TEXT: Final = "${name} best stock ever, huge gains guaranteed, buy now"
