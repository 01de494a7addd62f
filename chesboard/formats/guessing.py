"""What is meant by columns of no known form: the nearest form, and roles guessed from names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from chesboard.formats.candidates import LISTS, RANKS
from chesboard.formats.candidates import RATINGS as LIST_RATINGS
from chesboard.formats.columns import Columns
from chesboard.formats.forms import parse_row
from chesboard.formats.known_forms import FORMS_IN_WORDS, KNOWN_COLUMNS, PROMPTS
from chesboard.formats.rows import PairRow, SourceRow
from chesboard.formats.unpaired import LABELS, RATINGS, RESPONSES


class Near(NamedTuple):
    """A known form, in words, and the columns of it that a row lacks (each with its other names).

    missing: the names of the columns.
    """

    form: str
    shared: int
    missing: tuple[str, ...]


def nearest(found: Iterable[str]) -> Near | None:
    """The form that shares the most columns with these and lacks the fewest; None without any."""
    names = {name.casefold().strip() for name in found}
    nears = [
        _near(known, needed, names)
        for known, needed in _NEEDED
        if not names.isdisjoint(needed.values())
    ]
    nears += [
        _alternatives("rated", names, (LISTS, (*LIST_RATINGS, *RANKS))),
        _alternatives("kto", names, (RESPONSES, (*LABELS, *RATINGS))),
    ]
    best = max(nears, key=lambda near: (near.shared, -len(near.missing)))
    return best if best.shared else None


_NEEDED = [(known, {name: name.casefold() for name in known.needed()}) for known in KNOWN_COLUMNS]


def _near(columns: Columns, needed: Mapping[str, str], names: set[str]) -> Near:
    """needed: name of a column -> the name in lower case."""
    has_prompt = not names.isdisjoint((columns.prompt, *PROMPTS))
    missing = tuple(
        column
        for column, name in needed.items()
        if name not in names and not (column == columns.prompt and has_prompt)
    )
    # A prompt is in most files and says little.
    shared = sum(2 for column, n in needed.items() if n in names and column != columns.prompt)
    form = columns.form or ("persona" if columns.persona else "text")
    return Near(FORMS_IN_WORDS[form], shared + has_prompt, missing)


def _alternatives(form: str, names: set[str], needed: Sequence[Sequence[str]]) -> Near:
    there = [any(name in names for name in group) for group in needed]
    missing = tuple(group[0] for group, has in zip(needed, there, strict=True) if not has)
    return Near(FORMS_IN_WORDS[form], 2 * sum(there), missing)


_PROMPT_WORDS = ("prompt", "question", "instruction", "query", "input", "context", "post", "user")
_PREFERRED_WORDS = ("chosen", "preferred", "accepted", "winner", "win", "better", "best", "good")
_DISPREFERRED_WORDS = (
    *("rejected", "dispreferred", "loser", "lose", "worse", "worst", "bad", "negative"),
    *("unpreferred", "nonpreferred"),
)


def guess(found: Iterable[str]) -> Columns | None:
    """Roles guessed from the names of columns, to be confirmed by a user; None without a guess."""
    names = list(found)
    dispreferred = _named_like(names, _DISPREFERRED_WORDS)
    left = [name for name in names if name != dispreferred]
    preferred = _named_like(left, (*_PREFERRED_WORDS, "positive"))
    left = [name for name in left if name != preferred]
    if preferred is None or dispreferred is None:
        return None
    return Columns(_named_like(left, _PROMPT_WORDS) or "prompt", preferred, dispreferred)


def working_guess(found: Sequence[str], rows: Iterable[SourceRow]) -> Columns | None:
    """The guess, if it makes a pair of at least one of these rows.

    Where the name of the prompt says nothing, the only column that works as one is the prompt.
    """
    columns, tried = guess(found), list(rows)
    if columns is None:
        return None
    if _works(columns, tried):
        return columns
    others = [name for name in found if name not in columns.responses()]
    guesses = [replace(columns, prompt=name) for name in others]
    working = [guessed for guessed in guesses if _works(guessed, tried)]
    return working[0] if len(working) == 1 else None


def _works(columns: Columns, rows: Iterable[SourceRow]) -> bool:
    return any(isinstance(parse_row(row, columns), PairRow) for row in rows)


def _named_like(names: list[str], words: tuple[str, ...]) -> str | None:
    """The first name that equals one of the words, else the first that contains one."""
    folded = {name: name.casefold().strip() for name in names}
    for word in words:
        for name, plain in folded.items():
            if plain == word:
                return name
    for word in words:
        for name, plain in folded.items():
            if word in plain and "score" not in plain and "rating" not in plain:
                return name
    return None
