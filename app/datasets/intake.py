"""What a file's rows turn out to be: pairs, or rejected rows with reasons. Keeps the account."""

from collections import Counter
from collections.abc import Iterator

from app.core.errors import ErrorItem, InvalidInputError
from app.datasets.progress import Progress
from app.datasets.statistics import Statistics
from chesboard.formats.columns import KNOWN, Columns, guess, nearest, recognize
from chesboard.formats.forms import parse_row
from chesboard.formats.rows import PairRow, RowError, SourceRow, snippet_of

MAX_ERRORS = 100
"""How many rejected rows an answer lists; all of them are counted."""
MAX_REJECTIONS = 10_000
"""How many can be listed afterwards."""
NAMED_COLUMNS = 50
PROGRESS_ROWS = 64


class Intake:
    """Turns a file's rows into pairs, and keeps account of what was and was not usable."""

    def __init__(self, columns: Columns | None, progress: Progress | None = None) -> None:
        self.columns = columns
        self.is_mapped = columns is not None
        self.pairs = 0
        self.rejected = 0
        self.rejections: list[RowError] = []
        self.reasons: Counter[str] = Counter()
        self.statistics = Statistics()
        self._progress = progress or Progress()

    @property
    def errors(self) -> list[ErrorItem]:
        """The first rejected rows."""
        return [error.as_item() for error in self.rejections[:MAX_ERRORS]]

    def usable(self, rows: Iterator[SourceRow | RowError]) -> Iterator[PairRow]:
        for source in rows:
            row = self._understand(source) if isinstance(source, SourceRow) else source
            if (self.pairs + self.rejected) % PROGRESS_ROWS == 0:
                self._tell()
            if isinstance(row, RowError):
                self._reject(row)
            else:
                self.pairs += 1
                self.statistics.see_pair(row, self.pairs - 1)
                yield row
        self._tell()

    def _tell(self) -> None:
        self._progress.check()
        self._progress.pairs, self._progress.rejected = self.pairs, self.rejected

    def _understand(self, source: SourceRow) -> PairRow | RowError:
        self.statistics.see_columns(source.columns)
        if self.columns is None:
            # The first row whose columns make up a known form decides for the whole file.
            self.columns = recognize(source.columns)
        if self.columns is not None:
            return parse_row(source, self.columns)
        near = nearest(source.columns)
        if near is None:
            message = "the columns make up no known form"
            return RowError(source.row, message, None, snippet_of(source), "missing")
        missing = [name for name in near.needed() if name not in source.columns]
        return RowError(source.row, "is missing", missing[0], snippet_of(source), "missing")

    def _reject(self, error: RowError) -> None:
        self.rejected += 1
        self.reasons[error.reason] += 1
        if len(self.rejections) < MAX_REJECTIONS:
            self.rejections.append(error)

    def why_nothing_is_usable(self) -> InvalidInputError:
        if self.rejected == 0:
            return InvalidInputError("The file holds no rows.")
        found = self.statistics.columns[:NAMED_COLUMNS]
        mapped = set(self.columns.all()) if self.is_mapped and self.columns else set()
        if found and (self.columns is None or (mapped and not mapped & set(found))):
            return InvalidInputError(
                f"The columns found are {', '.join(found)}. The forms known are {KNOWN}. Where "
                f"columns are called something else, say which holds what with `mapping`: "
                f"{self._suggested_mapping()}.",
                self.errors,
            )
        return InvalidInputError(
            f"None of the rows can be used ({self.rejected:,} were rejected). Nothing was stored.",
            self.errors,
        )

    def _suggested_mapping(self) -> str:
        guessed = guess(self.statistics.columns)
        if guessed is None:
            return '{"prompt": …, "preferred": …, "dispreferred": …}'
        return (
            f'{{"prompt": "{guessed.prompt}", "preferred": "{guessed.preferred}", '
            f'"dispreferred": "{guessed.dispreferred}"}}, for example'
        )
