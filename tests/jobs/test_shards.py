"""Runs that several workers do at once are, to the last bit, those that one does alone, whatever
happens to the workers."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.core.broker import QUEUE, get_redis
from app.core.database import transaction
from app.core.settings import get_settings
from app.runs import requests
from app.store.findings import RunFinding
from app.store.generations import Generation
from app.store.runs import Run, Worker
from app.store.score_summaries import KeptSummary
from app.store.scores import Score
from app.store.shards import claims
from app.store.shards import recording as shard_recording
from app.store.shards.tables import RunShard
from chesboard.loading import ModelError
from chesboard.measures.registry import MEASURE_NAMES
from chesboard.scoring import statistics
from tests.app import factories
from tests.app.rows import stored
from tests.jobs.several_workers import SHORT_PAIRS, Harm, done_by, wait_for
from worker import execution, preparing, shards
from worker.execution import execute
from worker.generation import Generating
from worker.lease_keeper import LeaseKeeper
from worker.models.cache import ModelCache
from worker.scoring import Scoring

pytestmark = pytest.mark.usefixtures("small_shards_and_short_leases", "models_one_at_a_time")

PAIRS = list(SHORT_PAIRS)
PAIRS[7] = (PAIRS[6][0], "<|im_end|> in the text", "No")
PAIRS[20] = ("Is it? " * 30, "the same until the cut is made", "the same until the cut comes")
CONFIGS: dict[str, dict[str, Any]] = {
    "score": {"batch_tokens": 200, "max_prompt_tokens": 150, "max_response_tokens": 12},
    "evaluate": {"batch_tokens": 200},
    "generate": {"batch_tokens": 200, "samples": 2, "answer_tokens": 6, "max_prompt_tokens": 150},
}


def queued(kind: str = "score", pairs: Any = PAIRS, **config: Any) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, pairs)
        settings = CONFIGS[kind] | config
        return factories.run(session, dataset.id, kind=kind, status="queued", config=settings).id


def rows(run_id: int) -> list[tuple[Any, ...]]:
    """Everything that is stored of a run's pairs."""
    found: list[tuple[Any, ...]] = []
    with transaction() as session:
        for table in (Score, Generation, RunFinding):
            names = [c.name for c in table.__table__.c if c.name not in ("run_id", "revision")]
            columns = [getattr(table, name) for name in names]
            stored_rows = session.execute(select(*columns).where(table.run_id == run_id))
            found += [(table.__tablename__, *row) for row in stored_rows]
    return sorted(found, key=repr)


def summary_of(run: Run) -> dict[str, Any]:
    times = ("seconds", "tokens_per_second")
    return {name: value for name, value in run.summary.items() if name not in times}


@pytest.mark.parametrize("kind", CONFIGS)
def test_three_workers_under_kills_and_freezes_are_as_one(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    calm = queued(kind)
    execute(calm, "ada", models)
    assert stored(calm).status == "succeeded", stored(calm).error
    ends: list[str] = []
    finish = claims.finish

    def counted(*arguments: Any) -> Any:
        ended = finish(*arguments)
        ends.append(ended.status if ended else "stale")
        return ended

    monkeypatch.setattr(claims, "finish", counted)
    harm = Harm(monkeypatch, [9, 24, 41], [15, 33], claims, (shard_recording, "_hold"))
    run_id = queued(kind)
    run = wait_for(run_id, ("ada", "grace", "barbara"))
    assert run.status == "succeeded", run.error
    assert rows(run_id) == rows(calm)
    assert summary_of(run) == summary_of(stored(calm))
    assert run.pair_messages == stored(calm).pair_messages
    assert (run.progress_done, run.progress_total) == (
        stored(calm).progress_done,
        stored(calm).progress_total,
    )
    assert len(done_by(run_id)) > 1
    assert ends.count("succeeded") == 1
    assert harm.refused or "stale" in ends


def test_the_summary_is_of_all_shards(models: ModelCache) -> None:
    run_id = queued(pairs=[*PAIRS, ("Is it?", "Yes", "Yes")])
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    with transaction() as session:
        scores = session.scalars(select(Score).where(Score.run_id == run_id)).all()
        found = session.scalars(select(RunShard).where(RunShard.run_id == run_id)).all()
    assert len(scores) == run.summary["pairs"] == len(PAIRS) + 1
    assert len(found) > 5
    for name in MEASURE_NAMES:
        expected = statistics([getattr(score, name) for score in scores])
        assert run.summary["measures"][name] == pytest.approx(expected, rel=1e-12), name
    assert run.summary["same_token_pairs"] == 2
    assert run.summary["cut_tokens"] == sum(score.cut_tokens for score in scores)
    assert run.summary["findings"]["same_tokens"] == 2
    assert run.summary["forward"] == "shared prefix"
    assert run.summary["tokens_per_second"] > 0
    same = [text for text in run.pair_messages if "are the same tokens to the model" in text]
    assert len(same) == 1
    assert f"In 2 of {len(PAIRS) + 1} pairs (20, {len(PAIRS)}) both" in same[0]
    special = [text for text in run.pair_messages if "special tokens" in text]
    assert f"1 of {len(PAIRS) + 1} pairs (7)" in special[0]
    assert [shard.status for shard in found] == ["done"] * len(found)
    with transaction() as session:
        kept = session.get_one(KeptSummary, run_id)
    assert kept.total == len(scores)
    assert kept.measures["ches"]["mean"] == run.summary["measures"]["ches"]["mean"]


def test_pairs_that_were_computed_on_devices_that_round_differently_are_told_of(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = queued(pairs=PAIRS[:12])
    execute(alike, "ada", models)
    kinds = iter(["NVIDIA H100 in bfloat16"])
    monkeypatch.setattr(shards, "describe_rounding", lambda _: next(kinds, "cpu in float32"))
    run_id = queued(pairs=PAIRS[:12])
    execute(run_id, "ada", models)
    [message] = [text for text in stored(run_id).messages if "round differently" in text]
    assert "(NVIDIA H100 in bfloat16, cpu in float32)" in message
    assert not any("round differently" in text for text in stored(alike).messages)


def test_each_worker_tokenizes_its_own_pairs_alone(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    really = preparing.tokenize

    def tokenize(tokenizer: Any, raw_pairs: Any, *rest: Any) -> Any:
        seen.append(len(raw_pairs))
        return really(tokenizer, raw_pairs, *rest)

    monkeypatch.setattr(shards, "tokenize", tokenize)
    run_id = queued()
    wait_for(run_id, ("ada", "grace"))
    with transaction() as session:
        sizes = session.scalars(select(RunShard.pairs).where(RunShard.run_id == run_id))
        assert sorted(seen) == sorted(len(pairs) for pairs in sizes)
    assert sum(seen) == len(PAIRS)


def test_idle_workers_are_woken_once_each_and_no_more_than_there_are_shards(
    models: ModelCache,
) -> None:
    def messages(pairs: Any) -> int:
        get_redis().delete(QUEUE)
        execute(queued(pairs=pairs), "ada", models)
        return int(get_redis().llen(QUEUE))

    with transaction() as session:
        session.add_all(Worker(name=f"idle {number}", device="cpu") for number in range(3))
    assert messages(PAIRS) == 3
    assert messages(PAIRS[:6]) < 3
    with transaction() as session:
        session.query(Worker).update({Worker.run_id: 7})
    assert messages(PAIRS) == 0


def test_a_model_that_one_worker_cannot_load_is_loaded_by_the_other(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = ModelCache.load

    def load(cache: ModelCache, *arguments: Any) -> Any:
        if threading.current_thread().name == "small":
            raise ModelError("It does not fit.")
        return really(cache, *arguments)

    monkeypatch.setattr(ModelCache, "load", load)
    with transaction() as session:
        # Both are there for as long as the test takes, whatever the machine does.
        seen_at = datetime.now(UTC) + timedelta(hours=1)
        names = ("small", "large")
        session.add_all(Worker(name=name, device="cpu", seen_at=seen_at) for name in names)
    run_id = queued()

    def try_it() -> None:
        assert execute(run_id, "small", ModelCache(get_settings()))

    thread = threading.Thread(target=try_it, name="small")
    thread.start()
    thread.join()
    assert stored(run_id).status == "queued"
    assert not execute(run_id, "small", models)
    execute(run_id, "large", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert any("It does not fit." in text for text in run.messages)


def test_a_cancel_ends_all_workers_and_a_resumed_run_goes_on(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = queued()
    execute(calm, "ada", models)
    both_compute = threading.Barrier(2, timeout=30)
    once = threading.local()
    run_id = queued()

    def before(action: Callable[[], None]) -> None:
        really = Scoring.work

        def work(self: Scoring, *arguments: Any) -> Any:
            action()
            return really(self, *arguments)

        monkeypatch.setattr(Scoring, "work", work)

    def cancel_when_both_compute() -> None:
        if getattr(once, "done", False):
            return
        once.done = True
        if both_compute.wait() == 0:
            with transaction() as session:
                requests.cancel(session, run_id)
        time.sleep(0.5)  # two looks at the flag

    before(cancel_when_both_compute)
    began = time.monotonic()
    run = wait_for(run_id, ("ada", "grace"))
    assert run.status == "cancelled"
    assert time.monotonic() - began < 10
    monkeypatch.undo()
    with transaction() as session:
        requests.resume(session, run_id)
    execute(run_id, "ada", models)
    assert stored(run_id).status == "succeeded"
    assert rows(run_id) == rows(calm)


def test_a_run_of_which_a_worker_of_before_had_scored_some_goes_on(models: ModelCache) -> None:
    calm = queued()
    execute(calm, "ada", models)
    run_id = queued()
    with transaction() as session:
        columns = [c for c in Score.__table__.c if c.name != "run_id"]
        some = session.execute(select(*columns).where(Score.run_id == calm, Score.pair < 25))
        session.add_all(Score(run_id=run_id, **row._mapping) for row in some.all())
        run = session.get_one(Run, run_id)
        run.status, run.lease_token, run.attempts = "running", "of a worker that is gone", 1
        run.lease_expires_at = run.created_at
    assert execute(run_id, "grace", models)
    assert stored(run_id).status == "succeeded"
    assert stored(run_id).attempts == 2
    assert rows(run_id) == rows(calm)


def test_a_worker_that_stops_hands_its_shard_back(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chesboard.reporting import RunInterruptedError

    looks = iter(range(1000))
    really = LeaseKeeper.check

    def check(keeper: LeaseKeeper) -> None:
        if next(looks) == 12:
            raise RunInterruptedError("the worker is shutting down")
        really(keeper)

    monkeypatch.setattr(LeaseKeeper, "check", check)
    run_id = queued()
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert (run.status, run.attempts, run.error) == ("queued", 0, None)
    execute(run_id, "grace", models)
    assert stored(run_id).status == "succeeded"


def test_answers_are_under_the_first_pair_of_their_prompt(models: ModelCache) -> None:
    pairs = [(f"Is it {number % 20}?", "Yes", "No") for number in range(60)]
    run_id = queued("generate", pairs)
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    with transaction() as session:
        query = select(Generation.pair).where(Generation.run_id == run_id).distinct()
        assert sorted(session.scalars(query)) == list(range(20))
    assert (run.summary["pairs"], run.summary["prompts"], run.summary["answers"]) == (60, 20, 40)
    assert "The 60 pairs have 20 distinct prompts." in run.pair_messages[0]


def test_logits_that_are_not_finite_are_told(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Generating.work

    def work(self: Generating, loaded: Any, *arguments: Any) -> Any:
        loaded.model.model.norm.weight.data.fill_(float("nan"))
        return really(self, loaded, *arguments)

    monkeypatch.setattr(Generating, "work", work)
    run_id = queued("generate", PAIRS[:3])
    execute(run_id, "ada", models)
    assert any("not finite: 6 of 6 answers" in text for text in stored(run_id).messages)


def test_a_run_that_can_answer_no_prompt_says_so(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Generating, "work", lambda *_: {"seconds": 1.0, "new_tokens": 0})
    run_id = queued("generate", PAIRS[:3])
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "No prompt could be answered" in run.error["message"]


def test_a_selection_without_a_pair_fails_with_what_to_do(models: ModelCache) -> None:
    run_id = queued(selection={"only_verdicts": ["drop"]})
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.error is not None
    assert "Loosen the selection" in run.error["message"]


def test_a_whole_run_is_still_one_workers(models: ModelCache) -> None:
    with transaction() as session:
        dataset = factories.dataset(session, PAIRS)
        run_id = factories.run(session, dataset.id, kind="check", status="queued").id
    assert execution.execute(run_id, "ada", models)
    assert done_by(run_id) == {}
