"""Features across the instruments of a universe, one call for each of its frames."""

from __future__ import annotations

from operators.cross_section.config import CrossSectionConfig
from operators.cross_section.correlation import CorrelationMatrix
from operators.cross_section.state import CrossSection, CrossSectionState, cross_section_set

__all__ = ["CorrelationMatrix", "CrossSection", "CrossSectionConfig", "CrossSectionState", "cross_section_set"]
