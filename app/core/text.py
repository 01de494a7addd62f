"""Text that PostgreSQL can hold: no NUL character and no lone surrogate."""

STORABLE_PATTERN = r"^[^\x00]*$"
"""JSON Schema pattern of text without U+0000, for query parameters: they are decoded from UTF-8,
so they have no lone surrogates."""

NULL_SYMBOL = "\N{SYMBOL FOR NULL}"


def storable(text: str) -> str:
    """The text itself, for use as a Pydantic validator.

    Raises:
        ValueError: it holds U+0000 or a lone surrogate.
    """
    if "\0" in text:
        raise ValueError("the character U+0000 cannot be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate cannot be stored") from None
    return text


def sanitize(text: str) -> str:
    """The text with U+0000 and lone surrogates replaced by characters that can be stored."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", NULL_SYMBOL)
