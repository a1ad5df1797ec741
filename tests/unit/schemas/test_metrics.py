"""The catalogue of metrics."""

from __future__ import annotations

import re

import pytest

from schemas import metrics
from schemas.metrics import CATALOGUE, Histogram, Metric

EVERY = pytest.mark.parametrize("metric", CATALOGUE.values(), ids=CATALOGUE)
UNITS = {"s", "By"}


def test_catalogue_has_every_entry_of_the_module_once():
    entries = [value for value in vars(metrics).values() if isinstance(value, Metric)]
    assert list(CATALOGUE.values()) == entries
    assert {
        metric for name, metric in vars(metrics).items() if name in metrics.__all__ and isinstance(metric, Metric)
    } == set(entries)


@EVERY
def test_name_and_attributes_follow_the_conventions(metric):
    for name in (metric.name, *(attribute.name for attribute in metric.attributes)):
        assert re.fullmatch(r"[a-z]+(\.[a-z]+(_[a-z]+)*)+", name), name
    assert metric.name.startswith(("signalbox.", "process."))
    assert metric.unit in UNITS or re.fullmatch(r"\{[a-z]+\}", metric.unit)
    assert metric.doc.endswith(".")
    # a name that is also a namespace of others cannot be stored by some backends
    assert not any(other.startswith(f"{metric.name}.") for other in CATALOGUE)


@EVERY
def test_histogram_has_ascending_bounds(metric):
    if isinstance(metric, Histogram):
        assert list(metric.bounds) == sorted(set(metric.bounds))


def test_labels_of_another_number_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        metrics.RECORDS_DEAD_LETTERED.labels(("trades",))


def test_metric_without_kind_is_refused():
    with pytest.raises(TypeError, match="found `x` without one"):
        assert Metric(name="x", unit="s", doc="").kind
