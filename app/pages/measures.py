"""The measures of a score run as the pages show them: labels, formulas and help texts."""

from typing import TypedDict


class PageMeasure(TypedDict):
    name: str
    label: str
    short_label: str
    """For narrow table columns."""
    formula: str
    help: str
    unit: str | None
    low_is_alike: bool
    """The smaller the value, the more alike the two responses are."""


MEASURES: list[PageMeasure] = [
    {
        "name": "ches",
        "label": "CHES",
        "short_label": "CHES",
        "formula": "⟨S+, S−⟩ − ⟨S+, S+⟩",
        "help": "High, near or above zero: the hidden embeddings of the two responses are alike, "
        "and training on the pair causes displacement.",
        "unit": None,
        "low_is_alike": False,
    },
    {
        "name": "ln_ches",
        "label": "Length-normalized CHES",
        "short_label": "CHES, length-norm.",
        "formula": "⟨S+, S−⟩/(n+ n−) − ⟨S+, S+⟩/n+²",
        "help": "CHES of the mean instead of the summed hidden embeddings, so that long responses "
        "compare with short ones.",
        "unit": None,
        "low_is_alike": False,
    },
    {
        "name": "last_hidden_inner_product",
        "label": "Last-hidden inner product",
        "short_label": "Last-hidden",
        "formula": "⟨h(x, y+_<n+), h(x, y−_<n−)⟩",
        "help": "The inner product of the hidden embeddings before the last token of each "
        "response.",
        "unit": None,
        "low_is_alike": False,
    },
    {
        "name": "normalized_edit_distance",
        "label": "Normalized edit distance",
        "short_label": "Edit distance",
        "formula": "lev(y+, y−) / max(n+, n−)",
        "help": "Levenshtein distance of the two token sequences over the longer length: 0 is "
        "identical, 1 shares nothing.",
        "unit": None,
        "low_is_alike": True,
    },
    {
        "name": "preferred_logprob",
        "label": "log p(y+)",
        "short_label": "log p(y+)",
        "formula": "Σ_k log p(y+_k | x, y+_<k)",
        "help": "Log-probability of the preferred response, summed over its tokens, in nats.",
        "unit": "nats",
        "low_is_alike": False,
    },
    {
        "name": "dispreferred_logprob",
        "label": "log p(y−)",
        "short_label": "log p(y−)",
        "formula": "Σ_k log p(y−_k | x, y−_<k)",
        "help": "Log-probability of the dispreferred response, summed over its tokens, in nats.",
        "unit": "nats",
        "low_is_alike": False,
    },
]
