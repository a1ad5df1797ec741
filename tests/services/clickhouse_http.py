"""ClickHouse's HTTP protocol in front of the embedded engine, with faults on demand. For tests only.

It runs the real engine and checks the login; only the transport is this file's. As a process of its own:
`python -m tests.services.clickhouse_http FOLDER [PORT]` prints the URL and serves until it is killed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import chdb
import lz4.frame

__all__ = ["PASSWORD", "USER", "ClickHouseHttp", "Fault", "inserts_seen", "order_faults", "serve_clickhouse"]

USER, PASSWORD = "writer", "s3cret-word"
_TRANSPORT = {"query", "database", "default_format", "wait_end_of_query", "compress", "query_id", "session_id",
              "client_protocol_version", "enable_http_compression", "http_headers_progress_interval_ms",
              "send_progress_in_http_headers"}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What happens to one insert instead of an answer.

    `refuse`: it is not run, and answered with an HTTP status and a ClickHouse code. `late`: it is run, and answered
    after some seconds. `lost`: it is run, and the connection is closed without an answer. `die`: it is run, and the
    process ends at once.
    """

    kind: Literal["refuse", "late", "lost", "die"] = "refuse"
    status: int = 500
    code: int | None = 252
    """None: the answer is that of a proxy, not of ClickHouse"""
    seconds: float = 0.0


@dataclass
class ClickHouseHttp:
    """A served database."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    """what happens to the next inserts"""
    inserts: int = 0
    """inserts that were asked for"""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client that was killed go in silence."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve_clickhouse(folder: Path, port: int = 0) -> Iterator[ClickHouseHttp]:
    """Serve the database in a folder over HTTP, on a free port where none is named."""
    keeper = chdb.connect(str(folder))
    served = ClickHouseHttp("")
    server = _Server(("127.0.0.1", port), _handler(str(folder), served))
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


def order_faults(url: str, faults: list[Fault]) -> None:
    """Tell a served database what happens to its next inserts."""
    with urlopen(_control(url, json.dumps([asdict(fault) for fault in faults]).encode()), timeout=10) as answer:
        answer.read()


def inserts_seen(url: str) -> int:
    """Return how many inserts a served database was asked for."""
    with urlopen(_control(url, None), timeout=10) as answer:
        return int(json.loads(answer.read())["inserts"])


def _control(url: str, body: bytes | None) -> Request:
    parts = urlsplit(url)
    return Request(f"http://127.0.0.1:{parts.port}/control", data=body)


def _handler(path: str, served: ClickHouseHttp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            if self.path == "/control":
                content = {"inserts": served.inserts, "faults": len(served.faults)}
                self._answer(200, json.dumps(content).encode())
                return
            self._answer(200, b"Ok.\n")

        def do_POST(self) -> None:
            parameters = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self._chunks()
            if self.path == "/control":
                served.faults[:] = [Fault(**fault) for fault in json.loads(body)]
                self._answer(200, b"")
                return
            if self.headers.get("Content-Encoding") == "lz4":
                body = lz4.frame.decompress(body)
            login = self.headers.get("Authorization", "")
            if not login.endswith(_basic(USER, PASSWORD)):
                self._answer(403, f"Code: 516. DB::Exception: wrong {PASSWORD} (AUTHENTICATION_FAILED)".encode(), 516)
                return
            sql = parameters.get("query", "") or body.decode()
            fault = None
            if sql.lstrip().upper().startswith("INSERT INTO") and "query" in parameters:
                served.inserts += 1
                fault = served.faults.pop(0) if served.faults else None
            if fault is not None and fault.kind == "refuse":
                text = "<html>" if fault.code is None else f"Code: {fault.code}. DB::Exception: out of order (FAULT)"
                self._answer(fault.status, text.encode(), fault.code)
                return
            try:
                content = _execute(path, sql, body, parameters)
            except RuntimeError as error:
                found = re.search(r"Code: (\d+)", str(error))
                self._answer(500, str(error).encode(), int(found.group(1)) if found else 0)
                return
            self._answer_after(fault, content)

        def _answer_after(self, fault: Fault | None, content: bytes) -> None:
            if fault is not None and fault.kind == "die":
                os._exit(9)
            if fault is not None and fault.kind == "lost":
                self.close_connection = True
                return
            if fault is not None:
                time.sleep(fault.seconds)
            self._answer(200, content)

        def _chunks(self) -> bytes:
            parts = []
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
            return b"".join(parts)

        def _answer(self, status: int, content: bytes, code: int | None = None) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if code is not None:
                    self.send_header("X-ClickHouse-Exception-Code", str(code))
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                # whoever asked was killed meanwhile
                self.close_connection = True

    return Handler


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _execute(path: str, sql: str, body: bytes, parameters: dict[str, str]) -> bytes:
    """Run one request on a handle of its own, so that its settings end with it."""
    connection: Any = chdb.connect(path)
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


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with serve_clickhouse(folder, port) as served:
        sys.stdout.write(f"{served.url}\n")
        sys.stdout.flush()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
