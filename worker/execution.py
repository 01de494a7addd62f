"""The execution of one run: claim, load the model, tokenize, compute, finish or hand back.

The code that computes (scoring, training) knows nothing of queues, leases or SQL. Runs that several
workers do at once are executed in worker/shards.py.
"""

import logging
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app.core.broker import enqueue, wake
from app.core.database import transaction
from app.core.settings import get_settings
from app.store import leases, seats
from app.store.selection import chosen_pairs
from chesboard.configs import (
    CONFIGS,
    CheckConfig,
    ExternalConfig,
    JudgeConfig,
    ModelConfig,
    PreflightConfig,
    Selection,
    TrainConfig,
)
from chesboard.model import embedding_rows
from chesboard.pairs import Pair, TokenizedPair
from chesboard.reporting import Control, LeaseLostError, RunCancelledError, RunInterruptedError
from chesboard.text_check import TextCheck
from worker.checking import count_findings, summarize_check
from worker.judging import judge
from worker.launching import RankFailedError, RanksLostError, train_on_ranks
from worker.lease_keeper import LeaseKeeper
from worker.models.cache import ModelCache
from worker.models.progress import OnPhase
from worker.models.tokenizer import count_embeddings, load_tokenizer, source_without_weights
from worker.phases import phases
from worker.preflight import preflight
from worker.preparing import (
    EmptySelectionError,
    chat_template,
    describe_error,
    is_failure,
    prepare,
    tokenize,
)
from worker.recorder import Recorder
from worker.reference_shards import complete_reference, help_with_reference
from worker.retry import retry_while_unreachable, run_with_retry
from worker.seats import take_seat, train_on_seats
from worker.shards import execute_shards
from worker.template_bounds import bounded_templates
from worker.training import checkpoints
from worker.training.execution import train_run

log = logging.getLogger(__name__)


def execute(run_id: int, worker: str, models: ModelCache) -> bool:
    """Execute a run, or those shards of it or the seat that this worker gets, be it of the run or
    of its reference pass. False if nothing of it can be claimed: it is finished, cancelled, or
    another worker's.

    While PostgreSQL is unreachable the worker retries: an outage does not fail the run.

    Raises:
        RunInterruptedError: the worker was asked to stop before it could claim the run.
    """
    settings = get_settings()
    offer = seats.Offer(settings.gpus, settings.seats)
    if offer.seats > 1:
        seat = run_with_retry(
            f"run {run_id}",
            lambda session: seats.sit(session, run_id, worker, settings.lease, offer),
        )
        if seat is not None:
            take_seat(seat, worker, models)
            return True
    claim = run_with_retry(
        f"run {run_id}",
        lambda session: seats.claim(session, run_id, worker, settings.lease, offer),
    )
    if claim is None:
        return execute_shards(run_id, worker, models) or help_with_reference(run_id, worker, models)
    log.info("run %s: %s, attempt %s", run_id, claim.kind, claim.attempt)
    wake(run_id, claim.revision)
    outcome = _Outcome(claim)
    try:
        with (
            LeaseKeeper(run_id, claim.token, cancel=outcome.cancel) as control,
            Recorder(run_id, claim.token) as recorder,
            bounded_templates(control.check),
        ):
            control.check()
            if claim.kind == "train" and offer.seats > 1:
                summary = train_on_seats(claim, recorder, control, models)
            elif claim.kind == "train" and offer.gpus > 1:
                summary = train_on_ranks(claim, recorder, control, models)
            else:
                summary = work(claim, recorder, control, models)
        outcome.finish("succeeded", summary=summary)
        # Only now: a worker that died before the run is finished would otherwise lose every step.
        checkpoints.remove(settings.run_path(run_id))
    except LeaseLostError as error:
        log.warning("run %s: %s", run_id, error)
    except RunCancelledError:
        outcome.cancel()
    except RunInterruptedError:
        outcome.hand_back()
    except RanksLostError as error:
        log.warning("run %s: %s", run_id, error)
        outcome.let_go()
    except RankFailedError as error:
        log.error("run %s failed: %s", run_id, error)
        outcome.finish("failed", error=error.described)
    except BaseException as error:
        if not is_failure(error):
            raise
        log.exception("run %s failed", run_id)
        models.forget()
        outcome.finish("failed", error=describe_error(error))
    return True


class _Outcome:
    """Ends a claimed run; each way is one UPDATE that takes effect only under its lease."""

    def __init__(self, claim: leases.Claim) -> None:
        self._claim = claim

    def finish(self, status: str, **details: Any) -> None:
        claim = self._claim

        def finish() -> int | None:
            with transaction() as session:
                return leases.finish(session, claim.run_id, claim.token, status, **details)

        self._announce(status, retry_while_unreachable(f"run {claim.run_id}", finish))

    def cancel(self) -> None:
        self.finish("cancelled")

    def hand_back(self) -> None:
        claim = self._claim

        def hand_back() -> int | None:
            with transaction() as session:
                return leases.hand_back(session, claim.run_id, claim.token)

        revision = retry_while_unreachable(f"run {claim.run_id}", hand_back)
        self._announce("queued again", revision)
        if revision is not None:
            enqueue(claim.run_id)  # so that an idle worker takes it at once

    def let_go(self) -> None:
        claim = self._claim

        def let_go() -> int | None:
            with transaction() as session:
                return leases.let_go(session, claim.run_id, claim.token)

        revision = retry_while_unreachable(f"run {claim.run_id}", let_go)
        self._announce("given up", revision)
        if revision is not None:
            enqueue(claim.run_id)

    def _announce(self, what: str, revision: int | None) -> None:
        if revision is None:
            log.warning("run %s: not %s, the lease was lost", self._claim.run_id, what)
            return
        log.info("run %s: %s", self._claim.run_id, what)
        wake(self._claim.run_id, revision)


def work(
    claim: leases.Claim, recorder: Recorder, control: Control, models: ModelCache
) -> dict[str, Any]:
    """Compute a run and return its summary. Of several ranks that train, the first calls this."""
    config = CONFIGS[claim.kind].model_validate(claim.config)
    assert not isinstance(config, ExternalConfig)  # no worker claims an external run
    if isinstance(config, JudgeConfig):
        return judge(claim, config, recorder, control, models)
    selection = getattr(config, "selection", Selection())
    raw_pairs = run_with_retry(
        f"run {claim.run_id}",
        lambda session: select_pairs(session, claim.run_id, claim.dataset_id, selection),
    )
    recorder.progress(0, len(raw_pairs), "pairs")
    on_phase = phases(recorder, control)
    on_phase("loading")
    if isinstance(config, CheckConfig):
        source = source_without_weights(config, get_settings(), on_phase)
        tokenizer = load_tokenizer(config, source)
        embeddings = count_embeddings(source)
        template = chat_template(claim, config, tokenizer, recorder)
        check = TextCheck(template.tokenizer, embeddings)
        pairs = _tokenize(template.tokenizer, raw_pairs, config, check, recorder, on_phase)
        recorder.progress(len(raw_pairs), len(raw_pairs), "pairs")
        found = summarize_check(raw_pairs, pairs)
        return {**found, "findings": count_findings(check.findings)}
    loaded, template = prepare(claim, config, models, recorder, on_phase)
    check = TextCheck(loaded.tokenizer, embedding_rows(loaded.model))
    pairs = _tokenize(loaded.tokenizer, raw_pairs, config, check, recorder, on_phase)
    check.refuse_if_left_out(only_if_all=True)
    if isinstance(config, TrainConfig):
        summary = train_run(
            claim,
            config,
            loaded,
            pairs,
            recorder,
            control,
            template.saved_tokenizer,
            partial(complete_reference, claim, config, loaded, recorder, control),
        )
    else:
        assert isinstance(config, PreflightConfig)  # others are done in shards
        summary = preflight(claim, config, loaded, pairs, recorder, control)
    return {
        **summary,
        "left_out_pairs": len(check.refused),
        "findings": count_findings(check.findings),
    }


def _tokenize(
    tokenizer: Any,
    raw_pairs: list[Pair],
    config: ModelConfig,
    check: TextCheck,
    recorder: Recorder,
    on_phase: OnPhase,
) -> list[TokenizedPair]:
    """All pairs of a run as the model reads them; says what was found in them."""
    pairs = tokenize(tokenizer, raw_pairs, config, check, recorder, on_phase)
    for message in check.messages():
        recorder.message(message)
    return pairs


def select_pairs(
    session: Session, run_id: int, dataset_id: int, selection: Selection
) -> list[Pair]:
    """The pairs that take part in a run, in their order; a resumed run gets the same ones.

    Raises:
        EmptySelectionError: the selection leaves none.
    """
    chosen = chosen_pairs(session, run_id, dataset_id, selection)
    if not chosen:
        raise EmptySelectionError
    return chosen
