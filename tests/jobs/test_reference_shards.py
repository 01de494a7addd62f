"""A training run whose reference pass several workers do is, to the last bit, the one that a worker
does alone, whatever happens to them."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select

from app.core.broker import QUEUE, get_redis
from app.core.database import transaction
from app.core.settings import get_settings
from app.runs import requests
from app.store import leases
from app.store.probes import ProbeStep
from app.store.runs import Metric, ReferenceLogprob, Run, Worker
from app.store.shards import planning, reference
from chesboard.loading import ModelError
from tests.app import factories
from tests.app.rows import shards_of, stored
from tests.jobs.several_workers import SHORT_PAIRS, Harm, done_by, wait_for
from tests.support import give_up_as_a_tokenizer_does
from worker import reference_shards
from worker.execution import execute
from worker.models.cache import ModelCache
from worker.reference_shards import _Shards, help_with_reference
from worker.training.reference import RunReference

pytestmark = pytest.mark.usefixtures("small_shards_and_short_leases", "models_one_at_a_time")

PAIRS = [*SHORT_PAIRS, ("Is it?", "Yes", "Yes"), ("<|im_end|>?", "No", "Never")]
TRAINING: dict[str, Any] = {
    "batch_tokens": 200,
    "batch_size": 4,
    "max_steps": 2,
    "learning_rate": 1e-4,
    "save_model": False,
    "measure_displacement": False,
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dpo": {},
    "dpo with tails": {"ld_alpha": 0.5},
    "lora": {"lora": {"rank": 2}},
    "recomputing": {"gradient_checkpointing": True},
}


def queued(pairs: Any = PAIRS, **config: Any) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, pairs)
        return factories.run(session, dataset.id, status="queued", config=TRAINING | config).id


def rows(run_id: int) -> list[tuple[Any, ...]]:
    """Every number that is stored of a training run."""
    others = ("run_id", "revision", "recorded_at", "tokens_per_second")
    found: list[tuple[Any, ...]] = []
    with transaction() as session:
        for table in (Metric, ProbeStep, ReferenceLogprob):
            names = [c.name for c in table.__table__.c if c.name not in others]
            columns = [getattr(table, name) for name in names]
            of_run = session.execute(select(*columns).where(table.run_id == run_id))
            found += [(table.__tablename__, *row) for row in of_run]
    return sorted(found, key=repr)


def references(run_id: int) -> dict[int, tuple[float, float]]:
    with transaction() as session:
        query = select(ReferenceLogprob).where(ReferenceLogprob.run_id == run_id)
        return {row.pair: (row.preferred, row.dispreferred) for row in session.scalars(query)}


class Together:
    """Holds whoever has a shard until so many workers have one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
        self._workers: set[int] = set()
        self._are_there = threading.Event()
        really = _Shards._compute

        def compute(*arguments: Any) -> None:
            self._workers.add(threading.get_ident())
            if len(self._workers) >= workers:
                self._are_there.set()
            assert self._are_there.wait(30)
            really(*arguments)

        monkeypatch.setattr(_Shards, "_compute", compute)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_with_a_helper_it_is_as_alone(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    calm = queued(**OBJECTIVES[objective])
    execute(calm, "ada", models)
    assert stored(calm).status == "succeeded", stored(calm).error
    assert len(shards_of(calm)) > 5
    Together(monkeypatch, 2)
    run_id = queued(**OBJECTIVES[objective])
    run = wait_for(run_id, ("ada", "grace"))
    assert run.status == "succeeded", run.error
    assert rows(run_id) == rows(calm)
    assert set(done_by(run_id)) == {"ada", "grace"}
    assert run.messages == stored(calm).messages
    assert run.device == stored(calm).device
    assert run.attempts == 1


@pytest.mark.parametrize("kept", [reference, leases], ids=["shard", "run"])
def test_under_kills_and_freezes_it_is_as_alone(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, kept: ModuleType
) -> None:
    """Of whoever has a shard, and of the worker that trains."""
    calm = queued()
    execute(calm, "ada", models)
    ends: list[tuple[str, bool]] = []
    finish = reference.finish

    def counted(session: Any, run_id: int, token: str) -> int | None:
        ended = finish(session, run_id, token)
        ends.append((token, ended is not None))
        return ended

    monkeypatch.setattr(reference, "finish", counted)
    moments = ([6, 20], [13, 27]) if kept is reference else ([14], [28])
    harm = Harm(monkeypatch, *moments, kept, (reference, "write"))
    Together(monkeypatch, 2)
    run_id = queued()
    run = wait_for(run_id, ("ada", "grace", "barbara"))
    assert run.status == "succeeded", run.error
    assert rows(run_id) == rows(calm)
    done = [token for token, is_done in ends if is_done]
    assert len(done) == len(set(done)) == len(shards_of(run_id))
    if kept is reference:
        assert harm.refused or len(done) < len(ends)
    else:
        assert run.attempts == 3


def test_what_is_computed_is_the_reference_and_of_all_trained_pairs(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = queued()
    execute(shared, "ada", models)
    monkeypatch.setattr(planning, "PAIRS_A_SHARD", 2000)
    monkeypatch.setattr(planning, "CHARACTERS_A_SHARD", 1_000_000)
    whole = queued()
    execute(whole, "ada", models)
    assert shards_of(whole) == []
    of_whole, of_shared = references(whole), references(shared)
    assert sorted(of_shared) == sorted(of_whole) == [*range(60), 61]  # 60: the same tokens twice
    for pair, logprobs in of_whole.items():
        assert of_shared[pair] == pytest.approx(logprobs, abs=1e-4), pair


def test_few_pairs_are_one_workers_as_before(models: ModelCache) -> None:
    run_id = queued(PAIRS[:6])
    execute(run_id, "ada", models)
    assert stored(run_id).status == "succeeded"
    assert shards_of(run_id) == []
    assert sorted(references(run_id)) == list(range(6))


def test_after_a_first_phase_the_reference_is_computed_by_its_worker(models: ModelCache) -> None:
    run_id = queued(objective="dpo", extend_sft_epochs=1)
    execute(run_id, "ada", models)
    assert stored(run_id).status == "succeeded", stored(run_id).error
    assert shards_of(run_id) == []


def test_idle_workers_are_woken_once_the_pass_has_begun(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        seen_at = datetime.now(UTC) + timedelta(hours=1)  # the run needs a while until there
        session.add_all(
            Worker(name=f"idle {number}", device="cpu", seen_at=seen_at) for number in range(3)
        )
    get_redis().delete(QUEUE)
    run_id = queued()
    seen: list[tuple[int, str | None]] = []
    really = _Shards._compute

    def compute(*arguments: Any) -> None:
        seen.append((int(get_redis().llen(QUEUE)), stored(run_id).phase))
        really(*arguments)

    monkeypatch.setattr(_Shards, "_compute", compute)
    execute(run_id, "ada", models)
    assert seen[0] == (3, "reference pass")
    assert not execute(run_id, "grace", models)


def test_the_run_shows_the_progress_of_all(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int | None, int | None, int | None, float | None]] = []
    really = reference.finish

    def finish(session: Any, run_id: int, token: str) -> int | None:
        run = session.get_one(Run, run_id)
        columns = (run.progress_total, run.phase_done, run.phase_total, run.phase_eta_seconds)
        shown.append((run.progress_done, *columns))
        return really(session, run_id, token)

    monkeypatch.setattr(reference, "finish", finish)
    execute(queued(), "ada", models)
    assert [one[0] for one in shown] == [one[2] for one in shown]
    assert [one[0] for one in shown] == sorted(one[0] for one in shown)
    assert shown[-1][:4] == (61, 61, 61, 61)
    assert shown[0][0] < 61
    assert shown[0][4] is not None
    assert shown[0][4] > 0


def test_a_cancel_ends_the_helpers_too(models: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = queued()
    Together(monkeypatch, 2)
    ended: list[str] = []
    really = RunReference.complete

    def complete(self: RunReference, **named: Any) -> None:
        with transaction() as session:
            requests.cancel(session, run_id)
        deadline = time.monotonic() + 10
        try:
            while time.monotonic() < deadline:
                self._control.check()
                time.sleep(0.05)
        except Exception as error:
            ended.append(type(error).__name__)
            raise
        really(self, **named)

    monkeypatch.setattr(RunReference, "complete", complete)
    run = wait_for(run_id, ("ada", "grace"))
    assert run.status == "cancelled"
    assert len(ended) == 2
    assert set(ended) <= {"RunCancelledError", "LeaseLostError"}
    assert not any(shard.status == "done" for shard in shards_of(run_id))


def test_the_worker_waits_for_what_others_have_and_takes_it_once_they_are_gone(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_at: list[float] = []
    really = reference.claim_own

    def claim_own(session: Any, run_id: int, *arguments: Any) -> Any:
        if not taken_at:  # a helper is first, and never comes back
            taken_at.append(time.time())
            assert reference.claim(session, run_id, "gone", get_settings().lease)
        return really(session, run_id, *arguments)

    monkeypatch.setattr(reference, "claim_own", claim_own)
    run_id = queued()
    execute(run_id, "ada", models)
    assert stored(run_id).status == "succeeded", stored(run_id).error
    first = shards_of(run_id)[0]
    assert (first.worker, first.status) == ("ada", "done")
    assert first.started_at is not None
    lease = get_settings().lease.total_seconds()
    assert lease <= first.started_at.timestamp() - taken_at[0] < lease + 2
    assert sorted(references(run_id)) == [*range(60), 61]


def does_not_fit() -> None:
    raise ModelError("It does not fit.")


@pytest.mark.parametrize(
    ("fail", "why"),
    [
        (does_not_fit, "It does not fit."),
        # Unheeded, it ended the worker, which helped again as soon as it was there again.
        (give_up_as_a_tokenizer_does, "A library that reads the model gave up: "),
    ],
)
def test_a_helper_that_cannot_load_the_model_leaves_the_run_alone(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None], why: str
) -> None:
    helped = threading.Event()
    load, compute = ModelCache.load, _Shards._compute

    def refusing(cache: ModelCache, *arguments: Any) -> Any:
        if threading.current_thread().name == "small":
            fail()
        return load(cache, *arguments)

    def waiting(*arguments: Any) -> None:
        helped.wait(30)
        compute(*arguments)

    monkeypatch.setattr(ModelCache, "load", refusing)
    monkeypatch.setattr(_Shards, "_compute", waiting)
    run_id = queued()
    answers: list[bool] = []

    def help_twice() -> None:
        while stored(run_id).phase != "reference pass":
            time.sleep(0.02)
        answers.extend(execute(run_id, "small", ModelCache(get_settings())) for _ in range(2))
        helped.set()

    helper = threading.Thread(target=help_twice, name="small")
    helper.start()
    execute(run_id, "ada", models)
    helper.join()
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert answers == [True, False]
    text = f"The worker small could not help with the reference pass: {why}"
    assert any(message.startswith(text) for message in run.messages)


def test_a_worker_with_another_kind_of_device_does_not_help(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    compute = _Shards._compute

    def asking(*arguments: Any) -> None:
        if not asked:
            with transaction() as session:
                session.get_one(Run, run_id).device = "cuda:0 (NVIDIA H100, 80 GiB), bfloat16"
            asked.append(help_with_reference(run_id, "grace", ModelCache(get_settings())))
        compute(*arguments)

    monkeypatch.setattr(_Shards, "_compute", asking)
    run_id = queued()
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert asked == [True]
    assert set(done_by(run_id)) == {"ada"}
    [text] = [text for text in run.messages if text.startswith("The worker grace could not help")]
    assert "the run is trained on another device" in text


def test_an_error_of_its_own_worker_fails_the_run(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(*_: Any) -> None:
        raise MemoryError("Pair 3 alone does not fit into the GPU's memory.")

    monkeypatch.setattr(_Shards, "_compute", compute)
    run_id = queued()
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "Pair 3" in run.error["message"]
    assert {shard.status for shard in shards_of(run_id)} == {"queued"}


def test_a_helper_whose_tokenizer_reads_other_pairs_stores_nothing(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_shards, "tokenize", lambda _, raw_pairs, *__: raw_pairs[1:])
    compute = _Shards._compute
    done, began = threading.Event(), threading.Event()

    def waiting(self: _Shards, claim: Any, *arguments: Any) -> None:
        if threading.current_thread().name == "other":
            compute(self, claim, *arguments)
        began.set()
        done.wait(30)
        compute(self, claim, *arguments)

    monkeypatch.setattr(_Shards, "_compute", waiting)
    run_id = queued()
    stored_before: list[int] = []

    def help_with() -> None:
        began.wait(30)
        execute(run_id, "other", ModelCache(get_settings()))
        stored_before.append(len(references(run_id)))
        done.set()

    helper = threading.Thread(target=help_with, name="other")
    helper.start()
    execute(run_id, "ada", models)
    helper.join()
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert stored_before == [0]
    assert any("The two workers' models differ." in text for text in run.messages)
