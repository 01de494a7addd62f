"""A run's selection as the form of a new run shows it.

On the form, the rules stand in one place. A control, "as many as these rules leave, of all pairs",
has the same rules there, and its subset says `same_size_as: RULES` in place of repeating them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.runs.wording import in_words
from chesboard.configs import Rules

RULES = "rules"
"""Stands for the rules of the form itself."""


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """A rule by measure, its number as it stands in the box: in percent, where `by` is fraction."""

    score_run: int | None = None
    measure: str = "ln_ches"
    keep: str = "lowest"
    by: str = "fraction"
    number: str = "95"


@dataclass(frozen=True, slots=True)
class Subset:
    """A random subset. `way`: none, count, fraction (number in percent), rules, or other (`like`).

    like: rules other than the form's own, as JSON, which an earlier run's subset was as large as.
    """

    way: str = ""
    number: str = ""
    seed: int = 0
    like: str = ""
    like_words: str = ""


def measure_rows(rules: Sequence[Mapping[str, Any]] | None) -> list[MeasureRow]:
    rows = []
    for rule in rules or []:
        fraction = rule.get("fraction")
        number = percent(fraction) if fraction is not None else str(rule.get("threshold"))
        by = "threshold" if fraction is None else "fraction"
        named = {name: rule[name] for name in ("score_run", "measure", "keep") if name in rule}
        rows.append(MeasureRow(**named, by=by, number=number))
    return rows


def subset(random: Mapping[str, Any] | None) -> Subset:
    """random: a RandomSubset as JSON, or one as `on_form` has it."""
    if not random:
        return Subset()
    seed = random.get("seed") or 0
    like = random.get("same_size_as")
    if like == RULES:
        return Subset("rules", seed=seed)
    if like is not None:
        words = in_words(Rules.model_validate(like)) or "all"
        return Subset("other", seed=seed, like=json.dumps(like), like_words=words)
    if random.get("fraction") is not None:
        return Subset("fraction", percent(random["fraction"]), seed)
    return Subset("count", str(random.get("count") or ""), seed)


def percent(fraction: float) -> str:
    """0.07 → "7"."""
    return f"{100 * fraction:.12g}"


def on_form(selection: Mapping[str, Any]) -> dict[str, Any]:
    """A selection with a control's rules where rules stand on the form."""
    random = selection.get("random") or {}
    like = random.get("same_size_as")
    own = {name: selection[name] for name in Rules.model_fields if name in selection}
    if like in (None, RULES) or Rules.model_validate(own) != Rules():
        return dict(selection)
    return {**selection, **like, "random": {**random, "same_size_as": RULES}}


def prefilled(
    selection: Mapping[str, Any], without: Iterable[str], is_control: bool
) -> dict[str, Any]:
    """An earlier run's selection as the form has it, with more left out.

    without: "flagged", or verdicts. is_control: as many as all that leaves, of all pairs.
    """
    shown = on_form(selection)
    excluded = [*(shown.get("exclude_verdicts") or []), *without]
    shown["exclude_flagged"] = bool(shown.get("exclude_flagged")) or "flagged" in excluded
    shown["exclude_verdicts"] = [name for name in dict.fromkeys(excluded) if name != "flagged"]
    if is_control:
        seed = (shown.get("random") or {}).get("seed") or 0
        shown["random"] = {"same_size_as": RULES, "seed": seed}
    return shown


def ranges(pairs: Sequence[int]) -> list[str]:
    """[0, 1, 2, 7] → ["0-2", "7"], as the form reads them."""
    found: list[tuple[int, int]] = []
    for pair in pairs:
        if found and pair == found[-1][1] + 1:
            found[-1] = (found[-1][0], pair)
        else:
            found.append((pair, pair))
    return [str(start) if start == end else f"{start}-{end}" for start, end in found]
