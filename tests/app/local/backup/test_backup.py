"""`chesboard backup` and `restore`: everything comes back, and nothing by halves."""

import json
import tarfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.local import migrate as migrations
from app.local.backup import tables
from app.local.backup.archive import Table
from app.local.backup.create import back_up
from app.local.backup.restore import restore_all
from app.local.errors import SetupError
from app.local.postgres import reachable_database
from tests import support
from tests.app import filling
from tests.app.local.backup.archives import content, files, query
from tests.app.test_cli import assert_one_clear_line, chesboard


def test_everything_comes_back(full: str, elsewhere: str, runs: Path, tmp_path: Path) -> None:
    before = content(full)
    made = back_up(full, runs, tmp_path / "all.tar")
    assert made.rows == sum(map(len, before.values())) - 1  # but the schema's own version
    restore_all(elsewhere, tmp_path / "new" / "runs", tmp_path / "all.tar")
    after = content(elsewhere)
    same = set(before) - {"runs", "run_shards", "run_seats", "workers", "audit_events"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["workers"] == after["run_seats"] == []
    # The planner knows of the rows.
    [known] = query(elsewhere, "SELECT reltuples FROM pg_class WHERE relname = 'pairs'")
    assert known == len(after["pairs"])
    # What was done is written down, in both logs.
    assert set(after["audit_events"]) > set(before["audit_events"])
    assert query(full, "SELECT action FROM audit_events WHERE id > 3") == ("backup.create",)
    assert query(elsewhere, "SELECT action FROM audit_events WHERE id > 3") == ("backup.restore",)
    # Results of runs that succeeded and checkpoints; no links, and nothing half-written.
    assert files(tmp_path / "new" / "runs") == {
        "1/model/model.safetensors": b"weights" * 1000,
        "1/model/config.json": b"{}",
        "2/checkpoint/state.safetensors": b"state",
    }


def test_a_run_that_was_under_way_goes_back_to_the_queue(
    full: str, elsewhere: str, runs: Path, tmp_path: Path
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    restore_all(elsewhere, tmp_path / "new", tmp_path / "all.tar")
    found = query(
        elsewhere, "SELECT status, attempts, tries_here, lease_token FROM runs WHERE id = 2"
    )
    assert found == ("queued", 6, 1, None)
    assert query(elsewhere, "SELECT status FROM runs WHERE id = 1") == ("succeeded",)
    shard = "SELECT status, tries_here, lease_token, done FROM run_shards WHERE run_id = 2"
    assert query(full, shard) == ("running", 2, "tab\tline\nback\\slash \N{SNOWMAN}", 2)
    assert query(elsewhere, shard) == ("queued", 1, None, 2)
    others = "SELECT status FROM run_shards WHERE run_id = 3"
    assert query(elsewhere, others) == query(full, others) == ("done",)


def test_new_rows_go_on_after_the_restored_ones(
    full: str, elsewhere: str, runs: Path, tmp_path: Path
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    restore_all(elsewhere, tmp_path / "new", tmp_path / "all.tar")
    with psycopg.connect(elsewhere) as connection:
        [number] = connection.execute(
            "INSERT INTO runs (kind, name, dataset_id, config) "
            "VALUES ('score', 'next', 1, '{}') RETURNING id"
        ).fetchone()  # type: ignore[misc]
    assert number == 4


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    full: str, elsewhere: str, runs: Path, tmp_path: Path
) -> None:
    from tests.app.store.test_migrations import revisions

    oldest = revisions()[-1]
    migrations.downgrade(full, oldest)
    back_up(full, runs, tmp_path / "old.tar")
    with tarfile.open(tmp_path / "old.tar") as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert manifest["revision"] == oldest
    restore_all(elsewhere, tmp_path / "new", tmp_path / "old.tar")
    assert query(elsewhere, "SELECT version_num FROM alembic_version") == (revisions()[0],)
    assert query(elsewhere, "SELECT count(*) FROM pairs") == (filling.ROWS,)


def test_a_backup_is_one_moment(
    full: str, elsewhere: str, runs: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """What is written while tables are read is in none of them."""
    real = tables.describe

    def describe(connection: Any, name: str) -> Table:
        with psycopg.connect(full) as other:
            other.execute(
                "INSERT INTO datasets (name, format, source_filename, source_sha256, source_bytes,"
                " pairs, rejected, errors, statistics) VALUES ('late','','','',0,0,0,'[]','{}')"
            )
        return real(connection, name)

    monkeypatch.setattr(tables, "describe", describe)
    made = back_up(full, runs, tmp_path / "all.tar")
    # The snapshot is taken by the first query, which was before all that; pg_dump reads in it too.
    assert made.tables["datasets"].rows == filling.ROWS
    restore_all(elsewhere, tmp_path / "new", tmp_path / "all.tar")
    assert query(elsewhere, "SELECT count(*) FROM datasets") == (filling.ROWS,)


# --- refusals ---------------------------------------------------------------------------------


def test_a_database_with_data_is_not_replaced_unasked(
    full: str, runs: Path, tmp_path: Path
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    before = content(full), files(runs)
    with pytest.raises(SetupError, match="not empty"):
        restore_all(full, tmp_path / "new", tmp_path / "all.tar")
    assert (content(full), files(runs)) == before
    restore_all(full, runs, tmp_path / "all.tar", force=True)
    assert query(full, "SELECT status FROM runs WHERE id = 2") == ("queued",)


def test_runs_without_a_database_are_not_replaced_unasked(
    full: str, elsewhere: str, runs: Path, tmp_path: Path
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    with pytest.raises(SetupError, match="holds runs"):
        restore_all(elsewhere, runs, tmp_path / "all.tar")
    assert content(elsewhere) == {}


def test_nothing_is_restored_under_a_workers_feet(full: str, runs: Path, tmp_path: Path) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    with psycopg.connect(full) as connection:
        connection.execute("UPDATE workers SET seen_at = now() WHERE name = 'text 0'")
    with pytest.raises(SetupError, match="Worker text 0 is running"):
        restore_all(full, runs, tmp_path / "all.tar", force=True)


def test_an_archive_is_not_written_over(full: str, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "all.tar").write_text("precious")
    with pytest.raises(SetupError, match="exists already"):
        back_up(full, runs, tmp_path / "all.tar")
    assert (tmp_path / "all.tar").read_text() == "precious"


def test_a_folder_that_is_not_there_leaves_nothing(full: str, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be written"):
        back_up(full, runs, tmp_path / "none" / "all.tar")


def test_a_database_without_tables_is_no_backup(elsewhere: str, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nothing to back up"):
        back_up(elsewhere, runs, tmp_path / "all.tar")
    assert list(tmp_path.glob("*all.tar*")) == []


def test_what_was_there_comes_back_where_a_restore_fails(
    full: str, runs: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    before = content(full), files(runs)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target == runs and "old" not in self.name:
            fail()
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(SetupError, match="No space left"):
        restore_all(full, runs, tmp_path / "all.tar", force=True)
    assert (content(full), files(runs)) == before


# --- as commands ------------------------------------------------------------------------------


def test_the_embedded_database_is_started_for_it(tmp_path: Path) -> None:
    with support.short_folder() as one, support.short_folder() as other:
        archive = str(tmp_path / "all.tar")
        nothing = chesboard("backup", archive, folder=one)
        assert "nothing to back up" in nothing.stderr.splitlines()[-1]
        settings = support.embedded_settings(one)
        with reachable_database(settings) as url:
            migrations.upgrade(url)
            with psycopg.connect(url) as connection:
                connection.execute(
                    "INSERT INTO datasets (name, format, source_filename, source_sha256, "
                    "source_bytes, pairs, rejected, errors, statistics) "
                    "VALUES ('mine','','','',0,0,0,'[]','{}')"
                )
            # As `chesboard up` has it: in use, and it can be backed up all the same.
            done = chesboard("backup", archive, folder=one)
            assert done.returncode == 0, done.stderr
            assert_one_clear_line(chesboard("restore", archive, folder=one), "in use")
        done = chesboard("restore", archive, folder=other)
        assert done.returncode == 0, done.stderr
        assert "Restored 1 rows" in done.stdout
        assert_one_clear_line(chesboard("restore", archive, folder=other), "not empty")
        assert chesboard("restore", "--force", archive, folder=other).returncode == 0
