"""A worker's process starts anew while its main thread is in a call that does not return."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import PROJECT_ROOT
from worker import replacing

HELD = """
import os, resource, signal, sys, threading, time
from worker import replacing

fifo, how = sys.argv[1:]
print("began", os.getpid(), resource.getrlimit(resource.RLIMIT_AS)[0], flush=True)
if os.path.exists(fifo):
    def start_anew():
        time.sleep(0.2)
        os.rename(fifo, fifo + ".held")
        replacing.replace_process()
    replacing.replaceable.set()
    # What worker.template_bounds does while it renders.
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.getrlimit(resource.RLIMIT_AS)[1]))
    threading.Thread(target=start_anew).start()
    open(fifo).read()
time.sleep(0.2)
print("free", how, flush=True)
"""

DEAF = """
import re
from worker import replacing

replacing.HELD_SECONDS = 0.5
replacing._WATCH_SECONDS = 0.1
replacing.allow_replacement()
print("watched", flush=True)
re.match("(a+)+$", "a" * 60 + "b")
"""


def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_process_whose_main_thread_waits_for_a_disk_starts_anew(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "disk")
    found = run(HELD, str(tmp_path / "disk"), "with its arguments")
    assert found.returncode == 0, found.stderr
    first, second, last = found.stdout.splitlines()
    assert first == second, "the same process, under the limits that it began with"
    assert last == "free with its arguments"


def test_a_process_of_which_no_thread_gets_to_run_ends_and_says_where(tmp_path: Path) -> None:
    began = time.monotonic()
    found = run(DEAF)
    assert (found.returncode, found.stdout) == (1, "watched\n")
    assert "in match" in found.stderr
    assert time.monotonic() - began < 10


def test_a_process_that_is_more_than_a_worker_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("replaced"))
    before = signal.getitimer(signal.ITIMER_REAL)
    replacing.replace_process()
    assert signal.getitimer(signal.ITIMER_REAL) == before
