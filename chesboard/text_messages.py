"""The sentences on what `TextCheck` found: counts, the first pairs, and what to do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from chesboard.findings import FINDINGS, FindingKind
from chesboard.mending import Renderer
from chesboard.tallies import LISTED, NAMED_PAIRS, Tallies, Tally
from chesboard.template_syntax import unread_arguments


def named(pairs: Sequence[int], count: int | None = None) -> str:
    """The first pairs of a finding: "3, 8, 9, …". count: how many there are, if not these alone."""
    more = (len(pairs) if count is None else count) > NAMED_PAIRS
    return ", ".join(map(str, pairs[:NAMED_PAIRS])) + (", …" if more else "")


_Count = Callable[[FindingKind], str]


def sentences(found: Tallies, pairs: int, tokenizer: Any) -> Iterator[str]:
    """A sentence on each kind of finding in texts. pairs: how many were looked at."""
    kinds = found.kinds

    def counted(tally: Tally) -> str:
        return f"{tally.count} of {pairs} pairs ({named(tally.first, tally.count)})"

    def count(kind: FindingKind) -> str:
        return counted(kinds[kind])

    if refused := kinds.get("template_refused"):
        yield (
            f"The chat template refuses the prompts of {counted(refused)}, which are left "
            f"out. Pair {refused.first[0]}: {refused.details[0]}. Change their turns, or choose a "
            "model whose template takes them."
        )
    if unknown := kinds.get("unknown_token"):
        yield (
            f"The model has no embedding of a token in {counted(unknown)}, which are left "
            f"out. Pair {unknown.first[0]}: {unknown.details[0]}. "
            f"{FINDINGS['unknown_token'].advice}"
        )
    if special := kinds.get("special_tokens"):
        seen = dict.fromkeys(
            token for detail in special.details if detail for token in detail.split(LISTED)
        )
        tokens = ", ".join(f"“{token}”" for token in list(seen)[:NAMED_PAIRS])
        yield (
            f"The texts of {counted(special)} contain special tokens of the model or of "
            f"another model's chat template ({tokens}). If they were rendered by a template "
            "already, the model reads marks twice or marks that it does not know: upload the plain "
            "texts or messages."
        )
    for role, tally in found.roles.items():
        yield (
            f"The chat template leaves out or changes the {role} turn of {counted(tally)}: its "
            "text is not in what the model reads. Write it into another turn, or choose a model "
            "whose template has that role."
        )
    if "repeats_prompt" in kinds:
        yield (
            f"In {count('repeats_prompt')} both responses begin with the prompt's last turn, which "
            "the model then reads twice. Take it off the responses."
        )
    yield from _on_answers(kinds, count, tokenizer.chat_template)
    yield from _on_mends(kinds, count)


def _on_answers(kinds: Mapping[FindingKind, Tally], count: _Count, template: Any) -> Iterator[str]:
    """What stands between the prompt and the answer."""
    switch = (
        "Set chat_template_kwargs {“enable_thinking”: false} for answers without reasoning, or give"
        if isinstance(template, str) and not unread_arguments(template, {"enable_thinking": False})
        else "Give"
    )
    if "think_left_open" in kinds:
        yield (
            f"The chat template opens <think> before every response, but in "
            f"{count('think_left_open')} a response has no </think>: the model reads it as "
            f"reasoning. {switch} a chat_template that opens none."
        )
    if different := kinds.get("prompt_not_prefix"):
        yield (
            f"In {count('prompt_not_prefix')} the chat template renders the dialogue with the "
            f"answer otherwise than the prompt that asks for it ({different.details[0]}). "
            "The model is given the prompt followed by the response. "
            f"{switch} a chat_template that renders both alike."
        )


def _on_mends(kinds: Mapping[FindingKind, Tally], count: _Count) -> Iterator[str]:
    if "rendered_prompt" in kinds:
        yield (
            f"The prompts of {count('rendered_prompt')} had been rendered by this chat template "
            "and are used as they are; what it writes around every dialogue stands once."
        )
    if "prefill_continued" in kinds:
        yield (
            f"The prompts of {count('prefill_continued')} end with a turn of the assistant, which "
            "the responses continue."
        )
    if "end_token_removed" in kinds:
        yield (
            f"A response of {count('end_token_removed')} ended with the model's end token, which "
            "is added in any case; it stands once."
        )
    if "think_removed" in kinds:
        yield (
            f"A response of {count('think_removed')} began with the <think> that the chat template "
            "opens; it stands once."
        )


def on_header(renderer: Renderer) -> Iterator[str]:
    """A sentence on a chat template that writes no header of an answer."""
    marks = renderer.marks
    if marks.header_is_derived:
        yield (
            f"The chat template writes no generation prompt: the header of an answer, "
            f"“{marks.header.strip()}”, was taken from how it renders one."
        )
    elif marks.hides_roles:
        yield (
            "The chat template writes no generation prompt: the responses follow the user's turn "
            "without the header of an answer, which the model may never have seen in training."
        )
