"""Order-independent digests of output tables, by which two runs are compared.

Each deduplicated row is hashed without its run to 64 bits; the digest is the wrapping sum and the
exclusive or of the hashes. Both ignore order, and the sum also sees what occurs an even number of
times. Equal rows give equal digests in every process, however they were cut, written or merged.
A missing value is hashed as a NaN, which is never stored where null is allowed, so that it differs from
every number. Feature columns in which a run has no value do not count, whatever else the database holds, nor do
columns of provenance.
The hash (xxh3) is quick and not cryptographic: it finds differences, not forgery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.fields import Field, Schema
from sinks.clickhouse import Connection
from sinks.ddl import storage_name

__all__ = ["TableDigest", "table_digest"]


@dataclass(frozen=True, slots=True)
class TableDigest:
    """Number of rows and digest of one run's rows of one table."""

    rows: int
    digest: str


def table_digest(connection: Connection, schema: Schema, features: Sequence[str], run_id: str) -> TableDigest:
    """Return the digest of one run's rows of a table.

    Parameters
    ----------
    connection
        The database.
    schema
        Schema of the table.
    features
        Feature columns of the table, empty but for `features`.
    run_id
        The run.
    """
    present = sorted(_present(connection, schema, features, run_id))
    terms = [_term(field) for field in schema.computed]
    terms += [f"'{name}', ifNull(`{name}`, nan)" for name in present]
    sql = (
        f"SELECT count(), sum(h), groupBitXor(h) FROM (SELECT xxh3({', '.join(terms)}) AS h "
        f"FROM {storage_name(schema.name)} FINAL WHERE run_id = {{run:String}})"
    )
    rows, total, parity = connection.rows(sql, {"run": run_id})[0]
    return TableDigest(int(rows), f"{total:016x}{parity:016x}")


def _present(connection: Connection, schema: Schema, features: Sequence[str], run_id: str) -> list[str]:
    if not features:
        return []
    counts = ", ".join(f"count(`{name}`)" for name in features)
    sql = f"SELECT {counts} FROM {storage_name(schema.name)} WHERE run_id = {{run:String}}"
    found = connection.rows(sql, {"run": run_id})[0]
    return [name for name, count in zip(features, found, strict=True) if count]


def _term(field: Field) -> str:
    column = f"`{field.name}`"
    if field.kind == "map":
        # The order of a map's keys is not part of its value.
        return f"mapKeys(mapSort({column})), mapValues(mapSort({column}))"
    if not field.nullable:
        return column
    if field.kind == "float":
        return f"ifNull({column}, nan)"
    return f"isNull({column}), assumeNotNull({column})"
