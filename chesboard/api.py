"""Scoring pairs under a model that the caller has loaded: `chesboard.score`."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import nn

from chesboard import cpu
from chesboard.configs import ScoreConfig
from chesboard.cpu import precision
from chesboard.forward.layer_stream import stream_of
from chesboard.loading import load
from chesboard.model import LoadedModel, embedding_rows, without_adapters
from chesboard.pairs import Pair
from chesboard.records import Record, ScoreRecord
from chesboard.rendering import run_template
from chesboard.reporting import PhaseName, Reporter
from chesboard.scoring import NOT_RANKED, report_same_tokens, report_truncation, score_pairs
from chesboard.text_check import TextCheck
from chesboard.tokenization import tokenize_pairs

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with how many pairs are scored and how many there are."""


def score(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    *,
    max_prompt_tokens: int = 1024,
    max_response_tokens: int = 1024,
    batch_tokens: int = 4096,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    on_refused: Literal["raise", "skip"] = "raise",
    progress: Progress | None = None,
    layer_progress: Progress | None = None,
) -> list[ScoreRecord]:
    """CHES, its relatives and the log-probabilities of each pair (arXiv 2410.08847, Section 5).

    model: a transformers CausalLM, or a PeftModel around one, on its device and in its dtype.
        It is in eval mode meanwhile and unchanged afterwards: weights, layers, attention
        implementation and the training flag of every module are as before.
    tokenizer: the model's. Prompts are rendered by its chat template where it has one. A template
        that tells the date tells one date in all of them.
    max_prompt_tokens, max_response_tokens: longer prompts are cut at the left, longer responses
        at the right. How much was cut is logged as a warning and stands in `cut_tokens`.
    batch_tokens: token budget of one forward pass; affects speed and memory, not the scores.
    chat_template: a Jinja template in place of the tokenizer's.
    chat_template_kwargs: arguments of the template, for example {"enable_thinking": False}.
    on_refused: what becomes of a pair whose prompt the chat template refuses, or with a token of
        which the model has no embedding: "raise" an error, or "skip" the pair, which then has no
        record; a warning counts and names such pairs.
    progress: called as `progress(done, total)` after each forward pass.
    layer_progress: the same before each layer of a model that is read layer by layer, whose forward
        passes end together: the layers that were read, of those that are to be read for all pairs.

    Returns one record a pair, in the order of `pairs`; `record.pair` is the place in `pairs`,
    from 0, whatever `Pair.pair` was. The scores are those of the server for the same precision.
    What is found in the texts, and mended where that is certain, is logged as warnings.

    Raises:
        TypeError: an element of `pairs` is no Pair, or holds something other than text.
        ValueError: a prompt or response is empty, the chat template refuses a prompt or the model
            has no embedding of a token (with "skip": in every pair), or a pair is longer than the
            model can read. The message names the pair by its place. Or chat_template or
            chat_template_kwargs cannot be used.
        MemoryError: one pair alone exceeds the GPU's memory.
    """
    config = ScoreConfig(
        max_prompt_tokens=max_prompt_tokens,
        max_response_tokens=max_response_tokens,
        batch_tokens=batch_tokens,
        chat_template=chat_template,
        chat_template_kwargs=dict(chat_template_kwargs or {}),
    )
    numbered = [_numbered(pair, number) for number, pair in enumerate(pairs)]
    if not numbered:
        return []
    template = run_template(tokenizer, config)
    tokenizer = template.tokenizer
    check = TextCheck(tokenizer, embedding_rows(model))
    tokenized = tokenize_pairs(tokenizer, numbered, max_prompt_tokens, max_response_tokens, check)
    check.refuse_if_left_out(only_if_all=on_refused == "skip")
    for sentence in (*template.messages(), *check.messages()):
        log.warning("%s", sentence)
    collector = _Collector(progress, layer_progress)
    with _ready_to_score(model) as (device, compute_dtype):
        loaded = LoadedModel(model, tokenizer, device, compute_dtype, type(model).__name__)
        # Scoring reports nothing but what the collector has methods for.
        reporter = cast(Reporter, collector)
        report_truncation(tokenized, reporter)
        report_same_tokens(tokenized, reporter, NOT_RANKED)
        score_pairs(loaded, tokenized, config, reporter, _NeverStop())
    return [collector.records[pair.pair] for pair in tokenized]


def open_streamed(
    model: str,
    *,
    revision: str | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    device: str = "auto",
) -> tuple[Any, Any]:
    """(A CausalLM of which one layer at a time is on the device, its tokenizer), for `score`.

    For models that do not fit. Layers are read from disk one by one, each for as many pairs as
    memory holds at a time, and the scores are those of the whole model to the last bit. What is not
    in the layers, such as the embeddings, stays on the device.

    model: a folder of safetensors, or a hub name, with `revision`: a branch, a tag or a commit.

    Raises:
        ModelError: no such model or device, a damaged or quantized one, one with an adapter, or
            one of which even a layer does not fit.
    """
    config = ScoreConfig(
        model=model, revision=revision, dtype=dtype, device=device, stream="always"
    )
    return load(config)


def _numbered(pair: Pair, number: int) -> Pair:
    if not isinstance(pair, Pair):
        raise TypeError(f"Pair {number} is a {type(pair).__name__}, not a chesboard.Pair.")
    for name in ("preferred", "dispreferred"):
        if not isinstance(getattr(pair, name), str):
            raise TypeError(f"The {name} response of pair {number} is not text.")
    if not isinstance(pair.prompt, str) and not all(_is_message(turn) for turn in pair.prompt):
        raise TypeError(
            f"The prompt of pair {number} is neither text nor a list of messages, each with "
            "`role` and `content` as text."
        )
    return replace(pair, pair=number)


def _is_message(turn: object) -> bool:
    return isinstance(turn, dict) and all(
        isinstance(turn.get(name), str) for name in ("role", "content")
    )


@contextmanager
def _ready_to_score(model: nn.Module) -> Iterator[tuple[torch.device, torch.dtype]]:
    """The model in eval mode and, on a CPU, with the server's matrix products; then as it was.

    Yields its device and the dtype that it computes in.
    """
    stream = stream_of(without_adapters(model))
    device = next(model.parameters()).device if stream is None else stream.device
    # The dtype of the weights that are multiplied: norms may be kept in float32.
    asked = next((p.dtype for p in model.parameters() if p.ndim >= 2), torch.float32)
    compute_dtype = precision.computed_in(asked, device)
    # An autocast of the caller's would change the precision of the scores.
    if stream is not None:
        stream.drop()  # a layer that is held now would be kept, to be put back
    with _restored(model), torch.autocast(device.type, enabled=False):
        model.eval()
        cpu.install(model, compute_dtype=compute_dtype)
        try:
            yield device, compute_dtype
        finally:
            if stream is not None:
                stream.drop()


@contextmanager
def _restored(model: Any) -> Iterator[None]:
    """Afterwards the model has its layers, weights, training flags and attention of before."""
    modules = [
        (module, module.__class__, module.training, dict(module._parameters))
        for module in model.modules()
    ]
    causal_lm = without_adapters(model)
    attention = causal_lm.config._attn_implementation
    try:
        yield
    finally:
        for module, kind, training, parameters in modules:
            module.__class__ = kind
            module.training = training
            module._parameters.update(parameters)
        if causal_lm.config._attn_implementation != attention:
            causal_lm.set_attn_implementation(attention)


class _NeverStop:
    def check(self) -> None:
        return


class _Collector:
    """Keeps the score records, by pair; logs the messages."""

    def __init__(self, progress: Progress | None, layer_progress: Progress | None) -> None:
        self.records: dict[int, ScoreRecord] = {}
        self._progress, self._layer_progress = progress, layer_progress

    def put(self, *records: Record) -> None:
        self.records.update((r.pair, r) for r in records if isinstance(r, ScoreRecord))

    def phase(
        self,
        name: PhaseName,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None:
        is_of_layers = name == "scoring" and unit == "layers"
        if is_of_layers and self._layer_progress and done is not None and total is not None:
            self._layer_progress(done, total)

    def progress(self, done: int, total: int, unit: str) -> None:
        if self._progress is not None:
            self._progress(done, total)

    def message(self, text: str) -> None:
        log.warning("%s", text)
