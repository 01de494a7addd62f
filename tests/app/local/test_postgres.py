"""The embedded PostgreSQL: whose folder it takes, how it is reached, and that it comes back."""

import os
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from app.local.embedded import Services
from app.local.errors import SetupError
from app.local.postgres import MAX_SOCKET_FOLDER_BYTES, ROOTS_POSTGRES_USER, start_postgres
from app.local.processes import Children, identity
from tests import support
from tests.app.local.test_embedded import query, start


def test_a_stale_pid_file_that_names_another_process_is_no_hindrance(folder: Path) -> None:
    start(folder).stop()
    # PostgreSQL itself looks past the processes of other users.
    user = identity(ROOTS_POSTGRES_USER if os.geteuid() == 0 else None)
    other = subprocess.Popen(["sleep", "60"], **user)
    pid_file = folder / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{other.pid}\n{folder / 'postgres'}\n1700000000\n5432\n\n\n\n")
    services = start(folder)
    try:
        assert query(services.database_url, "SELECT 1") == 1
        assert other.poll() is None
    finally:
        services.stop()
        other.kill()
        other.wait()


def test_initdb_that_was_interrupted_is_done_again(folder: Path) -> None:
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    services = start(folder)
    try:
        assert query(services.database_url, "SELECT 1") == 1
    finally:
        services.stop()


def test_a_folder_too_deep_for_a_unix_socket_works(folder: Path, children: Children) -> None:
    deep = folder / ("a" * 60) / ("b" * 60) / "postgres"
    assert len(str(deep)) > MAX_SOCKET_FOLDER_BYTES
    url = start_postgres(deep, children, durable=False)
    assert query(url, "SELECT current_database()") == "chesboard"


def test_a_folder_of_another_version_is_refused_in_words(folder: Path, children: Children) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(SetupError, match=r"was made by PostgreSQL 9, and this is 18"):
        start_postgres(folder / "postgres", children)


def test_a_folder_of_other_things_is_left_alone(folder: Path, children: Children) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "thesis.txt").write_text("years of work")
    with pytest.raises(SetupError, match="holds something, but no database"):
        start_postgres(folder / "postgres", children, durable=False)
    assert (folder / "postgres" / "thesis.txt").read_text() == "years of work"


def test_postgres_is_not_on_the_network_and_its_files_are_private(services: Services) -> None:
    if os.environ.get("CHESBOARD_TEST_DATABASE_URL"):
        pytest.skip("the servers of this test run are not the embedded ones")
    assert query(services.database_url, "SHOW listen_addresses") == ""
    data = Path(str(query(services.database_url, "SHOW data_directory")))
    assert data.stat().st_mode & 0o077 == 0


def test_postgres_that_is_killed_comes_back(folder: Path, children: Children) -> None:
    url = start_postgres(folder / "postgres", children, durable=False)
    os.kill(int((folder / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def answers() -> bool:
        try:
            return query(url, "SELECT 1") == 1
        except psycopg.OperationalError:
            return False

    support.eventually(lambda: not answers())
    support.eventually(answers)
