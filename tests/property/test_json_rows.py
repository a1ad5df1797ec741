"""Law of the scanner: whatever the bytes, the rows and refusals are those of `schemas.wire.decode`."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import json_rows
from operators.json_rows import decode_rows
from schemas.batches import make_batch
from schemas.fields import Field
from schemas.records import TOPICS
from schemas.wire import decode, encode

_CLOCKS: tuple[Literal["transport", "record"], ...] = ("transport", "record")
_NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.integers(-20, 20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-(10**6), 10**6, places=3).map(str),
    st.tuples(st.integers(0, 2**54), st.integers(-25, 25)).map(lambda pair: f"{pair[0]}e{pair[1]}"),
    st.from_regex(r"-?[0-9]{0,21}(\.[0-9]{0,21})?([eE][+-]?[0-9]{0,5})?", fullmatch=True),
    st.sampled_from(["0", "-0", "0.0", "-0.0", "-0e0", "00", "1.", ".5", "1e", "+1", "01", "0x1", "1_0", "NaN", "-"]),
    st.sampled_from(["1e400", "1E22", "1e23", "12345678901234567e-3"]),
    st.sampled_from(["9007199254740992", "9007199254740993", "9223372036854775807", "9223372036854775808"]),
)  # fmt: skip
_STRINGS = st.one_of(
    st.text(st.characters(codec="ascii", min_codepoint=0x20, exclude_characters='"\\'), max_size=12),
    st.sampled_from(["", "A", "B", "buy", "sell", "call", "snapshot", "delta", "2024-01-02T14:30:00.5Z", "2024-01-02"]),
).map(lambda text: f'"{text}"') | st.text(max_size=8).map(json.dumps)
_RAW_STRINGS = st.text(max_size=8).map(lambda text: f'"{text}"')
_TOKENS = st.sampled_from(
    ["null", "true", "false", "nul", "nulls", "[]", "{}", "[1,2]", "[1.5, 2 ]", "[1,]", '["a"]', ""]
)
_SPACE = st.sampled_from(["", "", "", " ", "\n", "\t \r", "\x0b", "\x00"])
_GOOD: dict[str, st.SearchStrategy[str]] = {
    "time": st.integers(0, 2**63 - 1).map(str),
    "int": st.integers(-(2**63), 2**63 - 1).map(str),
    "float": st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers(0, 10**6).map(str),
    "symbol": _STRINGS,
    "text": _STRINGS,
    "levels": st.lists(st.floats(0, 1e6).map(repr), max_size=4).map(lambda items: f"[{','.join(items)}]"),
}


def _good(field: Field) -> st.SearchStrategy[str]:
    if field.enum is not None:
        return st.sampled_from([f'"{member.name.lower()}"' for member in field.enum])
    return _GOOD[field.kind]


@st.composite
def _message(draw: st.DrawFn, topic: str) -> bytes:
    """Return a message of the topic with all that may be odd about one, and now and then a few other bytes in it."""
    fields = [field for field in TOPICS[topic].fields if not field.nullable or draw(st.booleans())]
    odd = draw(st.integers(0, 3))
    members = [(f'"{field.name}"', draw(_good(field))) for field in fields]
    values = _NUMBERS | _STRINGS | _RAW_STRINGS | _TOKENS
    for _ in range(odd):
        at = draw(st.integers(0, len(members)))
        change = draw(st.sampled_from(["value", "value", "member", "drop", "again"]))
        if change == "member":
            members.insert(at, (draw(_STRINGS), draw(values)))
        elif at < len(members):
            members[at : at + 1] = {
                "value": [(members[at][0], draw(values))],
                "drop": [],
                "again": [members[at], (members[at][0], draw(values))],
            }[change]
    if draw(st.booleans()):
        members = draw(st.permutations(members))
    space = draw(st.lists(_SPACE, min_size=4, max_size=4)) if odd else ["", "", " ", ""]
    separator = f"{space[0]},{space[1]}"
    text = f"{space[3]}{{{separator.join(f'{key}{space[1]}:{space[2]}{value}' for key, value in members)}}}{space[0]}"
    body = text.encode("utf-8", "surrogatepass")
    if odd == 3:
        cut = draw(st.integers(0, len(body)))
        body = body[:cut] + draw(st.binary(max_size=2)) + body[cut + draw(st.integers(0, 3)) :]
    return body


@pytest.mark.parametrize("topic", TOPICS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_decode_rows_gives_what_the_wire_format_says(topic: str, data: st.DataObject) -> None:
    clock = data.draw(st.sampled_from(_CLOCKS))
    payloads = data.draw(st.lists(_message(topic) | st.none() | st.binary(max_size=5), max_size=8))
    n = len(payloads)
    place = (np.arange(n) + 5, np.zeros(n, dtype=np.int32), np.arange(n) * 2)
    expected, found = decode(topic, payloads, *place, clock=clock), decode_rows(topic, payloads, *place, clock=clock)
    found.batch.validate(full=True)
    assert found.batch.schema.equals(expected.batch.schema)
    assert repr(found.batch.to_pydict()) == repr(expected.batch.to_pydict())
    assert found.errors == expected.errors


def _columns(topic: str, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    values: dict[str, Any] = {
        "time": rng.integers(1, 2**62, n),
        "int": rng.integers(-1000, 1000, n),
        "float": np.round(rng.uniform(0, 1000, n), 2),
        "symbol": [f"S{code}" for code in rng.integers(0, 50, n)],
        "text": [f"text {code}" for code in rng.integers(0, 50, n)],
        "levels": [np.round(rng.uniform(0, 10, size), 3) for size in rng.integers(0, 4, n)],
    }
    return {
        field.name: values[field.kind] if field.enum is None else rng.choice([int(member) for member in field.enum], n)
        for field in TOPICS[topic].fields
    }


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("spaces", [False, True])
def test_decode_rows_leaves_no_canonical_message_to_the_wire_format(
    topic: str, spaces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 500
    place = {"partition": np.zeros(n, dtype=np.int32), "offset": np.arange(n)}
    batch = make_batch(topic, _columns(topic, n) | place, n)
    payloads = encode(topic, batch, clock="record")
    if spaces:
        payloads = [json.dumps(json.loads(payload)).encode() for payload in payloads]
    monkeypatch.setattr(json_rows, "decode", None)
    found = decode_rows(topic, payloads, np.zeros(n, dtype=np.int64), *place.values(), clock="record")
    assert repr(found.batch.to_pydict()) == repr(batch.to_pydict())


def test_decode_rows_of_symbols_that_share_a_place_are_kept_apart() -> None:
    n = 3000
    names = [f"{number:x}" for number in range(n)]
    payloads: list[bytes | None] = [
        f'{{"instrument_id":"{name}","ts_event":1,"price":1,"size":1,"side":"buy","venue":"{name}"}}'.encode()
        for name in names
    ]
    payloads[7] = b'{"instrument_id":""}'
    where = np.arange(n)
    found = decode_rows("trades", payloads, where, np.zeros(n, dtype=np.int32), where).batch
    wanted = [*names[:7], None, *names[8:]]
    assert found.column("instrument_id").to_pylist() == wanted
    assert found.column("venue").to_pylist() == wanted
