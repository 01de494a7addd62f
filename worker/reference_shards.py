"""The reference pass of a training run, by its worker and by all that are idle.

Each shard is tokenized and computed by itself, with the model before training, under a lease of its
own, so that the log-probabilities are the same to the last bit whoever computed which. The worker
that trains takes shards as its helpers do, and waits only for those that others have.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from app.core.broker import wake
from app.core.database import transaction
from app.core.settings import get_settings
from app.store import leases
from app.store.recording import StaleLeaseError
from app.store.selection import read_pairs
from app.store.shards import reference
from chesboard.configs import TrainConfig
from chesboard.forward.batching import TokenBudget
from chesboard.forward.ready import ready_forward
from chesboard.loading import ModelError, choose_device
from chesboard.model import LoadedModel, embedding_rows
from chesboard.pairs import TokenizedPair
from chesboard.reporting import (
    Control,
    LeaseLostError,
    Reporter,
    RunInterruptedError,
    RunStoppedError,
)
from chesboard.text_check import TextCheck
from worker.lease_keeper import LeaseKeeper, shutting_down
from worker.models.cache import ModelCache
from worker.models.loading import describe_device
from worker.phases import phases
from worker.preparing import describe_error, is_failure, prepare, tokenize
from worker.retry import retry_while_unreachable, run_with_retry
from worker.shards import ShardRecorder, wake_idle_workers
from worker.silent import Silent
from worker.template_bounds import bounded_templates
from worker.training.inputs import stored_reference
from worker.training.reference import Reference, RunReference
from worker.training.sharing import current_ranks
from worker.training.terms import needs_tails

POLL_SECONDS = 0.25
"""Between two looks at whether others have finished, or given up, what they have."""
OPEN_SECONDS = 1.0
"""Between two looks, while a helper loads the model, at whether it is still of use."""

log = logging.getLogger(__name__)


def complete_reference(
    claim: leases.Claim,
    config: TrainConfig,
    loaded: LoadedModel,
    reporter: Reporter,
    control: Control,
    pairs: list[TokenizedPair],
    known: Reference,
) -> Reference:
    """What is known of a run's reference, and all of it where it is worth several workers' work.

    loaded: the model before training. known: what earlier attempts computed.

    Raises:
        MemoryError: one pair alone does not fit into GPU memory.
        RunStoppedError: the run must stop.
    """
    of_run = f"run {claim.run_id}"
    if config.extend_sft_epochs or all(pair.pair in known for pair in pairs):
        return known  # after a first phase, the reference is a model that this worker alone has
    if not current_ranks().is_alone:
        run_with_retry(of_run, lambda session: reference.forget(session, claim.run_id, claim.token))
        return known
    ordinals = [pair.pair for pair in pairs]
    if not run_with_retry(
        of_run, lambda session: reference.plan(session, claim.run_id, claim.token, ordinals)
    ):
        return known
    reporter.phase(reference.PHASE)
    reporter.progress(len(known), len(pairs), reference.UNIT)
    reporter.flush()  # from now on helpers may claim
    wake_idle_workers(claim.run_id)
    by_ordinal = {pair.pair: pair for pair in pairs}
    shards = _Shards(
        claim.run_id, config, loaded, lambda chosen, _: [by_ordinal[n] for n in chosen]
    )
    while True:
        control.check()
        own = _claimed(claim)
        if own is not None:
            shards.compute(own, control)
        elif run_with_retry(of_run, lambda session: reference.is_complete(session, claim.run_id)):
            break
        else:
            time.sleep(POLL_SECONDS)
    return run_with_retry(of_run, lambda session: stored_reference(session, claim.run_id))


def _claimed(claim: leases.Claim) -> reference.ReferenceClaim | None:
    """A shard for the worker that has the run; None while others have all that are left."""
    try:
        return run_with_retry(
            f"run {claim.run_id}",
            lambda session: reference.claim_own(
                session, claim.run_id, claim.token, get_settings().lease
            ),
        )
    except StaleLeaseError as error:
        raise LeaseLostError(str(error)) from error


def help_with_reference(run_id: int, worker: str, models: ModelCache) -> bool:
    """Compute shards of a training run's reference until none is free. False if there was none.

    The model is loaded first: the run's own worker has it already, and would have to wait for a
    shard that was claimed before.
    """
    offered = run_with_retry(
        f"run {run_id}", lambda session: reference.offer(session, run_id, worker)
    )
    if offered is None:
        return False
    log.info("run %s: helping with its reference pass", run_id)
    try:
        config = TrainConfig.model_validate(offered.config)
        _refuse_other_device(config, offered)
        of_use = _WhileOfUse(run_id, worker)
        with bounded_templates(of_use.check):
            loaded = prepare(offered, config, models, Silent(), phases(Silent(), of_use)).loaded
        shards = _Shards(run_id, config, loaded, _reading(offered, config, loaded))
        while not shutting_down.is_set():
            claim = run_with_retry(
                f"run {run_id}",
                lambda session: reference.claim(session, run_id, worker, get_settings().lease),
            )
            if claim is None:
                break
            shards.compute(claim)
    except RunStoppedError as error:
        log.info("run %s: not helped with any more: %s", run_id, error)
    except BaseException as error:
        if not is_failure(error):
            raise
        log.exception("run %s: could not be helped with", run_id)
        _give_up(run_id, worker, error)
    finally:
        models.forget()
    return True


PairsOf = Callable[[list[int], Control], list[TokenizedPair]]
"""The pairs of these ordinals, as the model reads them."""


class _Shards:
    """Computes shards of one run with a model that is loaded."""

    def __init__(
        self, run_id: int, config: TrainConfig, loaded: LoadedModel, pairs_of: PairsOf
    ) -> None:
        self._run_id, self._config, self._loaded = run_id, config, loaded
        self._pairs_of = pairs_of

    def compute(self, claim: reference.ReferenceClaim, run: Control | None = None) -> None:
        """Compute and store a claimed shard; nothing more is done where its lease is lost.

        run: the lease of the run, if this is the worker that trains.

        Raises:
            MemoryError: one pair alone does not fit into GPU memory.
            RunStoppedError: the run must stop; the shard is given back.
        """
        log.info("run %s: reference pass, shard %s", self._run_id, claim.shard)
        try:
            with (
                LeaseKeeper(self._run_id, claim.token, reference) as keeper,
                ShardRecorder(self._run_id, claim.token, reference.write) as recorder,
            ):
                self._compute(claim, recorder, keeper if run is None else _Both(keeper, run))
            self._finish(claim)
        except LeaseLostError as error:
            if run is not None:
                run.check()  # it may be that of the run
            log.warning("run %s, shard %s: %s", self._run_id, claim.shard, error)
        except Exception:
            with suppress(SQLAlchemyError):  # it is free once its lease is over
                self._release(claim)
            raise

    def _compute(
        self, claim: reference.ReferenceClaim, reporter: Reporter, control: Control
    ) -> None:
        control.check()
        config, loaded = self._config, self._loaded
        known = run_with_retry(
            f"run {self._run_id}",
            lambda session: stored_reference(session, self._run_id, claim.pairs),
        )
        reporter.progress(len(known), len(claim.pairs), reference.UNIT)
        pairs = self._pairs_of(claim.pairs, control)
        forward = ready_forward(loaded, pairs, reporter, prefill=not config.gradient_checkpointing)
        RunReference(
            loaded,
            forward,
            pairs,
            TokenBudget(config.batch_tokens, reporter.message),
            reporter,
            control,
            known,
            tails=needs_tails(config),
        ).complete()

    def _finish(self, claim: reference.ReferenceClaim) -> None:
        def finish() -> int | None:
            with transaction() as session:
                return reference.finish(session, self._run_id, claim.token)

        revision = retry_while_unreachable(f"run {self._run_id}", finish)
        if revision is None:
            raise LeaseLostError(f"shard {claim.shard} of run {self._run_id} was given to another")
        wake(self._run_id, revision)

    def _release(self, claim: reference.ReferenceClaim) -> None:
        with transaction() as session:
            revision = reference.release(session, self._run_id, claim.token)
        if revision is not None:
            wake(self._run_id, revision)


class _Both:
    """The Control of a shard that the run's own worker has: it may lose the run or the shard."""

    def __init__(self, shard: Control, run: Control) -> None:
        self._shard, self._run = shard, run

    def check(self) -> None:
        self._run.check()
        self._shard.check()


class _WhileOfUse:
    """The Control of a helper that loads the model, and has no lease yet."""

    def __init__(self, run_id: int, worker: str) -> None:
        self._run_id, self._worker = run_id, worker
        self._next = time.monotonic() + OPEN_SECONDS

    def check(self) -> None:
        """Raises:
        RunInterruptedError: the worker is shutting down.
        RunStoppedError: there is nothing left to help with.
        """
        if shutting_down.is_set():
            raise RunInterruptedError("the worker is shutting down")
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + OPEN_SECONDS
        with suppress(SQLAlchemyError):  # it is found out when a shard is claimed
            with transaction() as session:
                offered = reference.offer(session, self._run_id, self._worker)
            if offered is None:
                raise RunStoppedError("no shard of its reference pass is free any more")


def _reading(offered: reference.Offer, config: TrainConfig, loaded: LoadedModel) -> PairsOf:
    """Reads pairs of the run and tokenizes them, as the worker that trains did."""

    def pairs_of(chosen: list[int], control: Control) -> list[TokenizedPair]:
        raw_pairs = run_with_retry(
            f"run {offered.run_id}",
            lambda session: read_pairs(session, offered.run_id, offered.dataset_id, chosen),
        )
        check = TextCheck(loaded.tokenizer, embedding_rows(loaded.model))
        silent = Silent()
        with bounded_templates(control.check):
            pairs = tokenize(
                loaded.tokenizer, raw_pairs, config, check, silent, phases(silent, control)
            )
        if len(pairs) != len(chosen):
            raise ModelError(
                f"The tokenizer of {config.model} reads {len(pairs)} of {len(chosen)} pairs here, "
                "and all of them where the run is trained. The two workers' models differ."
            )
        return pairs

    return pairs_of


def _refuse_other_device(config: TrainConfig, offered: reference.Offer) -> None:
    """Raises:
    ModelError: the device is not of the kind that the run is trained on: it would round
        otherwise than that one does when it is compared with, and may be far slower.
    """
    own, of_run = describe_device(choose_device(config.device)), offered.device or ""
    if not of_run.startswith("cpu" if own.startswith("cpu") else own):
        raise ModelError(f"It computes on {own}, and the run is trained on another device.")


def _give_up(run_id: int, worker: str, error: BaseException) -> None:
    described = describe_error(error)

    def give_up() -> int | None:
        with transaction() as session:
            return reference.give_up(session, run_id, worker, described["message"])

    revision = retry_while_unreachable(f"run {run_id}", give_up)
    if revision is not None:
        wake(run_id, revision)
