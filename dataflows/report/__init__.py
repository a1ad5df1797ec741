"""One self-contained HTML page about a run."""

from dataflows.report.page import build_report

__all__ = ["build_report"]
