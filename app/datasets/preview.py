"""Preview of a file: recognized form, columns, first pairs and rejected rows; stores nothing."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

from app.core.errors import InvalidInputError
from app.core.text import clip_prompt, clip_text
from app.datasets.intake import Intake
from app.datasets.schemas import (
    ColumnPreview,
    PairingRule,
    PairPreview,
    Preview,
    RejectedRow,
)
from chesboard.formats.candidates import items_of
from chesboard.formats.columns import Columns
from chesboard.formats.errors import ErrorItem, FormatError
from chesboard.formats.guessing import guess, working_guess
from chesboard.formats.known_forms import FORMS_IN_WORDS
from chesboard.formats.mapping import as_mapping, parse_mapping
from chesboard.formats.pair_reader import TRIED_ROWS
from chesboard.formats.pairing import RULES, parse_pairing
from chesboard.formats.reading import Rows, open_rows
from chesboard.formats.rows import PairRow, RowError, SourceRow, snippet_of
from chesboard.formats.text import sanitize

ROWS = 500
"""Rows that are parsed for a preview."""
MAX_PAIRS = 20_000
"""Pairs that are made of them: a row may make thousands."""
PAIRS = 4
ERRORS = 10
MAX_COLUMNS = 60
SHOWN_CHARACTERS = 600
SHOWN_TURNS = 12
TOLERATED_REJECTED = 0.2


def preview_file(
    file: BinaryIO,
    filename: str,
    *,
    max_bytes: int,
    mapping: str | None,
    is_whole: bool,
    pairing: str | None = None,
    member: str | None = None,
) -> Preview:
    """Parse the first rows of a file, or (not `is_whole`) of its first part, whose last row may be
    incomplete.

    member: which table of an archive, see `open_rows`.

    Raises:
        FormatError: of no known kind, several tables and no `member`, a part of what is read as a
            whole only, such as Parquet, or `mapping` or `pairing` is invalid.
        InvalidInputError: no rows.
        FileTooLargeError: it decompresses to more than `max_bytes`.
    """
    columns, rule = parse_mapping(mapping), parse_pairing(pairing)
    opened = open_rows(file, filename, max_bytes, member=member, is_whole=is_whole)
    rows, is_all = _first_rows(opened.rows, is_whole=is_whole)
    if not rows:
        raise InvalidInputError("The file holds no rows.")
    needs_mapping = False
    intake = Intake(columns, pairing=rule)
    pairs = list(islice(intake.usable(iter(rows)), MAX_PAIRS))
    if intake.columns is None and (guessed := _guessed(rows)):
        intake = Intake(guessed, pairing=rule)
        pairs = list(islice(intake.usable(iter(rows)), MAX_PAIRS))
        needs_mapping = True
    reasons = [
        *opened.warnings,
        *_doubts(intake, pairs, is_guess=needs_mapping, is_all=is_all),
    ]
    form = intake.statistics.form() if pairs else None
    return Preview(
        kind=opened.kind,
        is_packed=opened.is_packed,
        member=opened.member,
        is_whole=is_all,
        format=form,
        form=FORMS_IN_WORDS.get(form, form) if form else None,
        confidence="none" if not pairs else "unsure" if reasons else "sure",
        reasons=reasons,
        notes=intake.notes,
        pairing=str(intake.pairing) if intake.pairing else None,
        pairings=_rules(intake),
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


def _guessed(rows: list[SourceRow | RowError]) -> Columns | None:
    """A guess that reads some row; else, to fill in the form, one that only the names suggest."""
    sources = [row for row in rows if isinstance(row, SourceRow)]
    return working_guess(_names(rows), sources[:TRIED_ROWS]) or guess(_names(rows))


def _names(rows: list[SourceRow | RowError]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        if isinstance(row, SourceRow):
            names.update(dict.fromkeys(row.columns))
    return list(names)[:MAX_COLUMNS]


def _rules(intake: Intake) -> list[PairingRule]:
    if intake.pairing is None:
        return []
    has_ratings = intake.columns is not None and bool(
        intake.columns.candidates or intake.columns.unpaired
    )
    return [
        PairingRule(rule=rule, label=words)
        for rule, words in RULES.items()
        if has_ratings or rule != "gap"
    ]


def _doubts(intake: Intake, pairs: list[PairRow], *, is_guess: bool, is_all: bool) -> Iterator[str]:
    if is_guess:
        yield "The columns match no known form; the mapping is guessed from their names."
    if not intake.found_columns:
        yield "None of the rows could be read."
    elif intake.columns is None:
        yield "The columns match no known form. Choose the role of each."
    elif intake.columns.unpaired and intake.reasons["unpaired"]:
        yield _without_counterpart(intake, is_all=is_all)
    elif not pairs:
        yield "No row could be parsed with this mapping."
    elif intake.rejected > TOLERATED_REJECTED * intake.rows:
        yield f"{intake.rejected:,} of {intake.rows:,} rows could not be parsed with this mapping."
    yield from intake.warnings
    if intake.statistics.forms.get("implicit"):
        yield "There is no prompt column: the common beginning of both responses is the prompt."
    if len(intake.statistics.forms) > 1:
        words = ", ".join(FORMS_IN_WORDS.get(form, form) for form in intake.statistics.forms)
        yield f"The rows are of several forms: {words}."


def _without_counterpart(intake: Intake, *, is_all: bool) -> str:
    rows = intake.reasons["unpaired"]
    which = "1 row has" if rows == 1 else f"{rows:,} rows have"
    where = "" if is_all else " among the rows looked at; the rest of the file may hold them"
    return f"{which} no counterpart with the same prompt to make a pair{where}."


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
                fields=_fields(first.columns[name]) if first else [],
            )
        )
    return found


def _fields(value: Any) -> list[str]:
    """The names of the fields of the objects in a list, other than messages."""
    items = items_of(value)
    if not items or not isinstance(items[0], dict) or _noun(items) == "messages":
        return []
    return [sanitize(name) for name in list(items[0])[:MAX_COLUMNS]]


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
        prompt=clip_prompt(pair.prompt, SHOWN_CHARACTERS, SHOWN_TURNS),
        preferred=clip_text(pair.preferred, SHOWN_CHARACTERS),
        dispreferred=clip_text(pair.dispreferred, SHOWN_CHARACTERS),
    )
