"""Laws of comparing runs: plain Python as oracle, and the digests of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from struct import pack

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.comparison import RunReference, compare_runs
from dataflows.comparison.rows import DifferentRows, RowHashes, compare_hashes
from schemas.enums import RunStatus
from schemas.tables import FEATURES
from sinks.store import Run, Store

S = 10**9
RUNS = count()
Rows = dict[int, tuple[float | None, float | None]]
"""Two features by the second of their row."""
VALUES = st.sampled_from([None, 0.0, -0.0, 1.0, 1.0 + 2**-52, float("inf")])
ROWS = st.dictionaries(st.integers(1, 8), st.tuples(VALUES, VALUES), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison") / "database"


def _insert(store: Store, run_id: str, rows: Rows) -> None:
    store.start_run(Run(run_id, "1", "c", "f", ("x", "y"), "{}", "test"))
    store.finish_run(run_id, RunStatus.COMPLETE)
    records = [
        {"instrument_id": "A", "interval_ns": S, "ts": second * S, "feature_set": "f", "missing": [], "x": x, "y": y}
        for second, (x, y) in rows.items()
    ]
    schema = pa.schema([field for field in FEATURES.arrow if field.name != "run_id"])
    features = [pa.field(name, pa.float64()) for name in ("x", "y")]
    store.insert("features", pa.Table.from_pylist(records, schema=pa.schema([*schema, *features])), run_id=run_id)


def _bits(values: Sequence[float | None]) -> list[bytes | None]:
    return [None if value is None else pack("<d", value) for value in values]


@settings(max_examples=12)
@given(a=ROWS, b=ROWS, same=st.booleans(), chunk_rows=st.sampled_from([1, 3, 100]))
def test_comparison_is_equal_just_where_the_digests_are_and_counts_as_python_does(
    folder: Path, a: Rows, b: Rows, same: bool, chunk_rows: int
) -> None:
    b = a if same else b
    run_a, run_b = f"run{next(RUNS)}", f"run{next(RUNS)}"
    with Store.open(str(folder)) as store:
        _insert(store, run_a, a)
        _insert(store, run_b, b)
        digests = store.digest(run_a), store.digest(run_b)
    found = compare_runs(
        RunReference(str(folder), run_a), RunReference(str(folder), run_b), tables=["features"], chunk_rows=chunk_rows
    )
    (table,) = found.tables
    differing = sorted(second for second in a.keys() & b.keys() if _bits(a[second]) != _bits(b[second]))
    alone = a.keys() ^ b.keys()
    assert found.is_equal is (digests[0] == digests[1])
    assert (table.only_a, table.only_b, table.differing, table.equal) == (
        len(a.keys() - b.keys()), len(b.keys() - a.keys()), len(differing), len(a.keys() & b.keys()) - len(differing),
    )  # fmt: skip
    assert [row.time for row in table.examples] == [second * S for second in sorted([*alone, *differing])][:10]
    expected = [sum(_bits(a[second])[n] != _bits(b[second])[n] for second in differing) for n in (0, 1)]
    assert [table.columns.get(name, 0) for name in ("x", "y")] == expected


HASHES = st.dictionaries(st.integers(0, 2**64 - 1) | st.integers(0, 30), st.integers(0, 1), max_size=30)


def _rows(hashes: dict[int, int]) -> RowHashes:
    keys = list(hashes)
    time = np.array([key % 5 for key in keys], np.int64)
    return RowHashes(np.array(keys, np.uint64), np.array(list(hashes.values()), np.uint64), time)


@given(a=HASHES, b=HASHES)
def test_hashes_are_compared_as_dictionaries_are(a: dict[int, int], b: dict[int, int]) -> None:
    equal, found = compare_hashes(_rows(a), _rows(b))
    assert equal == sum(a[key] == b[key] for key in a.keys() & b.keys())
    assert {kind: set(keys.tolist()) for kind, (keys, _) in found.items()} == {
        "only_a": a.keys() - b.keys(),
        "only_b": b.keys() - a.keys(),
        "differs": {key for key in a.keys() & b.keys() if a[key] != b[key]},
    }
    assert all((times == keys % np.uint64(5)).all() for keys, times in found.values())


@given(parts=st.lists(HASHES, max_size=4), kept=st.integers(1, 8))
def test_kept_differences_are_the_first_in_time_however_they_came(parts: list[dict[int, int]], kept: int) -> None:
    whole: dict[int, int] = {}
    found = DifferentRows(kept=kept)
    for part in parts:
        fresh = {key: value for key, value in part.items() if key not in whole}
        whole |= fresh
        found.add(*compare_hashes(_rows(fresh), _rows({})))
    expected = sorted(whole, key=lambda key: (key % 5, key))[:kept]
    assert found.counts["only_a"] == len(whole)
    assert found.keys.get("only_a", np.empty(0)).tolist() == expected
    assert found.first == (expected[0] % 5 if expected else None)
