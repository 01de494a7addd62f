"""Text that PostgreSQL can store: without NUL characters and lone surrogates."""

from chesboard.formats.text import NULL_SYMBOL, find_unstorable, sanitize

__all__ = ["NULL_SYMBOL", "STORABLE_PATTERN", "sanitize", "storable"]
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
