"""One run from claim to end: claim it, build its parts from its configuration, call the core.

The functions called here (scoring, training) know nothing of queues, leases or SQL.
"""

import logging
import random
import traceback
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.broker import enqueue, wake
from app.core.database import transaction
from app.core.settings import get_settings
from app.store import leases
from app.store.runs import ReferenceLogprob, Run
from app.store.scores import Score
from app.store.selection import chosen_pairs, read_pairs
from chesboard.configs import CONFIGS, ModelConfig, ProbesConfig, Selection, TrainConfig
from chesboard.measures.registry import MEASURE_NAMES
from chesboard.model import LoadedModel
from chesboard.pairs import Pair, TokenizedPair
from chesboard.reporting import (
    LeaseLostError,
    PhaseName,
    RunCancelledError,
    RunInterruptedError,
)
from chesboard.scoring import score_pairs
from chesboard.tokenization import tokenize_pairs
from worker import disk
from worker.lease_keeper import LeaseKeeper
from worker.models.cache import ModelCache
from worker.models.files import ModelError, save_folder
from worker.models.loading import describe_device, other_precision
from worker.models.progress import OnPhase
from worker.recorder import Recorder
from worker.retry import run_with_retry, until_the_database_answers
from worker.training import checkpoints
from worker.training.loop import train

log = logging.getLogger(__name__)

TOKENIZED_AT_A_TIME = 1024


class EmptySelectionError(ValueError):
    """Nothing is left to work on."""


def execute(run_id: int, worker: str, models: ModelCache) -> bool:
    """Do a run if it is to be had. False where it is not: done, cancelled, or another's.

    While the database is away the worker waits: that it is away says nothing about the run.

    Raises:
        RunInterruptedError: the worker was asked to stop before it could claim the run.
    """
    claim = run_with_retry(
        f"run {run_id}",
        lambda session: leases.claim(session, run_id, worker, get_settings().lease),
    )
    if claim is None:
        return False
    log.info("run %s: %s, try %s", run_id, claim.kind, claim.attempt)
    wake(run_id, claim.revision)
    outcome = _Outcome(claim)
    try:
        with (
            LeaseKeeper(run_id, claim.token) as control,
            Recorder(run_id, claim.token) as recorder,
        ):
            control.check()
            summary = _work(claim, recorder, control, models)
        outcome.finish("succeeded", summary=summary)
        # Not before: a worker that died in between would leave all steps to be done again.
        checkpoints.remove(get_settings().run_path(run_id))
    except LeaseLostError as error:
        log.warning("run %s: %s", run_id, error)
    except RunCancelledError:
        outcome.finish("cancelled")
    except RunInterruptedError:
        outcome.hand_back()
    except Exception as error:
        log.exception("run %s failed", run_id)
        models.forget()
        outcome.finish("failed", error=_describe(error))
    return True


class _Outcome:
    """How a claimed run ends; each way is one UPDATE that holds only for its lease."""

    def __init__(self, claim: leases.Claim) -> None:
        self._claim = claim

    def finish(self, status: str, **details: Any) -> None:
        claim = self._claim

        def finish() -> int | None:
            with transaction() as session:
                return leases.finish(session, claim.run_id, claim.token, status, **details)

        self._told(status, until_the_database_answers(f"run {claim.run_id}", finish))

    def hand_back(self) -> None:
        claim = self._claim

        def hand_back() -> int | None:
            with transaction() as session:
                return leases.hand_back(session, claim.run_id, claim.token)

        revision = until_the_database_answers(f"run {claim.run_id}", hand_back)
        self._told("queued again", revision)
        if revision is not None:
            enqueue(claim.run_id)  # for whoever is idle now

    def _told(self, what: str, revision: int | None) -> None:
        if revision is None:
            log.warning("run %s: not %s, the lease was lost", self._claim.run_id, what)
            return
        log.info("run %s: %s", self._claim.run_id, what)
        wake(self._claim.run_id, revision)


def _work(
    claim: leases.Claim, recorder: Recorder, control: LeaseKeeper, models: ModelCache
) -> dict[str, Any]:
    config = CONFIGS[claim.kind].model_validate(claim.config)
    selection = config.selection if isinstance(config, TrainConfig) else Selection()
    raw_pairs = run_with_retry(
        f"run {claim.run_id}",
        lambda session: select_pairs(session, claim.run_id, claim.dataset_id, selection),
    )
    recorder.progress(0, len(raw_pairs), "pairs")
    on_phase = _phases(recorder, control)
    loaded = models.load(config, on_phase)
    recorder.device(f"{describe_device(loaded.device)}, {_dtype_name(loaded.compute_dtype)}")
    if other := other_precision(config, loaded):
        recorder.message(other)
    pairs = _tokenize(loaded, raw_pairs, config, on_phase)
    if isinstance(config, TrainConfig):
        return _train(claim, config, loaded, pairs, recorder, control)
    return _score(claim, config, loaded, pairs, recorder, control)


def _phases(recorder: Recorder, control: LeaseKeeper) -> OnPhase:
    """Reports a phase's progress, and stops the run there where it is to be stopped."""

    def on_phase(
        name: PhaseName,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None:
        control.check()
        recorder.phase(name, done, total, unit)

    return on_phase


def _tokenize(
    loaded: LoadedModel, raw_pairs: list[Pair], config: ModelConfig, on_phase: OnPhase
) -> list[TokenizedPair]:
    """The pairs in slices, so that a large dataset shows progress and can be cancelled."""
    pairs: list[TokenizedPair] = []
    for start in range(0, len(raw_pairs), TOKENIZED_AT_A_TIME):
        on_phase("tokenizing", start, len(raw_pairs), "pairs")
        pairs += tokenize_pairs(
            loaded.tokenizer,
            raw_pairs[start : start + TOKENIZED_AT_A_TIME],
            config.max_prompt_tokens,
            config.max_response_tokens,
        )
    on_phase("tokenizing", len(raw_pairs), len(raw_pairs), "pairs")
    return pairs


def _score(
    claim: leases.Claim,
    config: ModelConfig,
    loaded: LoadedModel,
    pairs: list[TokenizedPair],
    recorder: Recorder,
    control: LeaseKeeper,
) -> dict[str, Any]:
    already = run_with_retry(f"run {claim.run_id}", partial(_scores, claim.run_id))
    return score_pairs(
        loaded, pairs, config, recorder, control, already, measures=claim.kind == "score"
    )


def _scores(run_id: int, session: Session) -> dict[int, dict[str, float | None]]:
    columns = [getattr(Score, name) for name in MEASURE_NAMES]
    rows = session.execute(select(Score.pair, *columns).where(Score.run_id == run_id))
    return {row.pair: dict(zip(MEASURE_NAMES, row[1:], strict=True)) for row in rows}


def _train(
    claim: leases.Claim,
    config: TrainConfig,
    loaded: LoadedModel,
    pairs: list[TokenizedPair],
    recorder: Recorder,
    control: LeaseKeeper,
) -> dict[str, Any]:
    trained = [pair.pair for pair in pairs]
    probe_raw = run_with_retry(
        f"run {claim.run_id}",
        lambda session: choose_probes(
            session, claim.run_id, claim.dataset_id, config.probes, trained, recorder
        ),
    )
    reference = run_with_retry(f"run {claim.run_id}", partial(_reference, claim.run_id))
    probe_pairs = tokenize_pairs(
        loaded.tokenizer, probe_raw, config.max_prompt_tokens, config.max_response_tokens
    )
    folder = get_settings().run_path(claim.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    summary = train(
        loaded, pairs, config, recorder, control, folder, probe_pairs, reference or None
    )
    recorder.phase("saving the model")
    with disk.writing("the trained model", folder):
        save_folder(_plain(loaded.model), loaded.tokenizer, folder / "model")
    return {**summary, "pairs": len(pairs)}


def _reference(run_id: int, session: Session) -> dict[int, tuple[float, float]]:
    rows = session.scalars(select(ReferenceLogprob).where(ReferenceLogprob.run_id == run_id))
    return {row.pair: (row.preferred, row.dispreferred) for row in rows}


def _plain(model: torch.nn.Module) -> torch.nn.Module:
    """The trained model as an ordinary one: adapters are added into the weights."""
    if isinstance(model, PeftModel):
        merged: torch.nn.Module = model.merge_and_unload()
        return merged
    return model


def select_pairs(
    session: Session, run_id: int, dataset_id: int, selection: Selection
) -> list[Pair]:
    """The pairs that take part in a run, in their order; the same ones whenever it goes on.

    Raises:
        EmptySelectionError: the selection leaves none.
    """
    chosen = chosen_pairs(session, run_id, dataset_id, selection)
    if not chosen:
        raise EmptySelectionError(
            "The run's selection leaves no pair of the dataset to work on. "
            "Loosen the selection (flags, verdicts, measures) and queue the run again."
        )
    return chosen


def choose_probes(
    session: Session,
    run_id: int,
    dataset_id: int,
    wanted: ProbesConfig,
    trained: list[int],
    recorder: Recorder,
) -> list[Pair]:
    """The pairs that a training run watches; chosen among those that it trains on, or named."""
    chosen = wanted.pairs
    if chosen is None and wanted.strategy == "highest_ches":
        chosen = _highest_ches(session, dataset_id, trained, wanted.count)
        if not chosen:
            recorder.message(
                "No pair of this dataset has been scored, so the first pairs are watched in place "
                "of those with the highest CHES."
            )
    if chosen is None and wanted.strategy == "random":
        # The same probes for every run over the same pairs, so that runs can be compared.
        chosen = random.Random(0).sample(trained, min(wanted.count, len(trained)))  # noqa: S311
    if not chosen:
        chosen = trained[: wanted.count] if wanted.pairs is None else []
    rows = read_pairs(session, run_id, dataset_id, chosen)
    return sorted(rows, key=lambda row: chosen.index(row.pair))


def _highest_ches(
    session: Session, dataset_id: int, trained: list[int], count: int
) -> list[int] | None:
    scored = session.scalar(
        select(Run.id)
        .where(Run.dataset_id == dataset_id, Run.kind == "score", Run.status == "succeeded")
        .order_by(Run.id.desc())
        .limit(1)
    )
    if scored is None:
        return None
    return list(
        session.scalars(
            select(Score.pair)
            .where(Score.run_id == scored, Score.pair.in_(trained))
            .order_by(Score.ches.desc().nulls_last())
            .limit(count)
        )
    )


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _describe(error: Exception) -> dict[str, Any]:
    """What a page shows of a failure: what happened, what to do, and the cause in full."""
    if isinstance(error, torch.OutOfMemoryError):
        message, hint = (
            "The device ran out of memory.",
            "Choose a smaller batch_size or batch_tokens, LoRA, or a smaller model.",
        )
    elif isinstance(error, disk.DiskFullError):
        message, hint = str(error), error.hint
    elif isinstance(error, ModelError | ValueError):
        message, hint = str(error), None
    else:
        message, hint = (
            f"{type(error).__name__}: {error}",
            "This looks like a fault in Chesboard; the traceback says where.",
        )
    return {"message": message, "hint": hint, "traceback": traceback.format_exc()}
