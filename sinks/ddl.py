"""The SQL of tables and views, derived from the schemas.

Rows of table `T` are stored in `T_data`, a `ReplacingMergeTree` sorted by the natural key with the run
in front, and read through the view `T`, which gives each key once. The key decides which rows are the
same, and of two rows with one key the last insert stays; both are equal wherever output is a pure
function of input. Counters only grow, so of `run_counts` the largest value stays in whatever order they
came. Nothing depends on wall time. Tables are not partitioned: a batch stays one part, and a key cannot
be found in two partitions, where a merge would never see its double.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from schemas.enums import Missing
from schemas.errors import ConfigError
from schemas.fields import Field, Schema
from schemas.tables import FEATURES, TABLES
from sinks.model_views import MODEL_VIEWS

__all__ = [
    "check_feature_names",
    "create_table_sql",
    "create_view_sql",
    "feature_column_sql",
    "feature_view_sql",
    "feature_views_sql",
    "generated_migrations",
    "provenance_sql",
    "storage_name",
]

_VERSION_COLUMNS: Final = {"run_counts": "count"}
_ADDED: Final[dict[str, tuple[str, ...]]] = {
    "0005_event_bars.sql": ("event_bars",),
    "0006_drift_events.sql": ("drift_events",),
    "0007_predictions.sql": ("predictions", "outcomes"),
    "0008_cross_section.sql": ("cross_section",),
}
"""Migrations that each brought tables; the first two brought the others."""
_FEATURE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,127}")


def storage_name(table: str) -> str:
    """Return the name of the table that stores the rows of `table`."""
    return f"{table}_data"


def create_table_sql(schema: Schema) -> str:
    """Return the statement that creates the storage table of a schema, without provenance; see `provenance_sql`."""
    columns = ",\n".join(f"    {_column_sql(field)}" for field in schema.fields if not field.provenance)
    version = _VERSION_COLUMNS.get(schema.name, "")
    key = ", ".join(f"`{name}`" for name in schema.key)
    return (
        f"CREATE TABLE IF NOT EXISTS {storage_name(schema.name)}\n(\n{columns}\n)\n"
        f"ENGINE = ReplacingMergeTree({version})\nORDER BY ({key})\nCOMMENT {_quoted(schema.doc)}"
    )


def provenance_sql(schema: Schema) -> tuple[str, ...]:
    """Return the statements that add the columns of provenance to a table and show them in its view."""
    if not schema.provenance:
        return ()
    columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {_column_sql(field)}" for field in schema.provenance)
    return f"ALTER TABLE {storage_name(schema.name)} {columns}", create_view_sql(schema)


def create_view_sql(schema: Schema) -> str:
    """Return the statement that creates the view in which each key of a table is found once."""
    return f"CREATE OR REPLACE VIEW {schema.name} AS\nSELECT * FROM {storage_name(schema.name)} FINAL"


def feature_column_sql(name: str) -> str:
    """Return the definition of one feature's column."""
    return f"`{name}` Nullable(Float64) CODEC(ZSTD(1))"


def feature_view_sql(names: Sequence[str]) -> str:
    """Return the statement that creates `feature_values`: the present features of each row as a map."""
    pairs = ", ".join(f"'{name}', `{name}`" for name in names)
    values = f"mapFilter((k, v) -> isNotNull(v), map({pairs}))" if names else "map()"
    return (
        "CREATE OR REPLACE VIEW feature_values AS\n"
        "SELECT run_id, instrument_id, interval_ns, ts, feature_set, missing,\n"
        f"    CAST({values} AS Map(String, Nullable(Float64))) AS values\nFROM features_data FINAL"
    )


def feature_views_sql(names: Sequence[str]) -> tuple[str, ...]:
    """Return the statements that make the views over `features` show these columns."""
    return create_view_sql(FEATURES), feature_view_sql(names)


def generated_migrations() -> dict[str, str]:
    """Return the text of the migrations that follow from the schemas, by file name."""
    added = {table for names in _ADDED.values() for table in names}
    first = [schema for schema in TABLES.values() if schema.name not in added]
    tables = [create_table_sql(schema) for schema in first]
    views = [create_view_sql(schema) for schema in first] + [feature_view_sql(()), _coverage_sql()]
    provenance = [statement for schema in first for statement in provenance_sql(schema)]
    later = {
        name: "-- Tables and their views, derived from schemas/tables.py\n\n"
        + _script([make(TABLES[table]) for table in names for make in (create_table_sql, create_view_sql)])
        for name, names in _ADDED.items()
    }
    return {
        "0001_tables.sql": "-- Storage tables, derived from schemas/tables.py\n\n" + _script(tables),
        "0002_views.sql": "-- One row for each natural key, derived from schemas/tables.py\n\n" + _script(views),
        "0004_provenance.sql": "-- How a row came about, derived from schemas/tables.py\n\n" + _script(provenance),
        **later,
        "0009_model_views.sql": "-- What models said, what became of it, and how their streams drifted\n\n"
        + _script([f"CREATE OR REPLACE VIEW {name} AS\n{view.select}" for name, view in MODEL_VIEWS.items()]),
    }


def _coverage_sql() -> str:
    reasons = ",\n".join(
        f"    sumIf(c.rows, c.code = {reason.value}) / sum(c.rows) AS {reason.name.lower()}"
        for reason in Missing
        if reason is not Missing.OK
    )
    # A row's codes follow its feature set, whose names the run keeps; a code beyond them keeps its position.
    return (
        "CREATE OR REPLACE VIEW feature_coverage AS\n"
        "WITH\n"
        "    named AS (SELECT DISTINCT run_id, feature_set, splitByChar(',', feature_names) AS names FROM runs),\n"
        "    counted AS\n    (\n"
        "        SELECT run_id, interval_ns, feature_set, position, code, count() AS rows\n"
        "        FROM features ARRAY JOIN missing AS code, arrayEnumerate(missing) AS position\n"
        "        GROUP BY run_id, interval_ns, feature_set, position, code\n    )\n"
        "SELECT c.run_id AS run_id, c.interval_ns AS interval_ns, c.feature_set AS feature_set,\n"
        "    if(any(n.names)[c.position] = '', concat('feature ', toString(c.position)), any(n.names)[c.position])"
        " AS feature,\n"
        "    sum(c.rows) AS rows,\n    sumIf(c.rows, c.code != 0) / sum(c.rows) AS missing,\n"
        f"{reasons}\n"
        "FROM counted AS c LEFT JOIN named AS n ON n.run_id = c.run_id AND n.feature_set = c.feature_set\n"
        "GROUP BY c.run_id, c.interval_ns, c.feature_set, c.position\n"
        "ORDER BY c.run_id, c.interval_ns, c.feature_set, c.position"
    )


def check_feature_names(names: Sequence[str]) -> None:
    """Check that features can be columns.

    Raises
    ------
    ConfigError
        A name is not lower-case letters, digits and `_`, or is a column of every feature row.
    """
    for name in names:
        if not _FEATURE_NAME.fullmatch(name) or name in FEATURES.names:
            raise ConfigError(
                f"expected feature names of lower-case letters, digits and `_` other than "
                f"{', '.join(FEATURES.names)}, found `{name}`; rename the feature"
            )


def _column_sql(field: Field) -> str:
    codec = f" {field.codec}" if field.codec else ""
    return f"`{field.name}` {field.clickhouse}{codec} COMMENT {_quoted(field.doc)}"


def _script(statements: Sequence[str]) -> str:
    return ";\n\n".join(statements) + ";\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
