"""Trade flow: the quote behind each trade, who was the aggressor, and what the trades of the last while say."""

from operators.flow.config import FlowConfig
from operators.flow.events import TradeEvents, TradeEventStage
from operators.flow.group import FlowGroup

__all__ = ["FlowConfig", "FlowGroup", "TradeEventStage", "TradeEvents"]
