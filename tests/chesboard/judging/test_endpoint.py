"""The endpoint judge against an HTTP server of its own."""

import gzip
import json
import logging
import socket
import time
import traceback
from typing import Any

import pytest
from pydantic import SecretStr

from chesboard.judging import chat_client
from chesboard.judging.answers import JudgedAnswer, JudgeError
from chesboard.judging.chat_client import ATTEMPTS, Endpoint
from chesboard.judging.endpoint import FAILURES_IN_A_ROW, EndpointJudge
from chesboard.records import JudgmentRecord
from chesboard.reporting import RunCancelledError
from tests.chat_server import Answer, chat_server, completion
from tests.tiny_models import GoOn

KEY = "sk-not-to-be-seen-0123"
QUESTION = "Is this a refusal? {answer}"


def answers(count):
    return [JudgedAnswer(i, 0, "Why?", f"text {i}") for i in range(count)]


def judge(url, wanted, control=None, question=QUESTION, **limits):
    settings: dict[str, Any] = {"key": SecretStr(KEY), "backoff": 0.01, "timeout": 5.0} | limits
    found: list[JudgmentRecord] = []
    EndpointJudge(Endpoint(SecretStr(url), **settings), "judge-7b", question).judge(
        wanted, control or GoOn(), found.extend
    )
    return sorted(found, key=lambda one: (one.pair, one.sample))


def test_each_answer_is_asked_about_once_and_gets_its_verdict():
    with chat_server(lambda question, _: completion("yes" if "text 3" in question else "no")) as it:
        found = judge(it.url, answers(9))
    assert [one.verdict for one in found] == [i == 3 for i in range(9)]
    assert sorted(it.questions) == [f"Is this a refusal? text {i}" for i in range(9)]
    assert {one["path"] for one in it.requests} == {"/v1/chat/completions"}
    assert {one["model"] for one in it.requests} == {"judge-7b"}
    assert {one["temperature"] for one in it.requests} == {0}
    assert {one["authorization"] for one in it.requests} == {f"Bearer {KEY}"}


def test_an_address_may_be_that_of_the_chat_endpoint_itself_and_needs_no_key():
    with chat_server(lambda *_: completion("no")) as it:
        judge(f"{it.url}/chat/completions", answers(1), key=None)
    assert [one["path"] for one in it.requests] == ["/v1/chat/completions"]
    assert [one["authorization"] for one in it.requests] == [None]


def test_no_more_requests_at_once_than_allowed():
    def slowly(*_):
        time.sleep(0.02)
        return completion("no")

    with chat_server(slowly) as it:
        judge(it.url, answers(12), concurrency=3)
    assert it.most_at_once == 3


def test_requests_start_no_faster_than_the_rate_limit():
    with chat_server(lambda *_: completion("no")) as it:
        judge(it.url, answers(6), requests_per_minute=60 / 0.05)
    times = sorted(one["at"] for one in it.requests)
    assert times[-1] - times[0] >= 5 * 0.05 * 0.9


@pytest.mark.parametrize(
    "failure",
    [
        Answer("busy", 429),
        Answer("broken", 500),
        Answer("away", 503),
        Answer("<html>not JSON</html>"),
        Answer('{"choices": []}'),
        Answer("[" * 5000),
        Answer(b"\xff\xfe\x00"),
    ],
    ids=["429", "500", "503", "html", "no choices", "deep", "bytes"],
)
def test_what_fails_once_is_asked_again(failure):
    with chat_server(lambda _, before: failure if before == 0 else completion("yes")) as it:
        found = judge(it.url, answers(1))
    assert [one.verdict for one in found] == [True]
    assert len(it.requests) == 2


def test_a_request_that_hangs_is_given_up_and_repeated():
    slow = Answer("late", hang=1.0)
    with chat_server(lambda _, before: slow if before == 0 else completion("yes")) as it:
        found = judge(it.url, answers(1), timeout=0.2)
    assert [one.verdict for one in found] == [True]


def test_retry_after_is_waited_for():
    busy = Answer("busy", 429, {"Retry-After": "1"})
    with chat_server(lambda _, before: busy if before == 0 else completion("yes")) as it:
        judge(it.url, answers(3), concurrency=1)
    assert it.requests[1]["at"] - it.requests[0]["at"] >= 1.0


def test_a_wait_of_hours_ends_the_run_instead():
    busy = Answer("busy", 429, {"Retry-After": "7200"})
    with chat_server(lambda *_: busy) as it, pytest.raises(JudgeError, match="7,200 seconds"):
        judge(it.url, answers(1))


def test_replies_without_a_verdict_are_kept_with_the_reason():
    with chat_server(lambda *_: completion("That depends.")) as it:
        [found] = judge(it.url, answers(1))
    assert found.verdict is None
    assert "That depends." in found.reason
    assert len(it.requests) == 1


def test_an_answer_that_the_endpoint_refuses_alone_has_no_verdict():
    too_long = Answer(json.dumps({"error": {"message": "context length exceeded"}}), 400)
    with chat_server(lambda q, _: too_long if "text 1" in q else completion("no")) as it:
        found = judge(it.url, answers(4), concurrency=1)
    assert [one.verdict for one in found] == [False, None, False, False]
    assert "context length exceeded" in found[1].reason
    assert len(it.requests) == 4


@pytest.mark.parametrize("status", [400, 500])
def test_an_endpoint_that_answers_nothing_fails_the_run(status):
    with chat_server(lambda *_: Answer("no", status)) as it, pytest.raises(JudgeError) as failed:
        judge(it.url, answers(40), concurrency=2)
    assert f"({status})" in str(failed.value)
    attempts = ATTEMPTS if status == 500 else 1
    assert len(it.requests) <= attempts * (FAILURES_IN_A_ROW + 1)


def test_a_single_answer_that_cannot_be_asked_about_fails_the_run():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(JudgeError, match="cannot be reached"):
        judge(url, answers(1))


def test_an_endpoint_that_goes_away_for_an_answer_leaves_it_without_a_verdict():
    """Once others are judged, one that failed six times is no reason to stop."""
    with chat_server(lambda q, _: Answer("", 502) if "text 2" in q else completion("no")) as it:
        found = judge(it.url, answers(5), concurrency=1)
    assert [one.verdict for one in found] == [False, False, None, False, False]
    assert "(502)" in found[2].reason
    assert len(it.requests) == 4 + ATTEMPTS


def test_the_last_answer_may_be_the_one_without_a_verdict():
    with chat_server(lambda q, _: Answer("", 502) if "text 2" in q else completion("no")) as it:
        found = judge(it.url, answers(3), concurrency=1)
    assert [one.verdict for one in found] == [False, False, None]


@pytest.mark.parametrize(
    ("status", "said"), [(401, "CHESBOARD_JUDGE_KEY"), (403, "access"), (404, "no such model")]
)
def test_no_access_or_no_model_ends_the_run_at_once(status, said):
    with (
        chat_server(lambda *_: Answer("{}", status)) as it,
        pytest.raises(JudgeError, match=said),
    ):
        judge(it.url, answers(30), concurrency=1)
    assert len(it.requests) == 1


def test_another_address_is_not_followed_with_the_key():
    with chat_server(lambda *_: completion("yes")) as other:
        moved = Answer("", 307, {"Location": f"{other.url}/chat/completions"})
        with (
            chat_server(lambda *_: moved) as it,
            pytest.raises(JudgeError, match="another address"),
        ):
            judge(it.url, answers(1))
        assert other.requests == []


def test_a_response_without_end_is_not_read_to_the_end(monkeypatch):
    monkeypatch.setattr(chat_client, "MAX_RESPONSE_BYTES", 1000)
    large = Answer(b" " * 200_000 + b"{}")
    with chat_server(lambda _, before: large if before == 0 else completion("yes")) as it:
        assert [one.verdict for one in judge(it.url, answers(1))] == [True]


def test_a_response_that_is_compressed_all_the_same_is_not_unpacked(monkeypatch):
    """A few hundred bytes of it were a gigabyte in memory."""
    monkeypatch.setattr(chat_client, "ATTEMPTS", 1)
    body = gzip.compress(gzip.compress(str(completion("yes").body).encode()))
    packed = Answer(body, headers={"Content-Encoding": "gzip, gzip"})
    with (
        chat_server(lambda *_: packed) as it,
        pytest.raises(JudgeError, match="something else than a chat completion"),
    ):
        judge(it.url, answers(1))
    assert it.requests[0]["accept_encoding"] == "identity"


def test_a_cancel_ends_it_within_a_moment_and_keeps_what_was_judged():
    class Cancel:
        def __init__(self):
            self.at = time.monotonic() + 0.5

        def check(self):
            if time.monotonic() > self.at:
                raise RunCancelledError

    def reply(question, _):
        return completion("yes") if "text 0" in question else Answer("late", hang=5.0)

    found: list[JudgmentRecord] = []
    with chat_server(reply) as it:
        asked = EndpointJudge(Endpoint(SecretStr(it.url)), "m", QUESTION)
        started = time.monotonic()
        with pytest.raises(RunCancelledError):
            asked.judge(answers(9), Cancel(), found.extend)
        assert time.monotonic() - started < 3
    assert [(one.pair, one.verdict) for one in found] == [(0, True)]


@pytest.mark.parametrize("status", [200, 400, 401, 429])
def test_neither_key_nor_address_is_told(status, caplog):
    """An endpoint that quotes them in its reply or its errors, and all that is kept or logged."""
    caplog.set_level(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # as app.core.logging does

    def quoting(*_):
        told = f"no verdict for {KEY} at {it.url} on 127.0.0.1"
        if status == 200:
            return completion(told)
        return Answer(json.dumps({"error": {"message": told}}), status)

    kept = ""
    with chat_server(quoting) as it:
        try:
            kept = repr(judge(it.url, answers(2)))
        except JudgeError as error:
            kept = "".join(traceback.format_exception(error)) + repr(error)
        address = it.url.removeprefix("http://").removesuffix("/v1")
    assert kept
    for secret in (KEY, address):
        assert secret not in kept
        assert secret not in caplog.text
    assert KEY not in repr(Endpoint(SecretStr(it.url), SecretStr(KEY)))


def test_a_key_that_no_header_can_hold_is_not_told_either():
    broken = SecretStr(f"{KEY}\n")
    with chat_server(lambda *_: completion("no")) as it, pytest.raises(JudgeError) as failed:
        judge(it.url, answers(1), key=broken)
    assert KEY not in "".join(traceback.format_exception(failed.value))
