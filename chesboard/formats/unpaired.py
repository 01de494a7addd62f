"""Rows with one response each (KTO, HelpSteer2's ratings): pairs of those with the same prompt.

    prompt, completion, label            kto: true or false
    instruction, input, output, kto_tag  kto (LLaMA-Factory)
    messages, label                      kto: the last message is the response
    prompt, response, helpfulness, …     rated-rows (HelpSteer2)

The k-th desirable response to a prompt is paired with its k-th undesirable one. Rated responses to
one prompt are paired by a rule (`pairing`). What is left over is rejected.
"""

import dataclasses
import json
from collections import deque
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from chesboard.formats.choices import as_number
from chesboard.formats.columns import SIDES, Columns, Unpaired
from chesboard.formats.context import COLUMNS, REFERENCES
from chesboard.formats.dialogues import UnusableError
from chesboard.formats.errors import FormatError
from chesboard.formats.known_forms import PROMPTS, folded_names, with_optional
from chesboard.formats.message_text import parse_messages
from chesboard.formats.pairing import Pairing, pairs_of
from chesboard.formats.reshaping import Reshaped
from chesboard.formats.rows import RowError, SourceRow, snippet_of

MAX_HELD_ROWS = 200_000
MAX_HELD_CHARACTERS = 1 << 28
RESPONSES = ("completion", "response", "output", "answer", "generation")
DIALOGUES = ("messages", "conversations")
LABELS = ("label", "kto_tag", "desirable", "is_desirable")
RATINGS = ("helpfulness", "overall_score", "score", "rating", "reward")
_TRUE = frozenset({"true", "1", "desirable", "good", "yes"})
_FALSE = frozenset({"false", "0", "undesirable", "bad", "no"})


def recognize_unpaired(cells: Mapping[str, Any]) -> Columns | None:
    """The roles of a row with a single response and what is said of it, if it is one."""
    folded = folded_names(cells)
    if folded is None:
        return None
    row = {name: cells[original] for name, original in folded.items()}
    label = next((name for name in LABELS if as_label(row.get(name)) is not None), None)
    rating = next((name for name in RATINGS if as_number(row.get(name)) is not None), None)
    if label is None and rating is None:
        return None
    prompt = next((name for name in PROMPTS if row.get(name) and name not in DIALOGUES), None)
    response = next((name for name in RESPONSES if row.get(name)), None) if prompt else None
    response = response or next((name for name in DIALOGUES if _is_dialogue(row.get(name))), None)
    if response is None:
        return None
    roles = Unpaired(response, label, None if label else rating)
    form = "kto" if label else "rated-rows"
    columns = Columns(prompt or "prompt", *SIDES, form=form, unpaired=roles)
    return with_optional(columns, set(row) - {response}).renamed(
        lambda known: folded.get(known, known)
    )


def _is_dialogue(value: Any) -> bool:
    messages = _messages(value)
    return isinstance(messages, list) and len(messages) > 1


def _messages(value: Any) -> Any:
    return parse_messages(value) if isinstance(value, str) else value


def as_label(value: Any) -> bool | None:
    """Whether a response is desirable; None for a value that is no label."""
    said = str(value).strip().casefold()
    if said in _TRUE:
        return True
    return False if said in _FALSE else None


def is_number_label(cells: Mapping[str, Any], name: str) -> bool:
    """Whether a column called `label` says 0 or 1, which may be of any two classes."""
    value = cells.get(name)
    is_number = not isinstance(value, bool) and str(value).strip() in ("0", "1")
    return is_number and name.casefold().strip() == "label"


class Unmatched:
    """The rows that wait for another response to their prompt.

    Raises (all methods):
        FormatError: more rows, or longer ones, than the memory should hold.
    """

    def __init__(self, columns: Columns, pairing: Pairing | None) -> None:
        assert columns.unpaired is not None
        self._columns = columns
        self._roles = columns.unpaired
        self._pairing = pairing or Pairing("best_worst")
        self._held: dict[bytes, deque[tuple[SourceRow, float]]] = {}
        self._rows = 0
        self._characters = 0

    def add(self, source: SourceRow) -> Iterator[Reshaped]:
        """The pair that the row completes, if any.

        Raises:
            UnusableError: the row lacks the response, or its label or rating.
        """
        value, key = self._value(source), self._key(source)
        waiting = self._held.setdefault(key, deque())
        if self._roles.label and waiting and waiting[0][1] != value:
            other, _ = waiting.popleft()
            self._count(other, -1)
            if not waiting:
                del self._held[key]
            yield self._pair(*((source, other) if value else (other, source)))
            return
        waiting.append((source, value))
        self._count(source, 1)

    def rest(self) -> Iterator[Reshaped | RowError]:
        """The pairs of the rated responses, and the rows that stay without a pair."""
        for waiting in self._held.values():
            if self._roles.label:
                yield from (self._left_over(source, value) for source, value in waiting)
            else:
                yield from self._of_rated(list(waiting))
        self._held.clear()

    def _value(self, source: SourceRow) -> float:
        cells = source.columns
        if cells.get(self._roles.response) is None:
            raise UnusableError(self._roles.response, "is missing", "missing")
        if self._roles.label:
            label = as_label(cells.get(self._roles.label))
            if label is None:
                raise UnusableError(self._roles.label, "must be true or false", "undecided")
            return float(label)
        rating = as_number(cells.get(self._roles.rating or ""))
        if rating is None:
            raise UnusableError(self._roles.rating, "must be a number", "undecided")
        return rating

    def _key(self, source: SourceRow) -> bytes:
        """A digest that is equal for rows of the same prompt and context."""
        told = self._roles.all()
        read = {*self._columns.all()} - {*told}
        # Also by context that is not read: two responses to other contexts make no pair.
        context = COLUMNS | REFERENCES
        cells = {
            name: cell
            for name, cell in source.columns.items()
            if name in read or (name not in told and name.casefold().strip() in context)
        }
        dialogue = _messages(source.columns.get(self._roles.response))
        before = dialogue[:-1] if isinstance(dialogue, list) else None
        text = json.dumps([cells, before], sort_keys=True, default=str)
        return blake2b(text.encode(), digest_size=16).digest()

    def _count(self, source: SourceRow, sign: int) -> None:
        self._rows += sign
        self._characters += sign * sum(map(_size, source.columns.values()))
        if self._rows > MAX_HELD_ROWS or self._characters > MAX_HELD_CHARACTERS:
            raise FormatError(
                f"The rows are unpaired, and {self._rows:,} of them wait for another response to "
                "their prompt: more than are kept in memory. Sort the file by prompt, or split it."
            )

    def _pair(self, ours: SourceRow, theirs: SourceRow) -> Reshaped:
        told = {name for name in (self._roles.response, self._roles.label) if name}
        kept = {name: cell for name, cell in ours.columns.items() if name not in told}
        sides = {
            self._columns.preferred: ours.columns[self._roles.response],
            self._columns.dispreferred: theirs.columns[self._roles.response],
            "dispreferred_row": theirs.row,
        }
        if self._roles.rating:
            del kept[self._roles.rating]
            sides["preferred_rating"] = ours.columns[self._roles.rating]
            sides["dispreferred_rating"] = theirs.columns[self._roles.rating]
        plain = dataclasses.replace(self._columns, unpaired=None)
        return Reshaped(SourceRow(ours.row, kept | sides), plain)

    def _of_rated(self, waiting: list[tuple[SourceRow, float]]) -> Iterator[Reshaped | RowError]:
        pairs = pairs_of([rating for _, rating in waiting], self._pairing)
        for ours, theirs in pairs:
            yield self._pair(waiting[ours][0], waiting[theirs][0])
        if not pairs:
            yield from (self._left_over(source, rating) for source, rating in waiting)

    def _left_over(self, source: SourceRow, value: float) -> RowError:
        if self._roles.label:
            other = "undesirable" if value else "desirable"
            message = f"has no {other} response to the same prompt left to be paired with"
        else:
            least = f" by {self._pairing.gap:g}" if self._pairing.gap is not None else ""
            message = (
                f"has no response to the same prompt whose {self._roles.rating} differs{least}"
            )
        field = self._roles.response
        return RowError(source.row, message, field, snippet_of(source, field), "unpaired")


def _size(value: Any) -> int:
    """About the characters of a cell, without formatting texts."""
    return len(value) if isinstance(value, str) else len(str(value))
