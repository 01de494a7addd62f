"""`chesboard backup` and `restore`: everything comes back, and nothing by halves."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from app.local import migrate as migrations
from app.local.backup import tables
from app.local.backup.archive import Table
from app.local.backup.create import back_up
from app.local.backup.restore import restore_all
from app.local.embedded import Services
from app.local.errors import SetupError
from app.local.postgres import postgres_binaries, reachable_database
from tests import support
from tests.app import filling
from tests.app.test_cli import assert_one_clear_line, chesboard


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    engine = create_engine(make_url(empty_url).set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Folders of three runs: one that succeeded, one under way, one that failed."""
    folder = tmp_path / "runs"
    for name, body in {
        "1/model/model.safetensors": b"weights" * 1000,
        "1/model/config.json": b"{}",
        "2/checkpoint/state.safetensors": b"state",
        "2/checkpoint/.state.safetensors.12": b"half",
        "2/model/model.safetensors": b"not of a run that succeeded",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    (folder / "3").mkdir()
    (folder / "3" / "secret").symlink_to("/etc/passwd")
    return folder


@pytest.fixture
def full(empty_url: str, engine: Engine, runs: Path) -> str:
    """The URL of a database with rows in every table."""
    migrations.upgrade(empty_url)
    with engine.begin() as connection:
        filling.fill(connection)
        connection.execute(text("UPDATE workers SET seen_at = '2026-01-01'"))
        connection.execute(text("UPDATE runs SET status = 'succeeded' WHERE id = 1"))
        connection.execute(text("UPDATE runs SET status = 'failed' WHERE id = 3"))
        connection.execute(
            text("UPDATE runs SET status = 'running', attempts = 7, tries_here = 2 WHERE id = 2")
        )
    return empty_url


@pytest.fixture
def elsewhere(services: Services) -> Iterator[str]:
    """Another database with nothing in it."""
    with support.scratch_database(services.database_url, "chesboard_elsewhere") as url:
        yield url


def content(url: str) -> dict[str, list[str]]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        found = filling.content(connection)
    engine.dispose()
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchone()


def test_everything_comes_back(full: str, elsewhere: str, runs: Path, tmp_path: Path) -> None:
    before = content(full)
    made = back_up(full, runs, tmp_path / "all.tar")
    assert made.rows == sum(map(len, before.values())) - 1  # but the schema's own version
    restore_all(elsewhere, tmp_path / "new" / "runs", tmp_path / "all.tar")
    after = content(elsewhere)
    same = set(before) - {"runs", "workers", "audit_events"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["workers"] == []
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


# --- archives of earlier versions ------------------------------------------------------------


def write_format_1(url: str, target: Path, files: dict[str, bytes]) -> None:
    """An archive as versions before pg_dump was used wrote it: COPY's output for each table."""
    manifest: dict[str, Any] = {"format": 1, "created_at": "2026-11-24T10:00:00Z"}
    members = {f"files/{name}": body for name, body in files.items()}
    manifest["files"] = {name: described(body) for name, body in members.items()}
    manifest["tables"] = {}
    with psycopg.connect(url) as connection:
        manifest["revision"] = query(url, "SELECT version_num FROM alembic_version")[0]
        for name in migrations.METADATA.tables:
            found = connection.execute(f'SELECT * FROM "{name}"')
            columns = [column.name for column in found.description or ()]
            listed = ", ".join(f'"{column}"' for column in columns)
            with connection.cursor().copy(f'COPY "{name}" ({listed}) TO STDOUT') as copy:
                body = gzip.compress(b"".join(map(bytes, copy)))
            members[f"database/{name}.copy.gz"] = body
            manifest["tables"][name] = {
                "columns": columns,
                "rows": found.rowcount,
                **described(body),
            }
    members["manifest.json"] = json.dumps(manifest, indent=1).encode()
    with tarfile.open(target, "w") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))


def described(body: bytes) -> dict[str, Any]:
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_an_archive_of_format_1_is_restored(full: str, elsewhere: str, tmp_path: Path) -> None:
    before = content(full)
    write_format_1(full, tmp_path / "old.tar", {"1/model/config.json": b"{}"})
    made = restore_all(elsewhere, tmp_path / "new", tmp_path / "old.tar")
    assert made.rows == sum(map(len, before.values())) - 1
    after = content(elsewhere)
    same = set(before) - {"runs", "workers", "audit_events"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert query(elsewhere, "SELECT status FROM runs WHERE id = 2") == ("queued",)
    assert files(tmp_path / "new") == {"1/model/config.json": b"{}"}


def test_a_damaged_archive_of_format_1_changes_nothing(
    full: str, elsewhere: str, tmp_path: Path
) -> None:
    write_format_1(full, tmp_path / "old.tar", {})
    for change, words in (
        (lambda n, b: None if n == "database/pairs.copy.gz" else (n, b), "damaged: database/pairs"),
        (lambda n, b: (n, b.replace(b'"format": 1', b'"format": 2')), "its format's members"),
    ):
        bad = rewrite(tmp_path / "old.tar", change)
        with pytest.raises(SetupError, match=words):
            restore_all(elsewhere, tmp_path / "new", bad)
    assert content(elsewhere) == {}


# --- which pg_dump ----------------------------------------------------------------------------


def program(folder: Path, version: str) -> Path:
    """A pg_dump that only says its version."""
    folder.mkdir(exist_ok=True)
    path = folder / "pg_dump"
    path.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
    path.chmod(0o755)
    return path


def server(version: int, *, encrypted: bool = False) -> Any:
    return SimpleNamespace(
        info=SimpleNamespace(server_version=version * 10_000 + 4),
        pgconn=SimpleNamespace(ssl_in_use=encrypted),
    )


def test_the_pg_dump_is_one_that_can_read_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = postgres_binaries() / "pg_dump"
    newer = program(tmp_path / "bin", "99beta1 (Debian 99)")
    monkeypatch.setenv("PATH", str(newer.parent))
    assert tables._pg_dump_for(server(15)) == (own, 18)
    assert tables._pg_dump_for(server(18)) == (own, 18)
    assert tables._pg_dump_for(server(19)) == (newer, 99)
    assert tables._pg_dump_for(server(15, encrypted=True)) == (newer, 99)


def test_a_server_without_a_fitting_pg_dump_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"PostgreSQL 19 and is newer .* \(18\)\. Put a pg_dump"):
        tables._pg_dump_for(server(19))
    with pytest.raises(SetupError, match="over TLS"):
        tables._pg_dump_for(server(16, encrypted=True))
    program(tmp_path, "15.4")
    with pytest.raises(SetupError, match="version 16 or later on the PATH"):
        tables._pg_dump_for(server(16, encrypted=True))


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


def rewrite(source: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The archive with each member changed, or left out where None is returned."""
    target = source.with_name("changed.tar")
    with tarfile.open(source) as archive, tarfile.open(target, "w") as out:
        for member in archive:
            body = archive.extractfile(member).read()  # type: ignore[union-attr]
            if changed := change(member.name, body):
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])
                out.addfile(info, io.BytesIO(changed[1]))
    return target


WEIGHTS = "files/1/model/model.safetensors"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, b: (n, b[:-1] + b"x") if n == WEIGHTS else (n, b), "damaged: files/1"),
        (lambda n, b: None if n == WEIGHTS else (n, b), "damaged: files/1"),
        (lambda n, b: None if n == "database.dump" else (n, b), "damaged: database.dump"),
        (lambda n, b: (n, b[::-1]) if n == "database.dump" else (n, b), "damaged: database.dump"),
        (lambda n, b: None if n == "manifest.json" else (n, b), "no manifest"),
        (lambda n, b: (n, b"{}") if n == "manifest.json" else (n, b), "manifest cannot be read"),
        (lambda n, b: ("files/../../evil", b) if n == WEIGHTS else (n, b), "damaged"),
        (
            lambda n, b: (n.replace("1/model/m", "../../m"), b.replace(b"1/model/m", b"../../m")),
            "does not belong in a backup",
        ),
        (
            lambda n, b: (n, b.replace(b'"format": 2', b'"format": 9')),
            "format 9",
        ),
        (
            lambda n, b: (n, b.replace(b'"revision": "', b'"revision": "x')),
            "a schema that this version does not know",
        ),
    ],
)
def test_an_archive_that_was_changed_changes_nothing(
    full: str, elsewhere: str, runs: Path, tmp_path: Path, change: Any, words: str
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    bad = rewrite(tmp_path / "all.tar", change)
    with pytest.raises(SetupError, match=words):
        restore_all(elsewhere, tmp_path / "deep" / "new", bad)
    assert content(elsewhere) == {}
    assert list((tmp_path / "deep").glob("*")) == []
    assert not (tmp_path / "evil").exists()


def test_an_archive_that_was_cut_off_or_is_none_changes_nothing(
    full: str, elsewhere: str, runs: Path, tmp_path: Path
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    whole = (tmp_path / "all.tar").read_bytes()
    for name, body in (("cut", whole[: len(whole) // 2]), ("text", b"no tar"), ("empty", b"")):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(SetupError):
            restore_all(elsewhere, tmp_path / "new", tmp_path / name)
    with pytest.raises(SetupError, match="No such file"):
        restore_all(elsewhere, tmp_path / "new", tmp_path / "none")
    assert content(elsewhere) == {}


def test_links_in_an_archive_are_refused(elsewhere: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        link = tarfile.TarInfo("files/1/model/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    with pytest.raises(SetupError, match="does not belong in a backup"):
        restore_all(elsewhere, tmp_path / "new", tmp_path / "bad.tar")


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
