"""The pairs of an upload while they are stored, with statistics and progress."""

from collections.abc import Iterable, Iterator

from app.core.errors import TooLargeError
from app.core.settings import get_settings
from app.datasets.progress import Progress
from app.datasets.statistics import Statistics
from chesboard.formats.columns import Columns
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.pairing import Pairing
from chesboard.formats.rows import PairRow, RowError, SourceRow

PROGRESS_ROWS = 64


class Intake(PairReader):
    """Reads the rows of an upload, describes its pairs and reports its progress."""

    def __init__(
        self,
        columns: Columns | None,
        progress: Progress | None = None,
        *,
        pairing: Pairing | None = None,
    ) -> None:
        super().__init__(columns, pairing)
        self.statistics = Statistics()
        self._progress = progress or Progress()

    def usable(self, rows: Iterable[SourceRow | RowError]) -> Iterator[PairRow]:
        """The pairs, in the file's order.

        Raises:
            UploadCancelledError: by the client.
            TooLargeError: more pairs than the settings allow, or as many rows without one.
        """
        most = get_settings().max_pairs
        for number, row in enumerate(self.read(rows)):
            if number % PROGRESS_ROWS == 0:
                self._report()
            if self.pairs > most:
                raise TooLargeError(
                    f"The file makes more than {most:,} pairs, which is what this server accepts "
                    "(CHESBOARD_MAX_PAIRS). Nothing was stored."
                )
            if self.rejected > most:
                raise TooLargeError(
                    f"More than {most:,} rows of the file make no pair, and this server accepts so "
                    "many rows (CHESBOARD_MAX_PAIRS). Nothing was stored. The first: "
                    f"{self.rejections[0].message}."
                )
            if isinstance(row, PairRow):
                self.statistics.see_pair(row)
                yield row
        self._report()

    def _report(self) -> None:
        self._progress.check()
        self._progress.pairs, self._progress.rejected = self.pairs, self.rejected
