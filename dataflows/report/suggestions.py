"""Queries that an analyst may start from, for the run of the report."""

from __future__ import annotations

from dataflows.report.text import sql_text

__all__ = ["suggested_queries"]


def suggested_queries(run_id: str, interval: int) -> list[dict[str, str]]:
    """Return three queries that an analyst may start from."""
    run = sql_text(run_id)
    return [
        {
            "title": "Why were the latest signals given?",
            "sql": "SELECT ts, instrument_id, strategy, intent, direction, confidence, reason, inputs, thresholds\n"
            f"FROM signals\nWHERE run_id = {run}\nORDER BY ts DESC\nLIMIT 20",
        },
        {
            "title": "Where was the price five minutes after each entry? (before costs; not a backtest of orders)",
            "sql": "SELECT s.strategy AS strategy, count() AS entries, uniqExact(s.instrument_id) AS instruments,\n"
            "    avg(if(s.direction = 'long', 1, -1) * (b.close / s.price - 1)) * 1e4 AS mean_move_bps\n"
            "FROM (SELECT *, ts + INTERVAL 5 MINUTE AS later FROM signals\n"
            f"    WHERE run_id = {run} AND intent = 'enter') AS s\n"
            f"ASOF JOIN (SELECT * FROM bars WHERE run_id = {run} AND interval_ns = {interval}) AS b\n"
            "    ON b.instrument_id = s.instrument_id AND b.ts >= s.later\n"
            "GROUP BY strategy\nORDER BY entries DESC",
        },
        {
            "title": "Which features were missing, and why?",
            "sql": "SELECT feature, rows, missing, warming_up, no_input, degenerate, stale, out_of_sync\n"
            f"FROM feature_coverage\nWHERE run_id = {run} AND interval_ns = {interval}\nORDER BY missing DESC",
        },
    ]
