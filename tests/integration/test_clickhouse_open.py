"""Opening, locking and migrating databases."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import ConfigError, ExitCode, InputError, StorageError, StorageLockedError, VersionError
from sinks.clickhouse import Connection
from sinks.ddl import storage_name
from sinks.locations import parse_location
from sinks.migrate import Migration, apply_migrations, known_migrations
from sinks.store import Store


def _in_other_process(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    script = f"from sinks.store import Store\n{code}"
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False, timeout=60
    )


def test_open_folder_without_database_when_not_creating_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a database at .*missing.*, found none; make one"):
        Store.open(str(tmp_path / "missing"), create=False)
    assert not (tmp_path / "missing").exists()


def test_open_read_only_never_makes_a_database(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        Store.open(str(tmp_path / "missing"), read_only=True)
    assert not (tmp_path / "missing").exists()


def test_open_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(InputError, match=r"found other things \(`thesis.txt`\); name another folder"):
        Store.open(str(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_open_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(InputError, match=r"expected a folder at .*, found a file"):
        Store.open(str(tmp_path / "thesis.txt"))


def test_open_held_by_another_process_names_folder_and_holder(store: Store, store_folder: Path) -> None:
    code = (
        "import sys\nfrom schemas.errors import StorageLockedError\n"
        "try:\n    Store.open(sys.argv[1], read_only=True)\n"
        "except StorageLockedError as error:\n    print(error); raise SystemExit(error.exit_code)"
    )
    found = _in_other_process(store_folder, code)
    assert found.returncode == ExitCode.LOCKED, found.stderr
    assert f"`{store_folder}`" in found.stdout
    assert f"open in process {os.getpid()}" in found.stdout
    assert "wait until" in found.stdout


def test_open_after_holder_was_killed_works(store_folder: Path) -> None:
    found = _in_other_process(store_folder, "import os, sys\ns = Store.open(sys.argv[1])\nos.kill(os.getpid(), 9)")
    assert found.returncode == -9
    with Store.open(str(store_folder), create=False) as store:
        assert store.run_ids() == ()


def test_open_second_folder_in_one_process_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageLockedError, match="expected no other database open in this process"):
        Store.open(str(tmp_path / "second"))
    with pytest.raises(StorageLockedError, match="open in this process"):
        Store.open(store.location)
    assert not (tmp_path / "second").exists()


def test_open_another_folder_after_closing_works_in_one_process(
    tmp_path: Path, bar_rows: Callable[..., pa.Table]
) -> None:
    for name in ("first", "second"):
        with Store.open(str(tmp_path / name)) as store:
            store.insert("bars", bar_rows(3, run_id=name))
    for name in ("second", "first"):
        with Store.open(str(tmp_path / name), create=False) as store:
            assert store.connection.rows("SELECT run_id, count() FROM bars GROUP BY run_id") == [(name, 3)]


def test_close_twice_does_nothing_and_later_use_is_refused(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StorageError, match=r"expected an open database .*, found it closed"):
        store.run_ids()


def test_read_only_store_refuses_to_write(store: Store, store_folder: Path, bar_rows: Callable[..., pa.Table]) -> None:
    store.insert("bars", bar_rows(2))
    store.close()
    with Store.open(str(store_folder), read_only=True) as reader:
        assert reader.connection.rows("SELECT count() FROM bars") == [(2,)]
        assert reader.digest("run")["bars"].rows == 2
        with pytest.raises(StorageError, match="readonly"):
            reader.insert("bars", bar_rows(2))


def test_store_is_shared_by_threads(store: Store, bar_rows: Callable[..., pa.Table]) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for first in range(5):
                store.insert("bars", bar_rows(20, instrument=f"I{number}", first=20 * first))
                store.connection.rows("SELECT count() FROM bars")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.connection.rows("SELECT count(), uniqExact(instrument_id) FROM bars") == [(400, 4)]


def test_migrations_are_recorded_and_applied_once(store: Store) -> None:
    applied = store.connection.rows("SELECT number, name, sha256 FROM schema_migrations ORDER BY number")
    assert applied == [(m.number, m.name, m.sha256) for m in known_migrations()]
    assert apply_migrations(store.connection) == 0


def test_migrations_cut_short_are_finished_by_the_next_open(store: Store, store_folder: Path) -> None:
    store.connection.command("ALTER TABLE schema_migrations DELETE WHERE number >= 3 SETTINGS mutations_sync = 2")
    store.connection.command("DROP VIEW signal_summary")
    store.close()
    with Store.open(str(store_folder)) as again:
        assert again.connection.rows("SELECT count() FROM signal_summary") == [(0,)]


def test_rows_from_before_traces_were_stored_have_none(store_folder: Path) -> None:
    connection = Connection(parse_location(str(store_folder)), create=True, read_only=False)
    try:
        before = [migration for migration in known_migrations() if migration.number < 4]
        apply_migrations(connection, before)
        connection.command("INSERT INTO signals_data (run_id, signal_id) VALUES ('old', 's')")
        assert apply_migrations(connection) == len(known_migrations()) - len(before)
        assert connection.rows("SELECT run_id, trace_id FROM signals") == [("old", "")]
        assert connection.rows("SELECT run_id FROM signal_explanations") == [("old",)]
    finally:
        connection.close()


def test_migration_with_another_text_is_refused(store: Store) -> None:
    first, *others = known_migrations()
    changed = [Migration(first.number, first.name, first.text + "\n-- changed"), *others]
    with pytest.raises(VersionError, match=r"migration 1 as this version has it, found `0001_tables` with another"):
        apply_migrations(store.connection, changed)


def test_database_of_a_newer_version_is_refused(store: Store, store_folder: Path) -> None:
    store.connection.command("INSERT INTO schema_migrations VALUES (99, '0099_future', 'x')")
    store.close()
    with pytest.raises(VersionError, match=r"found 99 \(`0099_future`\) of a newer version; upgrade"):
        Store.open(str(store_folder))
    with Store.open(str(store_folder.parent / "other")) as other:  # the folder was released
        assert other.run_ids() == ()


def test_read_only_open_of_an_older_database_says_what_to_do(store: Store, store_folder: Path) -> None:
    store.connection.command("TRUNCATE TABLE schema_migrations")
    store.close()
    with pytest.raises(VersionError, match="found 0; open it once for writing"):
        Store.open(str(store_folder), read_only=True)


@pytest.mark.parametrize("name", ["bars", "features", "signals", "dead_letters", "late_events", "runs", "run_counts"])
def test_tables_have_the_columns_keys_and_engine_of_their_schema(store: Store, name: str) -> None:
    from schemas.tables import TABLES

    schema = TABLES[name]
    columns = store.connection.rows(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {t:String} "
        "ORDER BY position",
        {"t": storage_name(name)},
    )
    assert [column for column, _ in columns] == list(schema.names)
    for column, kind in columns:
        expected = schema.field(column).clickhouse
        if not expected.startswith("Enum8"):
            assert kind == expected
    engine = store.connection.rows(
        "SELECT engine, sorting_key, partition_key FROM system.tables "
        "WHERE database = currentDatabase() AND name = {t:String}",
        {"t": storage_name(name)},
    )
    assert engine == [("ReplacingMergeTree", ", ".join(schema.key), "")]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/db", "found a URL of `ftp`"),
        ("http://user:hunter2@:80/db", "found no host"),
        ("http://user:hunter2@host:notaport/db", "found a bad host or port"),
        ("http://user:hunter2@host/bad-name", "expected a database name"),
        ("http://user:hunter2@host/db?colour=red", "expected options .*found \\['colour'\\]"),
    ],
)
def test_open_wrong_url_is_refused_without_its_secret(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        Store.open(url)
    assert "hunter2" not in str(found.value)


def test_open_unreachable_server_says_where_without_its_secret() -> None:
    with pytest.raises(StorageError, match=r"http://127.0.0.1:9/db.*start the server, or correct the URL") as found:
        Store.open("http://user:hunter2@127.0.0.1:9/db?connect_timeout=1")
    assert "hunter2" not in str(found.value)
