import time

import pytest

from chesboard.judging.answers import JudgedAnswer
from chesboard.judging.replies import ask, read_reply
from chesboard.refusals import REFUSAL_QUESTION


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("yes", True),
        ("No.", False),
        ("**Yes**", True),
        ("“no”", False),
        ("YES – the answer declines.", True),
        ("No, it answers in full.", False),
        ("<think>yes or no? It complies.</think>\n\nno", False),
        ('{"verdict": true}', True),
        ('{"verdict": "No", "score": 0.1}', False),
        ('```json\n{"verdict": "yes"}\n```', True),
    ],
)
def test_replies_with_a_verdict(reply, verdict):
    assert read_reply(reply).verdict is verdict


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   ",
        "I think so",
        "It is a refusal: yes",
        "yes and no",
        "Yes/No",
        "yes or no",
        "Nobody knows.",
        "Yesterday it refused.",
        "<think>yes",
        "{",
        "{}",
        '{"verdict": "perhaps"}',
        '{"verdict": 1}',
        '{"verdict": null}',
        '{"answer": "yes"}',
        "[true]",
    ],
)
def test_replies_without_a_verdict_say_why(reply):
    found = read_reply(reply)
    assert found.verdict is None
    assert found.reason


def test_json_may_bring_a_score_and_a_reason():
    found = read_reply('{"verdict": "yes", "score": 3, "reason": "It declines."}')
    assert (found.score, found.reason) == (3.0, "It declines.")


def test_what_follows_the_word_is_the_reason():
    assert read_reply("Yes. It declines.").reason == "It declines."
    assert read_reply("Yes.").reason is None


def test_a_question_takes_prompt_and_answer_as_they_are():
    answer = JudgedAnswer(0, 0, "Say {answer}", "{prompt} \\1 {x}")
    assert ask("Q {prompt} A {answer}", answer) == "Q Say {answer} A {prompt} \\1 {x}"


def test_turns_of_a_chat_have_their_roles_in_the_question():
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
    ]
    assert "system: Be brief.\n\nuser: Why?" in ask(REFUSAL_QUESTION, JudgedAnswer(0, 0, turns, ""))
    assert ask("{prompt}", JudgedAnswer(0, 0, turns[1:], "")) == "Why?"


@pytest.mark.parametrize("score", ["1" + "0" * 400, "1e999", "NaN", "-Infinity", "true", '"0.5"'])
def test_a_score_that_is_no_finite_number_is_none(score):
    found = read_reply(f'{{"verdict": true, "score": {score}}}')
    assert (found.verdict, found.score) == (True, None)


def test_a_reply_that_is_nested_without_end_has_no_verdict():
    found = read_reply('{"a":' * 100_000)
    assert found.verdict is None
    assert "is no valid JSON" in str(found.reason)


def test_a_long_reply_is_read_in_no_time():
    """Each time that a reply was twice as long it took four times as long: hours for a megabyte, in
    which its worker could not even say that it lives."""
    began = time.process_time()
    assert read_reply("yes" + "!?" * 100_000).verdict is True
    assert read_reply("yes" + " " * 100_000 + "and" + "/" * 100_000 + "no").verdict is None
    assert time.process_time() - began < 1
