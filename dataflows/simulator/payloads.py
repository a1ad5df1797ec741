"""Records that a decoder must refuse: their bytes, each with the one thing that is wrong with it."""

from __future__ import annotations

import json
from typing import Any, Final

from schemas.enums import DeadLetterReason

__all__ = ["BAD_REASONS", "bad_payload"]

BAD_REASONS: Final = (
    DeadLetterReason.MALFORMED,
    DeadLetterReason.MISSING_FIELD,
    DeadLetterReason.WRONG_TYPE,
    DeadLetterReason.NAIVE_TIME,
    DeadLetterReason.OUT_OF_RANGE,
)

_TRADE: Final = {"price": 101.25, "size": 100.0, "side": "buy", "venue": "XSIM"}
_QUOTE: Final = {"bid_price": 101.24, "bid_size": 200.0, "ask_price": 101.26, "ask_size": 100.0}
_BOOK: Final = {
    "kind": "snapshot",
    "last_sequence": 1,
    "bid_prices": [101.24],
    "bid_sizes": [200.0],
    "ask_prices": [101.26],
    "ask_sizes": [100.0],
}
_NEWS: Final = {"news_id": "broken", "source": "Harbour Wire", "headline": "shares rally"}
_SOCIAL: Final = {"post_id": "broken", "platform": "chirper", "author": "user000", "text": "to the moon"}
_EARNINGS: Final = {"report_id": "broken", "ts_report": "2026-01-05T21:00:00Z", "eps_estimate": 1.25}
_OPTION: Final = {"contract_id": "broken", "ts_expiry": "2026-02-05T21:00:00Z", "strike": 100.0, "right": "call"}
_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "books": _BOOK,
    "earnings": _EARNINGS,
    "news": _NEWS,
    "options": _OPTION,
    "quotes": _QUOTE,
    "social": _SOCIAL,
    "trades": _TRADE,
}
_MISSING: Final = {
    "books": "last_sequence",
    "earnings": "ts_report",
    "news": "headline",
    "options": "strike",
    "quotes": "ask_size",
    "social": "author",
    "trades": "price",
}
_WRONG_TYPE: Final[dict[str, tuple[str, Any]]] = {
    "books": ("bid_sizes", "many"),
    "earnings": ("eps_estimate", "about one"),
    "news": ("headline", 7),
    "options": ("strike", "at the money"),
    "quotes": ("bid_price", "101.24"),
    "social": ("text", ["a", "b"]),
    "trades": ("price", "101.25"),
}
_NEGATIVE: Final = {"options": "strike", "quotes": "bid_price", "trades": "price"}
_AFTER_INT64: Final = 10**20


def bad_payload(topic: str, reason: DeadLetterReason, instrument: str, ts_event: int, variant: int) -> bytes:
    """Return the bytes of a record that is refused for one reason.

    Parameters
    ----------
    topic
        Topic that it is meant for.
    reason
        One of `BAD_REASONS`.
    instrument
        Instrument that it names.
    ts_event
        Its time, UTC ns, where the time is sound.
    variant
        Which of the ways to be wrong, where there are several.

    Raises
    ------
    ValueError
        A payload cannot be bad for this reason.

    Examples
    --------
    >>> from schemas.enums import DeadLetterReason
    >>> bad_payload("news", DeadLetterReason.MISSING_FIELD, "SIM000", 7, 0)
    b'{"instrument_id":"SIM000","ts_event":7,"news_id":"broken","source":"Harbour Wire"}'
    """
    message = {"instrument_id": instrument, "ts_event": ts_event, **_FIELDS[topic]}
    if reason is DeadLetterReason.MALFORMED:
        return _malformed(message, variant)
    if reason is DeadLetterReason.MISSING_FIELD:
        del message[_MISSING[topic]]
    elif reason is DeadLetterReason.WRONG_TYPE:
        name, value = _WRONG_TYPE[topic]
        message[name] = value
    elif reason is DeadLetterReason.NAIVE_TIME:
        message["ts_event"] = "2026-01-05T14:30:00.25"
    elif reason is DeadLetterReason.OUT_OF_RANGE:
        negative = _NEGATIVE.get(topic) if variant % 2 == 0 else None
        message[negative or "ts_event"] = -1.0 if negative else _AFTER_INT64
    else:
        raise ValueError(f"expected a reason among {[str(known) for known in BAD_REASONS]}, was `{reason}`")
    return _encode(message)


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _malformed(message: dict[str, Any], variant: int) -> bytes:
    """Return a message that is cut off, not UTF-8, or has the literal `NaN`, which JSON lacks."""
    if variant % 3 == 0:
        return _encode(message)[:-9]
    if variant % 3 == 1:
        return _encode(message).replace(b'"SIM', b'"SIM\xff', 1)
    return _encode(message).replace(b'"ts_event":', b'"weight":NaN,"ts_event":', 1)
