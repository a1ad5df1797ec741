"""What each feature of a book is, and whether it is a level or a flow: the one place that says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, field_validator

from schemas.config import ComponentConfig
from schemas.features import FeatureSpec

__all__ = ["BOOK_FEATURES", "FLOWS", "LEVELS", "NAMES", "BookFeature", "BookFeatureConfig", "Sampling", "book_specs"]


class BookFeatureConfig(ComponentConfig):
    """Parameters of the features of a book; all are counted in updates of the instrument."""

    tick_warm_up: Annotated[int, Field(ge=1, le=65_536)] = 100
    """updates before the smallest price increment seen counts as the tick"""
    resiliency_half_life: Annotated[int, Field(ge=10, le=1_000_000)] = 200
    """an update's weight in the resiliency halves in this many updates"""
    imbalance_states: Annotated[int, Field(ge=2, le=20)] = 10
    """queue imbalances that the micro-price tells apart, an even number"""
    spread_states: Annotated[int, Field(ge=1, le=4)] = 2
    """spreads that the micro-price tells apart: 1 tick, 2 ticks, ..., this many or more"""
    microprice_refresh: Annotated[int, Field(ge=10, le=1_000_000)] = 500
    """transitions after which the micro-price is estimated again"""
    microprice_half_life: Annotated[int, Field(ge=100, le=100_000_000)] = 50_000
    """a transition's weight in the micro-price halves in this many transitions"""
    microprice_min_visits: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """transitions that must have left a state before its adjustment counts"""

    @field_validator("imbalance_states")
    @classmethod
    def _is_even(cls, states: int) -> int:
        if states % 2:
            raise ValueError(f"expected an even number of `imbalance_states`, was {states}")
        return states


class Sampling(StrEnum):
    """What a decision sees of a feature."""

    LEVEL = "level"
    """the value at the last update before it"""
    FLOW = "flow"
    """the sum of the values at the updates since the decision before"""


@dataclass(frozen=True, slots=True)
class BookFeature:
    """One feature at each update of a book.

    Parameters
    ----------
    name, unit, formula, reference
        As in `FeatureSpec`.
    sampling
        What a decision sees of it.
    parameters
        Names of the parameters that it depends on: `depth`, or fields of `BookFeatureConfig`.
    first
        Updates before the first value, without those that parameters ask for.
    warm_up
        Names of the parameters that add to these.
    """

    name: str
    unit: str
    formula: str
    reference: str = "definition"
    sampling: Sampling = Sampling.LEVEL
    parameters: tuple[str, ...] = ()
    first: int = 1
    warm_up: tuple[str, ...] = ()


_CURRENCY: Final = "quote currency"
_BASE: Final = "base units"
_RESILIENCY: Final = (
    "-sum_i w_i (x_i - X) (y_i - Y) / sum_i w_i (x_i - X)^2, x_i = {} at the update before i, y_i its change to i, "
    "w_i = 2^(-updates since i / resiliency_half_life), X and Y the weighted means"
)
_KEMPF: Final = "Kempf, Mayston, Gehde-Trapp and Yadav (2015), Resiliency: a dynamic view of liquidity"
_CONT: Final = "Cont, Kukanov and Stoikov (2014), The price impact of order book events"
_CHAIN: Final = (
    "imbalance_states", "spread_states", "microprice_refresh", "microprice_half_life", "microprice_min_visits",
    "tick_warm_up",
)  # fmt: skip


def _level(name: str, unit: str, formula: str, reference: str = "definition") -> BookFeature:
    return BookFeature(name, unit, formula, reference)


def _flow(name: str, unit: str, formula: str, reference: str, parameters: tuple[str, ...] = ()) -> BookFeature:
    return BookFeature(name, unit, formula, reference, Sampling.FLOW, parameters, first=2)


def _queue(side: str, sign: str) -> tuple[BookFeature, BookFeature]:
    """Return what came to and left the queue at the best price of a side; `sign` is where better prices lie."""
    p, q = side[0], f"q{side[0]}"
    better, worse = (">", "<") if sign == "+" else ("<", ">")
    return (
        _flow(
            f"{side}_size_added", _BASE,
            f"{q}_n if {p}_n {better} {p}_p, max({q}_n - {q}_p, 0) if {p}_n = {p}_p, else 0", _CONT,
        ),
        _flow(
            f"{side}_size_removed", _BASE,
            f"{q}_p if {p}_n {worse} {p}_p, max({q}_p - {q}_n, 0) if {p}_n = {p}_p, else 0", _CONT,
        ),
    )  # fmt: skip


BOOK_FEATURES: Final[tuple[BookFeature, ...]] = (
    _level("bid_price", _CURRENCY, "best bid"),
    _level("ask_price", _CURRENCY, "best offer"),
    _level("bid_size", _BASE, "quantity at the best bid"),
    _level("ask_size", _BASE, "quantity at the best offer"),
    _level("mid_price", _CURRENCY, "(bid + ask) / 2"),
    _level("spread", _CURRENCY, "ask - bid"),
    _level("spread_bps", "basis points", "1e4 (ask - bid) / mid"),
    _level(
        "weighted_mid", _CURRENCY, "(ask bid_size + bid ask_size) / (bid_size + ask_size)",
        "Gatheral and Oomen (2010), Zero-intelligence realized variance estimation",
    ),
    BookFeature(
        "depth_imbalance", "1", "(bid_depth - ask_depth) / (bid_depth + ask_depth), over the first `depth` levels",
        parameters=("depth",),
    ),
    _flow(
        "order_flow_imbalance", _BASE,
        "e_n = [b_n >= b_p] qb_n - [b_n <= b_p] qb_p - [a_n <= a_p] qa_n + [a_n >= a_p] qa_p, p the update before",
        _CONT,
    ),
    BookFeature(
        "tick_size", _CURRENCY,
        "smallest of |b_n - b_p|, |a_n - a_p| and a_n - b_n above 1e-9 a_n, over the last 65,536 to 131,072 updates",
        parameters=("tick_warm_up",), first=0, warm_up=("tick_warm_up",),
    ),
    BookFeature(
        "spread_ticks", "1", "(ask - bid) / tick_size, the whole number where it is within a millionth of one",
        parameters=("tick_warm_up",), first=0, warm_up=("tick_warm_up",),
    ),
    _level(
        "queue_imbalance", "1", "(bid_size - ask_size) / (bid_size + ask_size)",
        "Gould and Bonart (2016), Queue imbalance as a one-tick-ahead price predictor",
    ),
    BookFeature(
        "weighted_depth_imbalance", "1", "sum_l (qb_l - qa_l) / l / sum_l (qb_l + qa_l) / l, l = 1 .. depth",
        parameters=("depth",),
    ),
    BookFeature(
        "microprice", _CURRENCY,
        "mid + g, g = (I - P)^-1 r on states (queue imbalance, spread in ticks), P their symmetrised transition "
        "probabilities from update to update and r the symmetrised mean change of the mid out of each",
        "Stoikov (2018), The micro-price: a high-frequency estimator of future prices",
        parameters=_CHAIN, first=0, warm_up=("tick_warm_up", "microprice_refresh"),
    ),
    BookFeature(
        "book_slope", "1",
        "mean of both sides' (v_1 / |p_1 / mid - 1| + sum_l (v_l+1 / v_l - 1) / |p_l+1 / p_l - 1|) / N, N levels of "
        "the side up to `depth`, v_l = ln(1 + quantity on the first l)",
        "Naes and Skjeltorp (2006), Order book characteristics and the volume-volatility relation",
        parameters=("depth",),
    ),
    BookFeature(
        "spread_resiliency", "1", _RESILIENCY.format("ln(ask - bid)"), _KEMPF,
        parameters=("resiliency_half_life",), warm_up=("resiliency_half_life",),
    ),
    BookFeature(
        "depth_resiliency", "1", _RESILIENCY.format("ln(1 + bid_depth) + ln(1 + ask_depth)"), _KEMPF,
        parameters=("depth", "resiliency_half_life"), warm_up=("resiliency_half_life",),
    ),
    _flow(
        "multi_level_order_flow_imbalance", _BASE,
        "sum_l e_n(l), l = 1 .. depth, e_n(l) the order flow imbalance of the l-th best prices and their quantities, "
        "weights of one",
        "Xu, Gould and Howison (2018), Multi-level order-flow imbalance in a limit order book", ("depth",),
    ),
    *_queue("bid", "+"),
    *_queue("ask", "-"),
    _flow("touch_up_moves", "1", "[b_n > b_p] + [a_n > a_p]", "definition"),
    _flow("touch_down_moves", "1", "[b_n < b_p] + [a_n < a_p]", "definition"),
)  # fmt: skip
"""the features, in the order of their columns"""

NAMES: Final = tuple(feature.name for feature in BOOK_FEATURES)
"""their names, in the same order"""
LEVELS: Final = tuple(k for k, feature in enumerate(BOOK_FEATURES) if feature.sampling is Sampling.LEVEL)
"""columns of which a decision sees the last value"""
FLOWS: Final = tuple(k for k, feature in enumerate(BOOK_FEATURES) if feature.sampling is Sampling.FLOW)
"""columns of which a decision sees the sum"""


def book_specs(depth: int, config: BookFeatureConfig) -> tuple[FeatureSpec, ...]:
    """Return what each column is, in the order of `NAMES`; `depth` is the number of levels in a book's depth.

    Examples
    --------
    >>> specs = dict(zip(NAMES, book_specs(5, BookFeatureConfig())))
    >>> specs["microprice"].warm_up, specs["depth_imbalance"].parameters
    (600, {'depth': 5})
    """
    known: dict[str, int] = {"depth": depth} | config.content()
    return tuple(
        FeatureSpec(
            feature.name,
            feature.unit,
            f"{feature.formula}; at a decision the sum since the decision before"
            if feature.sampling is Sampling.FLOW
            else feature.formula,
            feature.reference,
            ("books", "quotes"),
            parameters={name: known[name] for name in feature.parameters},
            warm_up=feature.first + sum(known[name] for name in feature.warm_up),
        )
        for feature in BOOK_FEATURES
    )
