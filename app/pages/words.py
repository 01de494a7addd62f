"""Times, sizes, counts and outcomes in the words of the pages; filters of the templates."""

import math
from datetime import UTC, datetime
from typing import Any

from app.pages import measures
from app.pages.selection import ranges
from app.runs.wording import in_words
from chesboard.configs import Selection

MINUS = "\N{MINUS SIGN}"
KINDS = {"score": "CHES scoring", "train": "Training", "evaluate": "Evaluation"}
MEASURES = {measure["name"]: measure["label"] for measure in measures.MEASURES}
FORMATS = {
    "text": "plain text",
    "chat": "chat messages",
    "hh-rlhf": "HH-RLHF dialogues",
    "persona": "persona questions",
    "ultrafeedback": "UltraFeedback",
    "implicit": "texts that begin alike",
    "orpo": "system and question",
    "h2o": "H2O LLM Studio",
    "alpacafarm": "AlpacaFarm",
    "shp": "SHP scores",
    "safe-rlhf": "SafeRLHF",
}
ISSUES = {
    "duplicate": "Repeated pairs",
    "contradiction": "Contradicting pairs",
    "long": "Over-long pairs",
}
REASONS = {
    "unreadable": "not readable",
    "missing": "column missing",
    "empty": "empty prompt or response",
    "identical": "identical responses",
    "undecided": "no preference",
    "unusable": "not usable otherwise",
}


def count(value: object) -> str:
    """1234567 → "1,234,567"; "–" for what is no number."""
    return "–" if not isinstance(value, int | float) else f"{value:,.0f}"


def number(value: object, digits: int = 3) -> str:
    """Significant digits with a true minus sign; "–" for what is no finite number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}"
    if "e" in text and 1e-4 <= abs(value) < 1e9:
        text = f"{value:,.0f}"
    # "1e-07" → "1e−7"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)


def aligned(values: dict[str, float], digits: int = 4) -> dict[str, str]:
    """One measure's figures with the same decimals, so that they compare at a glance."""
    largest = max((abs(value) for value in values.values()), default=0.0) or 1.0
    decimals = min(max(digits - 1 - math.floor(math.log10(largest)), 0), 6)
    return {name: f"{value:,.{decimals}f}".replace("-", MINUS) for name, value in values.items()}


def size(value: int) -> str:
    """Bytes in decimal units: 12345 → "12.3 KB"."""
    if value < 1000:
        return f"{value} B"
    units = ("KB", "MB", "GB", "TB")
    power = min(int(math.log10(value) // 3), len(units))
    return f"{value / 1000**power:.3g} {units[power - 1]}"


def duration(seconds: float | None) -> str:
    """Whole seconds, minutes, hours: 75 → "1 min 15 s"."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago: "just now", "5 min ago", "3 h ago", then the date."""
    if moment is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86_400:
        return f"{int(seconds // 3600)} h ago"
    return f"{moment.day} {moment:%b %Y}"


def utc(moment: datetime | None) -> str:
    """For a tooltip: the exact time."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def took(run: Any) -> str:
    """From start to end; empty where one is missing."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return duration((run.finished_at - run.started_at).total_seconds())


def outcome(run: Any) -> str:
    """What came out of a run, in a phrase; empty while there is nothing to say."""
    if run.status == "failed":
        return str((run.error or {}).get("message", "It failed."))
    if run.status != "succeeded":
        return ""
    if run.verdict:
        return str(run.verdict)
    if run.kind == "train":
        return f"Final loss {number(run.summary.get('final_loss'))}"
    return _score_outcome(run.summary)


def _score_outcome(summary: dict[str, Any]) -> str:
    summaries = summary.get("measures") or {}
    name = next((name for name in ("ches", "preferred_logprob") if summaries.get(name)), None)
    if name is None:
        return f"{count(summary.get('pairs'))} pairs" if "pairs" in summary else ""
    found = summaries[name]
    return (
        f"{count(summary.get('pairs'))} pairs · {MEASURES[name]} median {number(found['median'])}, "
        f"highest {number(found['maximum'])}"
    )


def percent_done(progress: Any) -> float:
    """0 to 100; 0 where the total is not known yet."""
    return 100 * progress.done / progress.total if progress.total else 0.0


def pairs(given: Any) -> str:
    """Which pairs a run was given: "90 of 100 pairs: without flagged"."""
    if given.total is None:
        counted = "no pairs on record"
    elif given.total == given.dataset_pairs:
        counted = f"all {count(given.total)} pairs"
    else:
        counted = f"{count(given.total)} of {count(given.dataset_pairs)} pairs"
    return f"{counted}: {given.words}" if given.words else counted


def rules(selection: dict[str, Any] | None) -> str:
    """A selection in words."""
    return in_words(Selection.model_validate(selection or {})) or "all pairs"


def plain(value: Any) -> str:
    """A configuration's value as people write it."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return number(value, 6)
        case list():
            return ", ".join(map(plain, value)) or "–"
        case dict():
            return "; ".join(f"{name}: {plain(part)}" for name, part in value.items()) or "–"
    return str(value)


FILTERS = {
    "ago": ago,
    "aligned": aligned,
    "count": count,
    "duration": duration,
    "number": number,
    "outcome": outcome,
    "percent_done": percent_done,
    "pairs": pairs,
    "plain": plain,
    "ranges": ranges,
    "rules": rules,
    "size": size,
    "took": took,
    "utc": utc,
}
