"""Every question that the report asks the database, over the deduplicated views.

All results are bounded: totals and groups are computed in ClickHouse, series are thinned there, and
free text is cut there before it is fetched. Text in the answers is bytes; see `dataflows.report.text`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sinks.store import Store

__all__ = ["Queries", "Row", "Series"]

_TEXT: Final = 2_000
"""Bytes of a free text that are fetched: more than any page shows of it."""
_PAIRS: Final = 32
"""Inputs and thresholds of a signal that are fetched."""
_GROUPS: Final = 200
"""Groups of refused or late records that are fetched; the vocabulary of reasons is smaller."""
_NS: Final = "toUnixTimestamp64Nano"
_OF_INSTRUMENT: Final = (
    "WHERE run_id = {run:String} AND interval_ns = {interval:Int64} AND instrument_id = {instrument:String}"
)
_SIGNAL: Final = f"""signal_id, instrument_id, {_NS}(ts) AS ts, strategy, toString(direction) AS direction,
    toString(intent) AS intent, confidence, price, substring(reason, 1, {_TEXT}) AS reason,
    arraySlice(mapKeys(inputs), 1, {_PAIRS}) AS input_names, arraySlice(mapValues(inputs), 1, {_PAIRS}) AS input_values,
    arraySlice(mapKeys(thresholds), 1, {_PAIRS}) AS threshold_names,
    arraySlice(mapValues(thresholds), 1, {_PAIRS}) AS threshold_values"""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one plotted line, in order of time; NaN breaks the line.

    Parameters
    ----------
    ts
        Decision times, ns, shape `(n,)`.
    values
        Values, shape `(n,)`.
    """

    ts: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Queries:
    """The questions, asked of one store about one run.

    Parameters
    ----------
    store
        The open database.
    run_id
        The run.
    """

    store: Store
    run_id: str

    def _table(self, sql: str, **parameters: Any) -> pa.Table:
        found = self.store.connection.arrow(sql, {"run": self.run_id, **parameters})
        return found.cast(pa.schema([pa.field(field.name, _as_bytes(field.type)) for field in found.schema]))

    def _records(self, sql: str, **parameters: Any) -> list[Row]:
        rows: list[Row] = self._table(sql, **parameters).to_pylist()
        return rows

    def intervals(self) -> list[int]:
        """Return the bar lengths that the run has rows of, ns."""
        sql = """SELECT DISTINCT interval_ns FROM
            (SELECT interval_ns FROM bars WHERE run_id = {run:String}
             UNION ALL SELECT interval_ns FROM features WHERE run_id = {run:String}) ORDER BY interval_ns"""
        return [int(row["interval_ns"]) for row in self._records(sql)]

    def span(self) -> tuple[int, int] | None:
        """Return the first and last decision time of the run, ns, or None where it decided nothing."""
        parts = " UNION ALL ".join(
            f"SELECT min({_NS}(ts)) AS low, max({_NS}(ts)) AS high, count() AS n FROM {table} "
            "WHERE run_id = {run:String}"
            for table in ("bars", "features", "signals")
        )
        sql = f"SELECT minIf(low, n > 0) AS low, maxIf(high, n > 0) AS high, sum(n) AS total FROM ({parts})"
        row = self._records(sql)[0]
        return (int(row["low"]), int(row["high"])) if row["total"] else None

    def instrument_total(self) -> int:
        """Return how many instruments have a bar, a feature row or a signal."""
        parts = " UNION ALL ".join(
            f"SELECT DISTINCT instrument_id FROM {table} WHERE run_id = {{run:String}}"
            for table in ("bars", "features", "signals")
        )
        return int(self._records(f"SELECT uniqExact(instrument_id) AS n FROM ({parts})")[0]["n"])

    def busiest_instruments(self, interval_ns: int, limit: int) -> list[Row]:
        """Return the instruments with most signals, then most bars: `instrument_id`, `signals`, `bars`."""
        sql = """SELECT instrument_id, sum(s) AS signals, sum(b) AS bars FROM
            (SELECT instrument_id, count() AS s, 0 AS b FROM signals WHERE run_id = {run:String} GROUP BY instrument_id
             UNION ALL
             SELECT instrument_id, 0 AS s, count() AS b FROM bars
             WHERE run_id = {run:String} AND interval_ns = {interval:Int64} GROUP BY instrument_id)
            GROUP BY instrument_id ORDER BY signals DESC, bars DESC, instrument_id LIMIT {limit:UInt32}"""
        return self._records(sql, interval=interval_ns, limit=limit)

    def candles(self, interval_ns: int, instrument: str) -> pa.Table:
        """Return every bar of an instrument: `ts`, `open`, `high`, `low`, `close`. Ask for few bars only."""
        sql = f"""SELECT {_NS}(ts) AS ts, open, high, low, close FROM bars {_OF_INSTRUMENT} ORDER BY ts"""
        return self._table(sql, interval=interval_ns, instrument=instrument)

    def series(
        self, table: str, columns: Sequence[str], interval_ns: int, instrument: str, points: int
    ) -> dict[str, Series]:
        """Return columns of an instrument over time, each at most `points` long.

        Where there are more rows, the time is cut into `points / 2` equal buckets, and of each bucket its
        least and its greatest value are kept with their times: peaks survive, the middle does not.

        Parameters
        ----------
        table
            `bars` or `features`.
        columns
            Columns of it, known to exist.
        interval_ns
            Length of the bars.
        instrument
            The instrument.
        points
            Most points of a series.
        """
        where = f"FROM {table} {_OF_INSTRUMENT}"
        given = {"interval": interval_ns, "instrument": instrument}
        extent = f"SELECT count() AS n, min({_NS}(ts)) AS low, max({_NS}(ts)) AS high {where}"
        bounds = self._records(extent, **given)[0]
        if not columns or not bounds["n"]:
            return {}
        rows = f"SELECT {_NS}(ts) AS t{_columns_sql(columns)} {where}"
        if bounds["n"] <= points:
            found = self._table(f"{rows} ORDER BY t", **given)
            ts = _integers(found, "t")
            return {column: Series(ts, _floats(found, f"c{position}")) for position, column in enumerate(columns)}
        width = -(-(bounds["high"] - bounds["low"] + 1) // (points // 2))
        found = self._table(_extremes_sql(rows, len(columns)), low=bounds["low"], width=width, **given)
        return {column: _extremes(found, f"c{position}") for position, column in enumerate(columns)}

    def signals_of(self, instrument: str, limit: int) -> tuple[list[Row], int]:
        """Return signals of an instrument, every k-th where there are more than `limit`, and k."""
        where = "FROM signals WHERE run_id = {run:String} AND instrument_id = {instrument:String}"
        total = int(self._records(f"SELECT count() AS n {where}", instrument=instrument)[0]["n"])
        step = max(1, -(-total // limit))
        sql = f"""SELECT {_SIGNAL} FROM (SELECT *, rowNumberInAllBlocks() AS position FROM
            (SELECT * {where} ORDER BY ts, strategy, signal_id)) WHERE position % {{step:UInt64}} = 0
            ORDER BY ts, strategy, signal_id"""
        return self._records(sql, instrument=instrument, step=step), step

    def latest_signals(self, limit: int) -> list[Row]:
        """Return the latest signals, the latest first."""
        sql = f"""SELECT {_SIGNAL} FROM (SELECT * FROM signals WHERE run_id = {{run:String}}
            ORDER BY ts DESC, strategy, instrument_id, signal_id LIMIT {{limit:UInt32}})
            ORDER BY ts DESC, strategy, instrument_id, signal_id"""
        return self._records(sql, limit=limit)

    def strategies(self, limit: int) -> list[Row]:
        """Return the strategies with their counts of signals, the busiest first."""
        sql = f"""SELECT strategy, count() AS signals, uniqExact(instrument_id) AS instruments,
            countIf(intent = 'enter' AND direction = 'long') AS enter_long,
            countIf(intent = 'enter' AND direction = 'short') AS enter_short,
            countIf(intent = 'exit') AS exits, countIf(intent = 'reduce') AS reductions,
            avg(confidence) AS mean_confidence, min({_NS}(ts)) AS first_ts, max({_NS}(ts)) AS last_ts
            FROM signals WHERE run_id = {{run:String}} GROUP BY strategy
            ORDER BY signals DESC, strategy LIMIT {{limit:UInt32}}"""
        return self._records(sql, limit=limit)

    def signals_over_time(self, strategies: Sequence[str], low: int, width: int) -> list[Row]:
        """Return signals by `strategy` and `bucket` of time: `n`, counted from `low` in steps of `width` ns."""
        sql = f"""SELECT strategy, intDiv({_NS}(ts) - {{low:Int64}}, {{width:Int64}}) AS bucket, count() AS n
            FROM signals WHERE run_id = {{run:String}} AND strategy IN {{strategies:Array(String)}}
            GROUP BY strategy, bucket ORDER BY strategy, bucket"""
        return self._records(sql, strategies=list(strategies), low=low, width=width)

    def feature_sample(self, features: Sequence[str], interval_ns: int, instrument: str, rows: int) -> pa.Table:
        """Return about `rows` feature rows of an instrument, chosen by a hash of their time: `t`, `c0`, `c1`, ..."""
        given = {"interval": interval_ns, "instrument": instrument}
        total = int(self._records(f"SELECT count() AS n FROM features {_OF_INSTRUMENT}", **given)[0]["n"])
        sql = f"""SELECT {_NS}(ts) AS t{_columns_sql(features)} FROM features {_OF_INSTRUMENT}
            AND sipHash64({_NS}(ts)) % {{step:UInt64}} = 0"""
        return self._table(sql, step=max(1, -(-total // rows)), **given)

    def rows_of_busiest(self, interval_ns: int) -> int:
        """Return the feature rows of the instrument that has most of them."""
        sql = """SELECT max(n) AS n FROM (SELECT count() AS n FROM features
            WHERE run_id = {run:String} AND interval_ns = {interval:Int64} GROUP BY instrument_id)"""
        return int(self._records(sql, interval=interval_ns)[0]["n"])

    def feature_span(self, interval_ns: int) -> tuple[int, int] | None:
        """Return the first and last time of the feature rows of a bar length, ns."""
        sql = f"""SELECT count() AS n, min({_NS}(ts)) AS low, max({_NS}(ts)) AS high FROM features
            WHERE run_id = {{run:String}} AND interval_ns = {{interval:Int64}}"""
        row = self._records(sql, interval=interval_ns)[0]
        return (int(row["low"]), int(row["high"])) if row["n"] else None

    def missing_codes(self, interval_ns: int) -> list[Row]:
        """Return rows of features by `position` in the set, from 1, and `code`: `n`."""
        sql = """SELECT position, code, count() AS n FROM features
            ARRAY JOIN missing AS code, arrayEnumerate(missing) AS position
            WHERE run_id = {run:String} AND interval_ns = {interval:Int64}
            GROUP BY position, code ORDER BY position, code"""
        return self._records(sql, interval=interval_ns)

    def refused(self) -> list[Row]:
        """Return stored dead letters by `topic` and `reason`: `n`."""
        return self._records(
            "SELECT topic, reason, count() AS n FROM dead_letters WHERE run_id = {run:String} "
            f"GROUP BY topic, reason ORDER BY n DESC, topic, reason LIMIT {_GROUPS}"
        )

    def refused_examples(self, limit: int, payload: int) -> list[Row]:
        """Return dead letters with the start of their payload: of each topic and reason one, then two, then three."""
        sql = f"""SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY topic, reason ORDER BY partition, offset)
            AS turn FROM (SELECT topic, partition, offset, {_NS}(ts_recv) AS ts_recv, instrument_id, reason,
            substring(detail, 1, {_TEXT}) AS detail, substring(payload, 1, {{payload:UInt32}}) AS payload,
            length(d.payload) AS size FROM dead_letters AS d WHERE run_id = {{run:String}}
            ORDER BY topic, reason, partition, offset LIMIT 3 BY topic, reason)
            ORDER BY turn, topic, reason LIMIT {{limit:UInt32}}) ORDER BY topic, reason, turn"""
        return self._records(sql, limit=limit, payload=payload)

    def late(self) -> list[Row]:
        """Return late events by `topic`, `reason` and `interval_ns`: `n` rows and their median `delay`, ns."""
        return self._records(
            f"SELECT topic, reason, interval_ns, count() AS n, toFloat64(quantileExact(0.5)({_NS}(ts_recv) - "
            f"{_NS}(ts_event))) AS delay FROM late_events WHERE run_id = {{run:String}} "
            f"GROUP BY topic, reason, interval_ns ORDER BY n DESC, topic, reason, interval_ns LIMIT {_GROUPS}"
        )

    def late_records(self) -> int:
        """Return how many records are in `late_events`, each once whatever bar lengths it missed."""
        sql = "SELECT uniqExact(topic, partition, offset) AS n FROM late_events WHERE run_id = {run:String}"
        return int(self._records(sql)[0]["n"])

    def late_examples(self, limit: int, payload: int) -> list[Row]:
        """Return late events, at most five of each topic and bar length, with the start of their payload."""
        sql = f"""SELECT topic, partition, offset, interval_ns, {_NS}(ts_event) AS ts_event, {_NS}(ts_recv) AS ts_recv,
            instrument_id, reason, substring(payload, 1, {{payload:UInt32}}) AS payload, length(e.payload) AS size
            FROM late_events AS e WHERE run_id = {{run:String}}
            ORDER BY topic, interval_ns, partition, offset LIMIT 5 BY topic, interval_ns LIMIT {{limit:UInt32}}"""
        return self._records(sql, limit=limit, payload=payload)


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """Return the type with text as bytes: a session may say that it is text, but it need not be UTF-8."""
    if pa.types.is_string(kind):
        return pa.binary()
    return pa.list_(_as_bytes(kind.value_type)) if pa.types.is_list(kind) else kind


def _columns_sql(columns: Sequence[str]) -> str:
    """Return columns as `c0`, `c1`, ... with NaN for null."""
    return "".join(
        f", CAST(ifNull(`{column}`, nan) AS Float64) AS c{position}" for position, column in enumerate(columns)
    )


def _extremes_sql(rows: str, columns: int) -> str:
    """Return the query for least and greatest value of each column in each bucket of time, with their times."""
    names = [f"c{position}" for position in range(columns)]
    extremes = ", ".join(
        f"countIf(isFinite({name})) AS {name}_n, minIf(({name}, t), isFinite({name})) AS {name}_low, "
        f"maxIf(({name}, t), isFinite({name})) AS {name}_high"
        for name in names
    )
    parts = ", ".join(
        f"{name}_n, {name}_low.1 AS {name}_v0, {name}_low.2 AS {name}_t0, {name}_high.1 AS {name}_v1, "
        f"{name}_high.2 AS {name}_t1"
        for name in names
    )
    return f"""SELECT first, {parts} FROM (SELECT intDiv(t - {{low:Int64}}, {{width:Int64}}) AS bucket,
        min(t) AS first, {extremes} FROM ({rows}) GROUP BY bucket) ORDER BY bucket"""


def _integers(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    return np.asarray(table.column(name).to_numpy(), dtype=np.int64)


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(), dtype=np.float64)


def _extremes(table: pa.Table, name: str) -> Series:
    """Return least and greatest value of each bucket in order of time; NaN where a bucket has no value."""
    empty = _integers(table, f"{name}_n") == 0
    ts = np.stack([_integers(table, f"{name}_t0"), _integers(table, f"{name}_t1")], axis=1)
    values = np.stack([_floats(table, f"{name}_v0"), _floats(table, f"{name}_v1")], axis=1)
    ts[empty] = _integers(table, "first")[empty, None]
    values[empty] = np.nan
    backwards = ts[:, 0] > ts[:, 1]
    ts[backwards] = ts[backwards, ::-1]
    values[backwards] = values[backwards, ::-1]
    keep = np.ones(ts.shape, dtype=bool)
    keep[:, 1] = ts[:, 0] != ts[:, 1]
    return Series(ts[keep], values[keep])
