"""A selection of pairs in words, as run pages, comparisons and default names have it."""

from collections.abc import Iterator

from chesboard.configs import MeasureRule, RandomSubset, Rules, Selection

_MEASURES = {
    "ches": "CHES",
    "ln_ches": "length-normalized CHES",
    "last_hidden_inner_product": "last-hidden inner product",
    "normalized_edit_distance": "normalized edit distance",
    "preferred_logprob": "log p(y+)",
    "dispreferred_logprob": "log p(y−)",
}


def in_words(selection: Rules) -> str:
    """ "without flagged, without verdict drop; the first 100"; empty where all pairs are meant."""
    parts = list(_rules_in_words(selection))
    words = ", ".join(parts)
    if selection.complement and parts:
        words = f"all but those {words}"
    if isinstance(selection, Selection):
        if selection.random is not None:
            words = "; ".join(filter(None, [words, _random_in_words(selection.random)]))
        if selection.limit is not None:
            words = "; ".join(filter(None, [words, f"the first {selection.limit:,}"]))
    return words


def _rules_in_words(rules: Rules) -> Iterator[str]:
    if rules.pairs is not None:
        yield f"among {len(set(rules.pairs)):,} named"
    if rules.exclude_flagged:
        yield "without flagged"
    if rules.exclude_verdicts:
        yield f"without verdict {' or '.join(rules.exclude_verdicts)}"
    if rules.only_verdicts:
        yield f"with verdict {' or '.join(rules.only_verdicts)}"
    yield from map(_measure_in_words, rules.measures)


def _measure_in_words(rule: MeasureRule) -> str:
    measure = f"{_MEASURES[rule.measure]} of run {rule.score_run}"
    if rule.fraction is not None:
        return f"with the {rule.keep} {100 * rule.fraction:g} % of {measure}"
    return f"with at {'most' if rule.keep == 'lowest' else 'least'} {rule.threshold:g} of {measure}"


def _random_in_words(wanted: RandomSubset) -> str:
    if wanted.same_size_as is not None:
        like = in_words(wanted.same_size_as) or "all"
        size = f"as many as are left {like}"
    elif wanted.fraction is not None:
        size = f"{100 * wanted.fraction:g} %"
    else:
        size = f"{wanted.count:,}"
    return f"{size}, at random (seed {wanted.seed})"
