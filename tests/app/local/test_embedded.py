"""The embedded PostgreSQL and Valkey: real servers that keep what they should, and come back."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from kombu import Connection as Broker

from app.local.data_folder import FolderLock
from app.local.embedded import Services, start_services, start_valkey
from app.local.errors import SetupError
from app.local.postgres import MAX_SOCKET_FOLDER_BYTES, ROOTS_POSTGRES_USER, start_postgres
from app.local.processes import Children, identity
from tests import support


@pytest.fixture
def folder() -> Iterator[Path]:
    with support.short_folder() as folder:
        yield folder


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children()
    yield children
    children.stop()


def start(folder: Path) -> Services:
    return start_services(support.embedded_settings(folder), durable=False)


def query(url: str, sql: str) -> object:
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


def test_a_restart_finds_the_data_again(folder: Path) -> None:
    first = start(folder)
    with psycopg.connect(first.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop()
    second = start(folder)
    try:
        assert query(second.database_url, "SELECT answer FROM kept") == 42
    finally:
        second.stop()


def test_stop_leaves_no_process(folder: Path) -> None:
    services = start(folder)
    services.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(services.database_url)
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(services.redis_url).ping()


@pytest.mark.parametrize("tied", [True, False], ids=["as on Linux", "as on other systems"])
def test_a_server_whose_parent_was_killed_is_followed_by_a_new_one(
    folder: Path, tied: bool
) -> None:
    untie = (
        ""
        if tied
        else "from app.local import processes; processes._bind_to_parent = lambda _: None\n"
    )
    code = untie + (
        "import signal; from pathlib import Path; from tests.support import embedded_settings\n"
        "from app.local.embedded import start_services\n"
        f"settings = embedded_settings(Path({str(folder)!r}))\n"
        "services = start_services(settings, durable=False)\n"
        "print(services.database_url, services.redis_url, flush=True)\n"
        "signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    database_url, redis_url = parent.stdout.readline().split()
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    services = start(folder)  # at once: the old server may still be on its way out
    try:
        assert query(services.database_url, "SELECT answer FROM kept") == 42
        with pytest.raises(redis.ConnectionError):
            redis.Redis.from_url(redis_url).ping()
    finally:
        services.stop()


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


def test_valkey_answers_redis_and_celery_under_one_url(folder: Path, children: Children) -> None:
    url = start_valkey(folder / "valkey", children)
    assert redis.Redis.from_url(url).ping()
    with Broker(url) as broker:
        queue = broker.SimpleQueue("letters")
        queue.put({"run": 1})
        assert queue.get(timeout=5).payload == {"run": 1}


def test_valkey_turns_away_who_has_no_password(folder: Path, children: Children) -> None:
    url = start_valkey(folder / "valkey", children)
    without = "redis://" + url.split("@")[1]
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(without).ping()
    assert (folder / "valkey" / "valkey.conf").stat().st_mode & 0o077 == 0


def test_servers_of_ones_own_are_not_started(folder: Path) -> None:
    settings = support.embedded_settings(folder).model_copy(
        update={"database_url": "postgresql://db/x", "redis_url": "redis://cache/0"}
    )
    services = start_services(settings)
    assert (services.database_url, services.redis_url) == (
        "postgresql://db/x",
        "redis://cache/0",
    )
    assert list(folder.iterdir()) == []


def test_a_folder_has_one_holder_and_names_it_to_the_second(folder: Path) -> None:
    first, second = FolderLock(folder), FolderLock(folder)
    first.acquire("chesboard (process 12)")
    with pytest.raises(SetupError, match=r"is in use by chesboard \(process 12\)"):
        second.acquire("another")
    first.release()
    second.acquire("another")
    second.release()


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be written \(Not a directory\)") as caught:
        FolderLock(tmp_path / "file" / "data").acquire("chesboard")
    assert "\n" not in str(caught.value)
