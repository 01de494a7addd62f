"""Decoding of one batch of prompts with a KV cache.

Dimensions: P distinct prompts, B answers that go on, L columns read so far (padding included), V
vocabulary.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from chesboard.forward.rope import length_dependent_rope
from chesboard.generation.sampling import Sampling, next_tokens
from chesboard.model import LoadedModel, autocast, causal_model
from chesboard.rendering import find_end_of_turn
from chesboard.reporting import Control
from chesboard.transformers_api import has_own_cache, keeps_keys_alone, new_cache

MOST_FINISHED = 0.25
"""Share of a batch's rows that may have ended before they are taken out of the KV cache."""


@dataclass(frozen=True, slots=True)
class Request:
    """One answer that is wanted: sample `sample` of the prompt of `pair`."""

    pair: int
    sample: int
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Token ids, an end token included; their log-probability at temperature 1 over the whole
    vocabulary, a sum in nats."""

    ids: list[int]
    ended: bool
    logprob: float


@dataclass(slots=True)
class _Row:
    """An answer that goes on."""

    request: Request
    drawn: np.ndarray
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0


def end_ids(loaded: LoadedModel) -> list[int]:
    """Token ids that end an answer: end of turn, EOS, and those of the generation config."""
    own = getattr(causal_model(loaded), "generation_config", None)
    more = getattr(own, "eos_token_id", None)
    ids = [find_end_of_turn(loaded.tokenizer), loaded.tokenizer.eos_token_id]
    ids += more if isinstance(more, list) else [more]
    return list(dict.fromkeys(token_id for token_id in ids if token_id is not None))


def takes_padding(loaded: LoadedModel) -> bool:
    """Whether a prompt is read the same beside longer ones: not where states or convolutions run
    over the padding, nor where rotary positions depend on the longest text of a batch."""
    model = causal_model(loaded)
    if length_dependent_rope(model) is not None or has_own_cache(model):
        return False
    return keeps_keys_alone(new_cache(model.config))


def decode(
    loaded: LoadedModel,
    requests: Sequence[Request],
    draws: Callable[[Request], np.ndarray],
    max_new_tokens: int,
    sampling: Sampling,
    control: Control,
    on_answer: Callable[[Request, Decoded], None],
) -> None:
    """Decode all requests together; each is handed over as soon as it has ended.

    draws: `max_new_tokens` numbers in [0, 1) for a request. Prompts are of one length unless the
    model `takes_padding`; each distinct one is read once.

    Raises:
        torch.OutOfMemoryError: the batch is too large; some answers may have been handed over.
        What `control.check()` raises, between two tokens.
    """
    with torch.no_grad(), autocast(loaded):
        _Batch(loaded, requests, draws, max_new_tokens, sampling, on_answer).run(control)


class _Batch:
    def __init__(
        self,
        loaded: LoadedModel,
        requests: Sequence[Request],
        draws: Callable[[Request], np.ndarray],
        max_new_tokens: int,
        sampling: Sampling,
        on_answer: Callable[[Request, Decoded], None],
    ) -> None:
        self._model = causal_model(loaded)
        self._device = loaded.device
        self._ends = frozenset(end_ids(loaded))
        self._pad = min(self._ends, default=0)
        self._rope = length_dependent_rope(self._model)
        self._rows = [_Row(request, draws(request)) for request in requests]
        self._most = max_new_tokens
        self._sampling = sampling
        self._on_answer = on_answer
        names = inspect.signature(self._model.forward).parameters
        self._cache_name = "cache_params" if "cache_params" in names else "past_key_values"
        self._takes_positions = "position_ids" in names
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in names else {}
        self._cache: DynamicCache | None = None
        self._has_own_cache = has_own_cache(self._model)
        self._mask_BL: Tensor | None = None

    def run(self, control: Control) -> None:
        logits_BV = self._read_prompts()
        for step in range(self._most):
            control.check()
            ids_B, logprobs_B = self._choose(logits_BV, step)
            going = [
                b
                for b, (row, token_id, logprob) in enumerate(
                    zip(self._rows, ids_B.tolist(), logprobs_B.tolist(), strict=True)
                )
                if self._goes_on(row, token_id, logprob)
            ]
            if not going:
                return
            if len(going) < (1 - MOST_FINISHED) * len(self._rows):
                self._keep(going)
                ids_B = ids_B[self._index(going)]
            logits_BV = self._read_next(ids_B)

    def _choose(self, logits_BV: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Token ids and their log-probabilities at temperature 1, float32, in nats."""
        drawn = torch.tensor([row.drawn[step] for row in self._rows], dtype=torch.float64)
        ids_B = next_tokens(logits_BV, self._sampling, drawn.to(logits_BV.device))
        chosen_B = logits_BV.gather(1, ids_B[:, None])[:, 0]
        return ids_B, chosen_B - logits_BV.logsumexp(1)

    def _goes_on(self, row: _Row, token_id: int, logprob: float) -> bool:
        """Add a token; hand the answer over if that was its last."""
        if len(row.ids) == self._most or (row.ids and row.ids[-1] in self._ends):
            return False  # one that had ended before
        row.ids.append(token_id)
        row.logprob += logprob
        ended = token_id in self._ends
        if ended or len(row.ids) == self._most:
            self._on_answer(row.request, Decoded(row.ids, ended, row.logprob))
            return False
        return True

    def _read_prompts(self) -> Tensor:
        """float32 logits_BV after each row's prompt."""
        prompts = list(dict.fromkeys(row.request.prompt_ids for row in self._rows))
        logits_PV = self._read(prompts)
        place = {prompt: p for p, prompt in enumerate(prompts)}
        if len(prompts) == len(self._rows):
            return logits_PV
        rows_B = self._index([place[row.request.prompt_ids] for row in self._rows])
        self._select(rows_B)
        return logits_PV[rows_B]

    def _read(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """float32 logits after each of these texts, read into a new cache."""
        width = max(map(len, texts))
        # Left padding: every text ends in the last column, where its answer goes on.
        ids = [[self._pad] * (width - len(text)) + list(text) for text in texts]
        self._mask_BL = None
        if any(len(text) < width for text in texts):
            mask = [[0] * (width - len(text)) + [1] * len(text) for text in texts]
            self._mask_BL = torch.tensor(mask, device=self._device)
        self._cache = None if self._has_own_cache else new_cache(self._model.config)
        if self._rope is not None:
            self._rope.forget_earlier_lengths()
        return self._forward(torch.tensor(ids, device=self._device))

    def _read_next(self, ids_B: Tensor) -> Tensor:
        """float32 logits_BV after one more token of each row."""
        if self._mask_BL is not None:
            more_B1 = self._mask_BL.new_ones(len(self._mask_BL), 1)
            self._mask_BL = torch.cat([self._mask_BL, more_B1], dim=1)
        length = len(self._rows[0].request.prompt_ids) + max(len(r.ids) for r in self._rows)
        if self._cache is None or self._changes_frequencies(length):
            # Such rows have one length.
            return self._read([self._text(row, length) for row in self._rows])
        return self._forward(ids_B[:, None])

    def _changes_frequencies(self, length: int) -> bool:
        """Whether all keys have other frequencies from the last of so many tokens on."""
        rope = self._rope
        return rope is not None and rope.length_class(length) != rope.length_class(length - 1)

    def _text(self, row: _Row, length: int) -> list[int]:
        text = [*row.request.prompt_ids, *row.ids]
        return text + [self._pad] * (length - len(text))  # of an answer that has ended

    def _forward(self, ids_BL: Tensor) -> Tensor:
        inputs: dict[str, Any] = {"use_cache": self._cache is not None, **self._last_only}
        if self._cache is not None:
            inputs[self._cache_name] = self._cache
        if self._mask_BL is not None:
            inputs["attention_mask"] = self._mask_BL
            if self._takes_positions:
                positions_BL = (self._mask_BL.cumsum(-1) - 1).clamp(min=0)
                inputs["position_ids"] = positions_BL[:, -ids_BL.shape[1] :]
        logits: Tensor = self._model(input_ids=ids_BL, **inputs).logits[:, -1]
        return logits.float()

    def _keep(self, rows: Sequence[int]) -> None:
        """Take all other rows out of the batch."""
        self._rows = [self._rows[b] for b in rows]
        self._select(self._index(rows))

    def _select(self, rows_B: Tensor) -> None:
        if self._cache is not None:
            self._cache.reorder_cache(rows_B)
        if self._mask_BL is not None:
            self._mask_BL = self._mask_BL[rows_B]

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, device=self._device)
