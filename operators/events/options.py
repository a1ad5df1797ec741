"""Features of option chains, sampled at decision times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numba import njit

from models.options import MAX_VOLATILITY, MIN_VOLATILITY, black_scholes_delta, implied_volatility
from operators.columns import CodeArray, FloatArray, Int8Array, IntArray, MissingArray, frozen
from operators.events.chain import (
    CALL_FLOW,
    DROPPED,
    LAST_TS,
    N_FLOWS,
    PRESENT,
    PUT_FLOW,
    Chains,
    Parameters,
    Records,
    keep_contract,
    table_size,
)
from operators.events.config import OptionsConfig
from operators.events.keys import text_keys
from operators.events.sessions import SessionTable, session_table
from operators.events.surface import N_SUMMARY, end_session, summarise
from operators.sampled import DecisionColumns, FeatureGroup, FrameInputs, InstrumentRows
from operators.state import Column
from operators.text.sparse import SparseState
from schemas.batches import floats, int8s, times
from schemas.enums import Missing
from schemas.errors import InvariantError
from schemas.features import FeatureSpec
from schemas.time import duration_ns

__all__ = ["N_FEATURES", "OptionsGroup"]

N_FEATURES: Final = N_SUMMARY + 2
_FLOW, _BALANCE = N_SUMMARY, N_SUMMARY + 1
_NAN: Final = float("nan")
_YEAR_NS: Final = 365 * 86_400e9
_LATEST_NS: Final = 2**62
_MOST_CONTRACTS: Final = 1e12
"""Volume or open interest above this is not one; sums of those below cannot overflow."""
_OK: Final = int(Missing.OK)
_NO_INPUT: Final = int(Missing.NO_INPUT)
_DEGENERATE: Final = int(Missing.DEGENERATE)
_STALE: Final = int(Missing.STALE)
_GATHERAL: Final = "Gatheral (2006), The Volatility Surface"
_XING: Final = "Xing, Zhang and Zhao (2010), What does the individual option volatility smirk tell us"
_PAN: Final = "Pan and Poteshman (2006), The information in option volume for future stock prices"
_JOHNSON: Final = "Johnson and So (2012), The option to stock volume ratio and future returns"
_FODOR: Final = "Fodor, Krieger and Doran (2011), Do option open-interest changes foreshadow future equity returns?"


class _ChainState(SparseState):
    """The contracts of the instruments that have any."""

    def __init__(self, config: OptionsConfig, n_intervals: int) -> None:
        columns = {
            "ids": Column("i8", shape=(config.max_contracts, 5)),
            "numbers": Column("f8", _NAN, (config.max_contracts, 6)),
            "place": Column("i4", -1, (table_size(config.max_contracts),)),
            "counts": Column("i8", shape=(7,)),
            "levels": Column("f8", _NAN, (2,)),
            "history": Column("f8", _NAN, (config.window,)),
            "summary": Column("f8", _NAN, (N_SUMMARY,)),
            "summary_missing": Column("u1", Missing.NO_INPUT, (N_SUMMARY,)),
            "flow": Column("f8", shape=(n_intervals, 3)),
        }
        super().__init__(columns, version=1)

    @property
    def arrays(self) -> Chains:
        """The arrays; valid until the next newcomer."""
        return Chains(*(self._state[name] for name in Chains._fields))

    @property
    def rows(self) -> CodeArray:
        """Row of each instrument, -1 without options."""
        return self._slots


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _decide(r: int, interval: int, now: int, s: Any, p: Any, values: Any, missing: Any) -> None:
    """Fill the features of a decision, given an up-to-date summary."""
    is_stale = now - s.counts[r, LAST_TS] > p.max_age
    for column in range(N_SUMMARY):  # copies of slices take a second to compile
        values[column] = np.nan if is_stale else s.summary[r, column]
        missing[column] = _STALE if is_stale else s.summary_missing[r, column]
    if s.flow[r, interval, N_FLOWS] > 0:
        puts, calls = s.flow[r, interval, PUT_FLOW], s.flow[r, interval, CALL_FLOW]
        values[_FLOW] = puts + calls
        missing[_FLOW] = _OK
        missing[_BALANCE] = _DEGENERATE
        if puts + calls > 0.0:
            values[_BALANCE] = (puts - calls) / (puts + calls)
            missing[_BALANCE] = _OK
    s.flow[r, interval, PUT_FLOW] = s.flow[r, interval, CALL_FLOW] = 0.0
    s.flow[r, interval, N_FLOWS] = 0.0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _walk(records: Any, decisions: Any, s: Any, p: Any, values: Any, missing: Any) -> int:
    """Walk records and decisions by time; return the first decision that comes too late, or -1."""
    row, interval, ts = decisions
    i, n, m = 0, len(records.ts), len(ts)
    # calls are kept shallow: numba optimises a function once more in each of its callers
    for d in range(m + 1):
        while i < n and (d == m or records.ts[i] < ts[d]):
            r = records.row[i]
            if records.session[i] != s.counts[r, PRESENT]:
                summarise(r, s, p)
                end_session(r, records.session[i], s, p)
            keep_contract(r, i, records, s)
            i += 1
        if d < m and row[d] >= 0 and s.counts[row[d], PRESENT] > 0:
            if s.counts[row[d], LAST_TS] >= ts[d]:
                return d
            summarise(row[d], s, p)
            _decide(row[d], interval[d], ts[d], s, p, values[d], missing[d])
    return -1


class OptionsGroup(FeatureGroup):
    r"""What an instrument's options say: implied volatility, its rank, skew and slope, and who trades them.

    Each record is the state of one contract; a chain is what the last records of its contracts say together. Implied
    volatility `iv_atm` is that at the money, at a constant maturity (see `operators.events.surface`). Its rank among
    the ends of the last sessions is $(\sigma - \min) / (\max - \min)$, the present one included in both, its
    percentile the share of those sessions below it. The skew is the volatility of the put with delta -0.25 less that of
    the call with delta 0.25, each interpolated in delta between the contracts around, linear in time between expiries.

    Volumes are those of the chain's last session; its relative volume is their sum over the exponentially weighted
    mean of past sessions' sums: early in a session it is low for that reason alone. `option_unusual_share` is the share
    of the volume in contracts of which more was traded than is open. The flow is what volumes grew by since the
    decision before of the same interval, its balance $(puts - calls) / (puts + calls)$.

    Parameters
    ----------
    config
        Maturities, windows, and how many contracts are kept.
    n_intervals
        Number of decision grids that each have their own flow.
    sessions
        Sessions that volumes and volatilities belong to; those of `config.calendar` where not given.

    Notes
    -----
    Where a record has a price and the underlying's, but no implied volatility from 1e-4 to 10, it is computed as
    that of a European option without dividends (see `models.options`); where it has none of use, the delta follows
    from the volatility, so the skew always is one of deltas. What a later record leaves out stays as it was. Numbers
    that are not finite, negative or beyond 1e12 count as missing, and a record without a positive strike, or after its
    contract's expiry, says nothing of its contract.

    Before an instrument's first record all features are `NO_INPUT`, and `STALE` where the last one is older than
    `max_age`, but for the flow, which is `NO_INPUT` without a record since the decision before. A volatility that no
    strikes or expiries enclose is `DEGENERATE`, as is a ratio to zero and a rank among equal values; rank and
    relative volume are `WARMING_UP` for `min_sessions` and `min_volume_sessions`. The first record of a contract adds
    no flow, for it is not known since when its volume was traded; a volume that falls within a session counts as a
    new start. The change of open interest compares the contracts that were there at the end of the session before.

    At most `max_contracts` are kept for an instrument. A contract enters with its first record that says a
    volatility, a volume or an open interest; when there is no room all expired ones go, and where there are none the
    new one is left out, and `dropped` counts the record. About 90 bytes a contract for instruments with options, 4
    bytes for others. About 0.6 µs a record and 0.3 µs a decision; a chain's summary, made anew at the first decision
    after a record, 30 ns for each of its contracts; a volatility that is not in the record 4 µs.

    Examples
    --------
    >>> group = OptionsGroup(OptionsConfig(), n_intervals=1)
    >>> [spec.name for spec in group.specs()][:4]
    ['iv_atm', 'iv_rank', 'iv_percentile', 'iv_skew']

    References
    ----------
    Pan, J. and Poteshman, A. (2006). The information in option volume for future stock prices. Review of Financial
    Studies 19(3).
    Xing, Y., Zhang, X. and Zhao, R. (2010). What does the individual option volatility smirk tell us about future
    equity returns? Journal of Financial and Quantitative Analysis 45(3).
    """

    def __init__(self, config: OptionsConfig, n_intervals: int, sessions: SessionTable | None = None) -> None:
        if n_intervals < 1:
            raise ValueError(f"expected `n_intervals` of at least 1, was {n_intervals}")
        self._config = config
        self._sessions = sessions
        self._parameters = Parameters(
            duration_ns(config.maturity),
            duration_ns(config.far_maturity),
            config.maturity_tolerance,
            config.moneyness_band,
            duration_ns(config.max_age),
            config.min_sessions,
            2.0 / (config.volume_span + 1),
            config.min_volume_sessions,
        )
        self._chains = _ChainState(config, n_intervals)

    @property
    def dropped(self) -> int:
        """Records of contracts for which there was no room."""
        return int(self._chains.arrays.counts[:, DROPPED].sum())

    def specs(self) -> tuple[FeatureSpec, ...]:
        """Return what each column is, in order."""
        c = self._config.content()
        surface = {key: c[key] for key in ("maturity", "maturity_tolerance", "moneyness_band", "rate", "max_age")}
        session = {"calendar": c["calendar"], "max_age": c["max_age"], "max_contracts": c["max_contracts"]}
        rank = surface | session | {"window": c["window"], "min_sessions": c["min_sessions"]}
        rows: tuple[tuple[str, str, str, str, dict[str, Any], int], ...] = (
            (
                "iv_atm", "1/sqrt(year)", "at strike = spot between strikes, at maturity by total variance", _GATHERAL,
                surface, 1,
            ),
            ("iv_rank", "1", "(iv_atm - min) / (max - min) over past sessions and now", "definition", rank, 1),
            ("iv_percentile", "1", "share of past sessions with a lower iv_atm", "definition", rank, 1),
            ("iv_skew", "1/sqrt(year)", "iv of the -0.25 delta put - iv of the 0.25 delta call", _XING, surface, 1),
            (
                "iv_term_slope", "1/sqrt(year)", "iv_atm at far_maturity - iv_atm", _GATHERAL,
                surface | {"far_maturity": c["far_maturity"]}, 1,
            ),
            ("put_call_volume_ratio", "1", "put volume / call volume of the session", _PAN, session, 1),
            ("put_call_open_interest_ratio", "1", "put open interest / call open interest", _PAN, session, 1),
            ("option_volume_to_open_interest", "1", "volume of the session / open interest", _JOHNSON, session, 1),
            ("option_unusual_share", "1", "share of volume where volume > open interest", _JOHNSON, session, 1),
            (
                "option_volume_ratio", "1", "volume of the session / ewma of past sessions' volumes", _JOHNSON,
                session | {key: c[key] for key in ("volume_span", "min_volume_sessions")}, c["min_volume_sessions"],
            ),
            (
                "open_interest_change", "1", "(open interest - before) / before, as the session before left it", _FODOR,
                session, 1,
            ),
            ("option_flow", "contracts", "growth of volumes since the decision before", _PAN, session, 1),
            ("option_flow_balance", "1", "(put flow - call flow) / (put flow + call flow)", _PAN, session, 1),
        )  # fmt: skip
        return tuple(
            FeatureSpec(name, unit, formula, reference, ("options",), parameters, warm_up)
            for name, unit, formula, reference, parameters, warm_up in rows
        )

    def states(self) -> Mapping[str, InstrumentRows]:
        """Return every state of the group, by name."""
        return {"chains": self._chains}

    def update(self, frame: FrameInputs, decisions: DecisionColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next records and return the features at the next decisions, shape `(m, 13)`.

        Raises
        ------
        InvariantError
            A decision comes after a record of its instrument that is not before it.
        """
        values = np.full((len(decisions), N_FEATURES), np.nan)
        missing = np.full(values.shape, Missing.NO_INPUT, dtype=np.uint8)
        records = self._records(frame)
        row = self._chains.rows[decisions.code]
        at = (frozen(row), frozen(np.asarray(decisions.interval, dtype=np.int32)), frozen(decisions.ts))
        late = _walk(records, at, self._chains.arrays, self._parameters, values, missing)
        if late >= 0:
            raise InvariantError(
                f"expected the decision of instrument code {int(decisions.code[late])} at {int(decisions.ts[late])} "
                "before its options records at or past that time, found one taken before; pass decisions no later "
                "than such records"
            )
        return values, missing

    def _records(self, frame: FrameInputs) -> Records:
        batch, code = frame.batches.get("options"), frame.codes.get("options")
        if batch is None or code is None:
            none, nothing = np.empty(0, np.int64), np.empty(0)
            row, right = np.empty(0, np.int32), np.empty(0, np.int8)
            empty: tuple[Any, ...] = (row, none, none, none, none, nothing, right, *[nothing] * 5)
            return Records(*(frozen(column) for column in empty))
        if self._sessions is None:
            self._sessions = session_table(self._config.calendar)
        strike, spot = _positive(floats(batch, "strike")), _positive(floats(batch, "underlying_price"))
        ts, right = times(batch, "ts_recv"), int8s(batch, "right")
        expiry = np.clip(times(batch, "ts_expiry"), -_LATEST_NS, _LATEST_NS)
        expiry = np.where(np.isfinite(strike), expiry, -_LATEST_NS)  # as if expired: it says nothing
        volatility, delta = self._volatilities(batch, strike, spot, (expiry - ts) / _YEAR_NS, right)
        columns: tuple[Any, ...] = (
            self._chains.slots(code), ts, 1 + self._sessions.index(ts), _contract_keys(batch), expiry, strike, right,
            volatility, delta, _counts(floats(batch, "volume")), _counts(floats(batch, "open_interest")), spot,
        )  # fmt: skip
        return Records(*(frozen(column) for column in columns))

    def _volatilities(
        self, batch: pa.RecordBatch, strike: FloatArray, spot: FloatArray, years: FloatArray, right: Int8Array
    ) -> tuple[FloatArray, FloatArray]:
        """Return volatility and delta of each record, computed where it has none of use; NaN where neither can be."""
        volatility = floats(batch, "implied_volatility")
        in_range = (volatility >= MIN_VOLATILITY) & (volatility <= MAX_VOLATILITY)
        volatility = np.where(in_range, volatility, np.nan)
        delta, is_call = floats(batch, "delta").copy(), right > 0
        lacking = np.flatnonzero(np.isnan(volatility))
        delta[lacking] = np.nan
        if len(lacking):
            price = floats(batch, "price")[lacking]
            volatility[lacking] = implied_volatility(
                price, spot[lacking], strike[lacking], years[lacking], is_call[lacking], self._config.rate
            )
        usable = np.where(is_call, (delta > 0) & (delta < 1), (delta < 0) & (delta > -1))
        known = np.isfinite(volatility) & np.isfinite(spot) & np.isfinite(strike) & (years > 0)
        rows = np.flatnonzero(~usable & known)
        delta[~usable] = np.nan
        delta[rows] = black_scholes_delta(
            spot[rows], strike[rows], years[rows], volatility[rows], is_call[rows], self._config.rate
        )
        return volatility, delta


def _positive(values: FloatArray) -> FloatArray:
    return np.where((values > 0.0) & np.isfinite(values), values, np.nan)


def _counts(values: FloatArray) -> FloatArray:
    return np.where((values >= 0.0) & (values <= _MOST_CONTRACTS), values, np.nan)


def _contract_keys(batch: pa.RecordBatch) -> IntArray:
    """Return the number of each record's contract; each of the contracts that occur is looked up once.

    A record without one, which decoding refuses, counts as of the contract with the empty name.
    """
    column = batch.column("contract_id")
    if column.null_count:
        return text_keys(column.to_pylist())
    used, position = np.unique(column.indices.to_numpy(zero_copy_only=False), return_inverse=True)
    return text_keys(column.dictionary.take(pa.array(used)).to_pylist())[position]
