"""Greedy generation: the model's answers to the probes' prompts in the course of training.

Greedy decoding draws no random numbers: a run that generates answers trains bit for bit as one that
does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chesboard.forward.batching import TokenBudget
from chesboard.generation.answers import answer_requests, answer_text
from chesboard.generation.decoding import Decoded, Request
from chesboard.generation.sampling import Sampling
from chesboard.model import LoadedModel
from chesboard.reporting import Control

BATCH_TOKENS = {"cpu": 8_192, "cuda": 32_768}
"""Padded tokens of a generation batch, new ones included, by device type."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    ended: bool
    """Whether generation ended with an end token rather than at the token limit."""


def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    control: Control,
    report: Callable[[str], None],
    *,
    is_fixed: bool = False,
) -> list[Answer | None]:
    """Greedy decoding from each prompt (token ids) up to an end token or `max_new_tokens`.

    One answer a prompt, in their order; None where it does not fit into the GPU's memory or into
    the model's learned positions, of which `report` receives a message. is_fixed: as of
    `TokenBudget`.
    """
    answers: dict[int, Answer] = {}

    def keep(request: Request, decoded: Decoded) -> None:
        answers[request.pair] = Answer(answer_text(loaded, decoded), decoded.ended)

    answer_requests(
        loaded,
        [Request(i, 0, tuple(ids)) for i, ids in enumerate(prompts)],
        max_new_tokens,
        Sampling(temperature=0),
        TokenBudget(BATCH_TOKENS.get(loaded.device.type, 0), report, is_fixed=is_fixed),
        control,
        keep,
        report,
        prompts="probes' prompts",
    )
    return [answers.get(i) for i in range(len(prompts))]
