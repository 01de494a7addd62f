"""The model's own greedy answers to the probes' prompts, as it stands in the middle of training.

Generation draws no random numbers, and the generators are put back all the same: a run that lets
its model answer trains bit for bit as one that does not.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from chesboard.model import LoadedModel, autocast, causal_model
from chesboard.reporting import Control
from chesboard.tokenization import find_end_of_turn, storable

log = logging.getLogger(__name__)

MOST_TOKENS = {"cpu": 8_192, "cuda": 32_768}
"""Padded tokens, answers included, that are generated from at once."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    ended: bool
    """Whether the model ended it, rather than the limit of tokens."""


class _Checking(StoppingCriteria):  # type: ignore[misc] # transformers has no types here
    """Stops for nothing, but lets the run be cancelled between two tokens."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self._control.check()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    most_tokens: int,
    control: Control,
    tell: Callable[[str], None],
) -> list[Answer | None]:
    """The likeliest next token again and again, until the model ends or `most_tokens` are out.

    One answer a prompt (token ids), in their order; None where it does not fit into the GPU's
    memory or among the positions that the model has learned, which `tell` is told.
    """
    limit = _learned_positions(loaded)
    answers: dict[int, Answer] = {}
    fitting = [
        i for i, ids in enumerate(prompts) if limit is None or len(ids) + most_tokens <= limit
    ]
    if len(fitting) < len(prompts):
        tell(
            f"{len(prompts) - len(fitting)} of the probes' prompts leave no room for an answer of "
            f"{most_tokens} tokens among the {limit} that the model reads, and get none."
        )
    waiting = list(_batches(fitting, prompts, most_tokens, MOST_TOKENS.get(loaded.device.type, 0)))
    while waiting:
        control.check()
        batch = waiting.pop(0)
        found = None
        with suppress(torch.OutOfMemoryError):
            found = _generate(loaded, [prompts[i] for i in batch], most_tokens, control)
        if found is not None:
            answers.update(zip(batch, found, strict=True))
        elif len(batch) > 1:
            torch.cuda.empty_cache()
            waiting[:0] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        else:
            tell("Some of the probes' prompts are too long to be answered in the GPU's memory.")
    return [answers.get(i) for i in range(len(prompts))]


def _batches(
    which: Sequence[int], prompts: Sequence[Sequence[int]], most_tokens: int, budget: int
) -> Iterator[list[int]]:
    """Prompts of like length together, so that little is padded; the longest first."""
    batch: list[int] = []
    width = 0
    for i in sorted(which, key=lambda i: (-len(prompts[i]), i)):
        if batch and (len(batch) + 1) * width > budget:
            yield batch
            batch = []
        width = width if batch else len(prompts[i]) + most_tokens
        batch.append(i)
    if batch:
        yield batch


def _generate(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], most_tokens: int, control: Control
) -> list[Answer]:
    """One batch, padded at the left, with a cache of keys and values."""
    model, device = causal_model(loaded), loaded.device
    ends = _end_ids(loaded)
    width = max(map(len, prompts))
    pad = loaded.tokenizer.pad_token_id
    pad = ends[0] if pad is None else pad
    rows = [[pad] * (width - len(ids)) + list(ids) for ids in prompts]
    seen = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    with _undisturbed(device), torch.no_grad(), autocast(loaded):
        output = model.generate(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(seen, device=device),
            generation_config=_greedy(most_tokens, ends, pad),
            stopping_criteria=StoppingCriteriaList([_Checking(control)]),
        )
    return [_read(loaded.tokenizer, row, ends) for row in output[:, width:].tolist()]


def _greedy(most_tokens: int, ends: list[int], pad: int) -> GenerationConfig:
    """Nothing but the likeliest token; what the model's own settings would add is turned off."""
    return GenerationConfig(
        max_new_tokens=most_tokens,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=ends,
        pad_token_id=pad,
        use_cache=True,
    )


def _read(tokenizer: Any, ids: list[int], ends: Sequence[int]) -> Answer:
    end = next((k for k, token_id in enumerate(ids) if token_id in ends), None)
    text: str = tokenizer.decode(ids[:end])
    return Answer(storable(text), end is not None)


def _end_ids(loaded: LoadedModel) -> list[int]:
    """Tokens that end an answer: the end of a turn, and whatever else the model ends with."""
    own = getattr(causal_model(loaded), "generation_config", None)
    more = getattr(own, "eos_token_id", None)
    ids = [find_end_of_turn(loaded.tokenizer), loaded.tokenizer.eos_token_id]
    ids += more if isinstance(more, list) else [more]
    return list(dict.fromkeys(token_id for token_id in ids if token_id is not None))


def _learned_positions(loaded: LoadedModel) -> int | None:
    """How many tokens the model reads, where that is a table that ends."""
    config = causal_model(loaded).config.get_text_config()
    if getattr(config, "rope_parameters", None) is not None:
        return None
    return getattr(config, "max_position_embeddings", None)


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Random numbers go on afterwards as if nothing had been drawn."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
