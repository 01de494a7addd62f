"""Marks in a text that belong to a template, a page or a fault of encoding, not to the text."""

import re
from collections.abc import Iterable, Sequence

from chesboard.template_marks import MARK

MAX_MARK = 40
"""Characters of a mark that are reported."""

_TEMPLATE = re.compile(
    MARK + r"|^#{2,4} ?(?:Response|Instruction|Input|Human|Assistant|System|User):"
    r"|^(?:Human|Assistant|USER|ASSISTANT|SYSTEM):",
    re.MULTILINE,
)
_TEMPLATE_SIGNS = ("<", "[", "##", "Human:", "Assistant:", "USER:", "ASSISTANT:")
_LABEL = re.compile(r"\s*(?:Assistant|AI|Bot|GPT|Chatbot|Response) ?:")
_LABEL_CHARACTERS = 16
_HTML = re.compile(
    r"</?(?:p|br|div|span|a|b|i|u|em|strong|ul|ol|li|h[1-6]|table|tbody|tr|td|th|img|pre"
    r"|blockquote|font|center|hr|sup|sub|iframe|script|style|body|html)(?:\s[^<>]{0,300})?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|[lr][sd]quo|[nm]dash|hellip|#\d{2,6}|#x[0-9a-fA-F]{2,5});"
)
_ABOUT_MARKUP = re.compile(r"html|xml|css|\btags?\b|markup|javascript|\bweb ?(?:page|site)", re.I)
# UTF-8 that was decoded as Latin-1 or Windows-1252.
_MOJIBAKE = re.compile(
    "\N{LATIN CAPITAL LETTER A WITH TILDE}[\x80-\xbf]"
    "|\N{LATIN CAPITAL LETTER A WITH CIRCUMFLEX}[\xa0-\xbf]"
    "|\N{LATIN SMALL LETTER A WITH CIRCUMFLEX}(?:\N{EURO SIGN}.|\x80[\x80-\xbf])"
    "|\N{LATIN SMALL LETTER ETH}(?:\N{LATIN CAPITAL LETTER Y WITH DIAERESIS}|\x9f)"
)
_MOJIBAKE_SIGNS = "ÃÂâð"
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}")
# Not \neq and the like.
_ESCAPED_LINE = re.compile(r"\\n(?![a-z])")


def leftover(turns: Sequence[str], preferred: str, dispreferred: str) -> str | None:
    """The first mark of a chat template, role label, HTML tag or entity in a pair.

    HTML is looked for in the responses only, and neither where the prompt's last turn is about it
    nor beside code: there it is content.
    """
    return (
        _template_mark("\n".join((*turns, preferred, dispreferred)))
        or _response_mark(preferred, turns)
        or _response_mark(dispreferred, turns)
    )


def _template_mark(text: str) -> str | None:
    # Most texts have none of the signs, and finding that out is all the time they take.
    return _first(_TEMPLATE, text) if has_any(_TEMPLATE_SIGNS, text) else None


def _response_mark(text: str, turns: Sequence[str]) -> str | None:
    if ":" in text[:_LABEL_CHARACTERS] and (found := _LABEL.match(text)):
        return found[0].strip()
    has_sign = "&" in text or ("<" in text and ">" in text)
    if not has_sign or "`" in text or any(map(_ABOUT_MARKUP.search, turns[-1:])):
        return None
    return _first(_HTML, text) or _first(_ENTITY, text)


def broken_part(text: str) -> str | None:
    """The first sign that a text was decoded wrongly or still has its escapes."""
    if not text.isascii():
        if "\N{REPLACEMENT CHARACTER}" in text:
            return "\N{REPLACEMENT CHARACTER}"
        if has_any(_MOJIBAKE_SIGNS, text) and (mark := _first(_MOJIBAKE, text)):
            return mark
    if "\\" not in text or "`" in text:
        return None
    if mark := _first(_ESCAPE, text):
        return mark
    is_one_line = "\n" not in text
    return "\\n" if is_one_line and len(_ESCAPED_LINE.findall(text)) > 1 else None


def unclosed(text: str) -> str | None:
    """The mark of a code block or of reasoning that stands without its counterpart."""
    if "```" in text and text.count("```") % 2:
        return "```"
    if "think>" in text and text.count("<think>") != text.count("</think>"):
        return "<think>" if "<think>" in text else "</think>"
    return None


def has_any(signs: Iterable[str], text: str) -> bool:
    """Whether one of the signs is in a text."""
    for sign in signs:  # noqa: SIM110 - any() takes twice the time
        if sign in text:
            return True
    return False


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[0][:MAX_MARK] if found else None
