"""Batch twins of the features of earnings and options: one decision at a time, from the whole log before it.

They know nothing of the state of the groups: a log is a list of records of one instrument, in order of time, and each
answer begins with the first one. Times of records and trades are distinct, and no report is due at one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

DAY = 86_400e9


@dataclass
class Report:
    """One announcement: its records up to the one with its figures."""

    ident: str
    records: list[Any] = field(default_factory=list)
    ts_figures: int | None = None
    actual: float = math.nan

    @property
    def estimates(self) -> list[float]:
        """What was expected before the figures came, or with them if nothing was."""
        known = [r.estimate for r in self.records if r.ts != self.ts_figures and math.isfinite(r.estimate)]
        return known or [r.estimate for r in self.records if math.isfinite(r.estimate)]

    def windows(self, window: int) -> int:
        """Return when the window of the last schedule began, or was first heard of."""
        began = None
        for record in self.records:
            start = record.due - window
            is_ahead = began is None or start > record.ts
            began = max(start, record.ts) if is_ahead else min(began, record.ts)
        return int(began or 0)

    def happenings(self, now: int) -> list[tuple[int, int]]:
        """Return (when it was known to have happened, when it did) for each time that it did."""
        found, happened = [], False
        ends = [record.ts for record in self.records[1:]] + [now if self.ts_figures is None else self.ts_figures]
        for record, end in zip(self.records, ends, strict=True):
            happened = happened and record.due <= record.ts
            if record.ts == self.ts_figures:
                if not happened:
                    found.append((record.ts, min(record.due, record.ts)))
                break
            if not happened and record.due <= end:
                happened = True
                found.append((max(record.due, record.ts), record.due))
        return found

    def happened(self, now: int) -> bool:
        """Return whether the last schedule has passed."""
        return self.records[-1].due <= now


def reports_before(log: list[Any], now: int, n_reports: int) -> tuple[list[Report], list[Report]]:
    """Return the reports with figures in order of these, and the others."""
    done: list[Report] = []
    ahead: dict[str, Report] = {}
    for record in log:
        if record.ts >= now:
            break
        restated = [report for report in done[-n_reports:] if report.ident == record.ident]
        if restated:
            if math.isfinite(record.actual):
                restated[0].actual = record.actual
            continue
        report = ahead.setdefault(record.ident, Report(record.ident))
        report.records.append(record)
        if math.isfinite(record.actual):
            report.ts_figures, report.actual = record.ts, record.actual
            done.append(ahead.pop(record.ident))
    return done, list(ahead.values())


def earnings_twin(log: list[Any], trades: pd.Series, now: int, config: Any, closes: Any) -> dict[str, float]:
    """Return the features of earnings at a decision; what has no value is not in it.

    `log` holds records with `ts, ident, due, estimate, actual`, `trades` prices by time, `config` durations in ns.
    """
    known = trades[trades.index < now]
    done, ahead = reports_before(log, now, config.n_reports)
    found: dict[str, float] = {}

    def price_at(ts: int) -> float:
        before = known[known.index < ts]
        return float(before.iloc[-1] if len(before) else known.iloc[0])

    def surprise(report: Report) -> float:
        estimate = report.estimates[-1] if report.estimates else math.nan
        return (report.actual - estimate) / abs(estimate) if abs(estimate) >= config.min_estimate else math.nan

    if done and now - done[-1].ts_figures <= config.max_age:
        last, before = done[-1], known[known.index < done[-1].ts_figures]
        found["surprise"] = surprise(last)
        if len(before) and last.estimates:
            found["surprise_yield"] = (last.actual - last.estimates[-1]) / before.iloc[-1]
        surprises = [value for value in map(surprise, done[-config.n_reports :]) if not math.isnan(value)]
        if surprises:
            found["surprise_mean"] = sum(surprises) / len(surprises)
    following = sorted((r for r in ahead if not r.happened(now)), key=lambda r: r.records[-1].due)
    if following:
        found |= following_features(following[0], now, config, closes)
        if found["window"] and len(known):
            base = price_at(following[0].windows(config.window))
            found["pre_drift"] = math.log(known.iloc[-1]) - math.log(base)
    last_time, last_known = None, 0
    for was_known, when in sorted(h for report in done + ahead for h in report.happenings(now)):
        if last_time is None or when >= last_time:
            last_time, last_known = when, was_known
    if last_time is not None:
        found["days_since"] = (now - last_time) / DAY
        if now - last_time <= config.max_age and len(known):
            found["drift"] = math.log(known.iloc[-1]) - math.log(price_at(last_known))
    return {f"earnings_{name}": value for name, value in found.items() if not math.isnan(value)}


def following_features(report: Report, now: int, config: Any, closes: Any) -> dict[str, float]:
    """Return what is known of the next report but for the drift before it."""
    due, estimates = report.records[-1].due, report.estimates
    found = {"days_until": (due - now) / DAY}
    if estimates and abs(estimates[0]) >= config.min_estimate:
        found["revision"] = (estimates[-1] - estimates[0]) / abs(estimates[0])
    found["window"] = float(due - now <= config.window)
    found["proximity"] = max(0.0, 1.0 - (due - now) / config.window)
    if closes[0] <= now and due < closes[-1]:
        found["sessions_until"] = float(((closes > now) & (closes <= due)).sum())
    return found


def remembered(config: Any, name: str, now: int, compute: Any) -> Any:
    """Return what was computed of a log before a time; pandas takes long, and sessions end once."""
    if (name, now) not in config.memory:
        config.memory[name, now] = compute()
    return config.memory[name, now]


def chain_before(log: pd.DataFrame, now: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the last thing said of each contract, and by how much each record's volume grew."""
    log = log[log["ts"] < now]
    says = (log["volume"] > 0) | (log["open_interest"] > 0) | log["volatility"].notna()
    entered = says.groupby(log["ident"]).cummax()
    valid = log[(log["expiry"] > log["ts"])]
    valid = valid[entered[valid.index]].copy()
    volumes = valid.dropna(subset=["volume"]).copy()
    earlier = volumes.groupby("ident")[["volume", "session"]].shift()
    starts = (earlier["session"] != volumes["session"]) | (volumes["volume"] < earlier["volume"])
    volumes["grown"] = np.where(starts, volumes["volume"], volumes["volume"] - earlier["volume"])
    volumes["grown"] = volumes["grown"].where(earlier["volume"].notna(), 0.0)
    quotes = valid.dropna(subset=["volatility"]).groupby("ident").last()
    chain = valid.groupby("ident")[["expiry", "strike", "right"]].last()
    chain["volume"] = volumes.groupby("ident")["volume"].last()
    chain["volume_session"] = volumes.groupby("ident")["session"].last()
    chain["open_interest"] = valid.groupby("ident")["open_interest"].last()  # pandas takes the last that is not null
    chain["volatility"], chain["volatility_ts"] = quotes["volatility"], quotes["ts"]
    # the delta that came with the last volatility, missing or not
    chain["delta"] = valid.dropna(subset=["volatility"]).groupby("ident")["delta"].apply(lambda values: values.iloc[-1])
    return chain, volumes


def at_the_money(contracts: pd.DataFrame, band: float) -> float:
    """Return the volatility at the spot between the nearest strikes."""
    near = contracts[contracts["k"].abs() <= band].groupby("k")["volatility"].mean()
    below, above = near[near.index <= 0], near[near.index >= 0]
    if not len(below) or not len(above):
        return math.nan
    return float(np.interp(0.0, [below.index[-1], above.index[0]], [below.iloc[-1], above.iloc[0]]))


def wing(contracts: pd.DataFrame) -> float:
    """Return the volatility at an absolute delta of a quarter."""
    points = contracts.assign(delta=contracts["delta"].abs()).query("0 < delta < 1")
    points = points.drop_duplicates("delta").sort_values("delta")
    if not len(points) or points["delta"].iloc[0] > 0.25 or points["delta"].iloc[-1] < 0.25:
        return math.nan
    return float(np.interp(0.25, points["delta"], points["volatility"]))


def at_maturity(values: pd.Series, maturity: float, tolerance: float, *, total: bool) -> float:
    """Return a quantity at a maturity, given it by time left; linear in time, itself or its product with time."""
    values = values.dropna().sort_index()
    if not len(values):
        return math.nan
    if values.index[0] <= maturity <= values.index[-1]:
        shape = values * values.index if total else values
        return float(np.interp(maturity, shape.index, shape)) / (maturity if total else 1.0)
    nearest = values.index[np.argmin(np.abs(values.index - maturity))]
    return float(values[nearest]) if abs(nearest - maturity) <= tolerance * maturity else math.nan


def surface_twin(log: pd.DataFrame, now: int, config: Any) -> dict[str, float]:
    """Return volatility, slope and skew of the records before `now`."""
    last = int(log[log["ts"] < now]["ts"].iloc[-1])
    chain, _ = chain_before(log, now)
    spots = log[log["ts"] < now]["spot"].dropna()
    fresh = chain[(chain["expiry"] > last) & (last - chain["volatility_ts"] <= config.max_age)]
    fresh = fresh.dropna(subset=["volatility"])
    if not len(fresh) or not len(spots):
        return {}
    # as the group does, so that equal strikes are equal here
    fresh = fresh.assign(
        k=np.log(fresh["strike"]) - np.log(spots.iloc[-1]), left=(fresh["expiry"] - last).astype(float)
    )
    by_expiry = dict(iter(fresh.groupby("left")))
    variance = pd.Series({left: at_the_money(part, config.band) ** 2 for left, part in by_expiry.items()})
    puts, calls = (
        part[part["right"] * part["delta"] > 0] for part in (fresh[fresh["right"] < 0], fresh[fresh["right"] > 0])
    )
    skew = pd.Series(
        {left: wing(puts[puts["left"] == left]) - wing(calls[calls["left"] == left]) for left in by_expiry}
    )
    near = math.sqrt(at_maturity(variance, config.maturity, config.tolerance, total=True))
    far = math.sqrt(at_maturity(variance, config.far_maturity, config.tolerance, total=True))
    return {
        "iv_atm": near,
        "iv_term_slope": far - near,
        "iv_skew": at_maturity(skew, config.maturity, config.tolerance, total=False),
    }


def ratio(up: float, down: float) -> float:
    """Return a ratio, NaN to nothing."""
    return up / down if down > 0 else math.nan


def options_twin(log: pd.DataFrame, now: int, since: int, config: Any) -> dict[str, float]:
    """Return the features of options at a decision, the one before at `since`; what has no value is not in it.

    `log` has the columns `ts, session, ident, expiry, strike, right, volatility, delta, volume, open_interest, spot`,
    NaN where something is not said; `config` has durations in ns, and a memory of its own for each log.
    """
    known = log[log["ts"] < now]
    found: dict[str, float] = {}
    if not len(known):
        return found
    last, session = int(known["ts"].iloc[-1]), known["session"].iloc[-1]
    chain, grown = chain_before(log, now)
    recent = known[known["ts"] >= since]
    if len(recent):
        flow = grown[grown["ts"] >= since].groupby("right")["grown"].sum()
        puts, calls = flow.get(-1, 0.0), flow.get(1, 0.0)
        found["option_flow"] = puts + calls
        found["option_flow_balance"] = ratio(puts - calls, puts + calls)
    if now - last <= config.max_age:
        found |= surface_twin(log, now, config)
        found |= volume_features(chain, last, session)
        found |= session_features(log, now, chain, last, session, found.get("iv_atm", math.nan), config)
    return {name: value for name, value in found.items() if not math.isnan(value)}


def volume_features(chain: pd.DataFrame, last: int, session: int) -> dict[str, float]:
    """Return the ratios of volumes and open interest of contracts that have not expired."""
    live = chain[chain["expiry"] > last]
    today = live[live["volume_session"] == session]
    volume, interest = today.groupby("right")["volume"].sum(), live.groupby("right")["open_interest"].sum()
    found = {"put_call_volume_ratio": ratio(volume.get(-1, 0.0), volume.get(1, 0.0))} if len(today) else {}
    if live["open_interest"].notna().any():
        found["put_call_open_interest_ratio"] = ratio(interest.get(-1, 0.0), interest.get(1, 0.0))
        if len(today):
            unusual = today[today["volume"] > today["open_interest"]]["volume"].sum()
            found["option_volume_to_open_interest"] = ratio(volume.sum(), interest.sum())
            found["option_unusual_share"] = ratio(unusual, volume.sum())
    return found


def session_features(
    log: pd.DataFrame, now: int, chain: pd.DataFrame, last: int, session: int, atm: float, config: Any
) -> dict[str, float]:
    """Return what compares with the sessions before."""
    found: dict[str, float] = {}
    known = log[log["ts"] < now]
    ends = [int(part["ts"].iloc[-1]) + 1 for number, part in known.groupby("session") if number < session]
    past = [
        remembered(config, "surface", end, lambda end=end: surface_twin(log, end, config)).get("iv_atm", math.nan)
        for end in ends
    ]
    past = [value for value in past if not math.isnan(value)][-config.window :]
    if not math.isnan(atm) and len(past) >= config.min_sessions:
        low, high = min([*past, atm]), max([*past, atm])
        found["iv_rank"] = ratio(atm - low, high - low)
        found["iv_percentile"] = sum(value < atm for value in past) / len(past)
    totals = []
    for number, end in zip(sorted(set(known["session"]) - {session}), ends, strict=True):
        then, _ = remembered(config, "chain", end, lambda end=end: chain_before(log, end))
        if (then["volume_session"] == number).any():
            totals.append(then[then["volume_session"] == number]["volume"].sum())
    live_today = chain[(chain["volume_session"] == session) & (chain["expiry"] > last)]
    if len(totals) >= config.min_volume_sessions and len(live_today):
        mean = pd.Series(totals).ewm(alpha=config.decay, adjust=False).mean().iloc[-1]
        found["option_volume_ratio"] = ratio(chain[chain["volume_session"] == session]["volume"].sum(), mean)
    if ends:
        before, _ = remembered(config, "chain", ends[-1], lambda: chain_before(log, ends[-1]))
        both = (
            chain[chain["expiry"] > last]
            .join(before["open_interest"].rename("was"))
            .dropna(subset=["open_interest", "was"])
        )
        found["open_interest_change"] = ratio(both["open_interest"].sum() - both["was"].sum(), both["was"].sum())
    return found
