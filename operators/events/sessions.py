"""Trading sessions as an array of closes, made once: a calendar takes 100 µs to answer, a search 0.1."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, Final

import numpy as np

from operators.columns import IntArray, frozen
from schemas.errors import ConfigError

__all__ = ["SessionTable", "check_calendar", "session_table"]

_FIRST: Final = "1990-01-01"
_LAST: Final = "2049-12-31"


class SessionTable:
    """The closes of the sessions of a market, and which session a time belongs to.

    A session begins at the close before it: what happens at night belongs to the next day's. The number of a time is
    the number of closes at or before it, so two times have the same number exactly where no close lies between.

    Parameters
    ----------
    closes
        Closes, UTC ns, strictly ascending, shape `(n,)`.

    Raises
    ------
    ConfigError
        There is no session, or the closes do not ascend.

    Notes
    -----
    Before the first close and from the last one on no session is known: `contains` says where one is.

    Examples
    --------
    >>> table = SessionTable(np.array([100, 200, 300]))
    >>> table.index(np.array([99, 100, 250])).tolist()
    [0, 1, 2]
    >>> table.contains(np.array([99, 100, 300])).tolist()
    [False, True, False]
    """

    def __init__(self, closes: IntArray) -> None:
        if not len(closes) or np.any(closes[1:] <= closes[:-1]):
            raise ConfigError("expected closes of sessions in ascending order, found none or a step back; sort them")
        self.closes: IntArray = frozen(np.asarray(closes, dtype=np.int64))

    def index(self, ts: IntArray) -> IntArray:
        """Return the number of each time's session, shape `(n,)`."""
        return np.searchsorted(self.closes, ts, side="right")

    def contains(self, ts: IntArray) -> Any:
        """Return whether each time lies in a session of the table, shape `(n,)`."""
        return (ts >= self.closes[0]) & (ts < self.closes[-1])


def check_calendar(name: str) -> None:
    """Check that there is a calendar of this name.

    Raises
    ------
    ValueError
        There is none.

    Examples
    --------
    >>> check_calendar("24/7")
    """
    # imported late: it takes a second, which every start would wait for
    import exchange_calendars  # type: ignore[import-untyped, unused-ignore]

    if name not in exchange_calendars.get_calendar_names(include_aliases=True):
        raise ValueError(f"expected a calendar of `exchange_calendars` such as `XNYS`, `XLON` or `24/7`, was `{name}`")


@lru_cache(maxsize=8)
def session_table(calendar: str) -> SessionTable:
    """Return the sessions of a calendar from 1990 to 2049, as far as it knows them.

    Sessions to come follow the rules that the calendar has now; the range does not depend on the day of the call.

    Parameters
    ----------
    calendar
        Name as `exchange_calendars` has it.

    Examples
    --------
    >>> from schemas.time import parse_time
    >>> table = session_table("XNYS")
    >>> at = [parse_time("2026-11-25T15:00:00Z"), parse_time("2026-11-30T15:00:00Z")]
    >>> np.diff(table.index(np.array(at))).tolist()  # Thursday is Thanksgiving
    [2]
    """
    import exchange_calendars  # type: ignore[import-untyped, unused-ignore]
    import pandas as pd

    with warnings.catch_warnings():
        # exchange_calendars 4.13 reads zoned columns in a way that pandas 3.1 has deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        known = exchange_calendars.get_calendar(calendar)
        first, last = (pd.Timestamp(day) for day in (_FIRST, _LAST))
        bounds = (known.bound_min(), known.bound_max())
        first = first if bounds[0] is None else max(first, bounds[0])
        last = last if bounds[1] is None else min(last, bounds[1])
        closes = exchange_calendars.get_calendar(calendar, start=first, end=last).closes
        return SessionTable(closes.dt.as_unit("ns").astype("int64").to_numpy())
