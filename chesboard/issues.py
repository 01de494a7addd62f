"""Kinds of issues: what the texts of a dataset's pairs show about them, declared once.

An issue belongs to a pair of a dataset whatever the model, unlike a finding (`chesboard.findings`),
which tokenizing the pair under a model shows. `chesboard.doctor` looks for them; the pages and the
API read labels and advice from here. This module imports no torch.
"""

from dataclasses import dataclass
from typing import Literal

IssueKind = Literal[
    "contradiction",
    "conflicting_prompt",
    "scores_against",
    "likely_swapped",
    "duplicate",
    "near_identical",
    "scores_tied",
    "placeholder",
    "language_change",
    "leftover_markup",
    "broken_text",
    "unclosed_block",
    "no_end",
    "length_ratio",
    "long",
    "repeated_prompt",
    "reused_response",
]

Severity = Literal["high", "medium", "low"]
"""high: the preference is likely wrong. medium: a text is likely not what was meant, or the pair
teaches nothing. low: worth knowing; often meant so."""


@dataclass(frozen=True, slots=True)
class Issue:
    """How one kind of issue is called and explained.

    label: what a page shows for the kind. help: one sentence on what was seen. advice: what to do.
    """

    label: str
    severity: Severity
    help: str
    advice: str


ISSUES: dict[IssueKind, Issue] = {
    "contradiction": Issue(
        "Contradicting pairs",
        "high",
        "Another pair has the same prompt and responses with the opposite preference.",
        "Decide which one holds and leave the other out; trained together they cancel out.",
    ),
    "conflicting_prompt": Issue(
        "Preferences in a circle",
        "high",
        "Pairs with the same prompt prefer A to B, B to C and C to A, or a longer circle.",
        "Leave out the pair that is wrong; no ranking of the responses satisfies all of them.",
    ),
    "scores_against": Issue(
        "Preferred scored lower",
        "high",
        "Columns of the row give the preferred response a lower score than the dispreferred one.",
        "Check what the columns mean; if higher is better, the responses are swapped.",
    ),
    "likely_swapped": Issue(
        "Likely swapped",
        "high",
        "The preference goes against what nearly all other pairs of the dataset say about "
        "refusals, or prefers a placeholder to an answer.",
        "Read the pair; swap its responses or leave it out.",
    ),
    "duplicate": Issue(
        "Repeated pairs",
        "medium",
        "An earlier pair has the same prompt and responses.",
        "Leave them out, unless the pair is meant to weigh more.",
    ),
    "near_identical": Issue(
        "Nearly the same responses",
        "medium",
        "The responses differ in less than 5 % of their characters, or in nothing but case, "
        "blanks and punctuation.",
        "Keep them where the small difference is the point; such pairs drive likelihood "
        "displacement.",
    ),
    "scores_tied": Issue(
        "Scored alike",
        "medium",
        "Columns of the row give both responses the same score.",
        "Leave them out; the order of the responses says nothing.",
    ),
    "placeholder": Issue(
        "Placeholder for a response",
        "medium",
        "A response is a mark of absence such as N/A, [deleted] or null, and the other one is "
        "an answer.",
        "Leave them out; any answer beats a placeholder.",
    ),
    "language_change": Issue(
        "Responses in different languages",
        "medium",
        "The two responses are written in different scripts or languages.",
        "Keep them only where the language is what is to be learned.",
    ),
    "leftover_markup": Issue(
        "Leftover markup",
        "medium",
        "A text contains marks of a chat template, role labels or HTML.",
        "Take the marks off; the model learns them as text.",
    ),
    "broken_text": Issue(
        "Broken characters",
        "medium",
        "A response contains characters that were decoded wrongly, or escapes in place of "
        "characters.",
        "Export the texts again as UTF-8.",
    ),
    "unclosed_block": Issue(
        "Block left open",
        "medium",
        "A response opens a code block or <think> and does not close it, or the reverse.",
        "Check whether the response was cut off when it was generated.",
    ),
    "no_end": Issue(
        "Ends in mid-sentence",
        "low",
        "A response has no final punctuation, which most of the dataset's responses have.",
        "Check whether the response was cut off when it was generated; the model learns to stop "
        "there.",
    ),
    "length_ratio": Issue(
        "Very different lengths",
        "low",
        "One response is more than ten times as long as the other.",
        "Read some of them; length is the easiest preference to learn.",
    ),
    "long": Issue(
        "Over-long pairs",
        "low",
        "The prompt or a response is likely longer than the default limits of a run and would be "
        "truncated.",
        "Raise max_prompt_tokens or max_response_tokens in the run, or leave them out.",
    ),
    "repeated_prompt": Issue(
        "Repeated prompts",
        "low",
        "An earlier pair has the same prompt with other responses.",
        "Nothing is wrong with ranked lists; elsewhere, keep the copies out of a test set.",
    ),
    "reused_response": Issue(
        "Responses used elsewhere",
        "low",
        "A response of some length is also a response of a pair with another prompt.",
        "Check that the response belongs to its prompt; rows may have slipped.",
    ),
}
