"""The chat template of a run as one object, and what a template writes around texts."""

from datetime import UTC, datetime

import pytest

from chesboard.rendering import RunTemplate, find_marks, render, user
from tests.tiny_models import CHAT_TEMPLATE, build_tokenizer

DAY = datetime(2026, 3, 9, 12, tzinfo=UTC)
DATED = "{{ 'Today Date: ' + strftime_now('%d %b %Y') }}\n" + CHAT_TEMPLATE
THINKING = CHAT_TEMPLATE.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n"
    "{% endif %}{% endif %}",
)


def tokenizer_with(template):
    tokenizer = build_tokenizer(chat=False)
    tokenizer.chat_template = template
    return tokenizer


def rendered(template, header=True):
    return render(template.tokenizer, [user("Is it?")], header=header)


def test_without_a_choice_the_tokenizer_is_the_models():
    tokenizer = build_tokenizer(chat=True)
    template = RunTemplate(tokenizer)
    assert template.tokenizer is template.saved_tokenizer is tokenizer
    assert list(template.messages()) == []


def test_arguments_reach_the_template_and_are_saved_as_defaults():
    tokenizer = tokenizer_with(THINKING)
    template = RunTemplate(tokenizer, arguments={"enable_thinking": False})
    assert not rendered(template).endswith("<think>\n")
    assert tokenizer.chat_template == THINKING
    assert list(template.messages()) == []
    saved = template.saved_tokenizer
    assert not render(saved, [user("Is it?")], header=True).endswith("<think>\n")
    # A later run over the saved model can ask for something else.
    assert rendered(RunTemplate(saved, arguments={"enable_thinking": True})).endswith("<think>\n")


def test_a_template_of_the_run_takes_the_place_of_the_models_and_is_saved():
    template = RunTemplate(build_tokenizer(chat=True), "{{ messages[0].content }}!")
    assert rendered(template) == "Is it?!"
    assert template.saved_tokenizer.chat_template == "{{ messages[0].content }}!"
    assert "the given chat_template" in next(template.messages())


def test_arguments_without_effect_are_reported():
    [message] = RunTemplate(build_tokenizer(chat=True), arguments={"thinking": True}).messages()
    assert "does not read `thinking`" in message
    [message] = RunTemplate(build_tokenizer(chat=False), arguments={"thinking": True}).messages()
    assert "no chat template: prompts are read as plain text" in message
    assert "chat_template_kwargs have no effect" in message


def test_a_template_that_tells_the_date_is_frozen_and_says_which():
    tokenizer = tokenizer_with(DATED)
    template = RunTemplate(tokenizer, date=DAY)
    assert rendered(template).startswith("Today Date: 09 Mar 2026\n")
    [message] = template.messages()
    assert "09 March 2026 in every prompt" in message
    assert template.saved_tokenizer is tokenizer


@pytest.mark.parametrize("call", ['strftime_now("%Y")', "strftime_now( format = '%Y' )"])
def test_every_form_of_asking_for_the_date_is_frozen(call):
    macro = "{% macro day() %}{{ " + call + " }}{% endmacro %}{{ day() }}"
    assert rendered(RunTemplate(tokenizer_with(macro), date=DAY)) == "2026"


def test_a_date_that_an_argument_replaces_is_not_told():
    dated = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%Y') %}{% endif %}"
    )
    template = RunTemplate(
        tokenizer_with(dated + "{{ date_string }}"), arguments={"date_string": "1999"}, date=DAY
    )
    assert rendered(template) == "1999"
    assert list(template.messages()) == []


def test_a_time_that_cannot_be_frozen_is_reported():
    template = RunTemplate(tokenizer_with("{% set f = '%Y' %}{{ strftime_now(f) }}"), date=DAY)
    assert any("cannot be frozen" in message for message in template.messages())


def test_what_is_no_template_is_refused():
    with pytest.raises(ValueError, match="chat_template: This is no Jinja template"):
        RunTemplate(build_tokenizer(chat=True), "{% if %}")


@pytest.mark.parametrize("own", ["{% for m in messages %}{{ m.content }", "{{ m | nofilter }}"])
def test_a_model_s_own_template_that_is_none_is_refused_unless_another_is_given(own):
    tokenizer = tokenizer_with(own)
    with pytest.raises(ValueError, match=r"own chat template cannot be used: .* line 1: .*give an"):
        RunTemplate(tokenizer)
    assert rendered(RunTemplate(tokenizer, CHAT_TEMPLATE)).endswith("assistant\n")


def test_of_several_templates_the_default_is_used():
    tokenizer = tokenizer_with({"default": CHAT_TEMPLATE, "tool_use": "no"})
    assert rendered(RunTemplate(tokenizer)).startswith("<|im_start|>user\nIs it?")
    with pytest.raises(ValueError, match=r"several chat templates \(rag, tool_use\)"):
        RunTemplate(tokenizer_with({"rag": "a", "tool_use": "b"}))


LLAMA_2 = (
    "{{ '<|endoftext|>' }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' <|im_end|>' }}{% endif %}{% endfor %}"
)


def test_marks_of_chatml():
    marks = find_marks(build_tokenizer(chat=True))
    assert marks.header == "<|im_start|>assistant\n"
    assert marks.user_end == marks.answer_end == "<|im_end|>\n"
    assert marks.openings == ("<|im_start|>user", "<|im_start|>system")
    assert not marks.header_is_derived


def test_marks_of_a_template_that_needs_no_header():
    tokenizer = tokenizer_with(LLAMA_2)
    tokenizer.bos_token = "<|endoftext|>"
    marks = find_marks(tokenizer)
    assert (marks.bos, marks.header) == ("<|endoftext|>", "")
    assert (marks.user_end, marks.answer_end) == (" [/INST]", " <|im_end|>")
    assert not marks.hides_roles


def test_a_header_that_is_not_written_on_request_is_taken_from_an_answer():
    template = CHAT_TEMPLATE.partition("{% if add_generation_prompt")[0]
    marks = find_marks(tokenizer_with(template))
    assert marks.header == "<|im_start|>assistant\n"
    assert marks.header_is_derived


def test_a_template_that_refuses_everything_has_no_marks():
    marks = find_marks(tokenizer_with("{{ raise_exception('no') }}"))
    assert marks.openings == ()
    assert marks.header == ""
