"""The summary of a judge's verdicts."""

from collections.abc import Iterable
from typing import Any

from chesboard.judging.intervals import wilson_interval


def summarize_verdicts(verdicts: Iterable[bool | None]) -> dict[str, Any]:
    """Counts of verdicts, their rate and its Wilson interval (95 %).

    rate, interval: of the answers that have a verdict; None where there is none.
    """
    found = list(verdicts)
    positive = sum(one is True for one in found)
    judged = sum(one is not None for one in found)
    return {
        "answers": len(found),
        "positive": positive,
        "negative": judged - positive,
        "unjudged": len(found) - judged,
        "rate": positive / judged if judged else None,
        "interval": list(wilson_interval(positive, judged)) if judged else None,
    }
