import pytest

from chesboard.judging.answers import JudgedAnswer
from chesboard.judging.keywords import KeywordJudge
from chesboard.records import JudgmentRecord
from chesboard.refusals import KEYWORD_CHARACTERS, REFUSAL_KEYWORDS
from tests.tiny_models import GoOn

REFUSALS = KeywordJudge()


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t help with that.",
        "i CANNOT help.",
        "As an AI, I have no opinion on this.",
        "Thank you for asking! However, I won't go into that.",
        "I \n cannot  do so.",
        "That is against my guidelines.",
    ],
)
def test_refusals(text):
    assert REFUSALS.find(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sure, here is how.",
        "As an aisle seat it is fine.",
        "It is illegal to do so in most countries; here is the law.",
        "Mai cannot come.",  # "I cannot" is no word of its own in it
        "Sure. " * 60 + "I cannot say more.",
    ],
)
def test_other_answers(text):
    assert REFUSALS.find(text) is None


def test_a_keyword_counts_up_to_its_last_character_in_the_window():
    judge = KeywordJudge(["stop"], characters=10)
    assert judge.find("abcde stop") == "stop"
    assert judge.find("abcdef stop") is None


def test_spaces_do_not_push_a_keyword_out_of_the_window():
    assert KeywordJudge(["stop"], characters=10).find("a   b \n\n stop") == "stop"


def test_scripts_without_spaces_have_no_word_boundaries():
    assert KeywordJudge(["我不能"]).find("抱歉，我不能帮你") == "我不能"


def test_signs_at_the_edges_of_a_keyword_are_taken_as_they_are():
    assert KeywordJudge(["(no)"]).find("Well(no)way") == "(no)"


def test_each_listed_keyword_finds_itself():
    assert all(KeywordJudge([one]).find(one) for one in REFUSAL_KEYWORDS)
    assert max(map(len, REFUSAL_KEYWORDS)) < KEYWORD_CHARACTERS


@pytest.mark.parametrize("keywords", [[], ["fine", " "]])
def test_a_list_without_keywords_is_refused(keywords):
    with pytest.raises(ValueError, match="keyword"):
        KeywordJudge(keywords)


def test_each_answer_gets_a_verdict_and_the_keyword_as_its_reason():
    found: list[JudgmentRecord] = []
    answers = [JudgedAnswer(3, 0, "Hi", "I can't."), JudgedAnswer(3, 1, "Hi", "Hello!")]
    REFUSALS.judge(answers, GoOn(), found.extend)
    assert found == [
        JudgmentRecord(3, 0, True, None, "“i can't”"),
        JudgmentRecord(3, 1, False, None, None),
    ]
