"""What every run begins with: its model, its chat template, and its pairs as tokens."""

import traceback
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import torch
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.store.lookup import find_run
from chesboard.configs import ModelConfig
from chesboard.loading import ModelError
from chesboard.model import LoadedModel
from chesboard.pairs import Pair, TokenizedPair
from chesboard.rendering import RunTemplate, run_template
from chesboard.reporting import Reporter
from chesboard.text_check import TextCheck
from chesboard.tokenization import tokenize_pairs
from worker import disk
from worker.checking import report_findings
from worker.models.cache import ModelCache
from worker.models.loading import describe_loaded, other_precision
from worker.models.progress import OnPhase
from worker.retry import run_with_retry
from worker.training.sharing import Ranks, current_ranks

TOKENIZED_AT_A_TIME = 1024
"""Pairs between two updates of the phase, and checks for a cancel, while tokenizing."""


class EmptySelectionError(ValueError):
    """The run's selection leaves no pair."""

    def __init__(self) -> None:
        super().__init__(
            "The run's selection leaves no pair of the dataset. "
            "Loosen the selection (flags, verdicts, measures) and queue the run again."
        )


class Claimed(Protocol):
    """A run or a shard that was claimed."""

    @property
    def run_id(self) -> int:
        """The run's."""

    @property
    def created_at(self) -> datetime:
        """When the run was queued."""


class DeviceReporter(Reporter, Protocol):
    """A reporter that is also told where the model of the run is."""

    def device(self, text: str) -> None:
        """For people: "cuda:0 (NVIDIA H100, 80 GiB), bfloat16"."""


class Prepared(NamedTuple):
    """A model whose tokenizer has the run's chat template."""

    loaded: LoadedModel
    template: RunTemplate


def prepare(
    claim: Claimed,
    config: ModelConfig,
    models: ModelCache,
    reporter: DeviceReporter,
    on_phase: OnPhase,
) -> Prepared:
    """Load the model of a run, and report what is to be said of it."""
    loaded = models.load(config, on_phase)
    reporter.device(_among(current_ranks()) + describe_loaded(loaded))
    if other := other_precision(config, loaded):
        reporter.message(other)
    for note in loaded.notes:
        reporter.message(note)
    template = chat_template(claim, config, loaded.tokenizer, reporter)
    # A copy: the model cache keeps the tokenizer as it was loaded.
    return Prepared(replace(loaded, tokenizer=template.tokenizer), template)


def _among(ranks: Ranks) -> str:
    """ "8 processes of 2 workers, first on "; nothing where one process is alone."""
    if ranks.is_alone:
        return ""
    seats = get_settings().seats
    return f"{ranks.count} processes{f' of {seats} workers' * (seats > 1)}, first on "


def chat_template(
    claim: Claimed, config: ModelConfig, tokenizer: Any, reporter: Reporter
) -> RunTemplate:
    """The chat template of a run, with its arguments and date; what it says is reported."""
    template = run_template(tokenizer, config, claim.created_at)
    trained_with = run_with_retry(
        f"run {claim.run_id}", lambda session: template_of_result(session, config.model)
    )
    for sentence in (*filter(None, [trained_with]), *template.messages()):
        reporter.message(sentence)
    return template


def tokenize(
    tokenizer: Any,
    raw_pairs: list[Pair],
    config: ModelConfig,
    check: TextCheck,
    reporter: Reporter,
    on_phase: OnPhase,
) -> list[TokenizedPair]:
    """The pairs as the model reads them. check: collects what is found in them.

    Slice by slice, so that a large dataset shows progress and can be cancelled. Findings are
    reported here, before anything expensive is computed.
    """
    pairs: list[TokenizedPair] = []
    for start in range(0, len(raw_pairs), TOKENIZED_AT_A_TIME):
        on_phase("tokenizing", start, len(raw_pairs), "pairs")
        reported = len(check.findings)
        pairs += tokenize_pairs(
            tokenizer,
            raw_pairs[start : start + TOKENIZED_AT_A_TIME],
            config.max_prompt_tokens,
            config.max_response_tokens,
            check,
        )
        report_findings(check.findings[reported:], reporter)
    on_phase("tokenizing", len(raw_pairs), len(raw_pairs), "pairs")
    return pairs


def template_of_result(session: Session, model: str) -> str | None:
    """A message for the user if a model is the result of a run with a template of its own."""
    number = model.removeprefix("run:")
    run = find_run(session, int(number)) if number != model and number.isdecimal() else None
    if run is None or not (
        run.config.get("chat_template") or run.config.get("chat_template_kwargs")
    ):
        return None
    return (
        f"The model {model} carries the chat template that it was trained with, with the "
        "chat_template_kwargs of its run as defaults."
    )


def is_panic(error: BaseException) -> bool:
    """Whether a library that is written in Rust, as tokenizers and safetensors are, gave up. Its
    exception is no Exception, and would end the worker."""
    return type(error).__module__ == "pyo3_runtime"


def is_failure(error: BaseException) -> bool:
    """Whether the run has failed, and the worker can go on."""
    return isinstance(error, Exception) or is_panic(error)


def describe_error(error: BaseException) -> dict[str, Any]:
    """The error that a failed run stores: message, hint (what to do), traceback."""
    if is_panic(error):
        message, hint = (
            f"A library that reads the model gave up: {error}",
            "The model's tokenizer or its files are at fault: choose another model, or look for "
            "what is unusual in its tokenizer.json.",
        )
    elif isinstance(error, torch.OutOfMemoryError):
        message, hint = (
            "The device ran out of memory.",
            "Choose a smaller batch_size or batch_tokens, LoRA, or a smaller model.",
        )
    elif isinstance(error, disk.DiskFullError):
        message, hint = str(error), error.hint
    elif isinstance(error, ModelError | ValueError | MemoryError):
        message, hint = str(error), None
    elif isinstance(error, DBAPIError):
        # The statement and its parameters are user data, and may be long.
        message, hint = (
            f"The database refused a statement: {str(error.orig).strip().splitlines()[0]}",
            "This is probably a bug in Chesboard; the traceback shows where.",
        )
    else:
        message, hint = (
            f"{type(error).__name__}: {error}",
            "This is probably a bug in Chesboard; the traceback shows where.",
        )
    return {"message": message, "hint": hint, "traceback": traceback.format_exc()}
