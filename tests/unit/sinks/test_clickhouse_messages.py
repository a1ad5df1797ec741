"""Messages of the database and of what is between it and us, in one clear line."""

from __future__ import annotations

import pytest

from sinks.clickhouse import short_message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Error HTTPConnectionPool(host='db', port=81): Max retries exceeded with url: /?query=INSERT+%60bars%60 "
            "(Caused by NewConnectionError(\"HTTPConnection(host='db', port=81): Failed to establish a new connection: "
            '[Errno 111] Connection refused")) executing HTTP request attempt 1 (http://db:81)',
            "Failed to establish a new connection: [Errno 111] Connection refused",
        ),
        (
            "Error HTTPSConnectionPool(host='no', port=8123): Max retries exceeded with url: /?query_id=38d39 "
            "(Caused by NameResolutionError(\"HTTPSConnection(host='no', port=8123): Failed to resolve 'no' "
            '([Errno -2] Name or service not known)")) executing HTTP request attempt 1 (http://no:8123)',
            "Failed to resolve 'no' ([Errno -2] Name or service not known)",
        ),
        (
            "Error HTTPConnectionPool(host='db', port=81): Max retries exceeded with url: /?a=1 (Caused by "
            "ResponseError('too many 503 error responses')) executing HTTP request attempt 1 (http://db:81)",
            "too many 503 error responses",
        ),
        (
            "Error ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer')) executing HTTP "
            "request attempt 2 (http://db:81)",
            "('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
        ),
        (
            "Error HTTPConnectionPool(host='db', port=81): Read timed out. (read timeout=1) executing HTTP request "
            "attempt 1 (http://db:81)",
            "Read timed out. (read timeout=1)",
        ),
    ],
)
def test_message_of_the_transport_says_what_happened(message: str, expected: str):
    assert short_message(message) == expected
