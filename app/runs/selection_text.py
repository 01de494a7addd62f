"""A selection of pairs as text, for run pages, comparisons and default run names."""

from collections.abc import Iterator, Sequence

from chesboard.configs import MeasureRule, RandomSubset, Rules, Selection
from chesboard.issues import ISSUES, IssueKind
from chesboard.measures.registry import MEASURES

_LABELS = {measure.name: measure.label for measure in MEASURES}


def selection_text(selection: Rules) -> str:
    """For example "without flagged, without verdict drop; the first 100".

    Empty for a selection of all pairs.
    """
    rules = list(_rule_texts(selection))
    text = ", ".join(rules)
    if selection.complement and rules:
        text = f"all but those {text}"
    if isinstance(selection, Selection):
        if selection.random is not None:
            text = "; ".join(filter(None, [text, _random_text(selection.random)]))
        if selection.limit is not None:
            text = "; ".join(filter(None, [text, f"the first {selection.limit:,}"]))
    return text


def _rule_texts(rules: Rules) -> Iterator[str]:
    if rules.pairs is not None:
        yield f"among {len(set(rules.pairs)):,} named"
    if rules.exclude_flagged:
        yield "without flagged"
    if rules.exclude_verdicts:
        yield f"without verdict {' or '.join(rules.exclude_verdicts)}"
    if rules.only_verdicts:
        yield f"with verdict {' or '.join(rules.only_verdicts)}"
    if rules.exclude_issues:
        yield f"without {_labels(rules.exclude_issues)}"
    if rules.only_issues:
        yield f"with {_labels(rules.only_issues)}"
    yield from map(_measure_text, rules.measures)


def _labels(issues: Sequence[IssueKind]) -> str:
    return " or ".join(f"“{ISSUES[kind].label.lower()}”" for kind in issues)


def _measure_text(rule: MeasureRule) -> str:
    label = _LABELS[rule.measure]
    if not label.startswith("CHES"):  # the acronym keeps its capitals in a sentence
        label = label[0].lower() + label[1:]
    measure = f"{label} of run {rule.score_run}"
    if rule.fraction is not None:
        return f"with the {rule.keep} {100 * rule.fraction:g} % of {measure}"
    return f"with at {'most' if rule.keep == 'lowest' else 'least'} {rule.threshold:g} of {measure}"


def _random_text(wanted: RandomSubset) -> str:
    if wanted.same_size_as is not None:
        like = selection_text(wanted.same_size_as) or "all"
        size = f"as many as are left {like}"
    elif wanted.fraction is not None:
        size = f"{100 * wanted.fraction:g} %"
    else:
        size = f"{wanted.count:,}"
    return f"{size}, at random (seed {wanted.seed})"
