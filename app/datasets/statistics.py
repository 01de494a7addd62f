"""What a dataset looks like: lengths in characters, duplicates, columns. Kept in one pass."""

import json
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any

from app.datasets.forms import FORMS_IN_WORDS
from app.datasets.rows import PairRow, Prompt, presentable

QUANTILES = {
    "min": 0.0,
    "p5": 0.05,
    "p25": 0.25,
    "median": 0.5,
    "p75": 0.75,
    "p95": 0.95,
    "max": 1.0,
}
HISTOGRAM_BINS = 20
MAX_COLUMNS = 200


class Statistics:
    """Collects, pair by pair, what `Dataset.statistics` holds. About 40 bytes a pair."""

    def __init__(self) -> None:
        self.forms: Counter[str] = Counter()
        self._columns: dict[str, None] = {}  # a set that keeps the order
        self._lengths = {name: array("L") for name in ("prompt", "preferred", "dispreferred")}
        self._seen: set[int] = set()
        self._duplicates = 0

    def see_columns(self, columns: Iterable[str]) -> None:
        for name in columns:
            # A file in which every row has other keys must not fill the memory.
            if name not in self._columns and len(self._columns) < MAX_COLUMNS:
                self._columns[presentable(name)] = None

    def see_pair(self, pair: PairRow) -> None:
        self.forms[pair.form] += 1
        self._lengths["prompt"].append(prompt_characters(pair.prompt))
        self._lengths["preferred"].append(len(pair.preferred))
        self._lengths["dispreferred"].append(len(pair.dispreferred))
        # 64 bits: among a million pairs, two that differ share one with odds of 1 in 10^7.
        key = hash((json.dumps(pair.prompt), pair.preferred, pair.dispreferred))
        self._duplicates += key in self._seen
        self._seen.add(key)

    @property
    def columns(self) -> list[str]:
        return list(self._columns)

    def form(self) -> str:
        """The form of most pairs; there is at least one."""
        return self.forms.most_common(1)[0][0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "columns": self.columns,
            "form": FORMS_IN_WORDS[self.form()],
            "forms": dict(self.forms),
            "duplicates": self._duplicates,
            "characters": {name: _describe(values) for name, values in self._lengths.items()},
        }


def prompt_characters(prompt: Prompt) -> int:
    """Of chat messages, their contents only."""
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(message["content"]) for message in prompt)


def _describe(values: "array[int]") -> dict[str, Any]:
    """Quantiles, mean and a histogram {start, width, counts} of bins of equal width."""
    ordered = sorted(values)
    last = len(ordered) - 1
    described: dict[str, Any] = {name: ordered[round(at * last)] for name, at in QUANTILES.items()}
    described["mean"] = sum(ordered) / len(ordered)
    start = ordered[0]
    width = (ordered[last] - start) // HISTOGRAM_BINS + 1
    counts = [0] * ((ordered[last] - start) // width + 1)
    for value in ordered:
        counts[(value - start) // width] += 1
    described["histogram"] = {"start": start, "width": width, "counts": counts}
    return described
