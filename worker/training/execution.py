"""A training run from its pairs to its saved model: probes, stored reference, loop, result."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.settings import get_settings
from app.store import leases
from app.store.runs import Run
from app.store.scores import Score
from app.store.selection import read_pairs
from chesboard.configs import ProbesConfig, TrainConfig
from chesboard.filtering import PairFilter
from chesboard.model import LoadedModel, embedding_rows
from chesboard.pairs import Pair, TokenizedPair
from chesboard.reporting import Control, Reporter
from chesboard.scoring import report_same_tokens
from chesboard.sharding import agreed
from chesboard.text_check import TextCheck
from chesboard.text_messages import named
from chesboard.tokenization import tokenize_pairs
from worker import disk
from worker.models.files import save_folder
from worker.models.sharded import whole_model
from worker.pulse import busy
from worker.retry import run_with_retry
from worker.training.filtering import make_filter
from worker.training.inputs import read_inputs, stored_reference
from worker.training.loop import train
from worker.training.reference import Reference
from worker.training.sharing import Ranks, SharedControl, current_ranks
from worker.training.terms import PairInputs
from worker.training.weights import merge_adapters


def train_run(
    claim: leases.Claim,
    config: TrainConfig,
    loaded: LoadedModel,
    pairs: list[TokenizedPair],
    reporter: Reporter,
    control: Control,
    saved_tokenizer: Any,
    complete_reference: Callable[[list[TokenizedPair], Reference], Reference],
) -> dict[str, Any]:
    """Train on a run's pairs, save the model in the run's folder, and return the summary.

    saved_tokenizer: the tokenizer that is saved with the model. complete_reference: of
    the pairs and what is known of their reference makes all that can be had with other workers.

    Raises:
        DiskFullError: there is no room for the trained model.
        JudgeError: the reward model of the filter cannot be used.
        What `read_inputs` raises.
        What `train` raises.
    """
    prepared = _prepare(claim, config, loaded, pairs, reporter, saved_tokenizer)
    known = complete_reference(prepared.pairs, prepared.reference)
    prepared = replace(prepared, reference=known)
    pair_filter = make_filter(claim, config, loaded, reporter, control)
    return train_prepared(
        claim.run_id, config, loaded, agreed(prepared), reporter, control, pair_filter
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training run reads before it begins; the first of several ranks does so for all.

    reference: what earlier attempts computed. tokenizer: by which the pairs were read; the other is
    saved with the model.
    """

    pairs: list[TokenizedPair]
    probe_pairs: list[TokenizedPair]
    reference: Reference
    inputs: PairInputs
    tokenizer: Any
    saved_tokenizer: Any


def _prepare(
    claim: leases.Claim,
    config: TrainConfig,
    loaded: LoadedModel,
    pairs: list[TokenizedPair],
    reporter: Reporter,
    saved_tokenizer: Any,
) -> Prepared:
    report_same_tokens(pairs, reporter, "are not trained on")
    pairs = [pair for pair in pairs if not pair.has_same_tokens]
    if not pairs:
        raise ValueError(
            "In every pair both responses are the same tokens to the model, so there is nothing to "
            "train on. Raise max_response_tokens if they differ behind the cut."
        )
    trained = [pair.pair for pair in pairs]
    probe_raw = run_with_retry(
        f"run {claim.run_id}",
        lambda session: choose_probes(
            session, claim.run_id, claim.dataset_id, config.probes, trained, reporter
        ),
    )
    reference = run_with_retry(
        f"run {claim.run_id}", lambda session: stored_reference(session, claim.run_id)
    )
    inputs = run_with_retry(
        f"run {claim.run_id}",
        lambda session: read_inputs(session, claim.dataset_id, config, trained, reporter),
    )
    check = TextCheck(loaded.tokenizer, embedding_rows(loaded.model))
    probe_pairs = tokenize_pairs(
        loaded.tokenizer, probe_raw, config.max_prompt_tokens, config.max_response_tokens, check
    )
    if check.refused:
        pairs_left_out = named([finding.pair for finding in check.refused])
        reporter.message(f"Not watched, as the model cannot read them: pairs {pairs_left_out}.")
    return Prepared(pairs, probe_pairs, reference, inputs, loaded.tokenizer, saved_tokenizer)


def train_prepared(
    run_id: int,
    config: TrainConfig,
    loaded: LoadedModel,
    prepared: Prepared,
    reporter: Reporter,
    control: Control,
    pair_filter: PairFilter | None = None,
) -> dict[str, Any]:
    """Train, save the model and return the summary. Of several ranks each calls this, with its own
    reporter and control.

    Raises:
        DiskFullError: there is no room for the trained model.
        What `train` raises.
    """
    ranks = current_ranks()
    if not ranks.is_alone:
        control = SharedControl(control)
    folder = get_settings().run_path(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    summary = train(
        loaded,
        prepared.pairs,
        config,
        reporter,
        control,
        folder,
        prepared.probe_pairs,
        prepared.reference or None,
        prepared.inputs,
        pair_filter,
        ranks,
    )
    control.check()
    if config.save_model:
        with busy():
            _save_model(run_id, config, loaded, reporter, prepared.saved_tokenizer, ranks)
    return {**summary, "pairs": len(prepared.pairs)}


def _save_model(
    run_id: int,
    config: TrainConfig,
    loaded: LoadedModel,
    reporter: Reporter,
    tokenizer: Any,
    ranks: Ranks,
) -> None:
    folder = get_settings().run_path(run_id)
    reporter.phase("saving the model")
    model = merge_adapters(loaded.model) if ranks.is_alone else whole_model(loaded)
    if not ranks.is_first:
        return
    with disk.writing("the trained model", folder):
        save_folder(model, tokenizer, folder / "model")
    if config.chat_template or config.chat_template_kwargs:
        reporter.message(
            f"The saved model (run:{run_id}) carries the chat template of this run, with its "
            "chat_template_kwargs as defaults."
        )


def choose_probes(
    session: Session,
    run_id: int,
    dataset_id: int,
    wanted: ProbesConfig,
    trained: list[int],
    reporter: Reporter,
) -> list[Pair]:
    """The pairs that a training run probes: those that its configuration names, or a choice among
    those that it trains on.
    """
    chosen = wanted.pairs
    if chosen is None and wanted.strategy == "highest_ches":
        chosen = _highest_ches(session, dataset_id, trained, wanted.count)
        if not chosen:
            reporter.message(
                "No pair of this dataset has been scored, so the first pairs are watched instead "
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
    """By the newest score run that succeeded; None if the dataset has none."""
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
            .where(Score.run_id == scored, among(Score.pair, trained))
            .order_by(Score.ches.desc().nulls_last())
            .limit(count)
        )
    )
