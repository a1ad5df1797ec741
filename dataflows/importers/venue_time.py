"""Time of day at a venue, to UTC, right over the change to and from summer time."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from operators.columns import FloatArray, IntArray
from schemas.time import duration_ns

__all__ = ["NEW_YORK", "day_to_utc"]

NEW_YORK = ZoneInfo("America/New_York")
_HOUR_NS = 3_600 * 10**9
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


def day_to_utc(day: date, of_day: FloatArray, unit_ns: int, zone: ZoneInfo = NEW_YORK) -> tuple[IntArray, np.ndarray]:
    """Return UTC nanoseconds of wall-clock times of one day.

    The offset is looked up once for each hour of the day. A time that the clock shows twice is the
    first; one that it jumps over is read with the offset before the jump.

    Parameters
    ----------
    day
        Date at the venue.
    of_day
        Time since midnight on the wall clock, shape `(n,)`; decimals down to the nanosecond count.
    unit_ns
        Nanoseconds of its unit.
    zone
        Zone of the venue.

    Returns
    -------
    ts
        int64 UTC ns, shape `(n,)`; -1 where `of_day` is no time of a day.
    valid
        Mask of the times that are, shape `(n,)`.

    Examples
    --------
    >>> ts, valid = day_to_utc(date(2013, 10, 7), np.array([34_200_000.0, float("nan")]), 10**6)
    >>> ts[0] == np.datetime64("2013-10-07T13:30:00", "ns").astype(int), valid.tolist()
    (np.True_, [True, False])
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(of_day * unit_ns)
        valid = (scaled >= 0) & (scaled < 24 * _HOUR_NS)
    local = np.where(valid, scaled, 0).astype(np.int64)
    midnight = duration_ns(datetime.combine(day, time()) - _EPOCH)
    ts = midnight + local - _hour_offsets(day, zone)[local // _HOUR_NS]
    return np.where(valid, ts, -1), valid


def _hour_offsets(day: date, zone: ZoneInfo) -> IntArray:
    """Return the zone's offset from UTC in ns at each wall-clock hour, shape `(24,)`."""
    moments = (datetime.combine(day, time(hour), tzinfo=zone) for hour in range(24))
    return np.array([duration_ns(moment.utcoffset() or timedelta()) for moment in moments], dtype=np.int64)
