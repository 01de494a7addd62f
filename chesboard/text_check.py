"""One check of what the model reads: whether a rendered prompt says what its row says.

Nothing is changed here. A finding is counted, with the first pairs that have it, and reported
before anything expensive is computed.
"""

import re
from collections.abc import Iterator
from typing import Any

from chesboard.pairs import Pair

NAMED_PAIRS = 5
"""How many pairs a message names; all of them are counted."""


def named(pairs: list[int]) -> str:
    """The first pairs of a finding: "3, 8, 9, …"."""
    return ", ".join(map(str, pairs[:NAMED_PAIRS])) + (", …" if len(pairs) > NAMED_PAIRS else "")


class TextCheck:
    """Collects the findings of the pairs that it sees. Its work is a few searches in each text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = _special_tokens(tokenizer)
        self._seen = 0
        self._with_special: list[int] = []
        self._special_found: dict[str, None] = {}  # a set that keeps the order
        self._without_role: dict[str, list[int]] = {}
        self._repeating: list[int] = []

    def see(self, pair: Pair, rendered: str) -> None:
        """rendered: the pair's prompt as the model reads it, before it is tokenized."""
        self._seen += 1
        turns = [] if isinstance(pair.prompt, str) else pair.prompt
        contents = [pair.prompt] if isinstance(pair.prompt, str) else [t["content"] for t in turns]
        if self._special is not None:
            texts = (*contents, pair.preferred, pair.dispreferred)
            found = {token for text in texts for token in self._special.findall(text)}
            if found:
                self._with_special.append(pair.pair)
                self._special_found.update(dict.fromkeys(sorted(found)))
        for turn in turns:
            content = turn["content"].strip()
            if content and content not in rendered:
                pairs = self._without_role.setdefault(turn["role"], [])
                if pairs[-1:] != [pair.pair]:
                    pairs.append(pair.pair)
        last = contents[-1].strip() if contents else ""
        responses = (pair.preferred.lstrip(), pair.dispreferred.lstrip())
        if len(last) > 1 and all(response.startswith(last) for response in responses):
            self._repeating.append(pair.pair)

    def messages(self) -> Iterator[str]:
        """A sentence on each kind of finding, and on a template that misleads every pair."""
        of = f"of {self._seen} pairs"
        if self._with_special:
            tokens = ", ".join(f"“{token}”" for token in list(self._special_found)[:NAMED_PAIRS])
            yield (
                f"The texts of {len(self._with_special)} {of} ({named(self._with_special)}) "
                f"contain special tokens of the model ({tokens}). If they were rendered by a chat "
                "template already, the model reads its marks twice: upload the plain texts or "
                "messages."
            )
        for role, pairs in self._without_role.items():
            yield (
                f"The chat template leaves out or changes the {role} turn of {len(pairs)} {of} "
                f"({named(pairs)}): its text is not in what the model reads. Write it into another "
                "turn, or choose a model whose template has that role."
            )
        if self._repeating:
            yield (
                f"In {len(self._repeating)} {of} ({named(self._repeating)}) both responses begin "
                "with the prompt's last turn, which the model then reads twice. Take it off the "
                "responses."
            )
        yield from _template_findings(self._tokenizer)


def _special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Tokens that mark turns and ends. Marks of reasoning belong into a response."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    tokens = {
        token
        for token in (*tokenizer.all_special_tokens, *added)
        if any(sign in token for sign in "<[|") and "think" not in token
    }
    if not tokens:
        return None
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))


def _template_findings(tokenizer: Any) -> Iterator[str]:
    """What the template does to every prompt, seen on a made-up one."""
    if not tokenizer.chat_template:
        return
    question = [{"role": "user", "content": "chesboard"}]
    try:
        with_header, without = (
            tokenizer.apply_chat_template(question, add_generation_prompt=header, tokenize=False)
            for header in (True, False)
        )
    except Exception:
        return  # a template that takes no such prompt; the pairs' own are checked one by one
    if with_header == without:
        yield (
            "The chat template writes no generation prompt: the responses follow the user's turn "
            "without the header of an answer, which the model may never have seen in training."
        )
    if with_header.rstrip().endswith("<think>"):
        yield (
            "The chat template opens <think> before every response: responses without reasoning "
            "are read as reasoning, and those that bring their own <think> have it twice."
        )
