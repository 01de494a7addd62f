"""How the processes of a run ended, and what their worker makes of it."""

import pytest

from chesboard.configs import TrainConfig
from chesboard.reporting import LeaseLostError, RunCancelledError, RunInterruptedError
from worker import launching
from worker.launching import RankFailedError, RanksLostError, refuse_unsupported, write_result

ERROR = {"message": "too little memory", "hint": None, "traceback": "..."}
FAILED = {"status": "failed", "error": ERROR, "lost_another": False}
LOST_ANOTHER = {"status": "failed", "error": {**ERROR, "message": "gloo"}, "lost_another": True}


def result(folder, *results, status=1, stop=None):
    for rank, one in enumerate(results):
        if one is not None:
            write_result(folder, rank, one)
    return launching._result(folder, len(results), status, stop)


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
