"""Token groups: from the words of a group to the single tokens that stand for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

CONTEXT_TOKENS = 8


def resolve_groups(
    tokenizer: Any,
    context_ids: Sequence[int],
    groups: Mapping[str, Sequence[str]],
    report_unresolved: Callable[[str, str], None],
) -> dict[str, list[int]]:
    """Token ids of each group's words, as the token that follows a context.

    A word counts in every form that is a single token: as it is, after a space, and joined to the
    context. A word without such a form is left out: `report_unresolved(group, word)`.
    """
    resolved: dict[str, list[int]] = {}
    for name, words in groups.items():
        members: list[int] = []
        for word in words:
            token_ids = _single_tokens(tokenizer, context_ids, word)
            if not token_ids:
                report_unresolved(name, word)
            members.extend(token_ids)
        resolved[name] = list(dict.fromkeys(members))
    return resolved


def _single_tokens(tokenizer: Any, context_ids: Sequence[int], word: str) -> list[int]:
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    found = [ids[0] for ids in (encode(word), encode(f" {word}")) if len(ids) == 1]
    # Joined to the context, the word may merge with its last token; then it has no token there.
    context_text = tokenizer.decode(list(context_ids)[-CONTEXT_TOKENS:])
    before, after = encode(context_text), encode(context_text + word)
    if len(after) == len(before) + 1 and after[:-1] == before:
        found.append(after[-1])
    return list(dict.fromkeys(found))


def resolve_probe_groups(
    tokenizer: Any,
    context_ids: Sequence[int],
    groups: Mapping[str, Sequence[str]],
    words: Sequence[str],
    probe_name: str,
    report: Callable[[str], None],
) -> dict[str, list[int]]:
    """The groups of one probe: each of `words` as a group of its own, then `groups`.

    words: those that the probe's own configuration watches (a prompt's `watch`). A word without a
    token has no group; a group keeps its place even where it is empty. report: receives a message
    for each word that is not a single token.
    """

    def report_not_watched(_: str, word: str) -> None:
        report(
            f"“{word}” is more than one token for this model and is not watched after "
            f"the prompt “{probe_name}”."
        )

    def report_left_out(name: str, word: str) -> None:
        report(
            f"“{word}” of the token group “{name}” is more than one token for this model and "
            "is left out."
        )

    single = {word: [word] for word in words}
    watched = resolve_groups(tokenizer, context_ids, single, report_not_watched)
    resolved = {word: token_ids for word, token_ids in watched.items() if token_ids}
    named = resolve_groups(tokenizer, context_ids, groups, report_left_out)
    for name, token_ids in named.items():
        resolved[f"{name} (group)" if name in resolved else name] = token_ids
    return resolved
