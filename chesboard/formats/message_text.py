"""Chat messages in a text cell: as JSON, as a Python literal, or as NumPy prints them."""

import ast
import json
import re
from functools import lru_cache
from typing import Any

from chesboard.formats.dialogues import ROLES

MAX_PRINTED_CHARACTERS = 1 << 20
"""Longest text that is parsed as a Python literal, whose parser needs many times its length."""

# Texts may be megabytes long and written to be slow: no two runs of the same signs meet, and a
# string that is not closed reaches to the end, so that each sign is looked at once.
_START = re.compile(r"""\s*(?:(?:array\(|")\s*)?(?:\[\s*)?\{\s*\\?["']\w+\\?["']\s*:""")
_SPEAKER = re.compile(r"""["'](?:role|from)\\?["']\s*:""")
_ARRAY = re.compile(r"\s*array\((.*?)(?:,\s*dtype=\w+)?\)\s*", re.S)
_BEGINNING = re.compile(r"""\s*\[\s*\{\s*["'](?:role|content|from|value)["']\s*:""")
_STRING_OR_GAP = re.compile(
    r"""'[^'\\]*(?:\\.[^'\\]*)*(?:'|\\?\Z)|"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|\}\s+\{""",
    re.S,
)


def looks_like_messages(text: str) -> bool:
    """Whether `parse_messages` would try to parse this text."""
    return _START.match(text) is not None and _SPEAKER.search(text) is not None


def begins_like_messages(text: str) -> bool:
    """Whether a text begins as only a list of messages does."""
    return _BEGINNING.match(text) is not None


def parse_messages(text: str) -> Any:
    """The messages in a text, or the text itself where it holds none.

    '[{"role": "user", …}]'          JSON, and Python's print of a list
    "[{'role': 'user', …}\\n {…}]"    NumPy's print of an array: no commas between its elements
    "array([{'role': 'user', …}], dtype=object)"    NumPy's representation of an array
    '{"role": ["user"], "content": ["Hi"]}'     a struct of lists; a single message likewise
    '"[{\\"role\\": …}]"'                      messages that were written as JSON twice
    """
    if not looks_like_messages(text):
        return text
    value = parse_list(_unwrapped(text))
    return value if _is_messages(value) else text


def parse_prompt(text: str) -> Any:
    """The same for a prompt, which may be an object with messages, as OpenAI's `input`; a response
    of this kind is an answer in JSON."""
    value = parse_messages(text)
    if value is text and looks_like_messages(text):
        found = parse_list(text)
        if isinstance(found, dict) and isinstance(found.get("messages"), list):
            return found
    return value


def _unwrapped(text: str) -> str:
    """The list in JSON of text, or in NumPy's `array(…)`; any other text as it is."""
    if array := _ARRAY.fullmatch(text):
        return array[1]
    if text.lstrip().startswith('"'):
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return inner if isinstance(inner, str) else text
    return text


def parse_list(text: str) -> Any:
    """The list or object in a text, as JSON, as Python or as NumPy prints it; None without one."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None if is_too_long(text) else _printed(text)
    return value if isinstance(value, list | dict) else None


def is_too_long(text: str) -> bool:
    """Whether `parse_list` tries a text as JSON only."""
    return len(text) > MAX_PRINTED_CHARACTERS


@lru_cache(maxsize=8)
def _printed(text: str) -> Any:
    """The value that Python or NumPy printed; None where there is none.

    The last ones are kept, because a cell is looked at two or three times while its row is read,
    and parsing takes many times as long as of JSON.
    """
    value = _literal(text.strip())
    return _literal(_with_commas(text.strip())) if value is None else value


def _is_messages(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) and _is_said(item) for item in value)
    if not isinstance(value, dict):
        return False
    # An answer may be an object, too: only one with a known speaker and a text is a message.
    role, content = (value.get(name) or value.get(other) for name, other in _NAMES)
    if isinstance(role, list):
        return isinstance(content, list) and len(role) == len(content) > 0
    return isinstance(role, str) and role.strip().casefold() in ROLES and isinstance(content, str)


_NAMES = (("role", "from"), ("content", "value"))


def _is_said(item: dict[str, Any]) -> bool:
    return item.keys() >= {"from", "value"} or (
        "role" in item and bool(item.keys() & {"content", "tool_calls", "function_call"})
    )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _with_commas(text: str) -> str:
    """Put the commas between the messages that NumPy leaves out; strings stay as they are."""
    return _STRING_OR_GAP.sub(lambda m: "}, {" if m[0].startswith("}") else m[0], text)
