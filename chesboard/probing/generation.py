"""Greedy generation: the model's answers to the probes' prompts in the course of training.

Greedy decoding draws no random numbers, and the state of the random generators is restored all the
same: a run that generates answers trains bit for bit as one that does not.
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
from chesboard.tokenization import find_end_of_turn, show_null

log = logging.getLogger(__name__)

MAX_BATCH_TOKENS = {"cpu": 8_192, "cuda": 32_768}
"""Padded tokens of a generation batch, new ones included, by device type."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    ended: bool
    """Whether generation ended with an end token rather than at the token limit."""


class _CheckControl(StoppingCriteria):  # type: ignore[misc] # transformers has no types here
    """Never stops generation, but lets the run be cancelled between two tokens."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self._control.check()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    control: Control,
    report: Callable[[str], None],
) -> list[Answer | None]:
    """Greedy decoding from each prompt (token ids) up to an end token or `max_new_tokens`.

    One answer a prompt, in their order; None where it does not fit into the GPU's memory or into
    the model's learned positions, of which `report` receives a message.
    """
    limit = _max_positions(loaded)
    answers: dict[int, Answer] = {}
    fitting = [
        i for i, ids in enumerate(prompts) if limit is None or len(ids) + max_new_tokens <= limit
    ]
    if len(fitting) < len(prompts):
        report(
            f"{len(prompts) - len(fitting)} of the probes' prompts leave no room for an answer of "
            f"{max_new_tokens} tokens among the {limit} that the model reads, and get none."
        )
    budget = MAX_BATCH_TOKENS.get(loaded.device.type, 0)
    waiting = list(_batches(fitting, prompts, max_new_tokens, budget))
    while waiting:
        control.check()
        batch = waiting.pop(0)
        found = None
        with suppress(torch.OutOfMemoryError):
            found = _generate(loaded, [prompts[i] for i in batch], max_new_tokens, control)
        if found is not None:
            answers.update(zip(batch, found, strict=True))
        elif len(batch) > 1:
            torch.cuda.empty_cache()
            waiting[:0] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        else:
            report("Some of the probes' prompts are too long to be answered in the GPU's memory.")
    return [answers.get(i) for i in range(len(prompts))]


def _batches(
    which: Sequence[int], prompts: Sequence[Sequence[int]], max_new_tokens: int, budget: int
) -> Iterator[list[int]]:
    """Batches of prompts of similar length, to pad little; the longest first.

    budget: padded tokens of a batch.
    """
    batch: list[int] = []
    width = 0
    for i in sorted(which, key=lambda i: (-len(prompts[i]), i)):
        if batch and (len(batch) + 1) * width > budget:
            yield batch
            batch = []
        width = width if batch else len(prompts[i]) + max_new_tokens
        batch.append(i)
    if batch:
        yield batch


def _generate(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, control: Control
) -> list[Answer]:
    """Generate from one batch of left-padded prompts, with a KV cache."""
    model, device = causal_model(loaded), loaded.device
    ends = _end_ids(loaded)
    width = max(map(len, prompts))
    pad = loaded.tokenizer.pad_token_id
    pad = ends[0] if pad is None else pad
    # Left padding: every row's last prompt token is in the last column, where generation starts.
    rows = [[pad] * (width - len(ids)) + list(ids) for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    with _preserve_rng(device), torch.no_grad(), autocast(loaded):
        output = model.generate(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(mask, device=device),
            generation_config=_greedy(max_new_tokens, ends, pad),
            stopping_criteria=StoppingCriteriaList([_CheckControl(control)]),
        )
    return [_decode(loaded.tokenizer, row, ends) for row in output[:, width:].tolist()]


def _greedy(max_new_tokens: int, ends: list[int], pad: int) -> GenerationConfig:
    """Plain greedy decoding, whatever sampling and penalties the model's own config asks for."""
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
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


def _decode(tokenizer: Any, ids: list[int], ends: Sequence[int]) -> Answer:
    end = next((k for k, token_id in enumerate(ids) if token_id in ends), None)
    text: str = tokenizer.decode(ids[:end])
    return Answer(show_null(text), end is not None)


def _end_ids(loaded: LoadedModel) -> list[int]:
    """Token ids that end an answer: end of turn, EOS, and those of the generation config."""
    own = getattr(causal_model(loaded), "generation_config", None)
    more = getattr(own, "eos_token_id", None)
    ids = [find_end_of_turn(loaded.tokenizer), loaded.tokenizer.eos_token_id]
    ids += more if isinstance(more, list) else [more]
    return list(dict.fromkeys(token_id for token_id in ids if token_id is not None))


def _max_positions(loaded: LoadedModel) -> int | None:
    """The context length of a model with learned absolute positions; None with RoPE or the like."""
    config = causal_model(loaded).config.get_text_config()
    if getattr(config, "rope_parameters", None) is not None:
        return None
    return getattr(config, "max_position_embeddings", None)


@contextmanager
def _preserve_rng(device: torch.device) -> Iterator[None]:
    """Restore the state of the random generators on leaving."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
