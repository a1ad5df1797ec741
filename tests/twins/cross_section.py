"""Features across instruments as plain batch functions of a table of closes: rows are frames, columns instruments."""

from __future__ import annotations

import numpy as np
import pandas as pd


def returns(closes: pd.DataFrame, max_abs_return: float) -> pd.DataFrame:
    """Return log returns between neighbouring rows."""
    found = np.log(closes).diff()
    return found.where(found.abs() <= max_abs_return)


def decayed_notional(notional: pd.DataFrame, half_life: float) -> pd.DataFrame:
    """Return the decayed sum of each column's notional."""
    decay = 0.5 ** (1 / half_life)
    total = np.zeros(notional.shape[1])
    found = []
    for row in notional.fillna(0.0).to_numpy():
        total = total * decay + row
        found.append(total)
    return pd.DataFrame(found, index=notional.index, columns=notional.columns)


def market_return(table: pd.DataFrame, weights: pd.DataFrame, least: int) -> pd.Series:
    """Return the weighted mean of each row that has enough returns."""
    weights = weights.where(table.notna())
    mean = (table * weights).sum(axis=1) / weights.sum(axis=1)
    return mean.where(table.notna().sum(axis=1) >= least)


def dispersion(table: pd.DataFrame, weights: pd.DataFrame, market: pd.Series) -> pd.Series:
    """Return the weighted standard deviation of each row."""
    weights = weights.where(table.notna())
    squares = table.sub(market, axis=0) ** 2
    return np.sqrt((squares * weights).sum(axis=1) / weights.sum(axis=1)).where(market.notna())


def beta_and_correlation(own: pd.Series, other: pd.Series, half_life: float, least: int) -> pd.DataFrame:
    """Return the decayed beta and correlation after each row, held where there is no pair of returns."""
    pairs = pd.DataFrame({"own": own, "other": other}).dropna()
    decayed = pairs.ewm(halflife=half_life, adjust=True)
    covariance = decayed.cov(bias=True)
    both = covariance.xs("other", level=1)["own"]
    var_own = covariance.xs("own", level=1)["own"]
    var_other = covariance.xs("other", level=1)["other"]
    found = pd.DataFrame({"beta": both / var_other, "correlation": both / np.sqrt(var_own * var_other)})
    found[: least - 1] = np.nan
    return found.reindex(own.index).ffill()


def above_average(closes: pd.DataFrame, span: int, least: int) -> pd.Series:
    """Return the share of log closes above their exponential average."""
    logs = np.log(closes)
    found = []
    averages = {name: logs[name].dropna().ewm(span=span, adjust=False).mean() for name in logs}
    for at in range(len(logs)):
        above = [
            logs[name].iloc[at] > averages[name].loc[logs.index[at]]
            for name in logs
            if np.isfinite(logs[name].iloc[at]) and logs[name].iloc[: at + 1].notna().sum() >= span
        ]
        found.append(np.mean(above) if len(above) >= least else np.nan)
    return pd.Series(found, index=closes.index)


def percentile(values: pd.Series) -> pd.Series:
    """Return the percentile of each value, 0 for the least and 1 for the greatest."""
    return (values.rank(method="average") - 1) / (values.notna().sum() - 1)


def constant_correlation(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Return Ledoit and Wolf's estimate towards constant correlation, element by element as their appendix has it."""
    t, n = x.shape
    y = x - x.mean(axis=0)
    s = y.T @ y / t
    r = s / np.sqrt(np.outer(np.diag(s), np.diag(s)))
    mean = sum(r[i, j] for i in range(n) for j in range(i + 1, n)) * 2 / ((n - 1) * n)
    f = np.array([[s[i, i] if i == j else mean * np.sqrt(s[i, i] * s[j, j]) for j in range(n)] for i in range(n)])
    pi = rho = 0.0
    for i in range(n):
        for j in range(n):
            own = np.mean((y[:, i] * y[:, j] - s[i, j]) ** 2)
            pi += own
            if i == j:
                rho += own
                continue
            theta_i = np.mean((y[:, i] ** 2 - s[i, i]) * (y[:, i] * y[:, j] - s[i, j]))
            theta_j = np.mean((y[:, j] ** 2 - s[j, j]) * (y[:, i] * y[:, j] - s[i, j]))
            rho += mean / 2 * (np.sqrt(s[j, j] / s[i, i]) * theta_i + np.sqrt(s[i, i] / s[j, j]) * theta_j)
    gamma = ((f - s) ** 2).sum()
    share = max(0.0, min((pi - rho) / gamma / t, 1.0))
    return share * f + (1 - share) * s, share
