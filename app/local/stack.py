"""Runs the whole of Chesboard as one process and its children: services, worker and web server.

    with Stack(settings) as stack:
        stack.wait_ready()
        ...                    # talk to stack.url
        stack.run_forever()    # until Ctrl-C or SIGTERM

Leaving the block stops everything: first the web server, then the worker, which gets time to
release its run, then Valkey and PostgreSQL.
"""

import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import app
from app.auth.tokens import Keyring, TokenFileError
from app.core.settings import Settings
from app.local.data_folder import FolderLock
from app.local.embedded import Services, start_services
from app.local.errors import SetupError
from app.local.processes import DEATHS_BEFORE_GIVING_UP, Child, Children, ChildSpec

log = logging.getLogger(__name__)

READY_SECONDS = 120.0
# The worker checks for the signal once a step; a step of a large model takes a while.
WORKER_GRACE_SECONDS = 120.0
WEB_GRACE_SECONDS = 10.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Runs the worker in its own Celery process. Not `celery -A worker.tasks`, which would put the
# current folder, and so a `worker` package of the user's, first on the import path.
_RUN_WORKER = "import sys; from worker.tasks import celery; celery.worker_main(sys.argv[1:])"


class Stack:
    """Everything that `chesboard up` runs."""

    def __init__(self, settings: Settings, *, quiet: bool = False) -> None:
        """With `quiet`, worker and web server log to logs/ in the data folder, not to stderr."""
        self._quiet = quiet
        self.settings = settings.model_copy(update=_absolute_paths(settings))
        self.url = web_url(settings)
        self._lock = FolderLock(self.settings.data_dir)
        self._children = Children()
        self._web: Child | None = None
        self._worker: Child | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Start everything, in order.

        Raises:
            SetupError: the port or the data folder is in use, or a service does not start.
        """
        check_exposure(self.settings)
        self._lock.acquire(f"chesboard (process {os.getpid()}, {self.url})")
        self._catch_signals()
        try:
            check_port(self.settings)
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        # SQLAlchemy is not needed to run one process alone.
        from app.local import migrate as migrations

        services = start_services(self.settings, self._children)
        check_broker(services.redis_url)
        migrations.upgrade(services.database_url)
        environment = child_environment(self.settings, services)
        self._worker = self._children.add(
            ChildSpec(
                name="worker",
                argv=worker_command(self.settings),
                environment=environment,
                grace_seconds=WORKER_GRACE_SECONDS,
                log_path=self._log_path("worker"),
            )
        )
        self._web = self._children.add(
            ChildSpec(
                name="web",
                argv=web_command(self.settings),
                environment=environment,
                grace_seconds=WEB_GRACE_SECONDS,
                log_path=self._log_path("web"),
            )
        )

    def _log_path(self, name: str) -> Path | None:
        if not self._quiet:
            return None
        folder = self.settings.data_dir / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.log"

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Return once the web server, its services and a worker answer.

        Raises:
            SetupError: they do not within the timeout, or a child keeps dying.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._is_ready():
            for child in (self._web, self._worker):
                assert child is not None
                if child.deaths >= DEATHS_BEFORE_GIVING_UP:
                    where = child.spec.log_path or "above"
                    raise SetupError(f"The {child.spec.name} process does not start; see {where}.")
            if time.monotonic() > deadline:
                raise SetupError(f"Chesboard was not ready within {timeout_seconds:g} s.")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        request = urllib.request.Request(f"{self.url}/healthz")  # noqa: S310 - our own address
        if token := Keyring.of(self.settings).strongest():
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return bool(json.load(answer)["workers"])
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def run_forever(self) -> None:
        """Return on Ctrl-C, SIGTERM or SIGHUP."""
        with suppress(KeyboardInterrupt):
            while True:
                signal.pause()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything, in order. Further stop signals are ignored meanwhile."""
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)
        self._children.stop()
        self._lock.release()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _catch_signals(self) -> None:
        for number in STOP_SIGNALS:
            self._handlers[number] = signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: object) -> None:
    # The first signal interrupts the main thread; a second must not interrupt the cleanup.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def child_environment(settings: Settings, services: Services) -> dict[str, str]:
    """The children's environment variables: this process's settings and the services' URLs."""
    environment = {
        **os.environ,
        "DATABASE_URL": services.database_url,
        "REDIS_URL": services.redis_url,
        "CHESBOARD_DATA_DIR": str(settings.data_dir),
        "CHESBOARD_MODELS_DIR": str(settings.models_path),
        "CHESBOARD_HOST": settings.host,
        "CHESBOARD_PORT": str(settings.port),
        "CHESBOARD_LOG_LEVEL": settings.log_level,
        "CHESBOARD_LOG_FORMAT": settings.log_format,
        "PYTHONUNBUFFERED": "1",
        "TQDM_DISABLE": "1",  # progress bars are for terminals, not for a log
    }
    for name in ("token", "reviewer_token", "viewer_token"):
        if (secret := getattr(settings, name)) is not None:
            environment[f"CHESBOARD_{name.upper()}"] = secret.get_secret_value()
    if settings.tokens_file is not None:
        environment["CHESBOARD_TOKENS_FILE"] = str(settings.tokens_file.expanduser().resolve())
    return environment


def web_command(settings: Settings) -> list[str]:
    """The command of the web server: uvicorn on the `app` package that this process runs."""
    return [
        *(sys.executable, "-P", "-m", "uvicorn", "app.main:serve", "--factory"),
        # uvicorn would put the current folder, and so an `app` of the user's, first on the path.
        *("--app-dir", str(Path(app.__file__).parents[1])),
        *("--host", settings.host, "--port", str(settings.port)),
        *("--log-level", settings.log_level.lower()),
        *([] if settings.log_level.upper() == "DEBUG" else ["--no-access-log"]),
        # Live pages hold a connection open (SSE) and reconnect by themselves.
        *("--timeout-graceful-shutdown", "2"),
        # So many are accepted before they are counted: fewer than the files that may be open.
        *("--http", "app.web.connections:Protocol", "--backlog", "128"),
        *forwarding(settings),
    ]


def forwarding(settings: Settings) -> list[str]:
    """uvicorn's options: only from these proxies it takes a client's address and scheme."""
    proxies = ",".join(map(str, settings.proxy_networks))
    return ["--forwarded-allow-ips", proxies] if proxies else ["--no-proxy-headers"]


def worker_command(settings: Settings) -> list[str]:
    """The command of one worker: Celery on one queue, without a process pool."""
    return [
        # Messages hold a run id only, so Celery's warning about pickles and root does not apply.
        *(sys.executable, "-P", "-W", "ignore:You're running the worker with superuser privileges"),
        *("-c", _RUN_WORKER, "--quiet", "worker"),
        *("--pool=solo", "--concurrency=1", "--queues=chesboard"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        f"--loglevel={settings.log_level.upper()}",
    ]


def check_exposure(settings: Settings) -> None:
    """Refuse to listen on any address but loopback without an access token.

    Raises:
        SetupError: there is none, or the tokens are invalid.
    """
    try:
        keyring = Keyring.of(settings)
    except TokenFileError as error:
        raise SetupError(str(error)) from None
    if not keyring and not _is_loopback(settings.host):
        raise SetupError(
            f"{settings.host} can be reached from other machines. Set CHESBOARD_TOKEN to an "
            "access token, or leave CHESBOARD_HOST at 127.0.0.1."
        )


def check_port(settings: Settings) -> None:
    """Check that the web server will be able to listen.

    Raises:
        SetupError: the port is in use, or the address is not this machine's.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the server does: a port in TIME_WAIT after a restart is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SetupError(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). "
            "Set CHESBOARD_PORT to another port, or stop what uses this one."
        ) from None


def check_broker(url: str) -> None:
    """Check that the broker answers; the worker would retry silently.

    Raises:
        SetupError: it does not.
    """
    import redis

    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise SetupError(f"The Redis or Valkey at REDIS_URL does not answer: {error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def web_url(settings: Settings) -> str:
    """The address to open on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _absolute_paths(settings: Settings) -> dict[str, Path]:
    return {
        "data_dir": settings.data_dir.expanduser().resolve(),
        "models_dir": settings.models_path.expanduser().resolve(),
    }
