"""The page: built through a real store, parsed as a browser would, hostile text inert."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from dataflows.report import build_report
from dataflows.report.suggestions import suggested_queries
from schemas.enums import RunStatus
from schemas.errors import InputError
from schemas.tables import BARS, DEAD_LETTERS, FEATURES, LATE_EVENTS, SIGNALS
from sinks.archive import Archive, ArchiveWriter
from sinks.query import run_query
from sinks.store import Run, RunCount, Store

_MINUTE = 60 * 10**9
_START = 1_723_075_200 * 10**9
_NAMES = ("zscore", "spread_bps", "news_sentiment")
_RUNS = count()
_PLOTLY = get_plotlyjs()


class _Page(HTMLParser):
    """What a browser makes of a page: tags, attributes, visible text, scripts by their id."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend((name, value or "") for name, value in attrs)
        self._script = (dict(attrs).get("id") or f"code {len(self.scripts)}") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.text += data

    @property
    def figures(self) -> dict[str, Any]:
        return {name: json.loads(text) for name, text in self.scripts.items() if not name.startswith("code ")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("report")
    with Store.open(str(folder / "db")) as opened:
        yield opened


def _fill(store: Store, text: str = "plain", payload: bytes = b"payload", run_id: str | None = None) -> str:
    """Write a small run with a text in every field that takes one; return its id."""
    run_id = f"run {next(_RUNS)} {text}" if run_id is None else run_id
    config = json.dumps({"compute": {"bars": {"intervals": ["1m", text], "grace": f"2s{text}"}}})
    store.start_run(Run(run_id, text, text, text, _NAMES, config, text))
    moments = [{"ts": _START + i * _MINUTE, "run_id": run_id, "instrument_id": text} for i in range(1, 91)]
    numbers = dict.fromkeys(("open", "high", "low", "close", "volume", "notional", "vwap", "buy_volume"), 9.5)
    bars = [
        row | numbers | {"interval_ns": _MINUTE, "ts_start": row["ts"] - _MINUTE, "ts_end": row["ts"], "trade_count": 1}
        for row in moments
    ]
    store.insert("bars", pa.Table.from_pylist(bars, schema=BARS.arrow))
    features = [
        row | {"interval_ns": _MINUTE, "feature_set": text, "missing": [int(i < 5), 0, 4],
               "zscore": None if i < 5 else i, "spread_bps": 1.0 + i % 3, "news_sentiment": None}
        for i, row in enumerate(moments)
    ]  # fmt: skip
    columns = [*FEATURES.arrow, *(pa.field(name, pa.float64()) for name in _NAMES)]
    store.insert("features", pa.Table.from_pylist(features, schema=pa.schema(columns)))
    signals = [
        row | {"signal_id": f"{i} {text}", "strategy": text, "direction": 1 if i % 2 else -1, "intent": 1 + i % 2,
               "confidence": 0.25, "price": 9.5, "parameters_hash": text, "feature_set": text, "reason": text,
               "inputs": [(text, 1.5)], "thresholds": [(text, 2.0)]}
        for i, row in enumerate(moments[:60])
    ]  # fmt: skip
    store.insert("signals", pa.Table.from_pylist(signals, schema=SIGNALS.arrow))
    place = {"run_id": run_id, "topic": text, "partition": 0, "offset": 7, "ts_recv": _START, "instrument_id": text,
             "reason": text, "payload": payload}  # fmt: skip
    store.insert("dead_letters", pa.Table.from_pylist([place | {"detail": text}], schema=DEAD_LETTERS.arrow))
    late = place | {"interval_ns": _MINUTE, "ts_event": _START - _MINUTE}
    store.insert("late_events", pa.Table.from_pylist([late], schema=LATE_EVENTS.arrow))
    counts = [
        ("read", text, "", 10),
        ("decoded", text, "", 9),
        ("dead_lettered", text, text, 1),
        ("late", text, text, 1),
    ]
    store.write_counts(run_id, [RunCount(*row) for row in counts])
    store.finish_run(run_id, RunStatus.COMPLETE)
    return run_id


def _page(store: Store, run_id: str, folder: Path, **more: Any) -> _Page:
    """Build and parse a report; Plotly, which is most of it, is found once and left out of the parsing."""
    before, *after = build_report(store, run_id, folder / "report.html", **more).read_text("utf-8").split(_PLOTLY)
    assert len(after) == 1
    return _Page(f"{before}plotly{after[0]}")


def test_report_of_a_run_has_every_section_and_figure(store: Store, tmp_path: Path) -> None:
    page = _page(store, _fill(store), tmp_path)
    sections = {value for name, value in page.attributes if name == "id"}
    assert {"counts", "instruments", "signals", "features", "refused", "late", "queries"} <= sections
    assert set(page.figures) == {"instrument-0", "strategies", "drift", "coverage"}
    for part in ("complete", "counts add up", "2splain (the configured grace)", "not orders", "No costs are modelled"):
        assert part in page.text


def test_report_numbers_are_those_of_the_store(store: Store, tmp_path: Path) -> None:
    run_id = _fill(store)
    page = _page(store, run_id, tmp_path, elapsed=0.005)
    figures = page.figures
    traces = {trace["name"]: trace for trace in figures["instrument-0"]["data"]}
    assert traces["bars"]["close"] == [9.5] * 90
    assert (len(traces["enter short"]["x"]), len(traces["exit"]["x"])) == (30, 30)
    assert sum(figures["strategies"]["data"][0]["y"]) == 60
    assert figures["drift"]["data"][0]["y"][-1] == "zscore"
    assert {trace["name"] for trace in figures["coverage"]["data"]} == {"warming up", "stale"}
    assert "2,000records per second" in page.text
    assert all(found.digest in page.text for found in store.digest(run_id).values())


def test_report_is_self_contained_and_allows_only_its_own_scripts(store: Store, tmp_path: Path) -> None:
    page = _page(store, _fill(store), tmp_path)
    links = [value for name, value in page.attributes if name in {"src", "href", "action", "data", "srcset"}]
    policy = next(value for _, value in page.attributes if value.startswith("default-src"))
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert not {"iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert not re.search(r"@import|url\(", Path("dataflows/report/templates/style.css").read_text())
    assert re.fullmatch(r"default-src 'none'; script-src ('sha256-[\w+/=]{44}' ?){2}; .*", policy)
    assert "unsafe-eval" not in policy


def test_report_of_the_same_rows_has_the_same_bytes(store: Store, tmp_path: Path) -> None:
    run_id = _fill(store)
    first = build_report(store, run_id, tmp_path / "a.html").read_bytes()
    _fill(store, run_id=run_id)
    assert build_report(store, run_id, tmp_path / "new" / "b.html").read_bytes() == first
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.html"]


def test_report_of_an_empty_run_says_so(store: Store, tmp_path: Path) -> None:
    store.start_run(Run("empty", "1", "c", "f", (), "not json", "nothing"))
    page = _page(store, "empty", tmp_path)
    for part in ("running", "empty run", "nothing to plot", "no counters", "No strategy gave a signal",
                 "no feature rows", "No record was refused", "No trade missed its bar",
                 "a configured grace"):  # fmt: skip
        assert part in page.text
    assert page.figures == {}


def test_report_of_counts_that_do_not_add_up_says_so(store: Store, tmp_path: Path) -> None:
    run_id = _fill(store)
    store.write_counts(run_id, [RunCount("read", "plain", "", 11), RunCount("late", "plain", "plain", 5)])
    page = _page(store, run_id, tmp_path)
    assert "counts do not add up" in page.text
    assert page.text.count("differ") == 2


def test_report_with_an_archive_states_its_records(store: Store, tmp_path: Path) -> None:
    archive = Archive.create(tmp_path / "archive")
    with ArchiveWriter(archive, "trades", "file"):
        pass
    page = _page(store, _fill(store), tmp_path, archive=archive)
    assert "in the archive" in page.text
    assert "trades" in page.text


def test_report_of_an_unknown_run_names_those_there_are(store: Store, tmp_path: Path) -> None:
    known = _fill(store, run_id="zz known")
    with pytest.raises(InputError, match=f"expected run `missing` in .*, found .*`{known}`; name one that is there"):
        build_report(store, "missing", tmp_path / "report.html")


def test_report_where_nothing_can_be_written_is_refused(store: Store, tmp_path: Path) -> None:
    run_id = _fill(store)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"expected to write a report to .*; name another file"):
        build_report(store, run_id, tmp_path / "file" / "report.html")


def test_report_bounds_payloads_and_examples(store: Store, tmp_path: Path) -> None:
    run_id = _fill(store, payload=b"x" * 100_000)
    row = {
        "run_id": run_id,
        "partition": 0,
        "ts_recv": 1,
        "instrument_id": None,
        "detail": "d" * 5_000,
        "payload": b"y",
    }
    rows = [row | {"topic": f"t{i % 9}", "offset": i, "reason": f"r{i % 9}"} for i in range(500)]
    store.insert("dead_letters", pa.Table.from_pylist(rows, schema=DEAD_LETTERS.arrow))
    page = _page(store, run_id, tmp_path)
    assert max(map(len, re.findall("x+", page.text))) <= 300
    assert "100,000" in page.text
    assert len(re.findall("d{200,}", page.text)) <= 20
    assert max(map(len, re.findall("d+", page.text))) <= 300


_HOSTILE = (
    "<script>window.hacked=1</script>", "</script><script>window.hacked=1</script>", "<img src=x onerror=hacked()>",
    "\"><svg onload=hacked()>", "'><iframe src=javascript:hacked()>", "</style></title></textarea>", "<!--", "-->",
    "]]>", "{{ 7*7 }}", "{% raw %}", "&lt;b&gt;", "<a href='https://example.org'>", "\x00", "\x1b[31m", "\u202e",
    "\u2028", "\r\n", "'; DROP TABLE runs; --", "\\", "%{x}", "__proto__",
)  # fmt: skip


@pytest.fixture(scope="module")
def plain(store: Store, tmp_path_factory: pytest.TempPathFactory) -> _Page:
    return _page(store, _fill(store), tmp_path_factory.mktemp("plain"))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(_HOSTILE), st.text(max_size=8)), min_size=1, max_size=4).map("".join),
    st.one_of(st.binary(max_size=60), st.sampled_from(_HOSTILE).map(str.encode)),
)
def test_report_of_hostile_text_in_every_field_is_inert(
    store: Store, plain: _Page, tmp_path_factory: pytest.TempPathFactory, text: str, payload: bytes
) -> None:
    page = _page(store, _fill(store, text, payload), tmp_path_factory.mktemp("hostile"))
    assert set(page.tags) == set(plain.tags)
    assert page.tags.count("script") == plain.tags.count("script") == 6
    assert {name for name, _ in page.attributes} == {name for name, _ in plain.attributes}
    assert not [c for c in page.text if not c.isprintable() and c != "\n"]
    assert [page.scripts[name] for name in ("code 0", "code 1")] == [
        plain.scripts[name] for name in ("code 0", "code 1")
    ]
    for figure in page.figures.values():
        for label in _strings(figure):
            assert not re.sub(r"</?[bi]>|<br>", "", label).count("<")
            assert label.isprintable()


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


@pytest.mark.parametrize("run_id", ["suggested", "it's \\ odd"])
def test_suggested_queries_run_and_find_rows(store: Store, run_id: str) -> None:
    _fill(store, run_id=run_id)
    for suggestion in suggested_queries(run_id, _MINUTE):
        out = io.BytesIO()
        run_query(store, suggestion["sql"], "json", out=out)
        assert json.loads(out.getvalue()), suggestion["title"]
