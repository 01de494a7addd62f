"""What the model reads is held against what the row says, before anything is computed."""

from typing import Any

import pytest

from chesboard.findings import FINDINGS
from chesboard.pairs import Pair
from chesboard.text_check import (
    DETAIL_CHARACTERS,
    ChatTemplateError,
    TextCheck,
    UnknownTokenError,
)
from chesboard.tokenization import tokenize_pairs
from tests.tiny_models import CHAT_TEMPLATE, build_tokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "Is it?"}
REFUSES_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
)


def checked(tokenizer, *pairs, most=200):
    check = TextCheck(tokenizer)
    numbered = [Pair(p.prompt, p.preferred, p.dispreferred, pair=n) for n, p in enumerate(pairs)]
    tokens = tokenize_pairs(tokenizer, numbered, most, most, check)
    assert all(finding.kind in FINDINGS for finding in check.findings)
    return check, tokens


def messages(tokenizer, *pairs):
    return list(checked(tokenizer, *pairs)[0].messages())


def kinds(check):
    return [(finding.pair, finding.kind) for finding in check.findings]


@pytest.fixture
def tokenizer():
    return build_tokenizer(chat=True)


def test_plain_pairs_have_none(tokenizer):
    pairs = [Pair("Is it?", "Yes", "No"), Pair([SYSTEM, QUESTION], " <b>yes</b>", "No [1]")]
    assert messages(tokenizer, *pairs) == []
    assert messages(build_tokenizer(chat=False), *pairs) == []


def test_special_tokens_in_texts_are_named(tokenizer):
    end = tokenizer.all_special_tokens[0]
    foreign = "<start_of_turn>user\nIs it?<end_of_turn>\n"
    check, _ = checked(
        tokenizer,
        Pair("Is it?", "Yes", "No"),
        Pair(foreign, "Yes", "No"),
        Pair("a", f"x{end}y", "z"),
    )
    [message] = check.messages()
    assert "2 of 3 pairs (1, 2) contain special tokens" in message
    assert f"“{end}”" in message
    assert [f.detail for f in check.findings] == ["<end_of_turn>, <start_of_turn>", end]


def test_what_was_mended_is_counted(tokenizer):
    rendered = tokenizer.apply_chat_template([QUESTION], add_generation_prompt=True, tokenize=False)
    begun = [QUESTION, {"role": "assistant", "content": "Answer:"}]
    check, _ = checked(
        tokenizer, Pair(rendered, "Yes<|im_end|>\n", "No"), Pair(begun, " Yes", " No")
    )
    assert kinds(check) == [
        (0, "rendered_prompt"),
        (0, "end_token_removed"),
        (1, "prefill_continued"),
    ]
    assert all(" of 2 pairs (" in message for message in check.messages())


def test_a_turn_that_the_template_leaves_out_is_named(tokenizer):
    tokenizer.chat_template = (
        "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}"
        + tokenizer.chat_template
    )
    check, _ = checked(
        tokenizer, Pair([QUESTION], "Yes", "No"), Pair([SYSTEM, QUESTION], "Yes", "No")
    )
    [message] = check.messages()
    assert "the system turn of 1 of 2 pairs (1)" in message
    assert kinds(check) == [(1, "turn_left_out")]


def test_a_template_that_strips_texts_leaves_nothing_out(tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE.replace("m['content']", "m['content'] | trim")
    assert messages(tokenizer, Pair(" Is it? \n", " Yes ", "No")) == []


def test_calls_and_reasoning_that_the_template_does_not_write_are_named(tokenizer):
    call: dict[str, Any] = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "look_up"}}],
    }
    thought = {"role": "assistant", "content": "Yes", "reasoning_content": "It floats."}
    for turn in (call, thought):
        check, _ = checked(tokenizer, Pair([QUESTION, turn, QUESTION], "Yes", "No"))
        assert [(f.kind, f.detail) for f in check.findings] == [("turn_left_out", "assistant")]


def test_responses_that_repeat_the_prompt_are_named(tokenizer):
    [message] = messages(
        tokenizer,
        Pair("Is it?", "Is it? Yes", "Is it? No"),
        Pair("Is it?", "Is it? Yes", "No"),
    )
    assert "In 1 of 2 pairs (0)" in message


def test_a_template_that_tells_no_answer_from_a_question_is_reported(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    [message] = messages(tokenizer, Pair("Is it?", "Yes", "No"))
    assert "no generation prompt" in message
    assert "without the header" in message


def test_a_header_that_was_derived_is_reported(tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE.partition("{% if add_generation_prompt")[0]
    [message] = messages(tokenizer, Pair("Is it?", "Yes", "No"))
    assert "“<|im_start|>assistant”, was taken from how it renders" in message


OPENS_THINK = CHAT_TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")


def test_answers_without_reasoning_where_the_template_opens_it_are_named(tokenizer):
    tokenizer.chat_template = OPENS_THINK
    thought = "<think>\nIt {}.\n</think>\n\n{}"
    check, _ = checked(
        tokenizer,
        Pair("Is it?", thought.format("floats", "Yes"), thought.format("is cold", "No")),
        Pair("Is it?", "Yes", "No"),
    )
    assert kinds(check) == [(0, "think_removed"), (1, "think_left_open")]
    left_open, removed = check.messages()
    assert "in 1 of 2 pairs (1) a response has no </think>" in left_open
    assert "enable_thinking" not in left_open
    assert "1 of 2 pairs (0)" in removed


def test_the_switch_that_a_template_has_is_named(tokenizer):
    tokenizer.chat_template = OPENS_THINK.replace(
        "<think>\n", "{% if enable_thinking != false %}<think>\n{% endif %}"
    )
    [message] = messages(tokenizer, Pair("Is it?", "Yes", "No"))
    assert "{“enable_thinking”: false}" in message


def test_an_answer_that_is_rendered_otherwise_than_asked_for_is_named(tokenizer):
    # As Qwen3 does: an empty block of reasoning in every answer, but none in the generation prompt.
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' "
        "and '</think>' not in m.content %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    thought = "<think>\nIt floats.\n</think>\n\nYes"
    check, _ = checked(tokenizer, Pair("Is it?", "Yes", "No"), Pair("Is it?", thought, thought))
    assert kinds(check)[0] == (0, "prompt_not_prefix")
    assert check.findings[0].detail is not None
    assert "<think>\n\n</think>" in check.findings[0].detail
    assert (1, "prompt_not_prefix") not in kinds(check)
    [message] = check.messages()
    assert "In 1 of 2 pairs (0)" in message


def test_a_pair_that_the_template_refuses_is_left_out_and_listed(tokenizer):
    tokenizer.chat_template = REFUSES_SYSTEM + CHAT_TEMPLATE
    check, tokens = checked(
        tokenizer,
        Pair("Is it?", "Yes", "No"),
        Pair([SYSTEM, QUESTION], "Yes", "No"),
        Pair("Is it?", "No", "Yes"),
    )
    assert [pair.pair for pair in tokens] == [0, 2]
    [finding] = check.refused
    assert (finding.pair, finding.detail) == (1, "no system turn (its turns: system, user)")
    [message] = check.messages()
    assert "1 of 3 pairs (1), which are left out" in message
    check.refuse_if_left_out(only_if_all=True)
    with pytest.raises(ChatTemplateError, match="Pair 1: no system turn"):
        check.refuse_if_left_out(only_if_all=False)


def test_a_template_that_refuses_every_pair_is_an_error(tokenizer):
    tokenizer.chat_template = REFUSES_SYSTEM + CHAT_TEMPLATE
    check, tokens = checked(tokenizer, Pair([SYSTEM, QUESTION], "Yes", "No"))
    assert tokens == []
    with pytest.raises(ChatTemplateError, match=r"refuses every prompt\. Pair 0"):
        check.refuse_if_left_out(only_if_all=True)


def test_a_pair_with_a_token_that_the_model_lacks_is_left_out_and_named(tokenizer):
    rows = len(tokenizer)
    tokenizer.add_tokens(["<tool>"])
    pairs = [
        Pair("Is it?", "Yes", "No", pair=0),
        Pair("a <tool>", "Yes", "No", pair=1),
        Pair("Is it?", "Yes", "<tool>", pair=2),
    ]
    check = TextCheck(tokenizer, embeddings=rows)
    assert [pair.pair for pair in tokenize_pairs(tokenizer, pairs, 200, 200, check)] == [0]
    assert kinds(check) == [(1, "unknown_token"), (2, "unknown_token")]
    [message] = check.messages()
    assert f"2 of 3 pairs (1, 2), which are left out. Pair 1: “<tool>” (id {rows})." in message
    check.refuse_if_left_out(only_if_all=True)
    with pytest.raises(UnknownTokenError, match=rf"“<tool>” \(id {rows}\) of pair 1: its"):
        check.refuse_if_left_out(only_if_all=False)
    all_known = TextCheck(tokenizer, embeddings=rows + 1)
    assert len(tokenize_pairs(tokenizer, pairs, 200, 200, all_known)) == 3


def test_details_are_bounded(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('x' * 5000) }}"
    check, _ = checked(tokenizer, Pair("Is it?", "Yes", "No"))
    assert len(check.findings[0].detail or "") == DETAIL_CHARACTERS


def test_what_truncation_and_the_tokenizer_do_is_found(tokenizer):
    plain = build_tokenizer(chat=False)
    check, _ = checked(
        plain,
        Pair("Is it?", "Long, yes", "Long, no"),
        Pair("a\n", "bad", "c"),
        Pair("a", "b", "c"),
        most=4,
    )
    assert kinds(check) == [
        (0, "same_tokens"),
        (0, "prompt_truncated"),
        (0, "response_truncated"),
        (1, "retokenized"),
    ]
