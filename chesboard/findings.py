"""Kinds of findings: what tokenizing a pair under a model shows about it, declared once.

A finding belongs to a pair and a model, unlike the issues of a dataset (app/datasets/issues.py),
which its texts alone decide. The worker records them (`chesboard.records.FindingRecord`); the pages
and the API read labels and advice from here. This module imports no torch.
"""

from dataclasses import dataclass
from typing import Literal

FindingKind = Literal[
    "template_refused",
    "unknown_token",
    "same_tokens",
    "turn_left_out",
    "prompt_not_prefix",
    "think_left_open",
    "special_tokens",
    "repeats_prompt",
    "prompt_truncated",
    "response_truncated",
    "retokenized",
    "rendered_prompt",
    "prefill_continued",
    "end_token_removed",
    "think_removed",
]

Consequence = Literal["left out", "not measured", "doubt", "mended"]
"""left out: the pair takes no part in the run. not measured: it has log-probabilities, but no
measures, and is not trained on. doubt: it takes part as it is. mended: the model reads it as the
row means it, which is not how it was written."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one kind of finding is called and explained.

    label: what a page shows for the kind. help: one sentence on what was seen. advice: what to do.
    """

    label: str
    consequence: Consequence
    help: str
    advice: str


FINDINGS: dict[FindingKind, Finding] = {
    "template_refused": Finding(
        "Refused by the chat template",
        "left out",
        "The model's chat template raises an error for these turns.",
        "Change the turns (many templates take no system turn, or want user and assistant in "
        "turn), or choose a model whose template takes them.",
    ),
    "unknown_token": Finding(
        "Token without an embedding",
        "left out",
        "The tokenizer splits the texts into a token of which the model has no embedding.",
        "Resize the model's embedding (resize_token_embeddings), or take the tokenizer that "
        "belongs to the model.",
    ),
    "same_tokens": Finding(
        "Same tokens",
        "not measured",
        "Both responses are the same tokens to the model, behind a cut or by its tokenizer.",
        "Raise max_response_tokens where the responses differ behind the cut.",
    ),
    "turn_left_out": Finding(
        "Turn left out",
        "doubt",
        "The text of a turn is not in what the model reads.",
        "Write it into another turn, or choose a model whose template has that role.",
    ),
    "prompt_not_prefix": Finding(
        "Answer rendered differently",
        "doubt",
        "The dialogue with the answer does not begin with the prompt as it is rendered for "
        "generating one.",
        "Give a chat template that renders both alike, or template arguments that do.",
    ),
    "think_left_open": Finding(
        "Reasoning left open",
        "doubt",
        "The template opens <think> before the response, which has no </think>: the model reads it "
        "as reasoning.",
        "Set chat_template_kwargs enable_thinking to false where the template reads it, or give a "
        "chat template that opens none.",
    ),
    "special_tokens": Finding(
        "Special tokens in the text",
        "doubt",
        "A text contains tokens that mark turns or ends for this model.",
        "Upload plain texts or messages that no template has rendered.",
    ),
    "repeats_prompt": Finding(
        "Responses repeat the prompt",
        "doubt",
        "Both responses begin with the prompt's last turn, which the model then reads twice.",
        "Take it off the responses.",
    ),
    "prompt_truncated": Finding(
        "Prompt cut",
        "doubt",
        "The prompt is longer than the run's limit and loses its beginning.",
        "Raise max_prompt_tokens.",
    ),
    "response_truncated": Finding(
        "Response cut",
        "doubt",
        "A response is longer than the run's limit and loses its end, the end token included.",
        "Raise max_response_tokens.",
    ),
    "retokenized": Finding(
        "Boundary inside a token",
        "doubt",
        "Prompt and response were tokenized apart, because joining them changes the prompt's last "
        "token.",
        "Begin the response with a blank or end the prompt with one, as the model writes it.",
    ),
    "rendered_prompt": Finding(
        "Rendered before",
        "mended",
        "The prompt had been rendered by the model's chat template and is used as it is.",
        "Nothing is to be done; plain messages would suit other models too.",
    ),
    "prefill_continued": Finding(
        "Answer begun in the prompt",
        "mended",
        "The prompt ends with a turn of the assistant, which the response continues.",
        "Nothing is to be done if it is meant so.",
    ),
    "end_token_removed": Finding(
        "End token in the response",
        "mended",
        "A response ended with the model's end token, which is added once in any case.",
        "Nothing is to be done.",
    ),
    "think_removed": Finding(
        "Reasoning opened twice",
        "mended",
        "The template opens <think>, and so does the response; it stands once.",
        "Nothing is to be done.",
    ),
}
