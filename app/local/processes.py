"""Child processes of one parent: started together, restarted when they die, stopped in order.

The terminal's Ctrl-C reaches only the parent, because each child leads a process group of its
own; the parent then stops them one by one, the last started first. On Linux the kernel also
ends the children when the parent is killed.
"""

import ctypes
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

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
# A child that lived this long was healthy: its next restart starts from the short delay again.
HEALTHY_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start and how to end it."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path | None = None
    user: str | None = None
    """Run as this system user (only root may ask for that)."""
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends when the parent is gone."""
    grace_seconds: float = 10.0
    """How long it may take to end after the stop signal, before SIGKILL."""
    log_path: Path | None = None
    """Where its output goes; None: the parent's log, each line behind the child's name."""


def _bind_to_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """A function for the child to run before exec, which ties its life to the parent's."""
    if sys.platform != "linux":
        return None
    # Loaded here, in the parent: between fork and exec as little as possible may happen.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before prctl took hold
            os._exit(1)

    return bind


def identity(user: str | None) -> dict[str, Any]:
    """Popen's arguments for running as this system user, with none of root's groups."""
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
            preexec_fn=_bind_to_parent(self.spec.orphan_signal),
            **identity(self.spec.user),
        )

    def _forward(self, output: IO[bytes]) -> None:
        for line in output:
            text = line.decode(errors="replace").rstrip()
            if text:
                self._write_line(f"{self.spec.name:>8} | {text}")

    def watch(self) -> None:
        """Note a death, and start again once its delay is over."""
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
        """Ask it to end; after its grace kill it and what is left of its process group."""
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
    """Starts children in order, keeps them alive, and stops them in the opposite order."""

    def __init__(self, write_line: Callable[[str], None] | None = None) -> None:
        self._write_line = write_line or _write_to_stderr
        self._children: list[Child] = []
        self._lock = threading.RLock()
        self._stopping = False
        self._done = threading.Event()
        self._monitor: threading.Thread | None = None

    def add(self, spec: ChildSpec) -> Child:
        """Start a child and watch it from now on."""
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
        """Stop all children, the last started first. May be called again."""
        with self._lock:
            if not self._stopping:
                self._stopping = True
                for child in reversed(self._children):
                    child.stop()
        # The kernel counts a child's parent as dead when the *thread* that started it ends. So
        # the monitor, which did the restarts, may only end when no child is left.
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
                # For example out of processes: worth another try at the next look.
                log.warning("%s could not be started: %s", child.spec.name, error)


def _write_to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
