"""Supervises child processes: starts them, restarts those that die, stops them in order.

Each child leads its own process group, so the terminal's Ctrl-C reaches only the parent, which
then stops the children one by one, last started first. On Linux the kernel also ends the children
when the parent is killed (PR_SET_PDEATHSIG).
"""

import logging
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from app.core.orphans import bind_to_parent
from app.local.errors import SetupError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
READY_SECONDS = 60.0
# A server that died this often before it was ready will not start by itself.
DEATHS_BEFORE_GIVING_UP = 3
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
# A child that lived this long was healthy: the restart backoff starts over.
HEALTHY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start a child process and how to stop it."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path | None = None
    user: str | None = None
    """The system user to run as; only root may set it."""
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """The signal that the kernel sends when the parent dies."""
    grace_seconds: float = 10.0
    """Seconds from the stop signal to SIGKILL."""
    log_path: Path | None = None
    """File for its output; None: the parent's stderr, each line prefixed with the child's name."""


def identity(user: str | None) -> dict[str, Any]:
    """Popen's arguments to run as a system user without root's supplementary groups."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Child:
    """One child process and its restarts. Not thread-safe: Children holds a lock."""

    def __init__(self, spec: ChildSpec, write_line: Callable[[str], None]) -> None:
        self.spec = spec
        self.deaths = 0
        self._write_line = write_line
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._delay = FIRST_DELAY_SECONDS
        self._restart_at: float | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self._restart_at = None
        self._started = time.monotonic()
        if self.spec.log_path is None:
            self._process = self._spawn(subprocess.PIPE)
            threading.Thread(
                target=self._forward, args=(self._process.stdout,), daemon=True
            ).start()
        else:
            with self.spec.log_path.open("ab") as output:
                self._process = self._spawn(output)

    def _spawn(self, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - argv is ours
            list(self.spec.argv),
            env=dict(self.spec.environment),
            cwd=self.spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=bind_to_parent(self.spec.orphan_signal),
            **identity(self.spec.user),
        )

    def _forward(self, output: IO[bytes]) -> None:
        for line in output:
            text = line.decode(errors="replace").rstrip()
            if text:
                self._write_line(f"{self.spec.name:>8} | {text}")

    def watch(self) -> None:
        """Record a death, and restart with exponential backoff."""
        if self.alive:
            return
        now = time.monotonic()
        if self._restart_at is None:
            self._note_death(now)
        elif now >= self._restart_at:
            self.start()

    def _note_death(self, now: float) -> None:
        assert self._process is not None
        self.deaths += 1
        if now - self._started > HEALTHY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        log.warning(
            "%s ended with status %s; starting it again in %.1f s",
            self.spec.name,
            self._process.returncode,
            self._delay,
        )
        self._restart_at = now + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY_SECONDS)

    def stop(self) -> None:
        """Send the stop signal; after the grace period kill it and its process group."""
        if self._process is None:
            return
        if self.alive:
            self._process.send_signal(self.spec.stop_signal)
            try:
                self._process.wait(self.spec.grace_seconds)
            except subprocess.TimeoutExpired:
                log.warning(
                    "%s did not end within %g s; killing it",
                    self.spec.name,
                    self.spec.grace_seconds,
                )
        with suppress(ProcessLookupError, PermissionError):  # an empty group: the usual case
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Children:
    """Starts children in order, restarts those that die, and stops them in reverse order."""

    def __init__(self, write_line: Callable[[str], None] | None = None) -> None:
        self._write_line = write_line or _write_to_stderr
        self._children: list[Child] = []
        self._lock = threading.RLock()
        self._stopping = False
        self._done = threading.Event()
        self._monitor: threading.Thread | None = None

    def add(self, spec: ChildSpec) -> Child:
        """Start a child and restart it whenever it dies."""
        with self._lock:
            assert not self._stopping
            child = Child(spec, self._write_line)
            child.start()
            self._children.append(child)
            if self._monitor is None:
                self._monitor = threading.Thread(target=self._watch, name="children", daemon=True)
                self._monitor.start()
        return child

    def stop(self) -> None:
        """Stop all children, last started first. Idempotent."""
        with self._lock:
            if not self._stopping:
                self._stopping = True
                for child in reversed(self._children):
                    child.stop()
        # PR_SET_PDEATHSIG fires when the *thread* that started the child ends. So the monitor,
        # which did the restarts, may end only when no child is left.
        self._done.set()
        if self._monitor is not None:
            self._monitor.join()

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            with self._lock:
                if not self._stopping:
                    self._watch_all()

    def _watch_all(self) -> None:
        for child in self._children:
            try:
                child.watch()
            except OSError as error:
                # For example EAGAIN from fork: retried at the next poll.
                log.warning("%s could not be started: %s", child.spec.name, error)


def _write_to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def end_orphan(pid_file: Path, name: str, stop_signal: signal.Signals) -> None:
    """Stop the server that a killed parent left running, or remove its stale pid file.

    Only the holder of the data folder's lock calls this, so a server on it has lost its parent.
    """
    try:
        process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        is_ours = process.name() == name and Path(process.cwd()) == pid_file.parent
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # no such file or process: the server removes the file at its start
    if is_ours:
        process.send_signal(stop_signal)
        psutil.wait_procs([process], timeout=30)
    else:
        # The pid was reused by another process; PostgreSQL would refuse to start.
        pid_file.unlink(missing_ok=True)


def wait_until_ready(child: Child, ready: Callable[[], bool]) -> None:
    """Wait until a server that was just started answers.

    Raises:
        SetupError: it does not within READY_SECONDS, or it keeps dying; the message quotes its log.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not (child.alive and ready()):
        if time.monotonic() > deadline or child.deaths >= DEATHS_BEFORE_GIVING_UP:
            raise SetupError(
                f"The embedded {child.spec.name} does not start. "
                f"The error in {child.spec.log_path}: {_last_error(child.spec.log_path)}"
            )
        time.sleep(0.05)


def _last_error(path: Path | None) -> str:
    """The last FATAL line of a log, or else its last line."""
    lines = path.read_text(errors="replace").splitlines() if path and path.exists() else []
    errors = [line for line in lines if "FATAL" in line] or lines
    return errors[-1] if errors else "(the log is empty)"
