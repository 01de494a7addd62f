"""Text that PostgreSQL can store (no NUL, no lone surrogates), and texts cut for display."""

from chesboard.formats.text import NULL_SYMBOL, find_unstorable, sanitize
from chesboard.pairs import Prompt

__all__ = ["NULL_SYMBOL", "STORABLE_PATTERN", "clip_prompt", "clip_text", "sanitize", "storable"]
STORABLE_PATTERN = r"^[^\x00]*$"
"""JSON Schema pattern of text without U+0000, for query parameters: they are decoded from UTF-8,
so they have no lone surrogates."""


def storable(text: str) -> str:
    """Return the text unchanged; for use as a Pydantic validator.

    Raises:
        ValueError: it contains U+0000 or a lone surrogate.
    """
    found = find_unstorable(text)
    if found is not None:
        what = "the character U+0000" if found.is_null else "a lone surrogate"
        raise ValueError(f"{what} cannot be stored")
    return text


def clip_text(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"


def clip_prompt(prompt: Prompt, characters: int, turns: int | None = None) -> Prompt:
    """The prompt with each text cut, and of a chat the first `turns` alone."""
    if isinstance(prompt, str):
        return clip_text(prompt, characters)
    return [{**turn, "content": clip_text(turn["content"], characters)} for turn in prompt[:turns]]
