"""Chat messages in a text cell: as JSON, as a Python literal, or as NumPy prints them."""

import ast
import json
import re
from typing import Any

MAX_PRINTED_CHARACTERS = 1 << 20
"""Longest text that is parsed as a Python literal, whose parser needs many times its length."""

_START = re.compile(r"""\s*\[\s*\{\s*["'](?:role|content|from|value)["']\s*:""")
_STRING_OR_GAP = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\}\s+\{""", re.S)


def looks_like_messages(text: str) -> bool:
    """Whether `parse_messages` would try to parse this text."""
    return _START.match(text) is not None


def parse_messages(text: str) -> Any:
    """The list of messages in a text, or the text itself where it holds none.

    '[{"role": "user", …}]'         JSON, and Python's print of a list
    "[{'role': 'user', …}\\n {…}]"   NumPy's print of an array: no commas between its elements
    """
    if not looks_like_messages(text):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if len(text) > MAX_PRINTED_CHARACTERS:
            return text
        value = _literal(text.strip())
        if value is None:
            value = _literal(_with_commas(text.strip()))
    return value if isinstance(value, list) else text


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _with_commas(text: str) -> str:
    """Put the commas between the messages that NumPy leaves out; strings stay as they are."""
    return _STRING_OR_GAP.sub(lambda m: "}, {" if m[0].startswith("}") else m[0], text)
