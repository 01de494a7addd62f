"""Children are started, kept alive and stopped; nothing outlives the parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from app.local.processes import Child, Children, ChildSpec
from tests.support import eventually


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def children(lines: list[str]) -> Iterator[Children]:
    children = Children(lines.append)
    yield children
    children.stop()


def python(name: str, code: str, **options: object) -> ChildSpec:
    return ChildSpec(name, [sys.executable, "-u", "-c", code], dict(os.environ), **options)  # type: ignore[arg-type]


SLEEP = "import time; time.sleep(60)"


def test_output_stands_behind_the_childs_name(children: Children, lines: list[str]) -> None:
    children.add(python("talker", "import sys; print('one'); print('two', file=sys.stderr)"))
    eventually(lambda: len(lines) >= 2)
    assert lines[:2] == ["  talker | one", "  talker | two"]


def test_output_goes_to_a_file_where_one_is_named(children: Children, tmp_path: Path) -> None:
    log = tmp_path / "log"
    children.add(python("writer", f"print('hello'); {SLEEP}", log_path=log))
    eventually(lambda: log.read_text() == "hello\n")


def test_a_child_that_is_killed_is_started_again(
    children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    child = children.add(python("worker", SLEEP))
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: child.deaths == 1 and child.alive)
    assert child.pid != first
    assert "worker ended with status -9; starting it again in 0.5 s" in caplog.text


def test_a_child_that_keeps_ending_is_started_ever_less_often(
    children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    child = children.add(python("hopeless", "raise SystemExit(3)"))
    eventually(lambda: child.deaths == 3)
    delays = [
        record.args[2]
        for record in caplog.records
        if record.name == "app.local.processes" and isinstance(record.args, tuple)
    ]
    assert delays == [0.5, 1.0, 2.0]


def test_the_last_started_is_stopped_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    farewell = (
        "import signal, sys, time\n"
        "def bye(*_):\n    time.sleep(0.1); print('{0} ends'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye); print('{0} is up'); time.sleep(60)"
    )

    def is_up(name: str) -> bool:
        return f"{name} is up" in log.read_text()

    children = Children()
    for name in ("first", "second"):
        children.add(python(name, farewell.format(name), log_path=log))
        eventually(partial(is_up, name))
    children.stop()
    assert log.read_text().splitlines()[2:] == ["second ends", "first ends"]


def test_a_child_that_will_not_end_is_killed_after_its_grace(tmp_path: Path) -> None:
    log = tmp_path / "log"
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up')\n"
    children = Children()
    child = children.add(python("deaf", deaf + "time.sleep(60)", grace_seconds=0.3, log_path=log))
    eventually(lambda: "up" in log.read_text())
    children.stop()
    assert not child.alive


def test_grandchildren_go_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import subprocess, sys, time\n"
        f"print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid); time.sleep(60)"
    )
    children = Children()
    children.add(python("parent", code, log_path=log))
    eventually(lambda: log.read_text().strip())
    children.stop()
    grandchild = int(log.read_text())
    eventually(lambda: not _runs(grandchild))


def test_a_restarted_child_is_stopped_in_order_too(children: Children) -> None:
    child: Child = children.add(python("worker", SLEEP))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    eventually(lambda: child.deaths == 1 and child.alive)
    pid = child.pid
    assert pid is not None
    children.stop()
    assert not _runs(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from app.local.processes import Children, ChildSpec\n"
        f"argv = [sys.executable, '-c', {SLEEP!r}]\n"
        f"spec = ChildSpec('sleeper', argv, dict(os.environ), log_path=Path({str(log)!r}))\n"
        "print(Children().add(spec).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _runs(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
