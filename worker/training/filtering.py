"""The filter of a training run: its reward model, its stored decisions, and the plan after them."""

from collections.abc import Sequence
from functools import partial

import torch
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.store import leases
from app.store.filtering import FilterDecision
from app.store.selection import read_pairs
from chesboard.causal_lm import ModelError
from chesboard.configs import RefreshFilter, TrainConfig
from chesboard.filtering import Decided, PairFilter
from chesboard.judging.answers import Judge
from chesboard.judging.classifier import load_classifier
from chesboard.judging.classifier_files import (
    ClassifierFiles,
    check_label,
    check_reward,
    find_classifier,
)
from chesboard.loading import asked_dtype
from chesboard.model import LoadedModel
from chesboard.pairs import Pair, TokenizedPair
from chesboard.reporting import Control, Reporter
from worker.retry import run_with_retry
from worker.training.checkpoints import CheckpointMismatchError
from worker.training.plan import Plan


def make_filter(
    claim: leases.Claim,
    config: TrainConfig,
    loaded: LoadedModel,
    reporter: Reporter,
    control: Control,
) -> PairFilter | None:
    """The filter that a run's configuration asks for, with what earlier attempts decided.

    Raises:
        JudgeError: its reward model cannot be used. The model itself is loaded when it is needed.
    """
    wanted = config.refresh_filter
    if wanted is None:
        return None
    files = find_classifier(get_settings().models_path, wanted.reward_model)
    check_reward(files)
    check_label(files, wanted.label)

    def texts(pairs: Sequence[int]) -> list[Pair]:
        return run_with_retry(
            f"run {claim.run_id}",
            lambda session: read_pairs(session, claim.run_id, claim.dataset_id, pairs),
        )

    def load() -> Judge:
        control.check()
        reporter.phase("loading")
        return load_reward(files, wanted, loaded.device)

    return PairFilter(
        loaded,
        wanted,
        config.seed,
        config.batch_tokens,
        texts,
        load,
        reporter,
        control,
        run_with_retry(f"run {claim.run_id}", partial(_stored, claim.run_id)),
    )


def load_reward(files: ClassifierFiles, config: RefreshFilter, device: torch.device) -> Judge:
    """The reward model, beside the model that is trained.

    Raises:
        ModelError: it cannot be opened, or does not fit into the memory that is left.
    """
    dtype = asked_dtype("auto", device)
    cuda = [device] if device.type == "cuda" else []
    # A run that resumes loads it at another time, or never: its random numbers stay the same.
    with torch.random.fork_rng(cuda):
        try:
            return load_classifier(files, config.label, device, dtype, log_odds=True)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"The reward model “{files.name}” does not fit into the GPU's memory beside the "
                "model that is trained. Choose a smaller one, or train adapters (lora)."
            ) from error


def begin_epoch(plan: Plan, pairs: Sequence[TokenizedPair], pair_filter: PairFilter) -> Plan:
    """The plan after the decisions on the pairs of the next epoch, which are taken now."""
    indices = _left(plan, pairs)
    kept = pair_filter.decide(len(plan.left) + 1, [pairs[index] for index in indices])
    return _begun(plan, indices, kept)


def resume_epochs(
    plan: Plan, step: int, pairs: Sequence[TokenizedPair], pair_filter: PairFilter
) -> Plan:
    """The plan after the stored decisions of all epochs that began before a step.

    Raises:
        CheckpointMismatchError: some are not stored.
    """
    while plan.next_filter is not None and plan.next_filter < step:
        indices = _left(plan, pairs)
        kept = pair_filter.known(len(plan.left) + 1, [pairs[index].pair for index in indices])
        if kept is None:
            raise CheckpointMismatchError(
                "The decisions of the filter that this run has trained by are not stored any more. "
                "Start a new run."
            )
        plan = _begun(plan, indices, kept)
    return plan


def _left(plan: Plan, pairs: Sequence[TokenizedPair]) -> list[int]:
    return sorted(plan.left[-1]) if plan.left else list(range(len(pairs)))


def _begun(plan: Plan, indices: Sequence[int], kept: Sequence[bool]) -> Plan:
    return plan.with_epoch(
        frozenset(index for index, keep in zip(indices, kept, strict=True) if keep)
    )


def _stored(run_id: int, session: Session) -> list[Decided]:
    table = FilterDecision
    rows = session.execute(
        select(table.epoch, table.pair, table.preferred_reward, table.kept).where(
            table.run_id == run_id
        )
    )
    return [Decided(*row) for row in rows]
