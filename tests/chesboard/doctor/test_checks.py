"""What one pair shows by itself: each kind where it is, and where it nearly is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.doctor.checks import PREFERS_ANSWER, PREFERS_REFUSAL, check_pair
from chesboard.issues import ISSUES
from chesboard.pairs import Prompt

SENTENCE = "The ferry leaves the island at nine and comes back in the evening."
OTHER = "Nobody swims here in winter, since the sea is far too cold for that."


def issues(
    preferred: str = SENTENCE,
    dispreferred: str = OTHER,
    prompt: Prompt = "How do I get there?",
    **columns: Any,
) -> dict[str, str]:
    return dict(check_pair(prompt, preferred, dispreferred, {"row": 1, **columns}).found)


def test_two_plain_answers_have_no_issue() -> None:
    assert issues() == {}


# --- the two responses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preferred", "dispreferred"),
    [
        (" Yes.", "yes"),
        ("Hello there, my friend", "hello there my friend!"),
        (SENTENCE, SENTENCE + "  \n"),
        (SENTENCE * 9, SENTENCE * 8 + SENTENCE.replace("nine", "six")),
        ("Она живёт в Киеве.", "она живёт в Киеве"),
    ],
)
def test_responses_that_hardly_differ(preferred: str, dispreferred: str) -> None:
    assert "near_identical" in issues(preferred, dispreferred)
    assert "near_identical" in issues(dispreferred, preferred)


@pytest.mark.parametrize(
    ("preferred", "dispreferred"),
    [
        (" Yes", " No"),
        ("The answer is 4.", "The answer is 5."),  # short: one character is another answer
        ("12", "13"),
        ("!", "?"),
        (SENTENCE, OTHER),
        (SENTENCE, SENTENCE + " " + OTHER),
    ],
)
def test_responses_that_differ(preferred: str, dispreferred: str) -> None:
    assert "near_identical" not in issues(preferred, dispreferred)


def test_a_small_difference_is_counted() -> None:
    assert issues(SENTENCE * 3, SENTENCE * 2 + SENTENCE.replace("nine", "nono")) == {
        "near_identical": "2 of 198 characters differ"
    }


def test_lengths_that_differ_tenfold() -> None:
    assert issues("No.", SENTENCE * 4)["length_ratio"] == "88 times as long"
    assert "length_ratio" in issues(SENTENCE * 11, SENTENCE[:-1] + "!")
    assert "length_ratio" not in issues("No.", SENTENCE)  # one sentence is no essay
    assert "length_ratio" not in issues(SENTENCE * 9, OTHER)


def test_long_texts() -> None:
    assert issues(prompt=[{"role": "user", "content": "word " * 900}]) == {
        "long": "4,500 characters"
    }
    assert "long" not in issues(prompt="word " * 800)


# --- languages -----------------------------------------------------------------------------------

GERMAN = "Die Fähre fährt um neun Uhr von der Insel ab und kommt am Abend mit dem Wind zurück."
ENGLISH = "The ferry leaves the island at nine and comes back in the evening with the wind."
SPANISH = (
    "El barco sale de la isla a las nueve y vuelve por la tarde con el viento, pero más lento."
)
RUSSIAN = "Паром уходит с острова в девять и возвращается вечером вместе с ветром."
CHINESE = "渡轮九点离开岛屿，傍晚随风返回。"
JAPANESE = "フェリーは九時に島を出て、夕方に風とともに戻ってきます。"


@pytest.mark.parametrize(
    ("preferred", "dispreferred", "seen"),
    [
        (ENGLISH, RUSSIAN, "Latin / Cyrillic"),
        (CHINESE, ENGLISH, "Han / Latin"),
        (JAPANESE, RUSSIAN, "Japanese / Cyrillic"),
        ("안녕하세요, 배는 아홉 시에 섬을 떠납니다.", CHINESE, "Hangul / Han"),
        (ENGLISH, GERMAN, "English / German"),
        (SPANISH, ENGLISH, "Spanish / English"),
        (GERMAN, SPANISH, "German / Spanish"),
    ],
)
def test_responses_in_different_languages(preferred: str, dispreferred: str, seen: str) -> None:
    assert issues(preferred, dispreferred)["language_change"] == seen


@pytest.mark.parametrize(
    ("preferred", "dispreferred"),
    [
        (ENGLISH, "It’s “fine”, naïve café – 5 € 😀, nothing to worry about in the end."),
        (ENGLISH, "42"),
        (ENGLISH, "😀😀😀😀😀😀😀😀😀😀😀😀😀😀"),
        (ENGLISH, "The word привет means hello, and it is what the sailors said to the children."),
        (JAPANESE, "東京都港区のフェリー乗場です。"),
        ("Oui", "No"),
        ("print(x); y = f(z); return q * w + e - r", ENGLISH),
        (" Yes", " Да"),
    ],
)
def test_responses_in_one_language(preferred: str, dispreferred: str) -> None:
    assert "language_change" not in issues(preferred, dispreferred)


# --- markup --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<|im_start|>assistant\nIt leaves at nine.<|im_end|>", "<|im_start|>"),
        ("It leaves at nine.</s>", "</s>"),
        ("[INST] When? [/INST] At nine.", "[INST]"),
        ("It leaves at nine.<end_of_turn>", "<end_of_turn>"),
        ("It leaves at nine.<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        ("### Response:\nAt nine.", "### Response:"),
        ("At nine.\n\nHuman: And back?\n\nAssistant: In the evening.", "Human:"),
        ("Assistant: At nine.", "Assistant:"),
        ("  AI: At nine.", "AI:"),
        ("It leaves at <b>nine</b>.", "<b>"),
        ("Fish &amp; chips on board.", "&amp;"),
        ("The skipper&#39;s dog.", "&#39;"),
        ('<a href="/x" class="y">Here</a>', '<a href="/x" class="y">'),
    ],
)
def test_marks_of_templates_and_pages(text: str, mark: str) -> None:
    assert issues(text)["leftover_markup"] == mark
    assert issues(dispreferred=text)["leftover_markup"] == mark


@pytest.mark.parametrize(
    "text",
    [
        "If a < b and b > c, nothing follows, and 5 & 6 are numbers; R&D; AT&T.",
        "Use `<b>` for bold text.",
        "The human: a riddle. An assistant: a job.",
        "See [1] and [INSTALL] in the manual; list<int> is a type, <3 a heart.",
        "## Response\nA heading of Markdown is no label.",
        "Note: at nine. Answer: yes.",
    ],
)
def test_text_that_only_looks_like_markup(text: str) -> None:
    assert "leftover_markup" not in issues(text)


def test_html_that_was_asked_for_is_content() -> None:
    page = "<p>Hello &amp; welcome</p>"
    assert "leftover_markup" in issues(page)
    assert "leftover_markup" not in issues(page, prompt="Write this as HTML: hello and welcome")


def test_a_template_in_any_turn_of_the_prompt() -> None:
    turns = [
        {"role": "user", "content": "<|user|>Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "And now?"},
    ]
    assert issues(prompt=turns) == {"leftover_markup": "<|user|>"}
    # HTML in a prompt is a question about it, or what the user pasted.
    assert issues(prompt="Why is <b>this</b> bold?") == {}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("The skipper’s dog".encode().decode("cp1252"), "â€™"),
        ("Café".encode().decode("latin-1"), "Ã©"),
        ("It costs 5\u00a0€".encode().decode("latin-1"), "Â\u00a0"),
        ("Fine 😀".encode().decode("latin-1"), "ð\x9f"),
        ("The skipper\ufffds dog", "\ufffd"),
        ("The skipper\\u2019s dog", "\\u2019"),
        ("At nine.\\nAnd back in the evening.\\nBy boat.", "\\n"),
    ],
)
def test_characters_that_were_decoded_wrongly(text: str, part: str) -> None:
    assert issues(text)["broken_text"] == part


@pytest.mark.parametrize(
    "text",
    [
        "São Paulo, NÃO, château, ÂNGULO, ðe olde",
        "x \\neq y and \\nabla f",
        "Write `\\u2019` and `\\n\\n` in JSON.",
        "A path: C:\\new\\notes",
    ],
)
def test_characters_that_are_meant_so(text: str) -> None:
    assert "broken_text" not in issues(text)


def test_blocks_that_are_left_open() -> None:
    assert issues("```python\nprint(1)\n")["unclosed_block"] == "```"
    assert issues("<think>Hm. At nine.")["unclosed_block"] == "<think>"
    assert issues("Hm.</think>At nine.")["unclosed_block"] == "</think>"
    assert "unclosed_block" not in issues("```python\nprint(1)\n```")
    assert "unclosed_block" not in issues("<think>Hm.</think>At nine.")


# --- refusals, placeholders, scores ---------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        "I'm sorry, but I can't help with that.",
        "I’m really sorry, but I cannot assist you with this request.",
        "I cannot provide instructions for that.",
        "Sorry, I won’t be able to do that.",
        "As an AI language model, I am unable to give advice on this.",
        "Unfortunately, I can not recommend any.",
        "I don't feel comfortable with this question.",
        "I must decline.",
        "I don’t know...",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Lo siento, pero no puedo ayudar con eso.",
        "Je suis désolé, mais je ne peux pas vous aider.",
        "抱歉，我无法提供这些信息。",
        "Извините, но я не могу помочь с этим.",
    ],
)
def test_refusals(refusal: str) -> None:
    assert issues(refusal)["likely_swapped"] == PREFERS_REFUSAL
    assert issues(dispreferred=refusal)["likely_swapped"] == PREFERS_ANSWER
    assert "likely_swapped" not in issues(refusal, refusal.upper())


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry to hear that. The next ferry leaves at ten.",
        "I can't believe how cold the sea is.",
        "I'm sorry, did you mean the ferry?",
        "No, the ferry does not go there.",
        "Unfortunately, the ferry leaves at nine.",
        "I don't know the captain, but the mate is kind.",
        "You cannot swim here.",
    ],
)
def test_answers_that_begin_like_a_refusal(answer: str) -> None:
    assert "likely_swapped" not in issues(answer)


@pytest.mark.parametrize("nothing", ["N/A", " null ", "None.", "[deleted]", "...", "-", "TODO"])
def test_placeholders(nothing: str) -> None:
    assert issues(nothing)["placeholder"] == "preferred response"
    assert "likely_swapped" in issues(nothing)
    assert issues(dispreferred=nothing) == {"placeholder": "dispreferred response"}
    # Beside a word, it may be one of the answers that the question allows.
    assert issues(nothing, "Yes") == {}


@pytest.mark.parametrize(
    "columns",
    [
        {"score_chosen": 2, "score_rejected": 9},
        {"chosen-rating": 1.5, "rejected-rating": 2},
        {"chosen_score": "2", "rejected_score": "9"},
        {"ChosenReward": -2, "RejectedReward": -1},
        {"rating_preferred": 1, "rating_dispreferred": 2, "score_chosen": 9, "score_rejected": 1},
        {"winner_quality": 1, "loser_quality": 4},
    ],
)
def test_scores_against_the_preference(columns: dict[str, Any]) -> None:
    assert set(issues(**columns)) == {"scores_against"}


def test_the_scores_and_their_columns_are_named() -> None:
    assert issues(score_chosen=5, score_rejected=5.0) == {
        "scores_tied": "5 (score_chosen, score_rejected)"
    }
    assert issues(score_chosen=2, score_rejected=9) == {
        "scores_against": "2 < 9 (score_chosen, score_rejected)"
    }


@pytest.mark.parametrize(
    "columns",
    [
        {"score_chosen": 9, "score_rejected": 2},
        {"score_chosen": 2},
        {"score_chosen": 2, "score_rejected": None},
        {"score_chosen": 2, "score_rejected": "n/a"},
        {"score_chosen": 2, "score_rejected": "nan"},
        {"score_chosen": False, "score_rejected": True},
        {"score_chosen": [2], "score_rejected": [9]},
        {"chosen_rank": 1, "rejected_rank": 2},  # the lower one is better
        {"chosen_tokens": 1, "rejected_tokens": 2},
        {"score_chosen": 2, "rating_rejected": 9},
        {"underscore_chosen": 2, "underscored_rejected": 9},
    ],
)
def test_columns_that_are_no_scores_against_it(columns: dict[str, Any]) -> None:
    assert issues(**columns) == {}


# --- any text ------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        "<|im_end|>",
        "Human:",
        "```",
        "<think>",
        "\n",
        "â€™",
        "\\n",
        "I'm sorry, ",
        "N/A",
        "渡轮",
        "<b",
    ]
)
TEXTS = st.lists(st.one_of(PARTS, st.text(max_size=30)), min_size=1, max_size=12).map("".join)
PROMPTS = st.one_of(
    TEXTS, st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS}), max_size=3)
)
CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())
)
COLUMNS = st.dictionaries(
    st.one_of(st.text(), st.sampled_from(["score_chosen", "score_rejected", "chosen_score"])), CELLS
)


@given(PROMPTS, TEXTS, TEXTS, COLUMNS)
def test_no_text_is_too_odd(
    prompt: Prompt, preferred: str, dispreferred: str, columns: Any
) -> None:
    found = check_pair(prompt, preferred, dispreferred, columns).found
    kinds = [one.kind for one in found]
    assert set(kinds) <= set(ISSUES)
    assert len(kinds) == len(set(kinds))  # a pair has an issue once
    assert all(one.detail and len(one.detail) < 400 for one in found if one.kind != "scores_tied")
