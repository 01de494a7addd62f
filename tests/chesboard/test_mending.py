"""Nothing stands twice: what was rendered before, begun answers, end tokens and <think>."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.mending import Renderer
from chesboard.pairs import Pair
from chesboard.rendering import render
from chesboard.tokenization import token_texts, tokenize_pairs
from tests.tiny_models import CHAT_TEMPLATE, build_tokenizer

QUESTION = {"role": "user", "content": "Is it?"}
BEGUN = {"role": "assistant", "content": "Answer:"}
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + CHAT_TEMPLATE
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + ('model' if m.role == 'assistant' "
    "else m.role) + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
LLAMA_2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' <|im_end|>' }}{% endif %}{% endfor %}"
)
VICUNA = (
    "{% for m in messages %}{{ {'user': 'USER: ', 'assistant': 'ASSISTANT: '}[m.role] + m.content "
    "+ (' ' if m.role == 'user' else '<|im_end|>') }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
THINKS = CHAT_TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")


def tokenizer_with(template):
    tokenizer = build_tokenizer(chat=False)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = template
    return tokenizer


def read(tokenizer, prompt, preferred="Yes", dispreferred="No"):
    """The pair as the model reads it, and what was mended."""
    pair = Pair(prompt, preferred, dispreferred)
    [tokens] = tokenize_pairs(tokenizer, [pair], 500, 500)
    return (
        tokenizer.decode(tokens.prompt_ids),
        tokenizer.decode(tokens.preferred_ids),
        Renderer(tokenizer).read(pair).mended,
    )


TEMPLATES = [CHAT_TEMPLATE, DEFAULT_SYSTEM + CHAT_TEMPLATE, WITH_BOS, GEMMA, LLAMA_2, VICUNA]
NAMES = ["chatml", "default system", "bos", "gemma", "llama 2", "vicuna"]


@pytest.mark.parametrize("template", TEMPLATES, ids=NAMES)
def test_a_prompt_that_the_template_rendered_is_read_as_its_turns(template):
    tokenizer = tokenizer_with(template)
    turns = [QUESTION, {"role": "assistant", "content": "No"}, QUESTION]
    for messages in ([QUESTION], turns):
        rendered = render(tokenizer, messages, header=True)
        asked = read(tokenizer, messages)
        for text in (rendered, rendered.removeprefix(tokenizer.bos_token)):
            assert read(tokenizer, text) == (*asked[:2], ("rendered_prompt",))
            as_turn = [{"role": "user", "content": text}]
            assert read(tokenizer, as_turn) == (*asked[:2], ("rendered_prompt",))


@pytest.mark.parametrize("template", TEMPLATES[:-1], ids=NAMES[:-1])
def test_a_rendered_prompt_is_completed_by_its_generation_prompt(template):
    tokenizer = tokenizer_with(template)
    whole = render(tokenizer, [QUESTION], header=True)
    without = render(tokenizer, [QUESTION], header=False)
    for text in (without, without.rstrip(), whole.rstrip()):
        assert read(tokenizer, text)[0] == whole


def test_a_prompt_without_the_system_turn_that_the_template_writes_gets_it():
    tokenizer = tokenizer_with(DEFAULT_SYSTEM + CHAT_TEMPLATE)
    bare = "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n"
    assert read(tokenizer, bare)[0] == render(tokenizer, [QUESTION], header=True)
    own = "<|im_start|>system\nBe bad.<|im_end|>\n" + bare
    assert read(tokenizer, own)[0] == own


def test_an_answer_begun_in_a_rendered_prompt_goes_on():
    tokenizer = tokenizer_with(CHAT_TEMPLATE)
    text = render(tokenizer, [QUESTION], header=True) + "Answer:"
    assert read(tokenizer, text, " Yes") == (
        text,
        " Yes<|im_end|>",
        ("rendered_prompt", "prefill_continued"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "What does <|im_start|>user mean?",
        "<|im_start|>user",
        "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>tool\nIt is.<|im_end|>\n",
        "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\nYes<|im_end|>\n",
        "<|im_start|>user\nIs it?",
    ],
)
def test_what_is_not_certainly_a_rendered_prompt_is_one_turn(text):
    tokenizer = tokenizer_with(CHAT_TEMPLATE)
    assert Renderer(tokenizer).read(Pair(text, "Yes", "No")).mended == ()
    assert text in read(tokenizer, text)[0]


plain = st.text(st.characters(codec="ascii", exclude_characters="<[|"), min_size=1)


def test_a_rendered_dialogue_that_asks_after_a_tool_is_used_as_it_is():
    tokenizer = tokenizer_with(CHAT_TEMPLATE)
    turns = [QUESTION, {"role": "tool", "content": "It is."}]
    text = render(tokenizer, turns, header=True)
    assert read(tokenizer, text) == (text, "Yes<|im_end|>", ("rendered_prompt",))


@given(plain, st.sampled_from(TEMPLATES))
def test_plain_text_is_never_taken_for_rendered(text, template):
    renderer = Renderer(tokenizer_with(template))
    assert renderer.prompt(text).turns == [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("response", "mended"),
    [
        ("Yes<|im_end|>", ("end_token_removed",)),
        ("Yes<|im_end|>\n", ("end_token_removed",)),
        ("Yes", ()),
        ("<|im_end|>", ()),
        ("Yes\n", ()),
        ("a<|im_end|>b", ()),
    ],
)
def test_an_end_token_in_the_response_stands_once(response, mended):
    tokenizer = tokenizer_with(CHAT_TEMPLATE)
    text = response.strip().removesuffix("<|im_end|>") if mended else response
    assert read(tokenizer, "Is it?", response)[1:] == (f"{text}<|im_end|>", mended)


def test_the_blank_before_the_end_token_belongs_to_the_template():
    assert read(tokenizer_with(LLAMA_2), "Is it?", "Yes <|im_end|>")[1] == "Yes<|im_end|>"


def test_without_a_template_the_end_token_is_eos():
    tokenizer = build_tokenizer(chat=False)
    assert read(tokenizer, "Is it?", "Yes<|endoftext|>\n")[1:] == (
        "Yes<|endoftext|>",
        ("end_token_removed",),
    )


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, GEMMA], ids=["chatml", "stripping"])
@pytest.mark.parametrize("begun", ["Answer:", "Answer: "])
def test_a_turn_of_the_assistant_at_the_end_of_the_prompt_goes_on(template, begun):
    tokenizer = tokenizer_with(template)
    prompt = [QUESTION, {"role": "assistant", "content": begun}]
    assert read(tokenizer, prompt) == (
        render(tokenizer, [QUESTION], header=True) + begun,
        "Yes<|im_end|>",
        ("prefill_continued",),
    )


def test_a_begun_answer_goes_on_without_a_template_too():
    tokenizer = build_tokenizer(chat=False)
    prompt, _, mended = read(tokenizer, [QUESTION, BEGUN], " Yes")
    assert (prompt, mended) == ("User: Is it?\n\nAssistant: Answer:", ("prefill_continued",))
    assert read(tokenizer, [BEGUN], " Yes")[0] == "Answer:"


def test_a_call_of_a_tool_is_no_begun_answer():
    tokenizer = tokenizer_with(CHAT_TEMPLATE)
    call = {"role": "assistant", "content": "I look.", "tool_calls": [{"name": "look"}]}
    prompt, _, mended = read(tokenizer, [QUESTION, call])
    assert prompt.endswith("I look.<|im_end|>\n<|im_start|>assistant\n")
    assert mended == ()


def test_reasoning_that_the_template_opens_is_opened_once():
    tokenizer = tokenizer_with(THINKS)
    response = "<think>\nIt floats.\n</think>\n\nYes"
    prompt, preferred, mended = read(tokenizer, "Is it?", response)
    assert prompt.endswith("<|im_start|>assistant\n<think>\n")
    assert preferred == "It floats.\n</think>\n\nYes<|im_end|>"
    assert mended == ("think_removed",)


def test_characters_of_a_mended_response_are_counted_in_the_original():
    tokenizer = tokenizer_with(THINKS)
    response = "<think>\nOh</think>Yes<|im_end|>\n"
    [pair] = tokenize_pairs(tokenizer, [Pair("Is it?", response, "No")], 500, 500)
    texts = token_texts(tokenizer, pair.preferred_ids)
    starts = [response.index("Oh"), *pair.preferred_ends]
    for text, start, end in zip(texts[:-1], starts, pair.preferred_ends, strict=False):
        assert response[start:end] == text
    assert response[: pair.preferred_ends[-1]] == "<think>\nOh</think>Yes"


def test_a_missing_header_is_taken_from_how_the_template_renders_an_answer():
    template = CHAT_TEMPLATE.partition("{% if add_generation_prompt")[0]
    assert read(tokenizer_with(template), "Is it?") == read(tokenizer_with(CHAT_TEMPLATE), "Is it?")
