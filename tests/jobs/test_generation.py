"""Generation runs from the queue to their stored answers, also when they are interrupted."""

from typing import Any

import pytest
from sqlalchemy import select

from app.core.database import transaction
from app.store.generations import Generation
from app.store.selection import record_selection
from chesboard.configs import Selection
from chesboard.records import GenerationRecord
from chesboard.reporting import RunCancelledError
from tests.app import factories
from tests.app.rows import stored
from tests.jobs.interruption import interrupt, resume
from worker.execution import execute
from worker.lease_keeper import LeaseKeeper
from worker.models.cache import ModelCache
from worker.recorder import Recorder

PAIRS = [
    ("Is it?", "Yes", "No"),
    ("Is it?", "No", "Yes"),
    ("Is it not, then?", "In the", "In the a"),
    ("Is it the end?", "Yes", "No"),
    ("Say it.", "Yes", "No"),
]
CONFIG = {"samples": 3, "answer_tokens": 9, "seed": 11, "batch_tokens": 100}


def queued(selection: dict[str, Any] | None = None, **config: Any) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, PAIRS)
        settings = CONFIG | {"selection": selection or {}} | config
        run = factories.run(session, dataset.id, kind="generate", status="queued", config=settings)
        record_selection(session, run.id, dataset.id, Selection(**(selection or {})))
        return run.id


def rows(run_id: int) -> list[tuple[Any, ...]]:
    with transaction() as session:
        table = Generation
        columns = (
            *(table.pair, table.sample, table.text),
            *(table.tokens, table.ended, table.logprob),
        )
        query = select(*columns).where(table.run_id == run_id).order_by(table.pair, table.sample)
        return [tuple(row) for row in session.execute(query)]


def test_the_prompts_of_the_chosen_pairs_are_answered_each_once(models: ModelCache) -> None:
    run_id = queued({"pairs": [0, 1, 3]})
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    found = rows(run_id)
    assert [row[:2] for row in found] == [(pair, sample) for pair in (0, 3) for sample in range(3)]
    assert all(0 < tokens <= 9 and logprob < 0 for *_, tokens, _, logprob in found)
    assert (run.summary["prompts"], run.summary["answers"]) == (2, 6)
    assert run.summary["ended"] == sum(ended for *_, ended, _ in found)
    assert (run.progress_done, run.progress_total, run.progress_unit) == (6, 6, "answers")


def test_the_same_seed_gives_the_same_answers_to_the_last_bit(models: ModelCache) -> None:
    first, again, other = queued(), queued(), queued(seed=12)
    for run_id in (first, again, other):
        execute(run_id, "ada", models)
    assert rows(first) == rows(again)
    assert rows(first) != rows(other)


@pytest.mark.parametrize("answers", [1, 4, 11])
def test_an_interrupted_run_goes_on_with_the_answers_that_are_left(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    calm, disturbed = queued(), queued()
    execute(calm, "ada", models)
    seen = interrupt(disturbed, models, monkeypatch, GenerationRecord, answers)
    assert len(rows(disturbed)) == answers
    resume(disturbed, models)
    assert len({(one.pair, one.sample) for one in seen}) == len(seen) == 12  # none is stored twice
    assert rows(disturbed) == rows(calm)
    same = ("prompts", "answers", "ended", "tokens")
    assert [stored(disturbed).summary[name] for name in same] == [
        stored(calm).summary[name] for name in same
    ]


def test_a_cancel_takes_effect_within_a_token(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: list[str] = []
    really, check = Recorder.phase, LeaseKeeper.check
    checks = iter(range(1000))

    def phase(self: Recorder, name: Any, *counts: Any) -> None:
        phases.append(name)
        really(self, name, *counts)

    def cancelled(self: LeaseKeeper) -> None:
        if phases[-1:] == ["generating"] and next(checks) == 3:
            raise RunCancelledError
        check(self)

    monkeypatch.setattr(Recorder, "phase", phase)
    monkeypatch.setattr(LeaseKeeper, "check", cancelled)
    run_id = queued(answer_tokens=64, batch_tokens=10_000)
    execute(run_id, "ada", models)
    assert stored(run_id).status == "cancelled"
    assert all(tokens <= 3 for _, _, _, tokens, *_ in rows(run_id))


def test_greedy_answers_are_alike_whatever_the_seed(models: ModelCache) -> None:
    first, other = queued(temperature=0), queued(temperature=0, seed=99)
    execute(first, "ada", models)
    execute(other, "ada", models)
    assert rows(first) == rows(other)
    texts: dict[int, set[str]] = {}
    for pair, _, text, *_ in rows(first):
        texts.setdefault(pair, set()).add(text)
    assert all(len(samples) == 1 for samples in texts.values())
