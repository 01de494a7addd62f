"""The measures of a pair, declared once: names, labels, help texts, formulas and units.

The configurations, the scoring, the API's schemas and the pages read them from here. This module
imports no torch, so that the web process can import it. `docs/theory.md` has the definitions.
"""

from dataclasses import dataclass
from typing import Literal, get_args

SimilarityMeasureName = Literal[
    "ches", "ln_ches", "last_hidden_inner_product", "normalized_edit_distance"
]
"""Measures of how similar the two responses of a pair are. Pairs are flagged by them."""

MeasureName = Literal[SimilarityMeasureName, "preferred_logprob", "dispreferred_logprob"]
"""All measures, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How one measure is called and explained.

    name: the key in records, in the database and in the API.
    label: what a page shows in its place.
    help: one sentence on how to read the values.
    short_label: for narrow columns.
    formula: plain text in the notation of `docs/theory.md`.
    unit: of the values; empty for a number without one.
    needs_hidden: computed from hidden states; a run that records log-probabilities only lacks it.
    similar_end: which end of the values means that the two responses are similar; None where the
        measure says nothing about similarity.
    """

    name: MeasureName
    label: str
    short_label: str
    help: str
    formula: str
    unit: str = ""
    needs_hidden: bool = False
    similar_end: Literal["high", "low"] | None = None


MEASURES: tuple[Measure, ...] = (
    Measure(
        "ches",
        label="CHES",
        short_label="CHES",
        help="High, near or above zero: the two responses have similar hidden embeddings, and "
        "training on the pair drives likelihood displacement.",
        formula="⟨S+, S−⟩ − ⟨S+, S+⟩",
        needs_hidden=True,
        similar_end="high",
    ),
    Measure(
        "ln_ches",
        label="Length-normalized CHES",
        short_label="CHES, length-norm.",
        help="CHES of the mean instead of the summed hidden embeddings, so that long responses "
        "compare with short ones.",
        formula="⟨S+, S−⟩/(n+ n−) − ⟨S+, S+⟩/n+²",
        needs_hidden=True,
        similar_end="high",
    ),
    Measure(
        "last_hidden_inner_product",
        label="Last-hidden inner product",
        short_label="Last-hidden",
        help="The inner product of the hidden embeddings before the last token of each response.",
        formula="⟨h(x, y+_<n+), h(x, y−_<n−)⟩",
        needs_hidden=True,
        similar_end="high",
    ),
    Measure(
        "normalized_edit_distance",
        label="Normalized edit distance",
        short_label="Edit distance",
        help="Levenshtein distance of the two token sequences over the longer length: 0 is "
        "identical, 1 shares nothing.",
        formula="lev(y+, y−) / max(|y+|, |y−|)",
        similar_end="low",
    ),
    Measure(
        "preferred_logprob",
        label="log p(y+)",
        short_label="log p(y+)",
        help="Log-probability of the preferred response, summed over its tokens, in nats.",
        formula="Σ_k log p(y+_k | x, y+_<k)",
        unit="nats",
    ),
    Measure(
        "dispreferred_logprob",
        label="log p(y−)",
        short_label="log p(y−)",
        help="Log-probability of the dispreferred response, summed over its tokens, in nats.",
        formula="Σ_k log p(y−_k | x, y−_<k)",
        unit="nats",
    ),
)

MEASURE_NAMES: tuple[MeasureName, ...] = get_args(MeasureName)

SIMILARITY_MEASURES: tuple[SimilarityMeasureName, ...] = get_args(SimilarityMeasureName)
