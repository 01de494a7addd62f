"""The embedded PostgreSQL and Valkey: real servers that keep what they should, and come back."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
from kombu import Connection as Broker

from app.local.embedded import Services, start_services, start_valkey
from app.local.processes import Children
from tests import support


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
        else "from app.local import processes; processes.bind_to_parent = lambda _: None\n"
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
