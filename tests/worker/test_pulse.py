"""Signs of life of the processes of a run, and who is found to be stuck."""

import os
import time
from pathlib import Path

import pytest

from chesboard.reporting import RunCancelledError
from worker import pulse
from worker.pulse import Marking, Pulse, Watch

LIMIT = 10.0


class Clock:
    """The watching worker's, and the times at which processes touch their files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.now, self._touched, self._folder = 0.0, 0, folder
        monkeypatch.setattr("worker.pulse.time.monotonic", lambda: self.now)

    def touch(self, *names: str) -> None:
        self._touched += 1
        for name in names:
            file = self._folder / name
            file.touch()
            os.utime(file, ns=(self._touched, self._touched))

    def watched(self, watch: Watch, seconds: float, *touched: str) -> str | None:
        """What is wrong after so many seconds in which these files are touched."""
        for _ in range(int(seconds / 0.1)):
            self.now += 0.1
            self.touch(*touched)
            if found := watch.look():
                return found
        return None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    return Clock(monkeypatch, tmp_path)


def test_processes_that_live_and_get_on_are_let_be(clock: Clock, tmp_path: Path) -> None:
    watch = Watch(tmp_path, range(2), LIMIT)
    assert clock.watched(watch, 300, "alive-0", "alive-1", "progress-1") is None


def test_a_process_that_stands_still_is_named(clock: Clock, tmp_path: Path) -> None:
    watch = Watch(tmp_path, range(3), LIMIT)
    clock.touch("alive-0", "alive-1", "alive-2", "progress-0")
    assert clock.watched(watch, LIMIT - 1, "alive-0", "alive-1", "progress-0") is None
    found = clock.watched(watch, 2, "alive-0", "alive-1", "progress-0")
    assert found == "no sign of life for 10 s of process 2"


def test_processes_that_live_and_wait_in_vain_are_stuck(clock: Clock, tmp_path: Path) -> None:
    watch = Watch(tmp_path, range(2), LIMIT)
    clock.touch("progress-0", "progress-1")
    assert clock.watched(watch, LIMIT - 1, "alive-0", "alive-1") is None
    assert clock.watched(watch, LIMIT - 1, "alive-0", "alive-1", "progress-1") is None
    found = clock.watched(watch, LIMIT + 1, "alive-0", "alive-1")
    assert found == "no progress for 10 s in any process"


def test_processes_that_have_not_begun_are_waited_for(clock: Clock, tmp_path: Path) -> None:
    assert clock.watched(Watch(tmp_path, range(2), LIMIT), 300) is None


def test_time_in_which_the_worker_itself_stood_still_does_not_count(
    clock: Clock, tmp_path: Path
) -> None:
    watch = Watch(tmp_path, range(1), LIMIT)
    clock.touch("alive-0", "progress-0")
    assert clock.watched(watch, 5) is None
    clock.now += 3600.0
    assert watch.look() is None
    assert clock.watched(watch, LIMIT) is not None


def test_a_process_that_is_done_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "_own", None)
    own = Pulse(tmp_path, 0)
    own.start()
    wait_for(tmp_path / "alive-0")
    own.end()
    assert not (tmp_path / "alive-0").exists()
    watch = Watch(tmp_path, range(1), 0.05)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert watch.look() is None


def test_every_check_is_progress_and_so_is_what_is_long_without_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "_own", None)
    progress = tmp_path / "progress-0"
    with pulse.busy():  # nobody watches yet
        pass
    own = Pulse(tmp_path, 0)
    own.start()
    assert not progress.exists()
    with pulse.busy():
        wait_for(progress)
    time.sleep(0.05)
    progress.unlink()
    time.sleep(0.05)
    assert not progress.exists()

    class Cancelled:
        def check(self) -> None:
            raise RunCancelledError

    with pytest.raises(RunCancelledError):
        Marking(Cancelled(), own).check()
    assert progress.exists()
    own.end()


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_processes_of_another_seat_may_wait_for_the_first_and_not_stand_still(
    clock: Clock, tmp_path: Path
) -> None:
    watch = Watch(tmp_path, range(2, 4), LIMIT)
    clock.touch("alive-2", "alive-3", "progress-2", "progress-3")
    assert clock.watched(watch, 300, "alive-2", "alive-3") is None
    found = clock.watched(watch, LIMIT + 1, "alive-2")
    assert found == "no sign of life for 10 s of process 3"
