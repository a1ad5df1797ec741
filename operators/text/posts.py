"""What the form of a post says about its weight: retweets, cashtags, tickers that are also words."""

from __future__ import annotations

import re
from typing import Final

from operators.text.config import DampingConfig

__all__ = ["PostRules"]

_CASHTAG: Final = re.compile(r"(?<![\w$])\$([A-Za-z][A-Za-z0-9.\-]{0,15})(?!\w)")
_RETWEET: Final = re.compile(r"\s*RT\s+@?\w|\s*MT\s+@", re.IGNORECASE)
_MAX_CHARACTERS: Final = 2_000


class PostRules:
    r"""Weight of a post by its form alone.

    $$ g = \rho^{[\mathrm{retweet}]} \min\Big(1, \frac{k}{c}\Big) \alpha^{[\mathrm{ambiguous}]} $$

    with `retweet_factor` $\rho$, $c$ distinct cashtags of which `max_cashtags` $k$ are allowed, and
    `ambiguous_factor` $\alpha$ where the instrument is one of the `ambiguous` tickers and its cashtag is not in the
    post: "cat videos" says nothing of `CAT`.

    Parameters
    ----------
    config
        Factors, bounds, and the ambiguous tickers.

    Notes
    -----
    In [0, 1]. A cashtag is a dollar sign and a ticker with nothing between; "U$D" has none. A retweet begins with
    "RT" and a name, or "MT @". Only the first 2,000 characters are read. About 1 microsecond.

    Examples
    --------
    >>> rules = PostRules(DampingConfig())
    >>> rules.factor("$CAT breaks out", "CAT"), rules.factor("my cat is fat", "CAT"), rules.factor("RT @x: $T up", "T")
    (1.0, 0.0, 0.5)
    >>> rules.factor("$A $B $C $D $E $F $G $H $I $ACME look good", "ACME")
    0.5
    """

    def __init__(self, config: DampingConfig) -> None:
        self._retweet = config.retweet_factor
        self._max_cashtags = config.max_cashtags
        self._ambiguous = frozenset(config.ambiguous)
        self._doubt = config.ambiguous_factor

    def factor(self, text: str, ticker: str) -> float:
        """Return the weight of a post about an instrument, in [0, 1]."""
        text = text[:_MAX_CHARACTERS]
        tags = {tag.upper().rstrip(".-") for tag in _CASHTAG.findall(text)} if "$" in text else set()
        found = min(1.0, self._max_cashtags / len(tags)) if tags else 1.0
        if _RETWEET.match(text):
            found *= self._retweet
        name = ticker.upper()
        if name in self._ambiguous and name not in tags:
            found *= self._doubt
        return found
