"""The engine as a state machine: runs end in any order, processes die, people change their minds,
and each place of the plan has one run."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.database import get_engine, transaction
from app.core.errors import ConflictError, InvalidInputError
from app.core.settings import get_settings
from app.judgments.schemas import PairsMade, PairsRequest
from app.runs import requests as run_requests
from app.store.datasets import Dataset
from app.store.runs import FINAL, Run
from app.store.studies import Study, StudyRun
from app.studies import engine, kinds, requests
from app.studies.engine import MAX_WAITING, advance_all, decide
from app.studies.plans import MadeRun, Place, PlannedRun, Wanted
from tests import support
from tests.app import factories
from tests.app.studies.toys import PAIRS_NAME, Toy, ToyPlan, toy_plan


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", {"toy": Toy()})
    monkeypatch.setattr(engine, "make_pairs", pairs_without_answers)


def pairs_without_answers(session: Session, run_id: int, wanted: PairsRequest) -> PairsMade:
    dataset = factories.dataset(session, name=wanted.name or "")
    none = dict.fromkeys(("different", "both_positive", "both_negative", "by_score"), 0)
    return PairsMade(
        dataset_id=dataset.id,
        name=dataset.name,
        pairs=3,
        rejected=0,
        prompts=3,
        left_out={},
        **none,
    )


def made_datasets() -> list[int]:
    with transaction() as session:
        return list(session.scalars(select(Dataset.id).where(Dataset.name == PAIRS_NAME)))


# --- the decision, a pure function ------------------------------------------------------------


def planned(count: int) -> list[PlannedRun]:
    return [PlannedRun(Place(str(n), 0, "arm"), "train", {}, str(n)) for n in range(count)]


def made(*statuses: str) -> list[MadeRun]:
    return [MadeRun(n + 1, Place(str(n), 0, "arm"), status) for n, status in enumerate(statuses)]


def test_what_is_missing_is_made_and_nothing_twice() -> None:
    decision = decide(Wanted(planned(3), 3), made("running"))
    assert [run.place.cell for run in decision.create] == ["1", "2"]
    assert decide(Wanted(planned(3), 3), made(*["queued"] * 3)).create == []


def test_only_so_many_runs_wait_at_a_time() -> None:
    decision = decide(Wanted(planned(50), 50), made(*["queued"] * (MAX_WAITING - 2)))
    assert len(decision.create) == 2


def test_a_failed_run_does_not_stop_the_others() -> None:
    decision = decide(Wanted(planned(3), 3), made("failed", "succeeded"))
    assert [run.place.cell for run in decision.create] == ["2"]
    assert decide(Wanted(planned(2), 2), made("failed", "running")).status is None
    ended = decide(Wanted(planned(2), 2), made("failed", "succeeded"))
    assert ended.status == "failed"
    assert ended.error is not None
    assert "run 1" in ended.error


def test_no_more_runs_are_made_where_every_one_fails() -> None:
    decision = decide(Wanted(planned(9), 9), made("failed", "failed", "failed"))
    assert (decision.create, decision.status) == ([], "failed")


def test_a_study_succeeds_once_all_have() -> None:
    assert decide(Wanted(planned(2), 2), made("succeeded", "succeeded")).status == "succeeded"
    assert decide(Wanted(planned(2), 2), made("succeeded", "running")).status is None


# --- the engine in the database ---------------------------------------------------------------


def new_study(**fields: object) -> int:
    with transaction() as session:
        return requests.create(session, toy_plan(factories.dataset(session).id, **fields)).id


def end_run(run_id: int, status: str) -> None:
    with transaction() as session:
        session.execute(update(Run).where(Run.id == run_id).values(status=status))


def study(study_id: int) -> Study:
    with transaction() as session:
        return session.get_one(Study, study_id)


def runs(study_id: int) -> list[MadeRun]:
    with transaction() as session:
        return engine.runs_of(session, study_id)


def test_a_study_goes_from_phase_to_phase_to_its_result(database) -> None:
    study_id = new_study(seeds=[0, 1])
    advance_all()
    assert [run.place for run in runs(study_id)] == [Place("", 0, "first")]
    assert study(study_id).status == "running"
    advance_all()
    assert len(runs(study_id)) == 1
    end_run(runs(study_id)[0].id, "succeeded")
    advance_all()
    assert len(runs(study_id)) == 5
    for run in runs(study_id):
        end_run(run.id, "succeeded")
    advance_all()
    ended = study(study_id)
    assert ended.status == "succeeded"
    assert ended.finished_at is not None
    assert ended.result is not None
    assert [len(cell["runs"]) for cell in ended.result["tables"][0]["cells"]] == [2, 2]


def test_a_phase_whose_run_failed_ends_the_study_and_resuming_takes_it_up(database) -> None:
    study_id = new_study()
    advance_all()
    first = runs(study_id)[0].id
    end_run(first, "failed")
    advance_all()
    assert study(study_id).status == "failed"
    assert f"run {first}" in (study(study_id).error or "")
    assert study(study_id).result is None  # there is nothing to make a table of
    with transaction() as session:
        requests.resume(session, study_id)
    assert study(study_id).status == "running"
    assert runs(study_id)[0].status == "queued"


def test_cancelling_takes_the_unfinished_runs_along(database) -> None:
    study_id = new_study()
    advance_all()
    end_run(runs(study_id)[0].id, "succeeded")
    advance_all()
    running = runs(study_id)[1].id
    end_run(running, "running")
    with transaction() as session:
        requests.cancel(session, study_id)
    statuses = [run.status for run in runs(study_id)]
    assert statuses[:2] == ["succeeded", "running"]
    assert set(statuses[2:]) == {"cancelled"}
    with transaction() as session:
        assert session.get_one(Run, running).cancel_requested
        with pytest.raises(ConflictError, match="has not stopped yet"):
            requests.resume(session, study_id)
    advance_all()
    assert study(study_id).status == "cancelled"


def test_a_finished_study_is_extended_and_keeps_its_runs(database) -> None:
    study_id = new_study(seeds=[0])
    for _ in range(3):
        advance_all()
        for run in runs(study_id):
            end_run(run.id, "succeeded")
    assert study(study_id).status == "succeeded"
    before = {run.id for run in runs(study_id)}
    with transaction() as session:
        requests.extend(session, study_id, {"seeds": [0, 7], "cells": ["c"]})
    advance_all()
    after = runs(study_id)
    assert before < {run.id for run in after}
    assert {(run.place.cell, run.place.seed) for run in after if run.place.cell} == {
        (cell, seed) for cell in "abc" for seed in (0, 7)
    }
    with transaction() as session, pytest.raises(InvalidInputError, match="cannot be added to"):
        requests.extend(session, study_id, {"model": ["other"]})


def test_a_dataset_is_made_once_between_two_phases_and_trained_on(database) -> None:
    study_id = new_study(makes_pairs=True)
    advance_all()
    assert made_datasets() == []
    end_run(runs(study_id)[0].id, "succeeded")
    # Dies after the dataset was made, before what was made is committed.
    with dying_after(0), suppress(KeyboardInterrupt):
        advance_all()
    assert made_datasets() == []
    for _ in range(2):
        advance_all()
    (made,) = made_datasets()
    first, *arms = runs(study_id)
    assert first.dataset_id == made
    assert len(arms) == 6
    with transaction() as session:
        assert {session.get_one(Run, run.id).dataset_id for run in arms} == {made}
        assert session.get_one(Run, first.id).dataset_id != made


def test_answers_that_make_no_pairs_end_the_study_with_the_reason(
    database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> PairsMade:
        raise ConflictError("No two answers make a pair.")

    monkeypatch.setattr(engine, "make_pairs", none)
    study_id = new_study(makes_pairs=True)
    advance_all()
    end_run(runs(study_id)[0].id, "succeeded")
    advance_all()
    assert (study(study_id).status, study(study_id).error) == (
        "failed",
        "No two answers make a pair.",
    )


def test_a_full_queue_only_delays_a_study(database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHESBOARD_MAX_QUEUED_RUNS", "2")
    get_settings.cache_clear()
    study_id = new_study()
    advance_all()
    end_run(runs(study_id)[0].id, "succeeded")
    advance_all()
    assert len(runs(study_id)) == 3
    for run in runs(study_id):
        end_run(run.id, "succeeded")
    advance_all()
    assert len(runs(study_id)) == 5


def test_a_study_that_another_process_is_at_is_left_to_it(database) -> None:
    mine, other = new_study(), new_study()
    with transaction() as session:
        session.get_one(Study, mine, with_for_update=True)
        advance_all()
        assert len(runs(mine)) == 0
    assert len(runs(other)) == 1


def test_a_study_that_cannot_go_on_says_why_and_stops_no_other(
    database, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = new_study(name="broken"), new_study()
    really = Toy.wanted

    def wanted(self, session, plan: ToyPlan, made):
        if plan.name == "broken":
            raise RuntimeError("no such thing")
        return really(self, session, plan, made)

    monkeypatch.setattr(Toy, "wanted", wanted)
    advance_all()
    assert study(broken).status == "failed"
    assert "no such thing" in (study(broken).error or "")
    assert len(runs(sound)) == 1


@contextmanager
def dying_after(creations: int) -> Iterator[None]:
    """The process dies in the middle of a step, when it has made so many runs."""
    really, count = run_requests.create, 0

    def create(session, wanted):
        nonlocal count
        if count == creations:
            raise KeyboardInterrupt
        count += 1
        return really(session, wanted)

    with patch.object(run_requests, "create", create):
        yield


class Life(RuleBasedStateMachine):
    """Anything that may happen to a study, in any order."""

    def __init__(self) -> None:
        super().__init__()
        with get_engine().begin() as connection:
            support.empty_tables(connection)
        self.study_id = new_study(seeds=[0], makes_pairs=True)
        self.seeds, self.cells = {0}, {"a", "b"}
        self.lost = False

    @rule()
    def sweep(self) -> None:
        advance_all()

    @rule(creations=st.integers(0, 2))
    def die_in_the_middle(self, creations: int) -> None:
        with dying_after(creations), suppress(KeyboardInterrupt):
            advance_all()

    @rule(
        choice=st.integers(0, 20),
        status=st.sampled_from(["running", "succeeded", "succeeded", "failed", "cancelled"]),
    )
    def a_run_goes_on(self, choice: int, status: str) -> None:
        unfinished = [run for run in runs(self.study_id) if not run.is_final]
        if unfinished:
            end_run(unfinished[choice % len(unfinished)].id, status)

    @rule()
    def cancel(self) -> None:
        with transaction() as session:
            try:
                requests.cancel(session, self.study_id)
            except ConflictError:
                assert session.get_one(Study, self.study_id).status in ("succeeded", "failed")

    @rule()
    def resume(self) -> None:
        with transaction() as session:
            try:
                requests.resume(session, self.study_id)
            except ConflictError:
                session.rollback()

    @rule(seed=st.integers(1, 2))
    def extend(self, seed: int) -> None:
        if study(self.study_id).status != "cancelled":
            with transaction() as session:
                requests.extend(session, self.study_id, {"seeds": [seed]})
            self.seeds.add(seed)

    @rule(choice=st.integers(0, 20))
    def a_run_is_deleted(self, choice: int) -> None:
        final = [run for run in runs(self.study_id) if run.status in FINAL and run.place.cell]
        if final:
            # A run of a study that goes on is made again.
            self.lost |= study(self.study_id).status == "succeeded"
            with transaction() as session:
                run_requests.delete(session, final[choice % len(final)].id)

    @invariant()
    def no_place_has_two_runs_and_no_run_is_outside(self) -> None:
        places = [run.place for run in runs(self.study_id)]
        assert len(set(places)) == len(places)
        with transaction() as session:
            stray = session.scalars(
                select(Run.id).where(Run.id.not_in(select(StudyRun.run_id)))
            ).all()
        assert stray == []

    @invariant()
    def what_runs_train_on_is_made_at_most_once(self) -> None:
        assert len(made_datasets()) <= 1
        assert {run.dataset_id for run in runs(self.study_id)} <= {None, *made_datasets()}

    @invariant()
    def an_ended_study_has_no_run_under_way(self) -> None:
        if study(self.study_id).status in ("succeeded", "failed"):
            assert all(run.is_final for run in runs(self.study_id))

    def teardown(self) -> None:
        """Whatever happened: from here it can be brought to its end."""
        for _ in range(12):
            now = study(self.study_id)
            for run in runs(self.study_id):
                if not run.is_final:
                    end_run(run.id, "succeeded")
            if now.status in ("failed", "cancelled"):
                with transaction() as session:
                    requests.resume(session, self.study_id)
            advance_all()
        ended = study(self.study_id)
        assert ended.status == "succeeded", ended.error
        assert ended.result is not None
        wanted = {Place(c, s, "arm") for c in self.cells for s in self.seeds}
        if not self.lost:
            found = {run.place for run in runs(self.study_id)}
            assert found == wanted | {Place("", 0, "first")}


def test_nothing_is_lost_or_doubled_whatever_happens(database) -> None:
    run_state_machine_as_test(
        Life, settings=settings(max_examples=12, stateful_step_count=15, deadline=None)
    )
