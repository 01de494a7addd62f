"""Text that PostgreSQL can hold, as a Pydantic validator; `sanitize` is the library's."""

from chesboard.formats.text import NULL_SYMBOL, find_unstorable, sanitize

__all__ = ["NULL_SYMBOL", "STORABLE_PATTERN", "sanitize", "storable"]
STORABLE_PATTERN = r"^[^\x00]*$"
"""JSON Schema pattern of text without U+0000, for query parameters: they are decoded from UTF-8,
so they have no lone surrogates."""


def storable(text: str) -> str:
    """The text itself, for use as a Pydantic validator.

    Raises:
        ValueError: it holds U+0000 or a lone surrogate.
    """
    found = find_unstorable(text)
    if found is not None:
        what = "the character U+0000" if found.is_null else "a lone surrogate"
        raise ValueError(f"{what} cannot be stored")
    return text
