"""Closed vocabularies. The integer is stored, the lower-case text is on the wire and in queries."""

from __future__ import annotations

from enum import IntEnum, StrEnum

__all__ = [
    "BookKind",
    "CountKind",
    "DeadLetterReason",
    "Direction",
    "DriftDetector",
    "DriftDirection",
    "DriftStream",
    "EventBarKind",
    "Intent",
    "LateReason",
    "Missing",
    "OptionRight",
    "OutcomeLabel",
    "RunStatus",
    "Side",
]


class Side(IntEnum):
    """Side of the aggressor of a trade."""

    UNKNOWN = 0
    BUY = 1
    SELL = -1


class BookKind(IntEnum):
    """What an order-book message does to the book."""

    SNAPSHOT = 0
    """replaces the whole book"""
    DELTA = 1
    """sets the stated levels; a size of zero removes a level"""


class OptionRight(IntEnum):
    """Right of an option contract."""

    CALL = 1
    PUT = -1


class Direction(IntEnum):
    """Direction of the position that a signal is about."""

    LONG = 1
    SHORT = -1


class DriftDetector(IntEnum):
    """Who found a drift."""

    ADWIN = 1
    """adaptive windowing: two parts of a window have different means"""
    PAGE_HINKLEY = 2
    """a cumulative sum of deviations from the running mean left its extreme"""


class DriftStream(IntEnum):
    """What kind of numbers drifted."""

    INPUT = 1
    """a feature that a model reads"""
    SCORE = 2
    """what a model answers"""
    ERROR = 3
    """how wrong it was, once outcomes were known"""


class DriftDirection(IntEnum):
    """Where a mean went."""

    UP = 1
    DOWN = -1


class EventBarKind(IntEnum):
    """What is counted until a bar closes."""

    TICK = 1
    """trades"""
    VOLUME = 2
    """quantity traded"""
    DOLLAR = 3
    """money traded, in the quote currency"""
    IMBALANCE = 4
    """trades that bought less trades that sold, against what is expected of a bar"""


class Intent(IntEnum):
    """What a signal asks for. An exit always flattens the position that its direction names."""

    ENTER = 1
    EXIT = 2
    REDUCE = 3


class Missing(IntEnum):
    """Why a feature has no value. `OK` means that it has one."""

    OK = 0
    WARMING_UP = 1
    """fewer observations than the stated warm-up"""
    NO_INPUT = 2
    """the source has delivered nothing for this instrument"""
    DEGENERATE = 3
    """the formula has no value here: zero deviation, zero volume"""
    STALE = 4
    """the last input is older than its expiry"""
    OUT_OF_SYNC = 5
    """the order book waits for a snapshot, is crossed, locked or one-sided"""
    NOT_FINITE = 6
    """the result overflowed"""


class OutcomeLabel(IntEnum):
    """What became of a prediction at its horizon."""

    RISE = 1
    """the price rose beyond the cost band"""
    FALL = -1
    """the price fell beyond the cost band"""
    WITHIN_COST = 0
    """the price stayed within the cost band; nothing is learnt from it"""
    EXPIRED = 2
    """no usable close came in time"""


class DeadLetterReason(StrEnum):
    """Why a record was refused."""

    MALFORMED = "malformed"
    """the bytes are not a message of the topic's wire format"""
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    NAIVE_TIME = "naive_time"
    """a time without zone"""
    OUT_OF_RANGE = "out_of_range"
    """not finite, not positive, or outside the field's bounds"""
    EVENT_TIME_AHEAD = "event_time_ahead"
    """`ts_event` is further ahead of `ts_recv` than the configured bound allows"""
    DUPLICATE = "duplicate"
    """the same trade, item or book update was seen before"""
    CROSSED_BOOK = "crossed_book"
    """best bid above best ask"""
    SEQUENCE_GAP = "sequence_gap"
    """a book update that cannot be applied, because one before it is missing"""
    SUPERSEDED = "superseded"
    """a book update older than the snapshot that replaced it"""
    TOO_MANY_INSTRUMENTS = "too_many_instruments"
    """the shard's cap on live instruments is reached"""
    IMPORT = "import"
    """quarantined by an importer; the detail says why"""


class LateReason(StrEnum):
    """Why a record missed a window."""

    BAR_CLOSED = "bar_closed"
    """the bar of its event time had closed when it arrived"""


class RunStatus(IntEnum):
    """State of a run; it only moves downwards."""

    RUNNING = 1
    STOPPED = 2
    """stopped before the end of its input; can be resumed"""
    FAILED = 3
    COMPLETE = 4


class CountKind(StrEnum):
    """What a row of `run_counts` counts."""

    READ = "read"
    DECODED = "decoded"
    DEAD_LETTERED = "dead_lettered"
    LATE = "late"
    ORDER_VIOLATION = "order_violation"
    UNANSWERED = "unanswered"
    OUTCOME = "outcome"
    WRITTEN = "written"
