"""The Avro form of the records, generated from `schemas.records`.

| field | Avro |
|---|---|
| time | long, `timestamp-nanos` |
| float | double |
| int | long |
| symbol, text | string |
| enum | enum of the lower-case names |
| levels | array of double |

A nullable field is a union with null, null by default.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.fields import Field
from schemas.records import topic as topic_schema

__all__ = ["avro_schema"]

_TYPES: Final[dict[str, Any]] = {
    "time": {"type": "long", "logicalType": "timestamp-nanos"},
    "float": "double",
    "int": "long",
    "int32": "int",
    "bool": "boolean",
    "symbol": "string",
    "text": "string",
    "levels": {"type": "array", "items": "double"},
    "numbers": {"type": "array", "items": "double"},
}


def avro_schema(topic: str, *, own_time: bool = False) -> dict[str, Any]:
    """Return the Avro schema with which a topic is best published.

    Parameters
    ----------
    topic
        Topic name.
    own_time
        Whether records carry `ts_recv`, for a topic with `clock = "record"`.

    Raises
    ------
    KeyError
        There is no such topic.

    Examples
    --------
    >>> schema = avro_schema("trades")
    >>> schema["name"], schema["fields"][2]
    ('trades', {'name': 'price', 'doc': 'price of the trade, quote currency', 'type': 'double'})
    >>> schema["fields"][4]["type"]["symbols"], schema["fields"][5]["type"]
    (['unknown', 'buy', 'sell'], ['null', 'long'])
    """
    schema = topic_schema(topic)
    fields = [_field(field) for field in schema.fields if field.name != "ts_recv" or own_time]
    return {"type": "record", "name": topic, "namespace": "signalbox", "doc": schema.doc, "fields": fields}


def _field(field: Field) -> dict[str, Any]:
    type_ = _TYPES.get(field.kind)
    if field.enum is not None:
        names = [member.name.lower() for member in field.enum]
        type_ = {"type": "enum", "name": f"{field.name}_name", "symbols": names}
    found = {"name": field.name, "doc": field.doc, "type": type_}
    return found | {"type": ["null", type_], "default": None} if field.nullable else found
