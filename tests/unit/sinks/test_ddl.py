"""The SQL that follows from the schemas, and the files that hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.enums import Direction
from schemas.errors import ConfigError
from schemas.fields import Field, Schema
from schemas.tables import TABLES
from scripts.generate_docs import REPOSITORY, generated, main, stale
from sinks.ddl import (
    check_feature_names,
    create_table_sql,
    create_view_sql,
    feature_view_sql,
    generated_migrations,
    provenance_sql,
)
from sinks.migrate import Migration, known_migrations

POINT = Schema(
    "point",
    "One point; it's exact.",
    (
        Field("run_id", "symbol", "the run"),
        Field("ts", "time", "when"),
        Field("x", "float", "metres", nullable=True),
        Field("side", "enum", "which", enum=Direction),
    ),
    key=("run_id", "ts"),
)


def test_create_table_states_types_codecs_key_and_comments() -> None:
    assert create_table_sql(POINT) == (
        "CREATE TABLE IF NOT EXISTS point_data\n(\n"
        "    `run_id` LowCardinality(String) COMMENT 'the run',\n"
        "    `ts` DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when',\n"
        "    `x` Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'metres',\n"
        "    `side` Enum8('long' = 1, 'short' = -1) COMMENT 'which'\n"
        ")\nENGINE = ReplacingMergeTree()\nORDER BY (`run_id`, `ts`)\nCOMMENT 'One point; it\\'s exact.'"
    )


def test_only_counters_have_a_version_and_no_table_is_partitioned() -> None:
    for name, schema in TABLES.items():
        sql = create_table_sql(schema)
        assert ("ReplacingMergeTree(count)" in sql) == (name == "run_counts")
        assert "PARTITION BY" not in sql
        assert "now()" not in sql


def test_every_key_has_the_run_in_front() -> None:
    assert {schema.key[0] for schema in TABLES.values()} == {"run_id"}


def test_provenance_is_added_by_a_migration_of_its_own() -> None:
    fields = (*POINT.fields, Field("origin", "text", "whence", provenance=True))
    schema = Schema("point", POINT.doc, fields, POINT.key)
    assert create_table_sql(schema) == create_table_sql(POINT)
    assert provenance_sql(schema) == (
        "ALTER TABLE point_data ADD COLUMN IF NOT EXISTS `origin` String CODEC(ZSTD(1)) COMMENT 'whence'",
        create_view_sql(POINT),
    )
    assert provenance_sql(POINT) == ()


def test_views_read_each_key_once() -> None:
    assert create_view_sql(POINT) == "CREATE OR REPLACE VIEW point AS\nSELECT * FROM point_data FINAL"


def test_feature_view_maps_each_name_to_its_column() -> None:
    assert "map('a', `a`, 'b', `b`)" in feature_view_sql(["a", "b"])
    assert "map()" in feature_view_sql([])


@pytest.mark.parametrize("name", sorted(generated_migrations()))
def test_checked_in_migration_equals_what_the_schemas_give(name: str) -> None:
    text = (REPOSITORY / "sinks" / "migrations" / name).read_text("utf-8")
    assert text == generated_migrations()[name], "add a migration for a changed schema"


def test_migration_creates_each_table_with_the_generated_text() -> None:
    statements = [text for migration in known_migrations() for text in migration.statements]
    made = [text for text in statements if text.startswith("CREATE TABLE")]
    assert sorted(made) == sorted(create_table_sql(schema) for schema in TABLES.values())


def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.number for migration in known_migrations()] == list(range(1, len(known_migrations()) + 1))


def test_migration_statements_leave_comments_out_and_can_be_run_again() -> None:
    migration = Migration(1, "x", "-- first;\nSELECT 1;\n\n-- second\nSELECT ';' AS a;\n")
    assert migration.statements == ("SELECT 1", "SELECT ';' AS a")
    for known in known_migrations():
        for statement in known.statements:
            assert statement.startswith(("CREATE TABLE IF NOT EXISTS", "CREATE OR REPLACE VIEW", "ALTER TABLE"))
            again = "ADD COLUMN IF NOT EXISTS" in statement or "MODIFY SETTING" in statement
            assert again or not statement.startswith("ALTER")


def test_feature_names_that_are_columns_are_refused() -> None:
    check_feature_names(["rsi_14", "a"])
    with pytest.raises(ConfigError, match="found `missing`; rename the feature"):
        check_feature_names(["missing"])


def test_generated_pages_are_found_stale_when_they_differ(tmp_path: Path) -> None:
    current, absent = tmp_path / "current.md", tmp_path / "absent.md"
    current.write_text("text", "utf-8")
    assert stale({current: "text", absent: "text"}) == [absent]
    assert stale({current: "new text"}) == [current]


def test_data_model_names_every_table_and_column() -> None:
    page = generated(migrations=False)[REPOSITORY / "docs" / "data_model.md"]
    for name, schema in TABLES.items():
        assert f"### {name}\n" in page
        for column in schema.names:
            assert f"| `{column}` |" in page


def test_check_reports_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.generate_docs.REPOSITORY", tmp_path)
    assert main(["--check"]) == 1
    assert "stale: docs/data_model.md" in capsys.readouterr().out
    assert main(["--migrations"]) == 0
    assert main(["--check"]) == 0
