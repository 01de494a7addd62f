"""Rows of other shapes as rows of one pair each, which `chesboard.formats.forms` parses.

a list of candidates         -> a row for each pair that the rule makes
several rejected responses   -> a row for each
turns in lists (Arena)       -> two whole dialogues
a prompt inside an object    -> the text at the path
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from chesboard.formats.candidates import Candidate, items_of, look_up, read_candidates
from chesboard.formats.columns import Columns
from chesboard.formats.dialogues import UnusableError
from chesboard.formats.pairing import Pairing, pairs_of
from chesboard.formats.rows import SourceRow

MAX_PAIRS_OF_ROW = 10_000
"""A row that would make more pairs is rejected: the rule was hardly meant for it."""

Cells = dict[str, Any]


class Reshaped(NamedTuple):
    """A row of one pair, and the roles of its columns. candidates: how many its row holds."""

    row: SourceRow
    columns: Columns
    candidates: int = 2
    unrated: int = 0
    is_reshaped: bool = True


def reshape(source: SourceRow, columns: Columns, pairing: Pairing | None) -> Iterator[Reshaped]:
    """The row as it is, or the rows of one pair each that it stands for.

    pairing: None: the default of the row's form.

    Raises:
        UnusableError: it holds several responses of which none is preferred.
    """
    is_changed = "." in columns.prompt and columns.prompt not in source.columns
    if is_changed:
        prompt = look_up(source.columns, columns.prompt)
        source = SourceRow(source.row, source.columns | {columns.prompt: prompt})
    cells = source.columns
    if columns.candidates:
        yield from _of_candidates(source.row, cells, columns, pairing or Pairing("best_worst"))
    elif _has_several(cells, columns):
        yield from _of_several(source.row, cells, columns, pairing or Pairing("all"))
    elif columns.form == "arena" and (turns := _dialogues(cells, columns)):
        yield Reshaped(SourceRow(source.row, turns), columns)
    else:
        yield Reshaped(source, columns, is_reshaped=is_changed)


def _of_candidates(
    row: int, cells: Cells, columns: Columns, pairing: Pairing
) -> Iterator[Reshaped]:
    spec = columns.candidates
    assert spec is not None
    found = read_candidates(cells, spec)
    if pairing.gap is not None and not spec.ratings:
        raise _without_ratings(spec.column)
    rated = [candidate for candidate in found if candidate.rating is not None]
    if len(rated) < 2:
        raise UnusableError(
            spec.column,
            f"holds {len(found)} responses, {len(rated)} of them with a rating: two are needed",
            "undecided",
        )
    name = None
    if spec.ratings:
        name = "rank" if spec.lower_is_better else "rating"
    beside = cells.keys() - {
        other for other in spec.all() if other in (spec.column, spec.best) or _is_list(cells, other)
    }
    kept = {other: cells[other] for other in cells if other in beside}
    plain = dataclasses.replace(columns, candidates=None)
    for ours, theirs in _pairs(rated, pairing, spec.column):
        told = _told("preferred", ours, name) | _told("dispreferred", theirs, name)
        pair = kept | told | _sides(columns, ours, theirs)
        yield Reshaped(SourceRow(row, pair), plain, len(found), len(found) - len(rated))


def _sides(columns: Columns, ours: Candidate, theirs: Candidate) -> Cells:
    return {columns.preferred: ours.response, columns.dispreferred: theirs.response}


def _told(side: str, candidate: Candidate, rating: str | None) -> Cells:
    """What a pair keeps of a candidate besides its text: its rating or rank, and its model."""
    told: Cells = {}
    if rating and candidate.rating is not None:
        told[f"{side}_{rating}"] = -candidate.rating if rating == "rank" else candidate.rating
    if candidate.model is not None:
        told[f"{side}_model"] = candidate.model
    return told


def _without_ratings(field: str) -> UnusableError:
    return UnusableError(field, "has no ratings, which the rule gap needs", "undecided")


def _is_list(cells: Cells, name: str) -> bool:
    return items_of(cells.get(name)) is not None


def _pairs(
    found: list[Candidate], pairing: Pairing, field: str
) -> Iterator[tuple[Candidate, Candidate]]:
    """(preferred, dispreferred) of each pair.

    Raises:
        UnusableError: the ratings are all the same, or there are too many pairs.
    """
    pairs = pairs_of([candidate.rating or 0.0 for candidate in found], pairing)
    if not pairs:
        least = f" by at least {pairing.gap:g}" if pairing.gap is not None else ""
        raise UnusableError(
            field, f"holds no two responses whose ratings differ{least}", "undecided"
        )
    if len(pairs) > MAX_PAIRS_OF_ROW:
        raise UnusableError(
            field, f"would make {len(pairs):,} pairs; a row may make {MAX_PAIRS_OF_ROW:,}"
        )
    yield from ((found[ours], found[theirs]) for ours, theirs in pairs)


def _has_several(cells: Mapping[str, Any], columns: Columns) -> bool:
    """Whether a side has more than one response: more columns, or a list of them in its column."""
    ours, theirs = cells.get(columns.preferred), cells.get(columns.dispreferred)
    if columns.persona or not (columns.others or _responses(ours) or _responses(theirs)):
        return False
    return not columns.verdicts()


def _responses(value: Any) -> list[Any] | None:
    """A list of texts, or of lists of messages; None for anything else."""
    if isinstance(value, str):
        value = items_of(value) if value.startswith(("[[", '["', "['")) else None
    if not isinstance(value, list) or not value:
        return None
    texts = all(isinstance(item, str) for item in value)
    return value if texts or all(isinstance(item, list) for item in value) else None


def _of_several(row: int, cells: Cells, columns: Columns, pairing: Pairing) -> Iterator[Reshaped]:
    if pairing.gap is not None:
        raise _without_ratings(columns.dispreferred)
    preferred = _all_of(cells.get(columns.preferred))
    names = (columns.dispreferred, *columns.others)
    dispreferred = [item for name in names for item in _all_of(cells.get(name))]
    found = [Candidate(item, 1.0, None) for item in preferred]
    found += [Candidate(item, 0.0, None) for item in dispreferred]
    if not preferred or not dispreferred:
        missing = columns.dispreferred if preferred else columns.preferred
        raise UnusableError(missing, "is missing", "missing")
    kept = {name: value for name, value in cells.items() if name not in columns.others}
    plain = dataclasses.replace(columns, others=())
    for ours, theirs in _pairs(found, pairing, columns.dispreferred):
        pair = kept | _sides(columns, ours, theirs)
        yield Reshaped(SourceRow(row, pair), plain, len(found))


def _all_of(value: Any) -> list[Any]:
    """The responses in a cell; none where it is empty."""
    responses = _responses(value)
    if responses is not None:
        return responses
    return [] if value in (None, "", []) else [value]


def _dialogues(cells: Cells, columns: Columns) -> Cells | None:
    """Two whole dialogues, where prompt and responses are lists of the turns' texts."""
    names = (columns.prompt, columns.preferred, columns.dispreferred)
    prompts, ours, theirs = (items_of(cells.get(name)) for name in names)
    if not (_are_texts(prompts) and ours and theirs and prompts):
        return None
    if not len(prompts) == len(ours) == len(theirs):
        raise UnusableError(
            columns.preferred, "has another number of turns than the prompt or the other response"
        )
    sides = {
        columns.preferred: _turns(prompts, ours),
        columns.dispreferred: _turns(prompts, theirs),
    }
    return {name: cell for name, cell in cells.items() if name != columns.prompt} | sides


def _are_texts(items: list[Any] | None) -> bool:
    return all(isinstance(item, str) for item in items or ())


def _turns(prompts: list[str], responses: list[Any]) -> list[dict[str, Any]]:
    return [
        turn
        for said, answered in zip(prompts, responses, strict=True)
        for turn in (
            {"role": "user", "content": said},
            {"role": "assistant", "content": answered},
        )
    ]
