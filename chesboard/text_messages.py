"""The sentences on what `TextCheck` found: counts, the first pairs, and what to do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chesboard.findings import FINDINGS, FindingKind
from chesboard.mending import Renderer
from chesboard.records import FindingRecord
from chesboard.template_syntax import unread_arguments

NAMED_PAIRS = 5
"""How many pairs a message names; all of them are counted."""


def named(pairs: Sequence[int]) -> str:
    """The first pairs of a finding: "3, 8, 9, …"."""
    return ", ".join(map(str, pairs[:NAMED_PAIRS])) + (", …" if len(pairs) > NAMED_PAIRS else "")


@dataclass(slots=True)
class Seen:
    """What the sentences say beyond the findings. The dictionaries without values are sets that
    keep their order."""

    pairs: int = 0
    special: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, list[int]] = field(default_factory=dict)
    """The pairs by the role of the turn."""
    difference: str | None = None
    """Of a dialogue with its answer from the prompt that asks for it, in the first such pair."""


_Count = Callable[[FindingKind], str]


def sentences(
    findings: Sequence[FindingRecord], seen: Seen, tokenizer: Any, renderer: Renderer | None
) -> Iterator[str]:
    """A sentence on each kind of finding in texts, and one on a template without a header."""
    by_kind: dict[FindingKind, list[int]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding.pair)

    def count(kind: FindingKind) -> str:
        pairs = by_kind[kind]
        return f"{len(pairs)} of {seen.pairs} pairs ({named(pairs)})"

    if "template_refused" in by_kind:
        first = next(finding for finding in findings if finding.kind == "template_refused")
        yield (
            f"The chat template refuses the prompts of {count('template_refused')}, which are left "
            f"out. Pair {first.pair}: {first.detail}. Change their turns, or choose a model whose "
            "template takes them."
        )
    if "unknown_token" in by_kind:
        first = next(finding for finding in findings if finding.kind == "unknown_token")
        yield (
            f"The model has no embedding of a token in {count('unknown_token')}, which are left "
            f"out. Pair {first.pair}: {first.detail}. {FINDINGS['unknown_token'].advice}"
        )
    if "special_tokens" in by_kind:
        tokens = ", ".join(f"“{token}”" for token in list(seen.special)[:NAMED_PAIRS])
        yield (
            f"The texts of {count('special_tokens')} contain special tokens of the model or of "
            f"another model's chat template ({tokens}). If they were rendered by a template "
            "already, the model reads marks twice or marks that it does not know: upload the plain "
            "texts or messages."
        )
    for role, pairs in seen.left_out.items():
        yield (
            f"The chat template leaves out or changes the {role} turn of {len(pairs)} of "
            f"{seen.pairs} pairs ({named(pairs)}): its text is not in what the model reads. Write "
            "it into another turn, or choose a model whose template has that role."
        )
    if "repeats_prompt" in by_kind:
        yield (
            f"In {count('repeats_prompt')} both responses begin with the prompt's last turn, which "
            "the model then reads twice. Take it off the responses."
        )
    yield from _on_answers(by_kind, count, seen, tokenizer.chat_template)
    yield from _on_mends(by_kind, count)
    if renderer is not None and tokenizer.chat_template:
        yield from _on_header(renderer)


def _on_answers(
    by_kind: dict[FindingKind, list[int]], count: _Count, seen: Seen, template: Any
) -> Iterator[str]:
    """What stands between the prompt and the answer."""
    switch = (
        "Set chat_template_kwargs {“enable_thinking”: false} for answers without reasoning, or give"
        if isinstance(template, str) and not unread_arguments(template, {"enable_thinking": False})
        else "Give"
    )
    if "think_left_open" in by_kind:
        yield (
            f"The chat template opens <think> before every response, but in "
            f"{count('think_left_open')} a response has no </think>: the model reads it as "
            f"reasoning. {switch} a chat_template that opens none."
        )
    if "prompt_not_prefix" in by_kind:
        yield (
            f"In {count('prompt_not_prefix')} the chat template renders the dialogue with the "
            f"answer otherwise than the prompt that asks for it ({seen.difference}). "
            "The model is given the prompt followed by the response. "
            f"{switch} a chat_template that renders both alike."
        )


def _on_mends(by_kind: dict[FindingKind, list[int]], count: _Count) -> Iterator[str]:
    if "rendered_prompt" in by_kind:
        yield (
            f"The prompts of {count('rendered_prompt')} had been rendered by this chat template "
            "and are used as they are; what it writes around every dialogue stands once."
        )
    if "prefill_continued" in by_kind:
        yield (
            f"The prompts of {count('prefill_continued')} end with a turn of the assistant, which "
            "the responses continue."
        )
    if "end_token_removed" in by_kind:
        yield (
            f"A response of {count('end_token_removed')} ended with the model's end token, which "
            "is added in any case; it stands once."
        )
    if "think_removed" in by_kind:
        yield (
            f"A response of {count('think_removed')} began with the <think> that the chat template "
            "opens; it stands once."
        )


def _on_header(renderer: Renderer) -> Iterator[str]:
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
