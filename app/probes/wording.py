"""Words and numbers of the sentences about probes."""

import math
import re
from collections.abc import Sequence

MAX_CHARACTERS = 40
MOST_DECIMALS = 5
_SIGNS = {" ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥"}
"""As static/lib/format.js has them, for the lists of tokens."""
_SPECIAL = re.compile(r"<[^<>]+>|\[[A-Z]+\]")


def without_end(tokens: Sequence[str]) -> list[str]:
    kept = list(tokens)
    if len(kept) > 1 and _SPECIAL.fullmatch(kept[-1].strip()):
        kept.pop()
    return kept


def response(tokens: Sequence[str]) -> str:
    return quoted("".join(without_end(tokens)))


def quoted(text: str) -> str:
    """In quotation marks and on one line. Space at either end is part of a token, and shown by its
    sign; within, any space is one blank."""
    words = " ".join(text.split())
    before, _, after = text.partition(text.strip()) if words else (text, "", "")
    shown = _visible(before) + words + _visible(after)
    if len(shown) > MAX_CHARACTERS:
        shown = shown[: MAX_CHARACTERS - 1].rstrip() + "…"
    return f"“{shown}”"


def _visible(space: str) -> str:
    return "".join(_SIGNS.get(character, "␣") for character in space)


def nats(change: float) -> str:
    size = abs(change)
    return f"{size:.1f} nats" if size >= 1 else f"{size:.2g} nats"


def probability(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.1e}"


def probabilities(before: float, after: float) -> tuple[str, str]:
    """Two to be compared: with as many decimals as it takes for their difference to show."""
    change = abs(after - before)
    needed = math.ceil(-math.log10(change)) if 0 < change < 1 else 0
    decimals = min(MOST_DECIMALS, needed)
    first, last = (
        f"{value:.{decimals}f}" if decimals > 3 and value >= 0.001 else probability(value)
        for value in (before, after)
    )
    return first, last


def signed(change: float) -> str:
    return f"{change:+.3f}" if abs(change) >= 0.001 else f"{change:+.1e}"


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
