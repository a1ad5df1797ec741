"""The plots of the generated pages, drawn from a synthetic day that ran through the graph."""
