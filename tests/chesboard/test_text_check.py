"""What the model reads is held against what the row says, before anything is computed."""

import pytest

from chesboard.pairs import Pair
from chesboard.text_check import TextCheck
from chesboard.tokenization import tokenize_pairs
from tests.tiny_models import build_tokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "Is it?"}


def findings(tokenizer, *pairs):
    check = TextCheck(tokenizer)
    numbered = [Pair(p.prompt, p.preferred, p.dispreferred, pair=n) for n, p in enumerate(pairs)]
    tokenize_pairs(tokenizer, numbered, 64, 64, check)
    return list(check.messages())


@pytest.fixture
def tokenizer():
    return build_tokenizer(chat=True)


def test_plain_pairs_have_none(tokenizer):
    pairs = [Pair("Is it?", "Yes", "No"), Pair([SYSTEM, QUESTION], " <b>yes</b>", "No [1]")]
    assert findings(tokenizer, *pairs) == []
    assert findings(build_tokenizer(chat=False), *pairs) == []


def test_texts_that_were_rendered_already_are_named(tokenizer):
    rendered = tokenizer.apply_chat_template([QUESTION], add_generation_prompt=True, tokenize=False)
    end = tokenizer.all_special_tokens[0]
    plain = Pair("Is it?", "Yes", "No")
    [message] = findings(tokenizer, plain, Pair(rendered, "Yes", "No"), Pair("a", f"b{end}", "c"))
    assert "2 of 3 pairs (1, 2) contain special tokens" in message
    assert f"“{end}”" in message


def test_a_turn_that_the_template_leaves_out_is_named(tokenizer):
    template = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + template
    )
    [message] = findings(
        tokenizer, Pair([QUESTION], "Yes", "No"), Pair([SYSTEM, QUESTION], "Yes", "No")
    )
    assert "the system turn of 1 of 2 pairs (1)" in message


def test_responses_that_repeat_the_prompt_are_named(tokenizer):
    [message] = findings(
        tokenizer,
        Pair("Is it?", "Is it? Yes", "Is it? No"),
        Pair("Is it?", "Is it? Yes", "No"),
    )
    assert "In 1 of 2 pairs (0)" in message


def test_a_template_without_generation_prompt_is_reported(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    [message] = findings(tokenizer, Pair("Is it?", "Yes", "No"))
    assert "no generation prompt" in message


def test_a_template_that_opens_reasoning_is_reported(tokenizer):
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    [message] = findings(tokenizer, Pair("Is it?", "Yes", "No"))
    assert "opens <think>" in message
