"""What a docstring says, by part: the summary, the text before the first section, and each section."""

from __future__ import annotations

import inspect
import re
from typing import Any

__all__ = ["body", "on_one_line", "section", "summary", "text"]

_SECTION = r"^{0}\n-+\n(.*?)(?=^\w[^\n]*\n---|\Z)"


def on_one_line(words: str) -> str:
    r"""Return text without line breaks and runs of spaces.

    Examples
    --------
    >>> on_one_line("a\n  b")
    'a b'
    """
    return " ".join(words.split())


def section(described: Any, title: str) -> str:
    """Return the text of a section of a docstring, empty where there is none.

    Examples
    --------
    >>> section(section, "Examples").splitlines()[0][:12]
    '>>> section('
    """
    found = re.search(_SECTION.format(title), inspect.getdoc(described) or "", re.MULTILINE | re.DOTALL)
    return found.group(1).rstrip() if found else ""


def text(described: Any) -> str:
    """Return a docstring up to its first section.

    Examples
    --------
    >>> text(text)
    'Return a docstring up to its first section.'
    """
    return re.split(r"^\w[^\n]*\n---", inspect.getdoc(described) or "", maxsplit=1, flags=re.MULTILINE)[0].rstrip()


def summary(described: Any) -> str:
    """Return the first paragraph of a docstring as one line.

    Examples
    --------
    >>> summary(summary)
    'Return the first paragraph of a docstring as one line.'
    """
    return on_one_line(text(described).split("\n\n")[0])


def body(described: Any) -> str:
    """Return a docstring behind its first paragraph, up to its first section.

    Examples
    --------
    >>> body(body)
    ''
    """
    return text(described).partition("\n\n")[2].strip("\n")
