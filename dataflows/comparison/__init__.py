"""Which rows differ between two runs, and why, where that is known."""

from dataflows.comparison.compare import compare_runs
from dataflows.comparison.result import Cause, Comparison, RowDifference, TableDifference
from dataflows.comparison.sides import RunFacts, RunReference

__all__ = ["Cause", "Comparison", "RowDifference", "RunFacts", "RunReference", "TableDifference", "compare_runs"]
