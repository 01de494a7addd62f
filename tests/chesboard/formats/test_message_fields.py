"""Fields of messages besides role and content: kept in the prompt, named in a response."""

import json
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from chesboard.mending import Renderer
from tests.chesboard.formats.test_parsing import NO, QUESTION, YES, said, understand, why_not
from tests.tiny_models import build_tokenizer

CALLS = [{"id": "7", "type": "function", "function": {"name": "sum", "arguments": '{"of": [1]}'}}]
ASKED = said("user", "What is the sum?")
ANSWERED = {"role": "tool", "tool_call_id": "7", "content": "1"}
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.tool_calls %}"
    "{{ m.tool_calls[0].function.name }}{% endif %}{{ m.reasoning_content or '' }}{% endfor %}"
)


def read(prompt: list[Any], **more: Any) -> tuple[Any, list[str]]:
    """(prompt, warnings) of a row with this prompt."""
    row = {"prompt": prompt, "chosen": [YES], "rejected": [NO]} | more
    [pair], reader = understand(json.dumps(row))
    assert (pair.preferred, pair.dispreferred) == ("Yes.", "No.")
    return pair.prompt, reader.warnings


@pytest.mark.parametrize("empty", [{"content": None}, {"content": ""}, {}], ids=str)
def test_turn_that_only_calls_tools_keeps_its_calls(empty: dict[str, Any]) -> None:
    calling = {"role": "assistant", "tool_calls": CALLS, **empty}
    prompt, warnings = read([ASKED, calling, ANSWERED])
    assert prompt == [
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": CALLS},
        {"role": "tool", "content": "1", "tool_call_id": "7"},
    ]
    assert any("`tool_calls` (in row 1). It is handed to the chat template" in w for w in warnings)


def test_fields_of_the_prompt_reach_the_template() -> None:
    calling = {"role": "assistant", "content": None, "tool_calls": CALLS}
    thinking = said("assistant", "One.") | {"reasoning_content": "Hm."}
    prompt, _ = read([ASKED, calling, ANSWERED, thinking, QUESTION])
    tokenizer: PreTrainedTokenizerFast = build_tokenizer(chat=True)
    tokenizer.chat_template = TEMPLATE
    rendered = Renderer(tokenizer).prompt(prompt).text
    assert rendered == (
        "[user]What is the sum?[assistant]sum[tool]1[assistant]One.Hm.[user]Shall we?[assistant]"
    )


@pytest.mark.parametrize("role", ["tool", "function", "observation", "Tool"])
def test_results_of_tools_are_turns_of_the_tool(role: str) -> None:
    prompt, warnings = read([ASKED, YES, said(role, "1"), QUESTION])
    assert prompt[2] == said("tool", "1")
    assert warnings == []


def test_calls_before_the_last_turn_of_dialogues_are_kept() -> None:
    calling = {"role": "assistant", "content": None, "tool_calls": CALLS}
    before = [ASKED, calling, ANSWERED]
    [pair], reader = understand(json.dumps({"chosen": [*before, YES], "rejected": [*before, NO]}))
    assert isinstance(pair.prompt, list)
    assert pair.prompt[1]["tool_calls"] == CALLS
    assert any("`tool_calls`" in warning for warning in reader.warnings)


def test_response_that_only_calls_tools_is_rejected_with_the_reason() -> None:
    calling = {"role": "assistant", "content": None, "tool_calls": CALLS}
    field, message = why_not({"prompt": [ASKED], "chosen": [calling], "rejected": [NO]})
    assert field == "chosen"
    assert "the response has no text, only `tool_calls`, which is not read" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [("reasoning_content", "Hm."), ("tool_calls", CALLS), ("thinking", "Hm."), ("refusal", "Hm.")],
)
def test_fields_of_a_response_are_named(name: str, value: Any) -> None:
    for chosen in ([YES | {name: value}], [QUESTION, YES | {name: value}]):
        for written in (chosen, json.dumps(chosen)):
            rejected: Any = [*chosen[:-1], NO]
            rejected = json.dumps(rejected) if isinstance(written, str) else rejected
            _, [warning] = read([QUESTION], chosen=written, rejected=rejected)
            assert f"field `{name}` that is not read (in row 1)" in warning


@pytest.mark.parametrize("column", ["tools", "functions", "Tools"])
@pytest.mark.parametrize("as_text", [False, True])
def test_columns_of_tools_are_named(column: str, *, as_text: bool) -> None:
    tools: Any = [{"type": "function", "function": {"name": "sum", "parameters": {}}}]
    _, [warning] = read([ASKED], **{column: json.dumps(tools) if as_text else tools})
    assert f"The column `{column}` looks like part of the prompt, but is not read" in warning
    assert read([ASKED], **{column: "[]" if as_text else []})[1] == []


def test_tools_beside_the_messages_of_an_input_are_named() -> None:
    row = {
        "input": {"messages": [ASKED], "tools": [{"name": "sum"}], "parallel_tool_calls": True},
        "preferred_output": [YES],
        "non_preferred_output": [NO],
    }
    [pair], reader = understand(json.dumps(row))
    assert pair.prompt == [ASKED]
    assert ["`input.tools`" in warning for warning in reader.warnings] == [True]


def test_a_part_that_is_no_text_is_named() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    row = {"prompt": [{"role": "user", "content": [part]}], "chosen": [YES], "rejected": [NO]}
    _, message = why_not(row)
    assert message == "message 1 has a part of type `image_url`, which is not read"
