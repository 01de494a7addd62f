"""JSON objects that name a key twice. Parsers keep the last value and say nothing."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from chesboard.formats.rows import shortened
from chesboard.formats.wording import in_rows

MAX_KEYS = 20
"""How many such keys are told; a file may have others in every row."""


class RepeatedKeys:
    """Counts the rows of a file in which an object names a key twice, by the key.

    decoder: parses JSON as the standard one does, and notes such keys until `see_row` or `forget`.
    """

    def __init__(self) -> None:
        self.decoder = json.JSONDecoder(object_pairs_hook=self._keep_last)
        self._noted: set[str] = set()
        self._rows: Counter[str] = Counter()
        self._first: dict[str, int] = {}

    def _keep_last(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = Counter(name for name, _ in pairs)
            self._noted.update(name for name, times in names.items() if times > 1)
        return found

    def see_row(self, row: int) -> None:
        """What was noted belongs to this row; a file that is one object has the row 1."""
        for name in sorted(self._noted):
            if name in self._rows or len(self._rows) < MAX_KEYS:
                self._rows[name] += 1
                self._first.setdefault(name, row)
        self.forget()

    def forget(self) -> None:
        """What was noted will be parsed again."""
        self._noted.clear()

    def sentences(self) -> Iterator[str]:
        for name, rows in self._rows.items():
            where = in_rows(rows, self._first[name])
            yield (
                f"An object names the key `{shortened(name)}` twice ({where}): only its last value "
                "is read. Give each value a key of its own."
            )
