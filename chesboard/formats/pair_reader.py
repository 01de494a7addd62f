"""The pairs of a file: which rows are pairs, which are rejected and why, and a count of both."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator

from chesboard.formats.columns import Columns
from chesboard.formats.context import unread_context
from chesboard.formats.conversion import Conversion
from chesboard.formats.dialogues import UnusableError
from chesboard.formats.errors import ErrorItem, FormatError
from chesboard.formats.explaining import explain_unknown, explain_unpaired
from chesboard.formats.forms import parse_row
from chesboard.formats.guessing import nearest
from chesboard.formats.known_forms import extend
from chesboard.formats.pairing import Pairing
from chesboard.formats.recognition import recognize_row
from chesboard.formats.remarks import Remark, warning
from chesboard.formats.reshaping import Reshaped, reshape
from chesboard.formats.rows import PairRow, RowError, SourceRow, shortened, snippet_of
from chesboard.formats.unpaired import Unmatched

MAX_ERRORS = 100
"""How many rejected rows an error lists; all of them are counted."""
MAX_REJECTIONS = 10_000
"""How many rejected rows are kept."""
MAX_COLUMNS = 200
MAX_WARNINGS = 20
NAMED_COLUMNS = 50
TRIED_ROWS = 5
"""Rows of no known form that are kept, to try out the mapping that an error suggests."""


class PairReader:
    """Turns the rows of one file into pairs and counts what was usable and what was not.

    A row may make several pairs, by `pairing`, and a pair may be made of two rows.

    columns: from a mapping; None: the first row whose columns make up a known form decides for
        the whole file, and later rows may add the optional columns of that form.
    pairing: how rows that hold several responses make pairs; None: the default of their form.
    """

    def __init__(self, columns: Columns | None = None, pairing: Pairing | None = None) -> None:
        self.columns = columns
        self.is_mapped = columns is not None
        self.rows = 0
        self.pairs = 0
        self.rejected = 0
        self.rejections: list[RowError] = []
        self.reasons: Counter[str] = Counter()
        self._asked = pairing
        self._conversion = Conversion(pairing)
        self._unmatched: Unmatched | None = None
        self._tried: list[SourceRow] = []
        self._found: dict[str, None] = {}  # a set that keeps the order
        self._remarks: Counter[Remark] = Counter()
        self._remarks_of_row: set[Remark] = set()
        self._first_rows: dict[Remark, int] = {}

    @property
    def found_columns(self) -> list[str]:
        """The names of the columns, in the order in which rows brought them, at most 200."""
        return list(self._found)

    @property
    def warnings(self) -> list[str]:
        """What is not read, is mended or is uncertain about the prompts, and doubts about what is
        preferred: a sentence each."""
        remarks = [
            warning(remark, rows, self._first_rows[remark])
            for remark, rows in self._remarks.most_common(MAX_WARNINGS)
        ]
        return [*remarks, *self._conversion.warnings(self.columns)]

    @property
    def notes(self) -> list[str]:
        """How rows became pairs, a sentence each; nothing where each row is a pair by itself."""
        return self._conversion.notes(self.columns)

    @property
    def pairing(self) -> Pairing | None:
        """The rule by which rows with several responses became pairs; None without such rows."""
        return self._conversion.pairing

    @property
    def errors(self) -> list[ErrorItem]:
        """The first rejected rows."""
        return [error.as_item() for error in self.rejections[:MAX_ERRORS]]

    def read(self, rows: Iterable[SourceRow | RowError]) -> Iterator[PairRow | RowError]:
        """The pairs of each row, or why it has none, in the file's order.

        Rows with a single response come where the row that completes their pair stands, those
        without a pair last.

        Raises:
            FormatError: too many rows with a single response wait for another.
        """
        for source in rows:
            self.rows += 1
            for row in self._of_row(source) if isinstance(source, SourceRow) else (source,):
                self._count(row)
                yield row
        for row in self._of_unmatched():
            self._count(row)
            yield row

    def _count(self, row: PairRow | RowError) -> None:
        if isinstance(row, RowError):
            self._reject(row)
        else:
            self.pairs += 1

    def _of_row(self, source: SourceRow) -> Iterable[PairRow | RowError]:
        columns = self._columns_for(source)
        if columns is None:
            return (self._of_no_form(source),)
        found = list(self._pairs_of(source, columns))
        if columns.unpaired is None and all(isinstance(row, RowError) for row in found):
            # A row that no pair could be made of is one rejected row, however many were tried.
            return found[:1]
        return found

    def _pairs_of(self, source: SourceRow, columns: Columns) -> Iterator[PairRow | RowError]:
        is_first = True
        try:
            for reshaped in self._reshape(source, columns):
                row = self._parse(reshaped, columns, is_first=is_first)
                if is_first and isinstance(row, PairRow):
                    is_first = False
                    self._conversion.see_row(source, columns)
                yield row
        except UnusableError as error:
            snippet = snippet_of(source, error.field)
            yield RowError(source.row, error.message, error.field, snippet, error.reason)

    def _reshape(self, source: SourceRow, columns: Columns) -> Iterator[Reshaped]:
        if columns.unpaired is None:
            return reshape(source, columns, self._asked)
        if self._unmatched is None:
            self._unmatched = Unmatched(columns, self._asked)
        return self._unmatched.add(source)

    def _of_unmatched(self) -> Iterator[PairRow | RowError]:
        for row in self._unmatched.rest() if self._unmatched else ():
            if isinstance(row, Reshaped) and self.columns:
                yield self._parse(row, self.columns, is_first=True)
            elif isinstance(row, RowError):
                yield row

    def _parse(self, of: Reshaped, columns: Columns, *, is_first: bool) -> PairRow | RowError:
        row = parse_row(of.row, of.columns)
        if isinstance(row, RowError):
            sides = (columns.preferred, columns.dispreferred)
            if row.field in sides and (columns.candidates or columns.unpaired):
                return dataclasses.replace(row, field=columns.responses()[0])
            return row
        self._conversion.see_pair(of, columns, is_first=is_first)
        self._see_context(of, row, is_first=is_first)
        if of.is_reshaped:
            return dataclasses.replace(row, source={**_own(row.source), "reshaped": True})
        return row

    def _columns_for(self, source: SourceRow) -> Columns | None:
        has_new_columns = self._see_columns(source.columns)
        is_first = self.columns is None
        if self.columns is None:
            self.columns = recognize_row(source.columns)
        if self.columns is not None and not self.is_mapped and (is_first or has_new_columns):
            # Also by what rows before the first of this form had.
            self.columns = extend(self.columns, self._found)
        return self.columns

    def _of_no_form(self, source: SourceRow) -> RowError:
        if len(self._tried) < TRIED_ROWS:
            self._tried.append(source)
        near = nearest(source.columns)
        if near is None or not near.missing:
            message = "the columns make up no known form"
            return RowError(source.row, message, None, snippet_of(source), "missing")
        return RowError(source.row, "is missing", near.missing[0], snippet_of(source), "missing")

    def _see_columns(self, columns: Iterable[str]) -> bool:
        """Remember the names; whether the row brings one that no earlier row had."""
        new = [name for name in columns if name not in self._found]
        for name in new:
            # A file in which every row has other keys must not fill the memory.
            if len(self._found) < MAX_COLUMNS:
                self._found[shortened(name)] = None
        return bool(new)

    def _see_context(self, of: Reshaped, pair: PairRow, *, is_first: bool) -> None:
        """Count the remarks on a pair and what it does not have of its row, once for all pairs of
        the row."""
        if is_first:
            self._remarks_of_row.clear()
        remarks = {*pair.remarks, *unread_context(of.row.columns, of.columns, pair)}
        for remark in remarks - self._remarks_of_row:
            self._remarks_of_row.add(remark)
            self._remarks[remark] += 1
            self._first_rows.setdefault(remark, of.row.row)

    def _reject(self, error: RowError) -> None:
        self.rejected += 1
        self.reasons[error.reason] += 1
        if len(self.rejections) < MAX_REJECTIONS:
            self.rejections.append(error)

    def why_nothing_is_usable(self, consequence: str = "") -> FormatError:
        """The error for a file without a single pair: no rows, unknown columns, or all rejected.

        consequence: a sentence on what follows for the caller where all rows were rejected.
        """
        if self.rejected == 0:
            return FormatError("The file holds no rows.")
        found = self.found_columns[:NAMED_COLUMNS]
        mapped = set(self.columns.all()) if self.is_mapped and self.columns else set()
        if found and (self.columns is None or (mapped and not mapped & set(found))):
            return FormatError(explain_unknown(found, self._tried), self.errors)
        if self.columns and self.columns.unpaired and self.reasons["unpaired"]:
            return FormatError(explain_unpaired(self.columns.unpaired), self.errors)
        message = f"None of the rows can be used ({self.rejected:,} were rejected). {consequence}"
        return FormatError(message.strip(), self.errors)


def _own(source: dict[str, object] | None) -> dict[str, object]:
    """Of what restores a row, its own column `row`, which its pair keeps beside it."""
    return {name: value for name, value in (source or {}).items() if name == "row"}
