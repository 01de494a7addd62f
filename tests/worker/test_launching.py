"""How the processes of a run ended, and what their worker makes of it."""

import subprocess
import time
from contextlib import suppress

import pytest

from chesboard.configs import TrainConfig
from chesboard.reporting import LeaseLostError, RunCancelledError, RunInterruptedError
from tests.tiny_models import GoOn
from worker import launching
from worker.launching import (
    Meeting,
    RankFailedError,
    RanksLostError,
    refuse_unsupported,
    write_result,
)
from worker.pulse import Watch

ERROR = {"message": "too little memory", "hint": None, "traceback": "..."}
FAILED = {"status": "failed", "error": ERROR, "lost_another": False}
LOST_ANOTHER = {"status": "failed", "error": {**ERROR, "message": "gloo"}, "lost_another": True}


def result(folder, *results, status=1, stop=None, others=None):
    for rank, one in enumerate(results):
        if one is not None:
            write_result(folder, rank, one)
    return launching._result(folder, len(results), status, stop, others)


class Others:
    """Workers on other seats, whose processes ended so; None: nobody is to ask."""

    def __init__(self, *results):
        self._results = list(results) or None

    def results(self):
        assert self._results is not None
        return self._results


def test_the_summary_is_that_of_the_first(tmp_path):
    first = {"status": "succeeded", "summary": {"steps": 3}}
    assert result(tmp_path, first, {"status": "succeeded", "summary": None}) == {"steps": 3}


def test_one_that_fails_tells_why_and_not_those_that_find_it_gone(tmp_path):
    with pytest.raises(RankFailedError, match="too little memory") as raised:
        result(tmp_path, LOST_ANOTHER, FAILED)
    assert raised.value.described == ERROR


@pytest.mark.parametrize("others", [[LOST_ANOTHER, None], [None, None], [LOST_ANOTHER] * 2])
def test_one_that_ends_without_a_word_leaves_the_run_to_the_next(tmp_path, others):
    with pytest.raises(RanksLostError, match="ended without a word"):
        result(tmp_path, *others, status=-9)


@pytest.mark.parametrize("kind", [RunCancelledError, RunInterruptedError, LeaseLostError])
def test_a_run_that_was_told_to_stop_has_not_failed(tmp_path, kind):
    stopped = {"status": kind.__name__, "message": "stop"}
    with pytest.raises(kind, match="stop"):
        result(tmp_path, stopped, LOST_ANOTHER)


def test_processes_that_end_before_they_heard_of_a_stop_are_not_lost(tmp_path):
    with pytest.raises(RunInterruptedError):
        result(tmp_path, None, None, status=-15, stop=RunInterruptedError("shutting down"))


def test_one_that_fails_on_another_seat_tells_why(tmp_path):
    with pytest.raises(RankFailedError, match="too little memory"):
        result(tmp_path, LOST_ANOTHER, None, others=Others({**FAILED, "at": 0.0}, None))


def test_seats_that_end_without_a_word_leave_the_run_to_the_next(tmp_path):
    with pytest.raises(RanksLostError, match="0, 1, 2, 3 of 4"):
        result(tmp_path, None, None, others=Others(None, None))


@pytest.mark.parametrize("status", ["succeeded", "RunCancelledError"])
def test_nobody_waits_for_others_where_the_first_has_the_last_word(tmp_path, status):
    first = {"status": status, "summary": {"steps": 3}, "message": "stop"}
    with suppress(RunCancelledError):
        assert result(tmp_path, first, LOST_ANOTHER, others=Others()) == {"steps": 3}


def test_processes_that_have_lost_others_get_a_moment_and_are_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(launching, "LOST_SECONDS", 0.3)
    process = subprocess.Popen(["sleep", "60"])
    asked = []

    def is_lost():
        asked.append(time.monotonic())
        return True

    try:
        assert launching._wait(process, GoOn(), Watch(tmp_path, range(1), 60), is_lost) is None
        assert process.poll() is None  # who waits ends it
        assert len(asked) == 1
        assert time.monotonic() - asked[0] >= 0.3
    finally:
        process.kill()
        process.wait()


def test_torchrun_is_told_where_the_seats_meet_and_which_interface_to_use(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: started.append(command))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "set by the user")
    meeting = Meeting(seat=1, seats=3, host="10.0.0.1", port=4711, interface="eth0")
    launching._start(7, tmp_path, 4, {}, meeting)
    launching._start(7, tmp_path, 4, {})
    place = ["--nnodes=3", "--node-rank=1", "--master-addr=10.0.0.1", "--master-port=4711"]
    assert [one for one in place if one not in started[0]] == []
    assert "--standalone" not in started[0]
    assert "--standalone" in started[1]
    assert all("--max-restarts=0" in one for one in started)
    environment = launching._environment(TrainConfig(), 4, meeting)
    assert environment["NCCL_SOCKET_IFNAME"] == "=eth0"
    assert environment["GLOO_SOCKET_IFNAME"] == "set by the user"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"refresh_filter": {"reward_model": "judge"}}, "refresh_filter is not supported"),
        ({"device": "cuda:1"}, "cuda:1 is one. Choose device auto"),
        ({"device": "cuda"}, "PyTorch sees 0"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(monkeypatch, config, problem):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=problem):
        refuse_unsupported(TrainConfig(**config), 2)
    refuse_unsupported(TrainConfig(), 2)  # on the CPU, to try it
