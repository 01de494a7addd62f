"""Statistics of a dataset: lengths in characters and forms, collected in one pass."""

from collections import Counter
from itertools import accumulate
from typing import Any

from chesboard.doctor.checks import LONG_CHARACTERS
from chesboard.formats.known_forms import FORMS_IN_WORDS
from chesboard.formats.rows import PairRow
from chesboard.pairs import prompt_characters

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


class Statistics:
    """Accumulates the statistics of a dataset, pair by pair.

    Memory grows with the number of distinct lengths, not with the number of pairs.
    """

    def __init__(self) -> None:
        self.forms: Counter[str] = Counter()
        self._lengths: dict[str, Counter[int]] = {
            name: Counter() for name in ("prompt", "preferred", "dispreferred")
        }

    def see_pair(self, pair: PairRow) -> None:
        self.forms[pair.form] += 1
        self._lengths["prompt"][prompt_characters(pair.prompt)] += 1
        self._lengths["preferred"][len(pair.preferred)] += 1
        self._lengths["dispreferred"][len(pair.dispreferred)] += 1

    def form(self) -> str:
        """The form of most pairs; there is at least one."""
        return self.forms.most_common(1)[0][0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "form": FORMS_IN_WORDS[self.form()],
            "forms": dict(self.forms),
            "long_characters": LONG_CHARACTERS,
            "characters": {name: _describe(values) for name, values in self._lengths.items()},
        }


def _describe(lengths: "Counter[int]") -> dict[str, Any]:
    """Quantiles, mean and a histogram {start, width, counts} of bins of equal width."""
    ordered = sorted(lengths)
    upto = list(accumulate(lengths[length] for length in ordered))
    total = upto[-1]
    described: dict[str, Any] = {}
    for name, at in QUANTILES.items():
        rank = round(at * (total - 1))
        described[name] = next(
            length for length, seen in zip(ordered, upto, strict=True) if seen > rank
        )
    described["mean"] = sum(length * times for length, times in lengths.items()) / total
    start = ordered[0]
    width = (ordered[-1] - start) // HISTOGRAM_BINS + 1
    counts = [0] * ((ordered[-1] - start) // width + 1)
    for length, times in lengths.items():
        counts[(length - start) // width] += times
    described["histogram"] = {"start": start, "width": width, "counts": counts}
    return described
