"""Databases for tests: a fresh embedded one for each test, and one behind ClickHouse's HTTP protocol.

The embedded engine holds one folder in a process at a time, and opens another quickly after the first
is closed; so a test has one `store` open, and opens its `store_folder` again only after closing it.
"""

from __future__ import annotations

import base64
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import chdb
import lz4.frame
import numpy as np
import pyarrow as pa
import pytest

from schemas.tables import BARS, FEATURES, SIGNALS
from sinks.store import Store

USER, PASSWORD = "writer", "s3cret-word"
_TRANSPORT = {"query", "database", "default_format", "wait_end_of_query", "compress", "query_id", "session_id",
              "client_protocol_version", "enable_http_compression", "http_headers_progress_interval_ms",
              "send_progress_in_http_headers"}  # fmt: skip


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    """Folder of the test's database; `store` has it open."""
    return tmp_path / "database"


@pytest.fixture
def store(store_folder: Path) -> Iterator[Store]:
    """An empty embedded database of the test's own, open until the test ends or closes it."""
    with Store.open(str(store_folder)) as opened:
        yield opened


@pytest.fixture
def bar_rows() -> Callable[..., pa.Table]:
    """Make valid rows of `bars`, one a second, of one instrument."""

    def make(n_rows: int, *, run_id: str = "run", instrument: str = "ABC", first: int = 0) -> pa.Table:
        start = (np.arange(first, first + n_rows, dtype=np.int64)) * 10**9
        price = 100.0 + np.arange(first, first + n_rows) % 7
        constant = np.ones(n_rows)
        columns: dict[str, Any] = {
            "run_id": [run_id] * n_rows,
            "instrument_id": [instrument] * n_rows,
            "interval_ns": np.full(n_rows, 10**9),
            "ts_start": start,
            "ts_end": start + 10**9,
            "ts": start + 10**9,
            **dict.fromkeys(("open", "high", "low", "close", "vwap", "notional"), price),
            "volume": constant,
            "trade_count": np.ones(n_rows, dtype=np.int64),
            "buy_volume": constant,
        }
        return _table(BARS.arrow, columns)

    return make


@pytest.fixture
def feature_rows() -> Callable[..., pa.Table]:
    """Make rows of `features` from values by feature; a NaN is missing by its code."""

    def make(
        values: dict[str, list[float]], *, run_id: str = "run", feature_set: str = "set", code: int = 1
    ) -> pa.Table:
        n_rows = len(next(iter(values.values())))
        missing = [[code if np.isnan(column[row]) else 0 for column in values.values()] for row in range(n_rows)]
        columns: dict[str, Any] = {
            "run_id": [run_id] * n_rows,
            "instrument_id": ["ABC"] * n_rows,
            "interval_ns": np.full(n_rows, 10**9),
            "ts": (np.arange(n_rows, dtype=np.int64) + 1) * 10**9,
            "feature_set": [feature_set] * n_rows,
            "missing": missing,
        }
        table = _table(FEATURES.arrow, columns)
        for name, column in values.items():
            table = table.append_column(name, pa.array(np.array(column)))
        return table

    return make


@pytest.fixture
def signal_rows() -> Callable[..., pa.Table]:
    """Make rows of `signals` at the given seconds."""

    def make(seconds: list[int], *, run_id: str = "run", strategy: str = "momentum", **replaced: Any) -> pa.Table:
        n_rows = len(seconds)
        columns: dict[str, Any] = {
            "run_id": [run_id] * n_rows,
            "signal_id": [f"{strategy}-{second}" for second in seconds],
            "instrument_id": ["ABC"] * n_rows,
            "ts": np.array(seconds, dtype=np.int64) * 10**9,
            "strategy": [strategy] * n_rows,
            "direction": np.ones(n_rows, dtype=np.int8),
            "intent": np.ones(n_rows, dtype=np.int8),
            "confidence": np.full(n_rows, 0.5),
            "price": np.full(n_rows, 100.0),
            "parameters_hash": ["p"] * n_rows,
            "feature_set": ["set"] * n_rows,
            "reason": ["rose"] * n_rows,
            "inputs": [[("rsi", 71.0)]] * n_rows,
            "thresholds": [[("upper", 70.0)]] * n_rows,
        }
        return _table(SIGNALS.arrow, columns | replaced)

    return make


def _table(schema: pa.Schema, columns: dict[str, Any]) -> pa.Table:
    arrays = []
    for column in schema:
        values = columns[column.name]
        if pa.types.is_dictionary(column.type):
            arrays.append(pa.array(values, pa.string()).dictionary_encode().cast(column.type))
        elif pa.types.is_timestamp(column.type):
            arrays.append(pa.array(values, pa.int64()).cast(column.type))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


@dataclass
class HttpClickHouse:
    """ClickHouse's HTTP protocol in front of the engine, with faults on demand.

    It runs the real engine and checks the login; only the transport is this file's.
    """

    url: str
    faults: list[tuple[int, int]] = field(default_factory=list)
    """HTTP status and ClickHouse code that the next inserts answer with"""
    inserts: int = 0
    """inserts that were asked for"""


@pytest.fixture
def http_clickhouse(tmp_path: Path) -> Iterator[HttpClickHouse]:
    """Serve a database over HTTP."""
    keeper = chdb.connect(str(tmp_path / "served"))
    served = HttpClickHouse("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            self._answer(200, b"Ok.\n")

        def do_POST(self) -> None:
            parameters = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self._chunks()
            if self.headers.get("Content-Encoding") == "lz4":
                body = lz4.frame.decompress(body)
            login = self.headers.get("Authorization", "")
            if not login.endswith(_basic(USER, PASSWORD)):
                self._answer(403, f"Code: 516. DB::Exception: wrong {PASSWORD} (AUTHENTICATION_FAILED)".encode(), 516)
                return
            sql = parameters.get("query", "") or body.decode()
            if sql.lstrip().upper().startswith("INSERT INTO") and "query" in parameters:
                served.inserts += 1
                if served.faults:
                    status, code = served.faults.pop(0)
                    self._answer(status, f"Code: {code}. DB::Exception: out of order (FAULT)".encode(), code)
                    return
            try:
                self._answer(200, _execute(str(tmp_path / "served"), sql, body, parameters))
            except RuntimeError as error:
                found = re.search(r"Code: (\d+)", str(error))
                self._answer(500, str(error).encode(), int(found.group(1)) if found else 0)

        def _chunks(self) -> bytes:
            parts = []
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
            return b"".join(parts)

        def _answer(self, status: int, content: bytes, code: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if code is not None:
                self.send_header("X-ClickHouse-Exception-Code", str(code))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/signals_db"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        keeper.close()


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _execute(path: str, sql: str, body: bytes, parameters: dict[str, str]) -> bytes:
    """Run one request on a handle of its own, so that its settings end with it."""
    connection = chdb.connect(path)
    try:
        if "database" in parameters:
            connection.query(f"USE `{parameters['database']}`")
        bound = {name[6:]: value for name, value in parameters.items() if name.startswith("param_")}
        settings = {n: v for n, v in parameters.items() if n not in _TRANSPORT and not n.startswith("param_")}
        for name, value in sorted(settings.items(), key=lambda item: item[0] == "readonly"):
            connection.query(f"SET {name} = '{value}'")
        insert = re.fullmatch(r"\s*(INSERT INTO .*?)\s+FORMAT\s+(\w+)\s*", sql, re.DOTALL | re.IGNORECASE)
        if insert and "query" in parameters:
            with tempfile.NamedTemporaryFile() as file:
                file.write(body)
                file.flush()
                connection.query(f"{insert.group(1)} FROM INFILE '{file.name}' FORMAT {insert.group(2)}")
            return b""
        return connection.query(sql, parameters.get("default_format", "TabSeparated"), params=bound).bytes() or b""
    finally:
        connection.close()
