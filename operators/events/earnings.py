"""Features of earnings reports, sampled at decision times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from operators.columns import CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.events.config import EarningsConfig
from operators.events.keys import text_keys
from operators.events.reports import N_FEATURES, NEVER, Parameters, Reports, walk
from operators.events.sessions import SessionTable, session_table
from operators.sampled import DecisionColumns, FeatureGroup, FrameInputs, InstrumentRows
from operators.state import Column, InstrumentState
from operators.text.sparse import SparseState
from schemas.batches import floats, times
from schemas.enums import Missing
from schemas.errors import InvariantError
from schemas.features import FeatureSpec
from schemas.time import duration_ns

__all__ = ["EarningsGroup"]

_NAN: Final = float("nan")
_LIVNAT: Final = "Livnat and Mendenhall (2006), Comparing the post-earnings announcement drift for surprises"
_BERNARD: Final = "Bernard and Thomas (1989), Post-earnings-announcement drift"
_BARBER: Final = "Barber et al. (2013), The earnings announcement premium around the globe"
_LATEST_NS: Final = 2**62


class _PriceState(InstrumentState):
    """The last price of every instrument."""

    def __init__(self) -> None:
        super().__init__({"price": Column("f8", fill=_NAN)}, version=1)

    @property
    def price(self) -> FloatArray:
        """Last price, shape `(codes,)`; NaN before the first."""
        price: FloatArray = self._state["price"]
        return price


class _ReportState(SparseState):
    """The reports of the instruments that have any."""

    def __init__(self, config: EarningsConfig) -> None:
        k, r = (config.max_reports,), (config.n_reports,)
        columns = {
            "key": Column("i8", shape=k),
            "used": Column("u1", shape=k),
            "due": Column("i8", shape=k),
            "happened": Column("u1", shape=k),
            "first_estimate": Column("f8", _NAN, k),
            "estimate": Column("f8", _NAN, k),
            "base": Column("f8", _NAN, k),
            "past_key": Column("i8", shape=r),
            "past_estimate": Column("f8", _NAN, r),
            "past_price": Column("f8", _NAN, r),
            "surprise": Column("f8", _NAN, (*r, 2)),
            "past_missing": Column("u1", Missing.NO_INPUT, (*r, 2)),
            "n_past": Column("i8"),
            "ts_figures": Column("i8", NEVER),
            "ts_report": Column("i8", NEVER),
            "report_price": Column("f8", _NAN),
            "last_ts": Column("i8", NEVER),
            "wake": Column("i8", 2**63 - 1),
            "dropped": Column("i8"),
        }
        super().__init__(columns, version=1)

    @property
    def arrays(self) -> Reports:
        """The arrays; valid until the next newcomer."""
        return Reports(*(self._state[name] for name in Reports._fields))

    @property
    def rows(self) -> CodeArray:
        """Row of each instrument, -1 without reports."""
        return self._slots


class EarningsGroup(FeatureGroup):
    r"""What is known of an instrument's earnings: surprises, the next report, and the drift before and after.

    With the consensus $E$ that was known before the figures arrived, the figure $A$ and the last price $P$ before it,
    the surprise is $(A - E) / |E|$, and as a yield $(A - E) / P$. A figure counts once its record has arrived,
    whatever time it says; a later record of the same id corrects it.

    A report *happens* when it was due, or when its figures arrive if that is earlier. The drift is the change of the
    logarithm of the last price since then, and before a report since the window began (`window` before it is due);
    where we heard of the report later than that, since we heard of it. "The price then" is the last trade before, or
    the first after where there was none.

    Parameters
    ----------
    config
        Window, number of reports, and when a value is stale.
    sessions
        Sessions that are counted; those of `config.calendar` where not given.

    Notes
    -----
    Numbers that are not finite count as missing, prices that are not positive as no trade; nothing is kept of
    either. Without any report all features are `NO_INPUT`. A surprise is `NO_INPUT` without an estimate, and
    `DEGENERATE` where the estimate is below `min_estimate`; it and the drift after a report are `STALE` after
    `max_age`. Features of the next report are `NO_INPUT` where none is announced; outside the window the drift
    before it is `DEGENERATE`. Sessions are `NO_INPUT` outside the calendar.

    A calendar that only knows days makes a report happen at the end of its day, and one that is wrong makes it happen
    although it did not: the figures come with their own arrival, but the drift counts from the time that was
    announced. A report that is put off counts twice, when it was due and when it is.

    At most `max_reports` are kept for an instrument: waiting ones longer than `max_overdue` are forgotten; beyond
    that the oldest that waits for its figures goes, and where none waits the one that is due last, the new one
    included. `dropped` counts them. About 3 ns a trade; a decision 20 ns, or 0.6 µs
    for an instrument with reports.

    Examples
    --------
    >>> group = EarningsGroup(EarningsConfig())
    >>> [spec.name for spec in group.specs()][:3]
    ['earnings_surprise', 'earnings_surprise_yield', 'earnings_surprise_mean']

    References
    ----------
    Livnat, J. and Mendenhall, R. (2006). Comparing the post-earnings announcement drift for surprises calculated from
    analyst and time series forecasts. Journal of Accounting Research 44(1).
    Bernard, V. and Thomas, J. (1989). Post-earnings-announcement drift: delayed price response or risk premium?
    Journal of Accounting Research 27.
    """

    def __init__(self, config: EarningsConfig, sessions: SessionTable | None = None) -> None:
        self._config = config
        self._sessions = sessions
        self._parameters = Parameters(
            duration_ns(config.window),
            config.min_estimate,
            duration_ns(config.max_age),
            duration_ns(config.max_overdue),
        )
        self._prices = _PriceState()
        self._reports = _ReportState(config)

    @property
    def dropped(self) -> int:
        """Reports for which there was no room."""
        return int(self._reports.arrays.dropped.sum())

    def specs(self) -> tuple[FeatureSpec, ...]:
        """Return what each column is, in order."""
        content = self._config.content()
        floor, window = {"min_estimate": content["min_estimate"]}, {"window": content["window"]}
        stale = {"max_age": content["max_age"]}
        earnings, both = ("earnings",), ("earnings", "trades")
        definition = "definition"
        rows: tuple[tuple[str, str, str, str, tuple[str, ...], dict[str, Any]], ...] = (
            (
                "surprise", "1", "(A - E) / |E| of the last report, E the consensus known before", _LIVNAT, earnings,
                floor | stale,
            ),
            ("surprise_yield", "1", "(A - E) / P of the last report, P the last price before it", _LIVNAT, both, stale),
            (
                "surprise_mean", "1", "mean of (A - E) / |E| over the last n reports that have one", _LIVNAT, earnings,
                floor | stale | {"n_reports": content["n_reports"]},
            ),
            ("revision", "1", "(E - E_first) / |E_first| of the next report", definition, earnings, floor),
            ("days_until", "days", "time to the next known report over 86400 s", definition, earnings, {}),
            (
                "sessions_until", "sessions", "closes of the calendar after T, up to the next known report", definition,
                earnings, {"calendar": content["calendar"]},
            ),
            ("days_since", "days", "time since the last report over 86400 s", definition, earnings, {}),
            ("window", "1", "1 where the next known report is due within window, else 0", definition, earnings, window),
            ("proximity", "1", "max(0, 1 - time to the next known report / window)", definition, earnings, window),
            ("pre_drift", "1", "ln(P_T / P at the start of window) within window", _BARBER, both, window),
            ("drift", "1", "ln(P_T / P at the last report)", _BERNARD, both, stale),
        )  # fmt: skip
        return tuple(
            FeatureSpec(f"earnings_{name}", unit, formula, reference, inputs, parameters)
            for name, unit, formula, reference, inputs, parameters in rows
        )

    def states(self) -> Mapping[str, InstrumentRows]:
        """Return every state of the group, by name."""
        return {"prices": self._prices, "reports": self._reports}

    def update(self, frame: FrameInputs, decisions: DecisionColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next records and trades and return the features at the next decisions, shape `(m, 11)`.

        Raises
        ------
        InvariantError
            A decision comes after a record of its instrument that is not before it.
        """
        if self._sessions is None:
            self._sessions = session_table(self._config.calendar)
        values = np.full((len(decisions), N_FEATURES), np.nan)
        missing = np.full(values.shape, Missing.NO_INPUT, dtype=np.uint8)
        records = self._records(frame)
        self._reports.slots(records[0])
        late = walk(
            records,
            self._trades(frame),
            (frozen(decisions.code), frozen(decisions.ts)),
            self._reports.rows,
            self._prices.price,
            self._sessions.closes,
            self._reports.arrays,
            self._parameters,
            values,
            missing,
        )
        if late >= 0:
            raise InvariantError(
                f"expected the decision of instrument code {int(decisions.code[late])} at {int(decisions.ts[late])} "
                "before its earnings records at or past that time, found one taken before; pass decisions no later "
                "than such records"
            )
        return values, missing

    @staticmethod
    def _records(frame: FrameInputs) -> tuple[CodeArray, IntArray, IntArray, IntArray, FloatArray, FloatArray]:
        batch, code = frame.batches.get("earnings"), frame.codes.get("earnings")
        if batch is None or code is None:
            none = np.empty(0, np.int64)
            nothing = np.empty(0)
            code = np.empty(0, np.int32)
            return frozen(code), frozen(none), frozen(none), frozen(none), frozen(nothing), frozen(nothing)
        return (
            frozen(code),
            frozen(times(batch, "ts_recv")),
            frozen(text_keys(batch.column("report_id").to_pylist())),
            frozen(np.clip(times(batch, "ts_report"), -_LATEST_NS, _LATEST_NS)),
            frozen(floats(batch, "eps_estimate")),
            frozen(floats(batch, "eps_actual")),
        )

    @staticmethod
    def _trades(frame: FrameInputs) -> tuple[CodeArray, IntArray, FloatArray]:
        batch, code = frame.batches.get("trades"), frame.codes.get("trades")
        if batch is None or code is None:
            return frozen(np.empty(0, np.int32)), frozen(np.empty(0, np.int64)), frozen(np.empty(0))
        return frozen(code), frozen(times(batch, "ts_recv")), frozen(floats(batch, "price"))
