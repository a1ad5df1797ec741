"""Specialists: each answers from one kind of evidence. Adding one is a file and a name here."""

from __future__ import annotations

import inspect
from typing import Any

from models.specialists.base import Specialist
from models.specialists.earnings import EarningsSpecialist
from models.specialists.news import NewsSpecialist
from models.specialists.options import OptionsSpecialist
from models.specialists.social import SocialSpecialist
from models.specialists.technical import TechnicalSpecialist
from schemas.errors import ConfigError

__all__ = ["ENSEMBLE", "SPECIALISTS", "register"]

ENSEMBLE = "ensemble"
"""Name under which the combination of all answers is stored; no specialist has it."""


def register(*classes: type[Specialist]) -> dict[str, type[Specialist]]:
    """Return the classes by name, in order, after checking that each says what it is.

    Raises
    ------
    ConfigError
        A class is abstract, has no name of its own or declares no features.

    Examples
    --------
    >>> list(register(NewsSpecialist, OptionsSpecialist))
    ['news', 'options']
    """
    registered: dict[str, type[Specialist]] = {}
    for cls in classes:
        name = _described(cls)
        if name in registered:
            raise ConfigError(f"expected distinct specialist names, found `{name}` twice; rename `{cls.__name__}`")
        registered[name] = cls
    return registered


def _described(cls: Any) -> str:
    """Return the name of a complete class."""
    if not (inspect.isclass(cls) and issubclass(cls, Specialist)) or inspect.isabstract(cls):
        raise ConfigError(f"expected a complete subclass of `Specialist`, found {cls!r}; write its abstract methods")
    name, needs = getattr(cls, "name", ""), getattr(cls, "needs", ())
    if not (isinstance(name, str) and name.isidentifier()) or name == ENSEMBLE:
        raise ConfigError(f"expected a name on `{cls.__name__}` other than `{ENSEMBLE}`, found {name!r}; set `name`")
    if not needs or not all(isinstance(need, str) for need in needs):
        raise ConfigError(f"expected features in `needs` of `{cls.__name__}`, found {needs!r}; declare what it reads")
    return name


SPECIALISTS: dict[str, type[Specialist]] = register(
    TechnicalSpecialist, NewsSpecialist, SocialSpecialist, EarningsSpecialist, OptionsSpecialist
)
"""Every specialist by name, in a fixed order."""
