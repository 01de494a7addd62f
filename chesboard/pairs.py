"""Preference pairs, as text and as token ids."""

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""A chat message: `role` and `content` as text, and where the row has them the fields of
`MESSAGE_FIELDS`, which chat templates may write out."""

MESSAGE_FIELDS = (
    *("tool_calls", "tool_call_id", "function_call", "name", "tools", "functions"),
    *("reasoning_content", "reasoning", "thinking"),
)

Prompt = str | list[Message]
"""Plain text, or chat messages."""


def prompt_characters(prompt: Prompt) -> int:
    """Characters of a prompt; of chat messages, those of their contents."""
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(message["content"]) for message in prompt)


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of a preference dataset: a prompt x, the preferred response y+ and the other, y-.

    pair: its ordinal in the dataset, by which records and messages name it. `chesboard.score`
    numbers the pairs by their place in the sequence that it is given.
    """

    prompt: Prompt
    preferred: str
    dispreferred: str
    pair: int = field(default=0, kw_only=True)


@dataclass(frozen=True, slots=True)
class TokenizedPair:
    """Token ids of a pair, as the model reads them.

    Responses end with the end-of-turn token unless they were truncated. `fork_position` is the
    first position, counted from 0, at which the responses differ. `*_cut` count the tokens that
    truncation removed. `retokenized`: prompt and response were tokenized apart, because joining
    them changes the prompt's tokens. `*_ends[k]` is the number of characters (code points) of the
    response up to the end of its token k.
    """

    pair: int
    prompt_ids: list[int]
    preferred_ids: list[int]
    dispreferred_ids: list[int]
    fork_position: int
    prompt_cut: int
    preferred_cut: int
    dispreferred_cut: int
    retokenized: bool
    preferred_ends: list[int]
    dispreferred_ends: list[int]

    @property
    def cut_tokens(self) -> int:
        """Tokens that truncation removed from prompt and responses."""
        return self.prompt_cut + self.preferred_cut + self.dispreferred_cut

    @property
    def has_same_tokens(self) -> bool:
        """Whether both responses are the same to the model, by truncation or by the tokenizer.

        Such a pair has no fork and no preference: CHES would be 0 and rank it worst.
        """
        return self.preferred_ids == self.dispreferred_ids

    @property
    def tokens(self) -> int:
        """Tokens of prompt and both responses, each counted once."""
        return len(self.prompt_ids) + len(self.preferred_ids) + len(self.dispreferred_ids)

    @property
    def preferred_words(self) -> list[int]:
        """The preferred response without its end token."""
        return self.preferred_ids if self.preferred_cut else self.preferred_ids[:-1]

    @property
    def dispreferred_words(self) -> list[int]:
        """The dispreferred response without its end token."""
        return self.dispreferred_ids if self.dispreferred_cut else self.dispreferred_ids[:-1]
