"""PostgreSQL, Valkey, the web server and workers as real processes that can be harmed."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import redis
from pydantic import SecretStr
from sqlalchemy import Connection, create_engine, make_url

from app.core.settings import Settings
from app.local import migrate as migrations
from app.local.embedded import Services, free_port, start_valkey
from app.local.postgres import start_postgres
from app.local.processes import Children, ChildSpec
from app.local.stack import child_environment, web_command, worker_command
from tests import PROJECT_ROOT
from tests.chaos.models import save_models
from tests.support import (
    OPERATOR_TOKEN,
    REVIEWER_TOKEN,
    VIEWER_TOKEN,
    bearer,
    short_folder,
)

SLOW_READERS = 45
SETTINGS = {
    # Short, so that a run does not wait half a minute for its next worker; and long enough for a
    # worker on a busy machine, which three leases missed in a row would fail.
    "CHESBOARD_LEASE": "PT5S",
    "CHESBOARD_HEARTBEAT": "PT0.5S",
    # One person may have half of them.
    "CHESBOARD_MAX_DOWNLOADS": str(2 * SLOW_READERS),
}
STOP_SECONDS = 30
START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """How workers are started (`chesboard worker --gpus G --seats N`), and how many."""

    gpus: int = 1
    seats: int = 1
    count: int = 2


TWO_WORKERS = WorkerKind()


@dataclass(slots=True)
class _Worker:
    process: "subprocess.Popen[bytes]"
    log: Path


class Stack:
    """What `chesboard up` runs, with access tokens and a second worker; any part of it can be
    killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        save_models(folder / "models")
        settings = Settings(
            data_dir=folder,
            models_dir=folder / "models",
            port=free_port(),
            log_level="INFO",
            token=SecretStr(OPERATOR_TOKEN),
            reviewer_token=SecretStr(REVIEWER_TOKEN),
            viewer_token=SecretStr(VIEWER_TOKEN),
        ).model_copy(update={"database_url": None, "redis_url": None})
        self.url = f"http://127.0.0.1:{settings.port}"
        self._postgres, self._valkey, self._web = Children(), Children(), Children()
        self._workers: list[_Worker] = []
        self._kind = TWO_WORKERS
        self._started = 0
        try:
            database_url = start_postgres(folder / "postgres", self._postgres)
            redis_url = start_valkey(folder / "valkey", self._valkey)
            self.services = Services(database_url, redis_url, stop=self.stop)
            migrations.upgrade(database_url)
            self._settings = settings
            self._environment = (
                child_environment(settings, self.services) | SETTINGS | {"OMP_NUM_THREADS": "1"}
            )
            self._web.add(
                ChildSpec(
                    "web",
                    web_command(settings),
                    self._environment,
                    cwd=PROJECT_ROOT,
                    log_path=folder / "web.log",
                )
            )
            self.tend_workers()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                found = httpx.get(f"{self.url}/healthz", timeout=2, headers=bearer(OPERATOR_TOKEN))
                if len(found.json()["workers"]) == self._kind.count:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the stack did not start:\n{self.words()}")

    def stop(self) -> None:
        self._web.stop()
        for worker in self._workers:
            worker.process.send_signal(signal.SIGCONT)
            worker.process.kill()
            worker.process.wait()
        self._valkey.stop()
        self._postgres.stop()

    def words(self) -> str:
        """The last lines of every log, for whoever looks for the cause of a fault."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{_tail(path)}" for path in logs)

    # --- workers ---

    def tend_workers(self) -> None:
        """Start workers until there are as many as there should be, as a supervisor does."""
        self._workers = [worker for worker in self._workers if worker.process.poll() is None]
        while len(self._workers) < self._kind.count:
            self._started += 1
            log = self.folder / f"worker-{self._started:02d}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    worker_command(self._settings),
                    cwd=PROJECT_ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            self._workers.append(_Worker(process, log))

    def worker_pids(self) -> set[int]:
        """Of those that run."""
        return {one.process.pid for one in self._workers if one.process.poll() is None}

    def have_workers(self, kind: WorkerKind) -> None:
        """Have so many workers of this kind from now on."""
        if kind == self._kind:
            return
        self._kind = kind
        self._environment |= {
            "CHESBOARD_GPUS": str(kind.gpus),
            "CHESBOARD_SEATS": str(kind.seats),
        }
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.wait(STOP_SECONDS)
        self.tend_workers()
        self.wait_until_ready()

    def signal_worker(self, pid: int, number: signal.Signals) -> None:
        """Only ever one of our own."""
        [worker] = [worker for worker in self._workers if worker.process.pid == pid]
        worker.process.send_signal(number)

    def limit_files(self, pid: int, size: int | None) -> None:
        """How large a file the worker may write: to it, a disk that is full from there on."""
        limit = -1 if size is None else size
        psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (limit, -1))

    # --- services ---

    def kill_postgres(self) -> None:
        """As a power failure would; its parent starts it again."""
        pid = int((self.folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)

    @contextmanager
    def without_postgres(self) -> Iterator[None]:
        self._postgres.stop()
        try:
            yield
        finally:
            self._postgres = Children()
            start_postgres(self.folder / "postgres", self._postgres)

    def kill_valkey(self) -> None:
        _one_child(self._valkey).kill()

    def wipe_valkey(self) -> None:
        with redis.Redis.from_url(self.services.redis_url) as client:
            client.flushall()

    def kill_web(self) -> None:
        self.web.kill()

    @property
    def web(self) -> psutil.Process:
        """The web server's process of this moment."""
        return _one_child(self._web)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """SQLAlchemy's, in one transaction."""
        url = make_url(self.services.database_url).set(drivername="postgresql+psycopg")
        engine = create_engine(url)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the database, waiting for it where it is away."""
        while True:
            try:
                with psycopg.connect(self.services.database_url) as connection:
                    return connection.execute(statement, values).fetchall()
            except psycopg.OperationalError:
                time.sleep(0.1)


def _one_child(children: Children) -> psutil.Process:
    [child] = children._children
    assert child.pid is not None
    return psutil.Process(child.pid)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-25:])


@contextmanager
def running() -> Iterator[Stack]:
    with short_folder() as folder:
        stack = Stack(folder)
        try:
            yield stack
        finally:
            stack.stop()
