"""The report in headless Chromium: plots are drawn, nothing fails, nothing is asked of the network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest

from dataflows.report import build_report
from schemas.enums import RunStatus
from schemas.tables import BARS, DEAD_LETTERS, FEATURES, SIGNALS
from sinks.store import Run, RunCount, Store

pytestmark = pytest.mark.browser

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1400,4200",
    "--virtual-time-budget=8000", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
_MINUTE = 60 * 10**9
_START = 1_723_075_200 * 10**9
_FEATURES = (
    "spread_bps", "depth_imbalance", "order_flow_imbalance", "news_sentiment", "news_intensity", "social_sentiment",
    "social_intensity",
)  # fmt: skip
_HOSTILE = (
    "</script><img src=x onerror=\"document.documentElement.dataset.hacked=1\"><a href='https://example.org'>x</a>"
)


@dataclass(frozen=True)
class _Opened:
    """What a browser made of a page."""

    dom: str
    console: list[str]

    def fact(self, name: str) -> str | None:
        found = re.search(rf'<html[^>]* data-{name}="([^"]*)"', self.dom)
        return found[1] if found else None

    @property
    def body(self) -> str:
        """The page after its scripts ran, without them."""
        return re.sub(r"<script.*?</script>", "", self.dom, flags=re.DOTALL)

    @cached_property
    def _elements(self) -> list[tuple[str, dict[str, str | None]]]:
        found: list[tuple[str, dict[str, str | None]]] = []

        class _Collector(HTMLParser):
            def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
                found.append((tag, dict(attrs)))

        _Collector().feed(self.body)
        return found

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self._elements}

    @property
    def links(self) -> list[str]:
        names = ("src", "href", "xlink:href", "action", "data", "srcset")
        return [attributes[name] or "" for _, attributes in self._elements for name in names if name in attributes]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser; the test skips where there is none. `scripts/chromium` installs it."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs Chromium on the PATH; `scripts/chromium` installs it")
    return found


def _run(chromium: str, folder: Path, address: str, *more: str) -> subprocess.CompletedProcess[str]:
    with TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as profile:
        command = [chromium, *_FLAGS, f"--user-data-dir={profile}", *more, address]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def open_page(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], _Opened]:
    folder = tmp_path_factory.mktemp("profiles")

    @cache
    def open_address(address: str) -> _Opened:
        done = _run(chromium, folder, address, "--dump-dom")
        return _Opened(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])

    return open_address


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a run with three instruments, the last of which has a hostile name."""
    folder = tmp_path_factory.mktemp("browser")
    with Store.open(str(folder / "db")) as store:
        store.start_run(Run("run", "1", "c", "f", _FEATURES, json.dumps({"bars": {"grace": "1s"}}), _HOSTILE))
        for position, instrument in enumerate(("BTC", "ETH", _HOSTILE)):
            _fill(store, instrument, 400 if position else 120, 30 - position)
        letter = {"run_id": "run", "topic": "trades", "partition": 0, "offset": 1, "ts_recv": _START,
                  "reason": "malformed", "instrument_id": _HOSTILE, "detail": _HOSTILE,
                  "payload": _HOSTILE.encode()}  # fmt: skip
        store.insert("dead_letters", pa.Table.from_pylist([letter], schema=DEAD_LETTERS.arrow))
        counts = [("read", "trades", "", 10), ("decoded", "trades", "", 9), ("dead_lettered", "trades", "malformed", 1)]
        store.write_counts("run", [RunCount(*row) for row in counts])
        store.finish_run("run", RunStatus.COMPLETE)
        store.start_run(Run("empty", "1", "c", "f", (), "{}", "nothing"))
        build_report(store, "empty", folder / "empty.html")
        return build_report(store, "run", folder / "report.html")


def _fill(store: Store, instrument: str, bars: int, signals: int) -> None:
    rng = np.random.default_rng(bars)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, bars)))
    moments = [
        {"run_id": "run", "instrument_id": instrument, "interval_ns": _MINUTE, "ts": _START + (i + 1) * _MINUTE}
        for i in range(bars)
    ]
    rows = [
        row | dict.fromkeys(("open", "high", "low", "close", "vwap"), price)
        | {"ts_start": row["ts"] - _MINUTE, "ts_end": row["ts"], "volume": 1.0, "notional": price, "trade_count": 1,
           "buy_volume": 0.5}
        for row, price in zip(moments, close.tolist(), strict=True)
    ]  # fmt: skip
    store.insert("bars", pa.Table.from_pylist(rows, schema=BARS.arrow))
    values = rng.random((bars, len(_FEATURES)))
    rows = [
        row | {"feature_set": "f", "missing": [0] * len(_FEATURES)} | dict(zip(_FEATURES, line, strict=True))
        for row, line in zip(moments, values.tolist(), strict=True)
    ]
    columns = [*FEATURES.arrow, *(pa.field(name, pa.float64()) for name in _FEATURES)]
    store.insert("features", pa.Table.from_pylist(rows, schema=pa.schema(columns)))
    rows = [
        {"run_id": "run", "signal_id": f"{instrument}{i}", "instrument_id": instrument, "ts": moments[i]["ts"],
         "strategy": f"strategy {i % 2}{_HOSTILE}", "direction": 1, "intent": 1 + i % 2, "confidence": 0.5,
         "price": float(close[i]), "parameters_hash": "p", "feature_set": "f", "reason": _HOSTILE,
         "inputs": [(_HOSTILE, 1.0)], "thresholds": [("entry", 2.0)]}
        for i in range(signals)
    ]  # fmt: skip
    store.insert("signals", pa.Table.from_pylist(rows, schema=SIGNALS.arrow))


def _plots(opened: _Opened) -> int:
    return len(re.findall(r'<div class="plot js-plotly-plot"', opened.dom))


def test_report_in_a_browser_draws_every_plot_without_an_error(
    report: Path, open_page: Callable[[str], _Opened]
) -> None:
    opened = open_page(report.as_uri())
    assert (opened.fact("drawn"), opened.fact("errors"), opened.console) == ("4", None, [])
    assert _plots(opened) == 4
    assert len(re.findall(r'<svg class="main-svg"', opened.dom)) >= 4
    assert len(re.findall(r'class="trace scatter', opened.dom)) > 5
    assert 'class="trace boxes"' in opened.dom


def test_report_in_a_browser_paints_its_plots(report: Path, chromium: str, tmp_path: Path) -> None:
    bare = tmp_path / "bare.html"
    hidden = report.read_text("utf-8").replace("</style>", ".plot svg { visibility: hidden !important }</style>", 1)
    bare.write_text(hidden, encoding="utf-8")
    sizes = []
    for page in (report, bare):
        picture = tmp_path / f"{page.stem}.png"
        _run(chromium, tmp_path, page.as_uri(), f"--screenshot={picture}")
        sizes.append(picture.stat().st_size)
    assert sizes[0] > 1.2 * sizes[1], sizes


def test_report_in_a_browser_asks_nothing_of_the_network(report: Path, open_page: Callable[[str], _Opened]) -> None:
    opened = open_page(report.as_uri())
    assert opened.links
    assert all(link.startswith("#") or link == "data:," for link in opened.links)
    # The page's policy allows no request at all, and reports each that it blocks.
    assert "default-src 'none'" in opened.dom
    assert opened.fact("errors") is None


def test_report_in_a_browser_does_not_run_text_from_data(report: Path, open_page: Callable[[str], _Opened]) -> None:
    opened = open_page(f"{report.as_uri()}#instrument-2")
    assert opened.fact("hacked") is None
    assert "img" not in opened.tags
    assert not [link for link in opened.links if "example.org" in link]
    assert "&lt;/script&gt;" in opened.body
    assert (opened.fact("drawn"), opened.fact("errors")) == ("4", None)


def test_report_link_to_an_instrument_shows_it(report: Path, open_page: Callable[[str], _Opened]) -> None:
    opened = open_page(f"{report.as_uri()}#instrument-1")
    assert re.search(r'data-instrument="1">400 bars, drawn as a line of closes', opened.dom)
    assert re.search(r'data-instrument="0" hidden', opened.dom)
    assert opened.fact("errors") is None


def test_report_policy_blocks_a_script_that_is_not_its_own(report: Path, open_page: Callable[[str], _Opened]) -> None:
    tampered = report.with_name("tampered.html")
    text = report.read_text("utf-8")
    handler = (
        "<img src=x onerror=\"document.documentElement.dataset.hacked=1\"><script>document.title='hacked'</script>"
    )
    tampered.write_text(text.replace("<main", f"{handler}<main", 1), encoding="utf-8")
    opened = open_page(tampered.as_uri())
    assert opened.fact("hacked") is None
    assert "<title>hacked" not in opened.dom
    assert "blocked script-src" in (opened.fact("errors") or "")
    assert opened.console


def test_report_of_an_empty_run_opens_without_plots(report: Path, open_page: Callable[[str], _Opened]) -> None:
    opened = open_page(report.with_name("empty.html").as_uri())
    assert (opened.fact("drawn"), opened.fact("errors"), _plots(opened)) == ("0", None, 0)
    assert "nothing to plot" in opened.body
