"""Text that PostgreSQL can store: without NUL characters and lone surrogates."""

STORABLE_PATTERN = r"^[^\x00]*$"
"""JSON Schema pattern of text without U+0000, for query parameters: they are decoded from UTF-8,
so they have no lone surrogates."""

NULL_SYMBOL = "\N{SYMBOL FOR NULL}"


def storable(text: str) -> str:
    """Return the text unchanged; for use as a Pydantic validator.

    Raises:
        ValueError: it contains U+0000 or a lone surrogate.
    """
    if "\0" in text:
        raise ValueError("the character U+0000 cannot be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate cannot be stored") from None
    return text


def sanitize(text: str) -> str:
    """Sanitize: replace U+0000 by SYMBOL FOR NULL, and lone surrogates by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", NULL_SYMBOL)
