"""Which messages of a run say what its findings say, so that a page says it once.

Messages are plain sentences for whoever reads a run without its findings. They are told by words
of theirs: of chesboard.text_messages, and of the reports of chesboard.scoring.
"""

from collections.abc import Iterable, Sequence

from app.findings.schemas import FindingKindOut
from chesboard.findings import FindingKind

WORDS: dict[FindingKind, str] = {
    "template_refused": "The chat template refuses the prompts of ",
    "unknown_token": "The model has no embedding of a token in ",
    "same_tokens": "responses are the same tokens to the model",
    "turn_left_out": "The chat template leaves out or changes the ",
    "prompt_not_prefix": "the chat template renders the dialogue with the answer otherwise",
    "think_left_open": "The chat template opens <think> before every response",
    "special_tokens": "contain special tokens of the model or of another model's chat template",
    "repeats_prompt": "both responses begin with the prompt's last turn",
    "prompt_truncated": " pairs were too long: ",
    "response_truncated": " pairs were too long: ",
    "retokenized": "prompt and response were tokenized apart",
    "rendered_prompt": "had been rendered by this chat template",
    "prefill_continued": "end with a turn of the assistant, which the responses continue",
    "end_token_removed": "ended with the model's end token",
    "think_removed": "began with the <think> that the chat template opens",
}


def untold(messages: Sequence[str], kinds: Iterable[FindingKindOut]) -> list[str]:
    """The messages that none of these kinds of findings tells."""
    told = [WORDS[one.kind] for one in kinds]
    return [message for message in messages if not any(words in message for words in told)]
