"""Template filters that format times, sizes, counts, outcomes and selections."""

import math
from datetime import UTC, datetime
from typing import Any

from app.pages.selection import ranges
from app.runs.selection_text import selection_text
from app.store.runs import EXTERNAL, TRAINING
from chesboard.configs import JudgeConfig, Selection
from chesboard.findings import FINDINGS
from chesboard.measures.registry import MEASURES

MINUS = "\N{MINUS SIGN}"


def count(value: object) -> str:
    """1234567 → "1,234,567"; "–" if the value is not a number."""
    return "–" if not isinstance(value, int | float) else f"{value:,.0f}"


def number(value: object, digits: int = 3) -> str:
    """Significant digits with a true minus sign; "–" if the value is not a finite number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}"
    if "e" in text and 1e-4 <= abs(value) < 1e9:
        text = f"{value:,.0f}"
    # "1e-07" → "1e−7"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)


def aligned(values: dict[str, float], digits: int = 4) -> dict[str, str]:
    """Numbers with the same count of decimals, chosen for the largest, so that they align."""
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
    """The exact time in UTC, for a tooltip."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def took(run: Any) -> str:
    """The time from a run's start to its end; empty if it has not started or ended."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return duration((run.finished_at - run.started_at).total_seconds())


def outcome(run: Any) -> str:
    """A run's result in a phrase; empty while there is none."""
    if run.status == "failed":
        return str((run.error or {}).get("message", "It failed."))
    if run.status != "succeeded":
        return ""
    if run.verdict_short:
        return str(run.verdict_short)
    if run.kind in TRAINING:
        return f"Final loss {number(run.summary.get('final_loss'))}"
    if run.kind == "check":
        return _check_outcome(run.summary)
    if run.kind == "judge":
        return _judge_outcome(run.summary)
    if run.kind == "preflight":
        return _preflight_outcome(run.summary)
    if run.kind == "generate":
        return _generation_outcome(run.summary)
    return _score_outcome(run.summary)


def _check_outcome(summary: dict[str, Any]) -> str:
    counts = summary.get("findings") or {}
    found = [
        f"{known.label.lower()} {count(counts[kind])}"
        for kind, known in FINDINGS.items()
        if kind in counts
    ]
    return f"{count(summary.get('pairs'))} pairs · {', '.join(found) or 'nothing found'}"


def _preflight_outcome(summary: dict[str, Any]) -> str:
    falling, pairs = summary.get("falling"), summary.get("pairs")
    return f"{count(falling)} of {count(pairs)} preferred responses fall at the first step"


def _generation_outcome(summary: dict[str, Any]) -> str:
    answers, prompts, ended = (count(summary.get(key)) for key in ("answers", "prompts", "ended"))
    return f"{answers} answers to {prompts} prompts, {ended} ended"


def _judge_outcome(summary: dict[str, Any]) -> str:
    positive, negative = summary.get("positive", 0), summary.get("negative", 0)
    if not positive + negative:
        return f"{count(summary.get('answers'))} answers, scores alone"
    low, high = (100 * bound for bound in summary["interval"])
    return (
        f"{count(positive)} of {count(positive + negative)} positive: "
        f"{100 * summary['rate']:.1f} % ({low:.1f} to {high:.1f} %)"
    )


def computes_with(run: Any) -> str:
    """The model that a run computes with; of a judge, what judges."""
    if run.kind == "judge":
        return JudgeConfig.model_validate(run.config).judged_by
    if run.kind == EXTERNAL:
        return str(run.config.get("model") or run.config["trainer"])
    return str(run.config.get("model", ""))


def _score_outcome(summary: dict[str, Any]) -> str:
    measures = summary.get("measures") or {}
    # An evaluation has log-probabilities only.
    shown = next((one for one in MEASURES if measures.get(one.name)), None)
    if shown is None:
        return f"{count(summary.get('pairs'))} pairs" if "pairs" in summary else ""
    found = measures[shown.name]
    return (
        f"{count(summary.get('pairs'))} pairs · {shown.label} median {number(found['median'])}, "
        f"highest {number(found['maximum'])}"
    )


def phase(run: Any) -> str:
    """What a run does now: "downloading 3.1 of 15 GB", "scoring: 12 of 60 pairs", "loading"."""
    now = run.phase
    if now is None:
        return _progress(run.progress) or "preparing"
    if now.unit == "bytes" and now.total:
        return f"{now.name} {_bytes_of(now.done or 0, now.total)}"
    counted = _counted(now.done, now.total, now.unit)
    return f"{now.name}: {counted}" if counted else str(now.name)


def phase_brief(run: Any) -> str:
    """For a list of runs: "downloading 21 %, 3 min 5 s left", "loading", "12 steps"."""
    now = run.phase or run.progress
    name = getattr(now, "name", "")
    if not now.total:
        return name if run.phase else _progress(now)
    left = "" if now.eta_seconds is None else f", {duration(now.eta_seconds)} left"
    return f"{name} {percent_done(now):.0f} %{left}".strip()


def _progress(progress: Any) -> str:
    """Without a total, as of a trainer that does not tell how many steps it takes: "12 steps"."""
    done, total, unit = progress.done, progress.total, progress.unit
    return _counted(done, total, unit) or (f"{count(done)} {unit}" if done else "")


def _counted(done: int | None, total: int | None, unit: str | None) -> str:
    return f"{count(done)} of {count(total)} {unit}" if total else ""


def _bytes_of(done: int, total: int) -> str:
    """Both in the total's unit: "3.1 of 15 GB"."""
    power = min(int(math.log10(total) // 3), 4)
    parts = [f"{value / 1000**power:.1f}".removesuffix(".0") for value in (done, total)]
    return f"{parts[0]} of {parts[1]} {('B', 'KB', 'MB', 'GB', 'TB')[power]}"


def percent_done(progress: Any) -> float:
    """0 to 100; 0 where the total is not known yet."""
    return 100 * (progress.done or 0) / progress.total if progress.total else 0.0


def pairs(given: Any) -> str:
    """The pairs that a run was given, for example "90 of 100 pairs: without flagged"."""
    if given.total is None:
        counted = "no pairs on record"
    elif given.total == given.dataset_pairs:
        counted = f"all {count(given.total)} pairs"
    else:
        counted = f"{count(given.total)} of {count(given.dataset_pairs)} pairs"
    return f"{counted}: {given.words}" if given.words else counted


def rules(selection: dict[str, Any] | None) -> str:
    """A selection as text."""
    return selection_text(Selection.model_validate(selection or {})) or "all pairs"


def plain(value: Any) -> str:
    """A configuration's value as plain text."""
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
    "computes_with": computes_with,
    "count": count,
    "duration": duration,
    "number": number,
    "outcome": outcome,
    "percent_done": percent_done,
    "pairs": pairs,
    "phase": phase,
    "phase_brief": phase_brief,
    "plain": plain,
    "ranges": ranges,
    "rules": rules,
    "size": size,
    "took": took,
    "utc": utc,
}
