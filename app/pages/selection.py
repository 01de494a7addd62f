"""A run's selection as the form of a new run represents it.

The form has one set of rules. For a control run ("as many pairs as these rules leave, drawn from
all pairs") the form has these rules too, and its random subset says `same_size_as: RULES` instead
of repeating them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.runs.selection_text import selection_text
from chesboard.configs import MeasureRule, Rules
from chesboard.issues import IssueKind

KEPT_SHARES = (5, 15, 50, 95)
"""Shares to keep that the form offers, in percent. The paper keeps the lowest 5 % of ln_ches, and
up to 15 % worked (Section 6, footnote 9)."""
RULES = "rules"
"""Placeholder for the form's own rules."""


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """A rule by measure. `number` is the text box's content: in percent if `by` is fraction."""

    score_run: int | None = None
    measure: str = "ln_ches"
    keep: str = "lowest"
    by: str = "fraction"
    number: str = "5"


@dataclass(frozen=True, slots=True)
class Subset:
    """A random subset.

    way: "" (none), count, fraction (`number` in percent), rules, or other (see `like`).
    like: as JSON, rules other than the form's that gave the size of an earlier run's subset.
    """

    way: str = ""
    number: str = ""
    seed: int = 0
    like: str = ""
    like_text: str = ""


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
    """random: a RandomSubset as JSON, or as `on_form` represents it."""
    if not random:
        return Subset()
    seed = random.get("seed") or 0
    like = random.get("same_size_as")
    if like == RULES:
        return Subset("rules", seed=seed)
    if like is not None:
        text = selection_text(Rules.model_validate(like)) or "all"
        return Subset("other", seed=seed, like=json.dumps(like), like_text=text)
    if random.get("fraction") is not None:
        return Subset("fraction", percent(random["fraction"]), seed)
    return Subset("count", str(random.get("count") or ""), seed)


def percent(fraction: float) -> str:
    """0.07 → "7"."""
    return f"{100 * fraction:.12g}"


def on_form(selection: Mapping[str, Any]) -> dict[str, Any]:
    """A selection with the rules of a control run moved to where the form has its rules."""
    random = selection.get("random") or {}
    like = random.get("same_size_as")
    own = {name: selection[name] for name in Rules.model_fields if name in selection}
    if like in (None, RULES) or Rules.model_validate(own) != Rules():
        return dict(selection)
    return {**selection, **like, "random": {**random, "same_size_as": RULES}}


def keep_lowest(selection: Mapping[str, Any], score_run: int, fraction: float) -> dict[str, Any]:
    """The selection with one more rule: the paper's filter."""
    rule = MeasureRule(score_run=score_run, fraction=fraction).model_dump()
    return {**selection, "measures": [*(selection.get("measures") or []), rule]}


def prefilled(
    selection: Mapping[str, Any],
    without: Iterable[str],
    is_control: bool,
    *,
    exclude_issues: Iterable[IssueKind] = (),
    only_issues: Iterable[IssueKind] = (),
) -> dict[str, Any]:
    """An earlier run's selection on the form, with additional exclusions.

    without: "flagged" and verdicts to exclude. exclude_issues, only_issues: further such rules.
    is_control: draw as many pairs as that leaves at random from all pairs.
    """
    shown = on_form(selection)
    excluded = [*(shown.get("exclude_verdicts") or []), *without]
    shown["exclude_flagged"] = bool(shown.get("exclude_flagged")) or "flagged" in excluded
    shown["exclude_verdicts"] = [name for name in dict.fromkeys(excluded) if name != "flagged"]
    for name, kinds in (("exclude_issues", exclude_issues), ("only_issues", only_issues)):
        if together := list(dict.fromkeys((*(shown.get(name) or []), *kinds))):
            shown[name] = together
    if is_control:
        seed = (shown.get("random") or {}).get("seed") or 0
        shown["random"] = {"same_size_as": RULES, "seed": seed}
    return shown


def ranges(pairs: Sequence[int]) -> list[str]:
    """[0, 1, 2, 7] → ["0-2", "7"], the notation that the form parses."""
    found: list[tuple[int, int]] = []
    for pair in pairs:
        if found and pair == found[-1][1] + 1:
            found[-1] = (found[-1][0], pair)
        else:
            found.append((pair, pair))
    return [str(start) if start == end else f"{start}-{end}" for start, end in found]
