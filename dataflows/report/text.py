"""Text for a page: free text made visible and bounded, numbers and times formatted.

Text that came from outside may hold anything. `visible` turns what a reader cannot see (control
characters, direction overrides, bytes that are not UTF-8) into escapes; templates and `plot_text`
then escape markup, each for its own reader.
"""

from __future__ import annotations

import html
import json
import math
from typing import Any, Final

from markupsafe import Markup

from schemas.time import format_duration, format_time

__all__ = [
    "NO_VALUE",
    "clock",
    "count",
    "decimals",
    "duration",
    "json_block",
    "moment",
    "number",
    "percent",
    "plot_text",
    "sql_text",
    "visible",
]

NO_VALUE: Final = "—"
"""Stands for a value that is not there."""
_SCRIPT_ESCAPES: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def visible(value: bytes | str, limit: int = 200) -> str:
    r"""Return text that can be read and cannot act: printable characters and spaces only, of bounded length.

    Parameters
    ----------
    value
        Text, or bytes that should be UTF-8.
    limit
        Characters of the original that are kept; an ellipsis says that there were more.

    Examples
    --------
    >>> visible(b"ok\x00\xff"), visible("abcdef", limit=3)
    ('ok\\x00\\xff', 'abc…')
    """
    if isinstance(value, bytes):
        text = value[: 4 * limit + 4].decode("utf-8", errors="backslashreplace")
    else:
        text = value[: limit + 1].encode("utf-8", errors="backslashreplace").decode()
    shown = text[:limit]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return f"{shown}…" if len(text) > limit else shown


def plot_text(text: str) -> str:
    """Return text for a plot, whose labels read a subset of HTML.

    Examples
    --------
    >>> plot_text("<b>a & b</b>")
    '&lt;b&gt;a &amp; b&lt;/b&gt;'
    """
    return html.escape(text, quote=False)


def json_block(content: Any) -> Markup:
    r"""Return JSON that is safe inside a `script` element, whatever text it holds.

    Raises
    ------
    ValueError
        A number is not finite.

    Examples
    --------
    >>> str(json_block({"text": "</script>"}))
    '{"text":"\\u003c/script\\u003e"}'
    """
    return Markup(
        json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False).translate(_SCRIPT_ESCAPES)
    )


def sql_text(text: str) -> str:
    r"""Return a SQL string literal of printable characters; others are written as escaped bytes.

    Examples
    --------
    >>> print(sql_text("it's\n"))
    'it\'s\x0a'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    shown = (c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in escaped)
    return f"'{''.join(shown)}'"


def count(value: int | None) -> str:
    """Return a whole number with groups of three digits.

    Examples
    --------
    >>> count(1234567), count(None)
    ('1,234,567', '—')
    """
    return NO_VALUE if value is None else f"{value:,}"


def number(value: float | None, digits: int = 6) -> str:
    """Return a number with this many significant digits.

    Examples
    --------
    >>> number(61234.5678), number(0.5), number(float("nan"))
    ('61,234.6', '0.5', '—')
    """
    if value is None or not math.isfinite(value):
        return NO_VALUE
    return f"{value:,.{digits}g}"


def decimals(value: float | None, digits: int = 3) -> str:
    """Return a number with this many decimals.

    Examples
    --------
    >>> decimals(0.5), decimals(None)
    ('0.500', '—')
    """
    return NO_VALUE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """Return a share of one as per cent.

    Examples
    --------
    >>> percent(0.12345)
    '12.3 %'
    """
    return NO_VALUE if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def clock(ts: int | None) -> str:
    """Return UTC nanoseconds as date and time with milliseconds.

    Examples
    --------
    >>> clock(1723161253937085768)
    '2024-08-08 23:54:13.937'
    """
    return NO_VALUE if ts is None else format_time(ts)[:23].replace("T", " ")


def moment(ts: int | None) -> str:
    """Return UTC nanoseconds as date and time with seconds.

    Examples
    --------
    >>> moment(1723161253937085768)
    '2024-08-08 23:54:13'
    """
    return clock(ts)[:19]


def duration(nanoseconds: int) -> str:
    """Return a length of time rounded to its two largest units.

    Examples
    --------
    >>> duration(93_784 * 10**9), duration(250_000_000)
    ('1d 2h', '250ms')
    """
    seconds = nanoseconds // 10**9
    if seconds < 60:
        return format_duration(nanoseconds) if nanoseconds else "0s"
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for unit, length in units:
        value, seconds = divmod(seconds, length)
        if value or parts:
            parts.append(f"{value}{unit}" if value else "")
    return " ".join(filter(None, parts[:2]))
