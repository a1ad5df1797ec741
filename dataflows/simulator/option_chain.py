r"""Option chains: contracts around the money at a volatility that smiles and breathes with the regime.

$$\sigma(k) = \sigma\,\sqrt{v_r}\,(1 - 0.15 k + 0.3 k^2), \qquad k = \ln(K / S) / \sqrt{T}$$

with the factor $v_r$ of the regime's volatility; prices follow Black and Scholes (1973) at zero rates.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.simulator.config import STEP_NS, SimulatorConfig
from dataflows.simulator.latent import LatentSlice
from dataflows.simulator.streams import random_stream
from schemas.enums import OptionRight
from schemas.time import duration_ns

__all__ = ["OptionChains"]

FloatArray = npt.NDArray[np.float64]

_EXPIRY_DAYS: Final = (30, 90)
_MONEYNESS: Final = np.array([0.9, 0.95, 1.0, 1.05, 1.1])
_YEAR_NS: Final = 365 * 86_400 * 10**9
_VOLUME_MEAN: Final = 6.0


def _normal_cdf(values: FloatArray) -> FloatArray:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in values.tolist()])


class OptionChains:
    """The contracts of the first instruments, and their states as time goes by.

    Parameters
    ----------
    config
        The market.
    first_price
        First price of every instrument, shape `(n,)`.
    """

    def __init__(self, config: SimulatorConfig, first_price: FloatArray) -> None:
        self._config = config
        self._draw = random_stream(config.seed, "options")
        per_instrument = len(_EXPIRY_DAYS) * len(_MONEYNESS) * 2
        self.instrument = np.repeat(np.arange(config.n_options), per_instrument)
        days = np.tile(np.repeat(_EXPIRY_DAYS, len(_MONEYNESS) * 2), config.n_options)
        money = np.tile(np.repeat(_MONEYNESS, 2), config.n_options * len(_EXPIRY_DAYS))
        self.right = np.tile([int(OptionRight.CALL), int(OptionRight.PUT)], len(money) // 2)
        spot = first_price[self.instrument]
        self.strike = np.maximum(np.round(spot * money * 2) / 2, 0.5)
        close = config.start.astimezone(UTC).replace(hour=21, minute=0, second=0, microsecond=0)
        expiries = [close + timedelta(days=int(day)) for day in days]
        self.ts_expiry = np.array([duration_ns(t - datetime(1970, 1, 1, tzinfo=UTC)) for t in expiries], dtype=np.int64)
        self.contract_ids = [
            f"{config.instrument_ids[who]}-{expiry:%Y%m%d}-{'C' if right > 0 else 'P'}-{strike:.2f}"
            for who, expiry, right, strike in zip(self.instrument, expiries, self.right, self.strike, strict=True)
        ]
        self._volume = np.zeros(len(self.strike))
        self._open_interest = self._draw.poisson(500, len(self.strike)).astype(np.float64)

    def states(self, latent: LatentSlice, first_step: int) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        """Return the times and columns of the states that fall into a slice.

        Parameters
        ----------
        latent
            The slice.
        first_step
            Number of its first step.
        """
        interval = duration_ns(self._config.option_interval)
        begin, end = first_step * STEP_NS, (first_step + len(latent.price)) * STEP_NS
        moments = range(-(-begin // interval) * interval, end, interval)
        parts = [self._at(moment, latent, (moment - begin) // STEP_NS) for moment in moments]
        names = parts[0].keys() if parts else ()
        columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in names}
        ts: npt.NDArray[np.int64] = columns.pop("ts", np.zeros(0, dtype=np.int64))
        if parts:
            codes = np.tile(np.arange(len(self.strike), dtype=np.int32), len(parts))
            columns["contract_id"] = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(self.contract_ids))
        return ts, columns

    def _at(self, moment: int, latent: LatentSlice, row: int) -> dict[str, Any]:
        """Return the state of every contract at one moment, ns since the start."""
        ts = self._config.start_ns + moment + 1000 * np.arange(len(self.strike))
        spot = latent.price[row, self.instrument]
        years = np.maximum(self.ts_expiry - ts, 1) / _YEAR_NS
        root = np.sqrt(years)
        k = np.log(self.strike / spot) / root
        level = self._config.volatility * math.sqrt(latent.volatility[row])
        volatility = level * (1 - 0.15 * k + 0.3 * k**2)
        d1 = -np.log(self.strike / spot) / (volatility * root) + volatility * root / 2
        call = spot * _normal_cdf(d1) - self.strike * _normal_cdf(d1 - volatility * root)
        is_call = self.right > 0
        price = np.where(is_call, call, call - spot + self.strike)
        self._volume = self._volume + self._draw.poisson(_VOLUME_MEAN * latent.intensity[row], len(spot))
        return {
            "ts": ts,
            "instrument": self.instrument,
            "ts_expiry": self.ts_expiry,
            "strike": self.strike,
            "right": self.right,
            "price": np.maximum(np.round(price, 2), 0.0),
            "volume": self._volume,
            "open_interest": self._open_interest,
            "implied_volatility": np.round(volatility, 6),
            "delta": np.round(np.where(is_call, _normal_cdf(d1), _normal_cdf(d1) - 1), 6),
            "underlying_price": np.round(spot, 2),
        }
