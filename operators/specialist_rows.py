"""Rows of `predictions` and `outcomes` from arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.arrival import Rows
from operators.columns import FloatArray, IntArray
from schemas.fields import Schema
from schemas.tables import OUTCOMES, PREDICTIONS

__all__ = ["Explanations", "ModelName", "explanations", "outcome_rows", "prediction_rows"]

Explanations = tuple[npt.NDArray[np.object_], FloatArray]
"""Keys and values of the entries of each row, shape `(n, m)` each."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """What names a model in a row.

    Parameters
    ----------
    model
        Specialist by its registered name, or `ensemble`.
    version, feature_set
        Content hashes of the model and of what it reads.
    horizon_ns
        Time from a prediction to its outcome, ns.
    """

    model: str
    version: str
    feature_set: str
    horizon_ns: int


def explanations(
    names: tuple[str, ...], contributions: FloatArray, intercept: float, log_odds: FloatArray, largest: int
) -> Explanations:
    """Return the entries of each row's explanation: those that add most, then `intercept` and `other`.

    Parameters
    ----------
    names
        Name of each contribution.
    contributions
        To the log-odds, shape `(n, len(names))`.
    intercept
        Log-odds without any.
    log_odds
        In all, shape `(n,)`.
    largest
        Entries of a row that are named, the greatest by magnitude; of equal ones the first.

    Returns
    -------
    keys
        Shape `(n, m)`.
    values
        Same shape; each row sums to its log-odds, but for rounding.

    Examples
    --------
    >>> keys, values = explanations(("a", "b"), np.array([[0.1, -0.4]]), 0.05, np.array([-0.25]), 1)
    >>> keys.tolist(), values.round(2).tolist()
    ([['b', 'intercept', 'other']], [[-0.4, 0.05, 0.1]])
    """
    n = len(contributions)
    order = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :largest]
    named = np.take_along_axis(contributions, order, axis=1)
    other = log_odds - intercept
    for column in range(named.shape[1]):
        other = other - named[:, column]
    values = np.column_stack([named, np.full(n, intercept), other])
    keys = np.empty(values.shape, dtype=object)
    keys[:, :-2] = np.array(names, dtype=object)[order]
    keys[:, -2:] = ["intercept", "other"]
    return keys, values


def prediction_rows(
    name: ModelName, instruments: list[str], interval_ns: int, ts: int, numbers: dict[str, FloatArray],
    explained: Explanations,
) -> Rows:  # fmt: skip
    """Return answers of one model at one time as rows.

    Parameters
    ----------
    name
        The model.
    instruments
        Of each answer, `n` of them, at least 1.
    interval_ns, ts
        Length of the bars and decision time, ns.
    numbers
        `probability`, `confidence` and `score`, shape `(n,)` each, finite.
    explained
        As `explanations` returns them.
    """
    n = len(instruments)
    keys, values = explained
    offsets = pa.array(np.arange(0, values.size + 1, values.shape[1], dtype=np.int32))
    columns = {
        "instrument_id": pa.array(instruments).dictionary_encode(),
        "interval_ns": pa.array(np.full(n, interval_ns)),
        "ts": pa.array(np.full(n, ts)),
        **_named(name, n),
        "feature_set": _repeated(name.feature_set, n),
        **{key: pa.array(value) for key, value in numbers.items()},
        "explanation": pa.MapArray.from_arrays(offsets, pa.array(keys.ravel().tolist()), pa.array(values.ravel())),
    }
    return Rows(PREDICTIONS.name, _batch(PREDICTIONS, columns))


def outcome_rows(
    name: ModelName, instruments: list[str], ts: IntArray, ts_matured: int, label: npt.NDArray[np.int8],
    numbers: dict[str, FloatArray],
) -> Rows:  # fmt: skip
    """Return outcomes of one model as rows.

    Parameters
    ----------
    name
        The model.
    instruments, ts
        Instrument and time of each prediction, `m` of them, at least 1.
    ts_matured
        Decision time at which they matured, ns.
    label
        An `OutcomeLabel` code, shape `(m,)`.
    numbers
        `horizon_return`, `probability` and `loss`, shape `(m,)` each; NaN where there is none.
    """
    n = len(instruments)
    columns = {
        "instrument_id": pa.array(instruments).dictionary_encode(),
        "ts": pa.array(ts),
        **_named(name, n),
        "ts_matured": pa.array(np.full(n, ts_matured)),
        "label": pa.array(label),
        **{key: pa.array(value) for key, value in numbers.items()},
    }
    return Rows(OUTCOMES.name, _batch(OUTCOMES, columns))


def _named(name: ModelName, n: int) -> dict[str, pa.Array]:
    return {
        "model": _repeated(name.model, n),
        "model_version": _repeated(name.version, n),
        "horizon_ns": pa.array(np.full(n, name.horizon_ns)),
    }


def _repeated(text: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([text]))


def _batch(schema: Schema, columns: dict[str, Any]) -> pa.RecordBatch:
    fields = [field.arrow for field in schema.computed]
    arrays = [
        array if (array := columns[field.name]).type == field.type else array.cast(field.type) for field in fields
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
