"""The measures of a pair, declared once: names, labels, help texts, formulas and units.

The configurations, the scoring, the API's schemas and the pages read them from here. This module
imports no torch, so that the web process can import it. `docs/theory.md` has the definitions.
"""

from dataclasses import dataclass
from typing import Literal, get_args

SimilarityMeasureName = Literal[
    "ches",
    "ln_ches",
    "last_hidden_inner_product",
    "normalized_edit_distance",
    "head_shift",
    "head_cosine",
]
"""Measures of how similar the two responses of a pair are, or what they do to each other. Pairs are
flagged by them."""

MeasureName = Literal[
    SimilarityMeasureName,
    "preferred_logprob",
    "dispreferred_logprob",
    "implicit_gap",
    "length_gap",
    "preferred_grad_norm",
    "dispreferred_grad_norm",
]
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
    similar_end: which end of the values means that the two responses are similar, to the model or
        in their gradients; None where the measure says nothing about that.
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
        "training on the pair drives likelihood displacement. It is largely an effect of length: "
        "read it beside the length gap.",
        formula="⟨S+, S−⟩ − ⟨S+, S+⟩",
        needs_hidden=True,
        similar_end="high",
    ),
    Measure(
        "ln_ches",
        label="Length-normalized CHES",
        short_label="CHES, length-norm.",
        help="CHES of the mean instead of the summed hidden embeddings, so that long responses "
        "compare with short ones. On some data it orders displacement the wrong way round where "
        "CHES orders it right: hold both against what a run measured.",
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
        "head_shift",
        label="First-step shift, head",
        short_label="Head shift",
        help="Predicted first change of log p(y+) per unit of DPO's push through the output head. "
        "Negative: the first step makes the preferred response less likely.",
        formula="‖∇_W z+‖² − ⟨∇_W z+, ∇_W z−⟩",
        needs_hidden=True,
        similar_end="low",
    ),
    Measure(
        "head_cosine",
        label="Gradient cosine, head",
        short_label="Head cosine",
        help="Cosine between the gradients of both log-probabilities through the output head: near "
        "1, whatever lowers y− lowers y+ too.",
        formula="⟨∇_W z+, ∇_W z−⟩ / (‖∇_W z+‖ ‖∇_W z−‖)",
        needs_hidden=True,
        similar_end="high",
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
    Measure(
        "implicit_gap",
        label="Implicit gap",
        short_label="Implicit gap",
        help="How much likelier the preferred response is to the scored model. Pairs within 3 nats "
        "count as noisy (arXiv 2505.05465).",
        formula="log p(y+) − log p(y−)",
        unit="nats",
    ),
    Measure(
        "length_gap",
        label="Length gap",
        short_label="Length gap",
        help="How many tokens longer the dispreferred response is. CHES is largely an effect of "
        "length: read it beside this.",
        formula="n− − n+",
        unit="tokens",
    ),
    Measure(
        "preferred_grad_norm",
        label="Gradient norm of y+, head",
        short_label="Gradient of y+",
        help="Norm of the gradient of log p(y+) with respect to the output head.",
        formula="‖∇_W z+‖",
        needs_hidden=True,
    ),
    Measure(
        "dispreferred_grad_norm",
        label="Gradient norm of y−, head",
        short_label="Gradient of y−",
        help="Norm of the gradient of log p(y−) with respect to the output head.",
        formula="‖∇_W z−‖",
        needs_hidden=True,
    ),
)

MEASURE_NAMES: tuple[MeasureName, ...] = get_args(MeasureName)

SIMILARITY_MEASURES: tuple[SimilarityMeasureName, ...] = get_args(SimilarityMeasureName)
