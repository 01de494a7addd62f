"""Preview of a file: recognized form, columns, first pairs and rejected rows; stores nothing."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

from app.core.errors import InvalidInputError
from app.datasets.intake import Intake
from app.datasets.schemas import ColumnPreview, PairPreview, Preview, RejectedRow
from chesboard.formats.columns import FORMS_IN_WORDS, Columns, as_mapping, guess, parse_mapping
from chesboard.formats.errors import ErrorItem, FormatError
from chesboard.formats.reading import Rows, open_rows
from chesboard.formats.rows import PairRow, RowError, SourceRow, snippet_of
from chesboard.formats.text import sanitize
from chesboard.pairs import Prompt

ROWS = 500
"""Rows that are parsed for a preview."""
PAIRS = 4
ERRORS = 10
MAX_COLUMNS = 60
SHOWN_CHARACTERS = 600
SHOWN_TURNS = 12
TOLERATED_REJECTED = 0.2


def preview_file(
    file: BinaryIO, filename: str, *, max_bytes: int, mapping: str | None, is_whole: bool
) -> Preview:
    """Parse the first rows of a file, or (not `is_whole`) of its first part, whose last row may be
    incomplete.

    Raises:
        FormatError: of no known kind, or `mapping` is invalid.
        InvalidInputError: no rows, or a part of a Parquet file.
        FileTooLargeError: it decompresses to more than `max_bytes`.
    """
    columns = parse_mapping(mapping)
    if not is_whole and file.read(4) == b"PAR1":
        raise InvalidInputError(
            "A Parquet file has its schema at its end, so a part of it cannot be previewed."
        )
    file.seek(0)
    opened = open_rows(file, filename, max_bytes)
    rows, is_all = _first_rows(opened.rows, is_whole=is_whole)
    if not rows:
        raise InvalidInputError("The file holds no rows.")
    needs_mapping = False
    intake = Intake(columns)
    pairs = list(intake.usable(iter(rows)))
    if intake.columns is None and (guessed := guess(_names(rows))):
        intake = Intake(guessed)
        pairs = list(intake.usable(iter(rows)))
        needs_mapping = True
    reasons = list(_doubts(intake, pairs, is_guess=needs_mapping))
    form = intake.statistics.form() if pairs else None
    return Preview(
        kind=opened.kind,
        is_packed=opened.is_packed,
        is_whole=is_all,
        format=form,
        form=FORMS_IN_WORDS.get(form, form) if form else None,
        confidence="none" if not pairs else "unsure" if reasons else "sure",
        reasons=reasons,
        columns=_columns(rows, intake.columns),
        mapping=_mapping(intake.columns),
        needs_mapping=needs_mapping or columns is not None,
        rows=len(rows),
        usable=len(pairs),
        rejected=intake.rejected,
        errors=[_rejected(item) for item in intake.errors[:ERRORS]],
        pairs=[_shown(pair) for pair in pairs[:PAIRS]],
    )


def _first_rows(found: Rows, *, is_whole: bool) -> tuple[list[SourceRow | RowError], bool]:
    """(rows, whether the file has no others)."""
    rows: list[SourceRow | RowError] = []
    try:
        # One by one, to keep the rows before an incomplete end.
        for row in islice(found, ROWS):
            rows.append(row)
    except FormatError:
        if is_whole or not rows:
            raise
        return rows, False
    if len(rows) == ROWS:
        return rows, next(found, None) is None if is_whole else False
    if not is_whole and len(rows) > 1:
        rows.pop()  # most likely incomplete
    return rows, is_whole


def _names(rows: list[SourceRow | RowError]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        if isinstance(row, SourceRow):
            names.update(dict.fromkeys(row.columns))
    return list(names)[:MAX_COLUMNS]


def _doubts(intake: Intake, pairs: list[PairRow], *, is_guess: bool) -> Iterator[str]:
    seen = len(pairs) + intake.rejected
    if is_guess:
        yield "The columns match no known form; the mapping is guessed from their names."
    if not intake.found_columns:
        yield "None of the rows could be read."
    elif intake.columns is None:
        yield "The columns match no known form. Choose the role of each."
    elif not pairs:
        yield "No row could be parsed with this mapping."
    elif intake.rejected > TOLERATED_REJECTED * seen:
        yield f"{intake.rejected:,} of {seen:,} rows could not be parsed with this mapping."
    yield from intake.warnings
    if intake.statistics.forms.get("implicit"):
        yield "There is no prompt column: the common beginning of both responses is the prompt."
    if len(intake.statistics.forms) > 1:
        words = ", ".join(FORMS_IN_WORDS.get(form, form) for form in intake.statistics.forms)
        yield f"The rows are of several forms: {words}."


def _mapping(columns: Columns | None) -> dict[str, str] | None:
    return as_mapping(columns) if columns else None


def _columns(rows: list[SourceRow | RowError], columns: Columns | None) -> list[ColumnPreview]:
    sources = [row for row in rows if isinstance(row, SourceRow)]
    roles = columns.roles() if columns else {}
    found = []
    for name in _names(rows):
        having = [row for row in sources if row.columns.get(name) not in (None, "")]
        first = having[0] if having else None
        found.append(
            ColumnPreview(
                name=sanitize(name),
                holds=_noun(first.columns[name] if first else None),
                example=sanitize(snippet_of(first, name) or "") if first else "",
                role=roles.get(name),
            )
        )
    return found


def _noun(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case str():
            return "text"
        case bool():
            return "truth value"
        case int() | float():
            return "number"
        case [{"role": _}, *_] | [{"from": _}, *_]:
            return "messages"
        case list():
            return "list"
    return "object"


def _rejected(item: ErrorItem) -> RejectedRow:
    return RejectedRow.model_validate(item)


def _shown(pair: PairRow) -> PairPreview:
    return PairPreview(
        row=pair.row,
        prompt=clip_prompt(pair.prompt[:SHOWN_TURNS], SHOWN_CHARACTERS)
        if isinstance(pair.prompt, list)
        else clip_text(pair.prompt, SHOWN_CHARACTERS),
        preferred=clip_text(pair.preferred, SHOWN_CHARACTERS),
        dispreferred=clip_text(pair.dispreferred, SHOWN_CHARACTERS),
    )


def clip_text(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"


def clip_prompt(prompt: Prompt, characters: int) -> Prompt:
    """The prompt with each text cut."""
    if isinstance(prompt, str):
        return clip_text(prompt, characters)
    return [{**turn, "content": clip_text(turn["content"], characters)} for turn in prompt]
