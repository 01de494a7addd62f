"""Distributions of a run's measures: made when it succeeds, and kept."""

import math

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store import score_summaries
from app.store.runs import Run
from app.store.score_summaries import KeptSummary, keep_summary, summarize_scores
from tests.app import factories

VALUES = [3.0, -1.0, 0.5, math.nan, 0.5, math.inf]


@pytest.fixture
def run(session: Session) -> Run:
    """A score run that has scored its pairs."""
    dataset = factories.dataset(session, pairs=len(VALUES))
    queued = factories.run(session, dataset.id, kind="score", status="queued")
    for pair, value in enumerate(VALUES):
        factories.score(session, queued.id, pair, value)
    session.commit()
    return queued


def succeed(session: Session, run: Run) -> None:
    keep_summary(session, run.id)
    run.status = "succeeded"
    session.commit()


def kept(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(KeptSummary)) or 0


def test_a_run_that_goes_on_is_summarized_as_it_is_now(session: Session, run: Run) -> None:
    ches = summarize_scores(session, run).measures["ches"]
    assert (ches["count"], ches["nonfinite"]) == (4, 2)
    assert (ches["minimum"], ches["maximum"], ches["mean"]) == (-1.0, 3.0, 0.75)
    assert ches["quantiles"]["50"] == 0.5
    assert ches["grid"] == [-1.0, 0.5, 0.5, 3.0]
    assert sum(one["count"] for one in ches["histogram"]) == 4
    assert kept(session) == 0


def test_the_summary_of_a_run_is_kept_when_it_succeeds(session: Session, run: Run) -> None:
    before = summarize_scores(session, run).measures
    succeed(session, run)
    assert kept(session) == 1
    found = summarize_scores(session, run)
    assert found in session, "it was read, not made anew"
    assert (found.total, found.measures) == (len(VALUES), before)


def test_a_run_of_an_earlier_version_is_summarized_once(session: Session, run: Run) -> None:
    run.status = "succeeded"
    session.commit()
    made = summarize_scores(session, run).measures
    session.commit()
    assert kept(session) == 1
    assert summarize_scores(session, run).measures == made


def test_a_run_that_is_deleted_meanwhile_is_summarized_all_the_same(
    session: Session, run: Run
) -> None:
    gone = Run(id=run.id + 1, status="succeeded")
    assert summarize_scores(session, gone).total == 0
    assert kept(session) == 0


def test_many_values_are_kept_as_quantiles(
    session: Session, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_summaries, "MAX_EXACT", 2)
    ches = summarize_scores(session, run).measures["ches"]
    assert ches["grid"] == [-1.0, 0.5, 3.0]
