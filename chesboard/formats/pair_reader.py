"""The pairs of a file: which rows are pairs, which are rejected and why, and a count of both."""

from collections import Counter
from collections.abc import Iterable, Iterator

from chesboard.formats.columns import KNOWN, Columns, extend, guess, nearest, recognize
from chesboard.formats.context import Unread, unread_context, warning
from chesboard.formats.errors import ErrorItem, FormatError
from chesboard.formats.forms import parse_row
from chesboard.formats.rows import PairRow, RowError, SourceRow, shortened, snippet_of

MAX_ERRORS = 100
"""How many rejected rows an error lists; all of them are counted."""
MAX_REJECTIONS = 10_000
"""How many rejected rows are kept."""
MAX_COLUMNS = 200
MAX_WARNINGS = 20
NAMED_COLUMNS = 50


class PairReader:
    """Turns the rows of one file into pairs and counts what was usable and what was not.

    columns: from a mapping; None: the first row whose columns make up a known form decides for
        the whole file, and later rows may add the optional columns of that form.
    """

    def __init__(self, columns: Columns | None = None) -> None:
        self.columns = columns
        self.is_mapped = columns is not None
        self.pairs = 0
        self.rejected = 0
        self.rejections: list[RowError] = []
        self.reasons: Counter[str] = Counter()
        self._found: dict[str, None] = {}  # a set that keeps the order
        self._unread: Counter[Unread] = Counter()
        self._first_unread: dict[Unread, int] = {}

    @property
    def found_columns(self) -> list[str]:
        """The names of the columns, in the order in which rows brought them, at most 200."""
        return list(self._found)

    @property
    def warnings(self) -> list[str]:
        """What looks like part of the prompts but is not read, a sentence each."""
        return [
            warning(unread, rows, self._first_unread[unread])
            for unread, rows in self._unread.most_common(MAX_WARNINGS)
        ]

    @property
    def errors(self) -> list[ErrorItem]:
        """The first rejected rows."""
        return [error.as_item() for error in self.rejections[:MAX_ERRORS]]

    def read(self, rows: Iterable[SourceRow | RowError]) -> Iterator[PairRow | RowError]:
        """The pair of each row, or why it has none, in the file's order."""
        for source in rows:
            row = self._parse(source) if isinstance(source, SourceRow) else source
            if isinstance(row, RowError):
                self._reject(row)
            else:
                self.pairs += 1
                if isinstance(source, SourceRow) and self.columns is not None:
                    self._see_context(source, self.columns, row)
            yield row

    def _parse(self, source: SourceRow) -> PairRow | RowError:
        has_new_columns = self._see_columns(source.columns)
        is_first = self.columns is None
        if self.columns is None:
            self.columns = recognize(source.columns)
        if self.columns is not None and not self.is_mapped and (is_first or has_new_columns):
            # Also by what rows before the first of this form had.
            self.columns = extend(self.columns, self._found)
        if self.columns is not None:
            return parse_row(source, self.columns)
        near = nearest(source.columns)
        if near is None:
            message = "the columns make up no known form"
            return RowError(source.row, message, None, snippet_of(source), "missing")
        missing = [name for name in near.needed() if name not in source.columns]
        return RowError(source.row, "is missing", missing[0], snippet_of(source), "missing")

    def _see_columns(self, columns: Iterable[str]) -> bool:
        """Remember the names; whether the row brings one that no earlier row had."""
        new = [name for name in columns if name not in self._found]
        for name in new:
            # A file in which every row has other keys must not fill the memory.
            if len(self._found) < MAX_COLUMNS:
                self._found[shortened(name)] = None
        return bool(new)

    def _see_context(self, source: SourceRow, columns: Columns, pair: PairRow) -> None:
        for unread in unread_context(source.columns, columns, pair):
            self._unread[unread] += 1
            self._first_unread.setdefault(unread, source.row)

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
            return FormatError(
                f"The columns found are {', '.join(found)}. The forms known are {KNOWN}. Where "
                f"columns are called something else, say which holds what with `mapping`: "
                f"{self._suggested_mapping()}.",
                self.errors,
            )
        message = f"None of the rows can be used ({self.rejected:,} were rejected). {consequence}"
        return FormatError(message.strip(), self.errors)

    def _suggested_mapping(self) -> str:
        guessed = guess(self.found_columns)
        if guessed is None:
            return '{"prompt": …, "preferred": …, "dispreferred": …}'
        return (
            f'{{"prompt": "{guessed.prompt}", "preferred": "{guessed.preferred}", '
            f'"dispreferred": "{guessed.dispreferred}"}}, for example'
        )
