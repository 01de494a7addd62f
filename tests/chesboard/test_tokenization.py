import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.pairs import Pair
from chesboard.rendering import find_end_of_turn
from chesboard.text_check import ChatTemplateError
from chesboard.tokenization import (
    EmptyTextError,
    find_fork,
    find_prefix,
    token_text,
    token_texts,
    tokenize_pairs,
    tokenize_prompt,
)
from tests.tiny_models import build_tokenizer


def tokenize_one(tokenizer, prompt="Say.", preferred=" Yes", dispreferred=" No", most=(64, 64)):
    return tokenize_pairs(tokenizer, [Pair(prompt, preferred, dispreferred, pair=3)], *most)[0]


def test_response_is_its_tokens_and_eos_without_a_chat_template(tokenizer):
    pair = tokenize_one(tokenizer)
    assert tokenizer.decode(pair.prompt_ids) == "Say."
    assert token_texts(tokenizer, pair.preferred_ids) == [" Yes", "<|endoftext|>"]
    assert token_texts(tokenizer, pair.dispreferred_ids) == [" No", "<|endoftext|>"]
    assert (pair.pair, pair.fork_position, pair.retokenized) == (3, 0, False)


def test_response_ends_with_the_templates_end_of_turn_and_nothing_after_it(chat_tokenizer):
    pair = tokenize_one(chat_tokenizer, "Say.", "Yes", "No")
    assert chat_tokenizer.decode(pair.prompt_ids) == (
        "<|im_start|>user\nSay.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert token_texts(chat_tokenizer, pair.preferred_ids) == ["Yes", "<|im_end|>"]


def test_template_that_writes_no_end_token_falls_back_to_eos():
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert find_end_of_turn(tokenizer) == tokenizer.eos_token_id


def test_tokenizer_without_any_end_token_is_refused():
    tokenizer = build_tokenizer(chat=False)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither"):
        find_end_of_turn(tokenizer)


def test_chat_messages_are_rendered_as_given(chat_tokenizer):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say."}]
    pair = tokenize_one(chat_tokenizer, turns)
    assert chat_tokenizer.decode(pair.prompt_ids).startswith("<|im_start|>system\nBe brief.")


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        ([{"role": "user", "content": "Say."}], "Say."),
        (
            [{"role": "system", "content": "Hi"}, {"role": "user", "content": "Ho"}],
            "System: Hi\n\nUser: Ho\n\nAssistant:",
        ),
    ],
)
def test_chat_messages_become_plain_text_without_a_template(tokenizer, turns, text):
    assert tokenizer.decode(tokenize_one(tokenizer, turns).prompt_ids) == text


def test_joining_that_changes_the_prompts_last_token_marks_the_pair(tokenizer):
    """A line break and a following b are one token, so "...\\n" + "bad" would eat the prompt."""
    pair = tokenize_one(tokenizer, "Say\n", "bad", "good")
    assert pair.retokenized
    assert tokenizer.decode(pair.prompt_ids) == "Say\n"
    assert tokenizer.decode(pair.preferred_ids[:-1]) == "bad"
    assert pair.preferred_ends == [1, 2, 3, 3]


def test_bos_is_put_before_a_plain_prompt_once():
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer(chat=False)
    bos = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|endoftext|>",
        special_tokens=[("<|im_start|>", bos), ("<|endoftext|>", tokenizer.eos_token_id)],
    )
    assert find_prefix(tokenizer) == [bos]
    for prompt in ("Say.", "<|im_start|>Say."):
        pair = tokenize_one(tokenizer, prompt)
        assert pair.prompt_ids.count(bos) == 1
        assert pair.prompt_ids[0] == bos
        assert tokenizer.eos_token_id not in pair.prompt_ids
    cut = tokenize_one(tokenizer, "abcdefgh", most=(3, 9))
    assert token_texts(tokenizer, cut.prompt_ids) == ["<|im_start|>", "g", "h"]
    assert cut.prompt_cut == 6


def test_truncation_cuts_prompts_left_and_responses_right_and_counts(tokenizer):
    pair = tokenize_one(tokenizer, "abcdef", "ghijk", "ghx", most=(2, 4))
    assert tokenizer.decode(pair.prompt_ids) == "ef"
    assert tokenizer.decode(pair.preferred_ids) == "ghij"
    assert token_texts(tokenizer, pair.dispreferred_ids) == ["g", "h", "x", "<|endoftext|>"]
    assert (pair.prompt_cut, pair.preferred_cut, pair.dispreferred_cut) == (4, 2, 0)
    assert pair.cut_tokens == 6
    assert tokenizer.decode(pair.preferred_words) == "ghij"
    assert tokenizer.decode(pair.dispreferred_words) == "ghx"


def test_at_least_one_token_of_each_is_kept(tokenizer):
    pair = tokenize_one(tokenizer, "abc", "de", "fg", most=(1, 1))
    assert [len(pair.prompt_ids), len(pair.preferred_ids), len(pair.dispreferred_ids)] == [1, 1, 1]


WHOLE_TEXTS = ("Is the earth flat?", "No, it is round.", "No, never.")


@given(st.integers(1, 40), st.integers(1, 40))
def test_what_is_kept_and_what_is_cut_make_up_the_whole(most_prompt, most_response):
    tokenizer = build_tokenizer(chat=False)
    whole = tokenize_one(tokenizer, *WHOLE_TEXTS)
    pair = tokenize_one(tokenizer, *WHOLE_TEXTS, most=(most_prompt, most_response))
    assert pair.prompt_ids == whole.prompt_ids[pair.prompt_cut :]
    assert len(pair.prompt_ids) <= most_prompt
    for side in ("preferred", "dispreferred"):
        kept, full = getattr(pair, f"{side}_ids"), getattr(whole, f"{side}_ids")
        assert kept == full[: len(full) - getattr(pair, f"{side}_cut")]
        assert 1 <= len(kept) <= most_response


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (("", "a", "b"), "prompt"),
        (([], "a", "b"), "prompt"),
        (("x", "", "b"), "preferred response"),
        (("x", "a", ""), "dispreferred response"),
    ],
)
def test_empty_text_is_refused_with_the_pairs_number(tokenizer, texts, named):
    with pytest.raises(EmptyTextError, match=f"The {named} of pair 3 is empty"):
        tokenize_one(tokenizer, *texts)


@pytest.mark.parametrize(
    ("a", "b", "fork"),
    [
        ([1, 9], [2, 9], 0),
        ([1, 2, 9], [1, 3, 9], 1),
        ([1, 9], [1, 2, 9], 1),
        ([1, 2, 9], [1, 2, 9], 2),
        ([1, 2, 3], [1, 2], 1),
    ],
    ids=["first", "later", "end of one", "identical", "prefix of the other"],
)
def test_fork_is_the_first_difference(a, b, fork):
    assert find_fork(a, b) == fork


texts = st.text(
    st.characters(codec="utf-8", exclude_characters="<|", exclude_categories=["Cs"]), min_size=1
)


@given(texts, texts, texts)
def test_tokens_and_ends_give_the_text_back(prompt, preferred, dispreferred):
    tokenizer = build_tokenizer(chat=False)
    pair = tokenize_one(tokenizer, prompt, preferred, dispreferred, most=(10_000, 10_000))
    assert tokenizer.decode(pair.prompt_ids) == prompt
    for text, ids, ends in (
        (preferred, pair.preferred_ids, pair.preferred_ends),
        (dispreferred, pair.dispreferred_ids, pair.dispreferred_ends),
    ):
        assert tokenizer.decode(ids[:-1]) == text
        assert len(ends) == len(ids)
        assert ends == sorted(ends)
        assert ends[-1] == len(text)


def test_pairs_keep_their_order_over_several_calls_of_the_tokenizer(tokenizer, monkeypatch):
    monkeypatch.setattr("chesboard.tokenization.TEXTS_PER_CALL", 2)
    raw = [Pair(f"p{i}", f"a{i}", f"b{i}", pair=i) for i in range(5)]
    pairs = tokenize_pairs(tokenizer, raw, 64, 64)
    assert [tokenizer.decode(pair.preferred_words) for pair in pairs] == [f"a{i}" for i in range(5)]


def test_fragment_of_a_character_is_shown_as_its_bytes(tokenizer):
    ids = tokenizer("é", add_special_tokens=False)["input_ids"]
    assert token_texts(tokenizer, ids) == ["<C3>", "<A9>"]


def test_no_token_text_is_empty_or_refused_by_the_store(tokenizer):
    for token_id in range(len(tokenizer)):
        text = token_text(tokenizer, token_id)
        assert text
        assert "\x00" not in text
        text.encode("utf-8")


def test_a_prompt_alone_is_blamed_for_what_its_template_refuses_only():
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = "{{ raise_exception('no such role') }}"
    with pytest.raises(ChatTemplateError, match="no such role"):
        tokenize_prompt(tokenizer, "Say.", 64)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match=r"end|EOS") as caught:
        tokenize_prompt(tokenizer, "Say.", 64)
    assert not isinstance(caught.value, ChatTemplateError)
