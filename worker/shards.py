"""Runs that are done in shards: a worker claims one after the other until none is free.

Each shard is tokenized, computed and stored by itself, under a lease of its own, so that any number
of workers do a run together, and one does it alone in the same way.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.broker import enqueue, wake
from app.core.database import transaction
from app.core.settings import get_settings
from app.store import queue
from app.store.findings import tally_findings
from app.store.recording import StaleLeaseError, add_messages
from app.store.selection import read_pairs
from app.store.shards import claims, recording
from chesboard.configs import CONFIGS, GenerateConfig, ModelConfig
from chesboard.model import LoadedModel, embedding_rows
from chesboard.pairs import TokenizedPair
from chesboard.reporting import (
    Control,
    LeaseLostError,
    Reporter,
    RunCancelledError,
    RunInterruptedError,
)
from chesboard.tallies import Tallies
from chesboard.text_check import TextCheck
from worker.checking import counted_kinds
from worker.generation import Generating
from worker.lease_keeper import LeaseKeeper, shutting_down
from worker.models.cache import ModelCache
from worker.models.loading import describe_rounding
from worker.phases import phases
from worker.preparing import (
    EmptySelectionError,
    Prepared,
    describe_error,
    is_failure,
    is_panic,
    prepare,
    tokenize,
)
from worker.recorder import Recorder
from worker.retry import retry_while_unreachable, run_with_retry
from worker.scoring import Scoring
from worker.template_bounds import bounded_templates

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
"""Least time between two writes of a worker: all workers of a run write to its row in turn."""


class Work(Protocol):
    """What is done to the pairs of a shard, and to what all shards found."""

    unit: str
    """Of what is counted."""

    def stored(self, session: Session, run_id: int, pairs: Sequence[int]) -> set[Any]:
        """The keys of what an earlier attempt stored of these pairs."""

    def count(self, pairs: Sequence[TokenizedPair]) -> tuple[dict[str, int], int]:
        """Counts that add up over the shards (with `pairs`), and how much is to be done."""

    def messages(self, counts: Mapping[str, int], found: Tallies) -> Iterator[str]:
        """What is to be said of these counts, beside what the texts show."""

    def work(
        self,
        loaded: LoadedModel,
        pairs: Sequence[TokenizedPair],
        reporter: Reporter,
        control: Control,
        already: set[Any],
    ) -> dict[str, Any]:
        """Compute what is not stored `already`. Returns numbers that add up over the shards
        (`seconds` among them), and texts of which each is told once."""

    def summarize(self, session: Session, run_id: int, counts: Mapping[str, Any]) -> dict[str, Any]:
        """The summary of the run, with all numbers added up."""


def execute_shards(run_id: int, worker: str, models: ModelCache) -> bool:
    """Do shards of a run until none is free. False if there was none."""
    runner: _Runner | None = None
    while not shutting_down.is_set():
        claim = run_with_retry(
            f"run {run_id}",
            lambda session: claims.claim(session, run_id, worker, get_settings().lease),
        )
        if claim is None:
            break
        log.info("run %s: %s, shard %s", run_id, claim.kind, claim.shard)
        wake(run_id, claim.revision)
        if claim.begins:
            wake_idle_workers(run_id)
        runner = runner or _Runner(claim, models)
        if not runner.execute(claim):
            return True
    return runner is not None


def wake_idle_workers(run_id: int) -> None:
    """Send as many of them as there are shards for. The sweeper sends those that are idle later."""
    try:
        with transaction() as session:
            idle = queue.idle_workers(session, get_settings().lease)
            places = queue.places(session, run_id)
    except SQLAlchemyError as error:
        log.warning("run %s: no worker was woken: %s", run_id, str(error).splitlines()[0])
        return
    for _ in range(min(idle, places)):
        enqueue(run_id)


def _differ(devices: Sequence[str]) -> str:
    return (
        f"Its pairs were computed on devices that round differently ({', '.join(devices)}): small "
        "differences between pairs may be theirs. Choose a device and a dtype for all of a run's "
        "workers, where that matters."
    )


class ShardRecorder(Recorder):
    """Writes what is computed of a shard. Its speed counts from the first progress on, tokenizing
    included."""

    def __init__(self, run_id: int, token: str, write: Callable[..., int]) -> None:
        """write: stores a batch under the lease of the shard, which it renews."""
        write = partial(write, lease=get_settings().lease)
        super().__init__(run_id, token, write, FLUSH_SECONDS)

    def _begin_phase(self) -> None:
        progress_clock = self._progress_clock
        super()._begin_phase()
        self._progress_clock = progress_clock


class _Runner:
    """Executes shards of one run with the model that the first of them loads."""

    def __init__(self, claim: claims.ShardClaim, models: ModelCache) -> None:
        config = CONFIGS[claim.kind].model_validate(claim.config)
        assert isinstance(config, ModelConfig)
        self._config = config
        self._models = models
        self._prepared: Prepared | None = None
        self._work: Work = (
            Generating(config)
            if isinstance(config, GenerateConfig)
            else Scoring(config, measures=claim.kind == "score")
        )

    def execute(self, claim: claims.ShardClaim) -> bool:
        """Execute a claimed shard. False if this worker must not claim another one now."""
        check: TextCheck | None = None
        cancel = partial(self._end, claim, "cancelled", claims.cancel)
        try:
            with (
                LeaseKeeper(claim.run_id, claim.token, claims, cancel) as control,
                ShardRecorder(claim.run_id, claim.token, recording.write) as recorder,
                bounded_templates(control.check),
            ):
                control.check()
                loaded = self._load(claim, recorder, control)
                check = TextCheck(loaded.tokenizer, embedding_rows(loaded.model))
                found = self._compute(claim, loaded, check, recorder, control)
            self._end(claim, "done", claims.finish, found, self._summary(claim, check))
        except LeaseLostError as error:
            log.warning("run %s, shard %s: %s", claim.run_id, claim.shard, error)
        except RunCancelledError:
            cancel()
        except RunInterruptedError:
            self._end(claim, "handed back", claims.hand_back)
            enqueue(claim.run_id)  # so that an idle worker takes it at once
            return False
        except BaseException as error:
            if not is_failure(error):
                raise
            log.exception("run %s, shard %s failed", claim.run_id, claim.shard)
            self._prepared = None
            self._models.forget()
            lease, for_good = get_settings().lease, isinstance(error, ValueError) or is_panic(error)
            fail = partial(claims.fail, for_good=for_good)
            if self._end(claim, "failed", fail, describe_error(error), lease) == "queued":
                enqueue(claim.run_id)
        return True

    def _load(
        self, claim: claims.ShardClaim, recorder: Recorder, control: LeaseKeeper
    ) -> LoadedModel:
        if not claim.pairs:
            raise EmptySelectionError
        on_phase = phases(recorder, control)
        on_phase("loading")
        if self._prepared is None:
            self._prepared = prepare(claim, self._config, self._models, recorder, on_phase)
        return self._prepared.loaded

    def _compute(
        self,
        claim: claims.ShardClaim,
        loaded: LoadedModel,
        check: TextCheck,
        recorder: Recorder,
        control: LeaseKeeper,
    ) -> dict[str, Any]:
        """Tokenize the pairs, say what is found in them, and compute what is not stored."""
        already, raw_pairs = run_with_retry(
            f"run {claim.run_id}",
            lambda session: (
                self._work.stored(session, claim.run_id, claim.pairs),
                read_pairs(session, claim.run_id, claim.dataset_id, claim.pairs),
            ),
        )
        recorder.progress(len(already), len(raw_pairs), self._work.unit)
        on_phase = phases(recorder, control)
        pairs = tokenize(loaded.tokenizer, raw_pairs, self._config, check, recorder, on_phase)
        for message in check.messages_on_template():
            recorder.message(message)
        recorder.flush()  # the findings, of which the messages below are made
        self._record_read(claim, check, pairs)
        control.check()
        if not pairs:
            return {}
        found = self._work.work(loaded, pairs, recorder, control, already)
        return {**found, "computed_on": describe_rounding(loaded)}

    def _record_read(
        self, claim: claims.ShardClaim, check: TextCheck, pairs: Sequence[TokenizedPair]
    ) -> None:
        counts, total = self._work.count(pairs)
        counts["left_out_pairs"] = check.pairs - len(pairs)

        def messages(counts: Mapping[str, int], found: Tallies) -> list[str]:
            read = counts["pairs"] + counts["left_out_pairs"]
            return [*check.messages_on(found, read), *self._work.messages(counts, found)]

        try:
            revision = run_with_retry(
                f"run {claim.run_id}",
                lambda session: recording.record_read(
                    session,
                    claim.run_id,
                    claim.token,
                    get_settings().lease,
                    counts,
                    total,
                    messages,
                ),
            )
        except StaleLeaseError as error:
            raise LeaseLostError(str(error)) from error
        wake(claim.run_id, revision)

    def _summary(self, claim: claims.ShardClaim, check: TextCheck) -> Any:
        def summarize(session: Session) -> dict[str, Any]:
            counts = recording.counts_of(session, claim.run_id)
            found = tally_findings(session, claim.run_id)
            left_out = counts["left_out_pairs"]
            if not counts["pairs"]:
                raise check.refusal(found, left_out)
            devices = recording.texts_of(session, claim.run_id, "computed_on")
            if len(devices) > 1:
                add_messages(session, claim.run_id, [_differ(devices)])
            return {
                **self._work.summarize(session, claim.run_id, counts),
                "left_out_pairs": left_out,
                "findings": counted_kinds(found),
            }

        return summarize

    def _end(self, claim: claims.ShardClaim, what: str, how: Any, *details: Any) -> str | None:
        """End a claimed shard in one transaction. Returns the status of the run; None: the lease
        was lost."""

        def end() -> claims.Ended | None:
            with transaction() as session:
                ended: claims.Ended | None = how(session, claim.run_id, claim.token, *details)
                return ended

        ended = retry_while_unreachable(f"run {claim.run_id}", end)
        if ended is None:
            log.warning(
                "run %s, shard %s: not %s, the lease was lost", claim.run_id, claim.shard, what
            )
            return None
        log.info("run %s: shard %s %s, run %s", claim.run_id, claim.shard, what, ended.status)
        wake(claim.run_id, ended.revision)
        return ended.status
