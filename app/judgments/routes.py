"""The API of judgments: verdicts, agreement, and pairs made of judged answers."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.core.json_body import JsonBody
from app.core.paging import PAGE_SIZE, Offset
from app.judgments import pairs, queries
from app.judgments.schemas import (
    AgreementList,
    JudgmentPage,
    JudgmentSummary,
    PairsMade,
    PairsRequest,
    VerdictName,
)
from app.store.lookup import Id
from app.web.downloads import Download, Format, PairParameter, SearchParameter, download
from app.web.session import SessionDep

router = APIRouter(tags=["judgments"])

RunIds = Annotated[
    str,
    Query(
        alias="runs",
        pattern=r"^\d{1,18}(,\d{1,18})*$",
        description="Ids of judge runs over the same answers, separated by commas.",
    ),
]


@router.get("/runs/{run_id}/judgments", response_model=JudgmentPage)
def list_judgments(
    session: SessionDep,
    run_id: int,
    verdict: Annotated[
        VerdictName | None, Query(description="Only this verdict; none: answers without one.")
    ] = None,
    search: SearchParameter = None,
    pair: PairParameter = None,
    differs_from: Annotated[
        Id | None,
        Query(description="Only answers on which this other judge gave the opposite verdict."),
    ] = None,
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=0, le=1000)] = PAGE_SIZE,
    format: Format = "json",
) -> JudgmentPage | Download:
    """The verdict on each answer, with the answer; pages hold its prompt too."""
    wanted = queries.Filter(verdict, search, pair, differs_from)
    if format == "json":
        return queries.list_judgments(session, run_id, wanted, offset=offset, limit=limit)
    _, config = queries.require_judge(session, run_id)
    queries.check_filter(session, run_id, wanted)
    found = queries.export_judgments(run_id, config, wanted, format)
    return download(found, f"run-{run_id}-judgments", format)


@router.get("/runs/{run_id}/judgments/summary")
def summarize_judgments(session: SessionDep, run_id: int) -> JudgmentSummary:
    """The rate of positive verdicts with its Wilson interval, how the prompts' answers compare, and
    the agreement with other judges of the same answers."""
    return queries.summarize(session, run_id)


@router.get("/judgments/agreement")
def compare_judges(session: SessionDep, runs: RunIds) -> AgreementList:
    """Raw agreement and Cohen's kappa of each two judges."""
    return queries.compare(session, [int(run) for run in runs.split(",")])


@router.post("/runs/{run_id}/pairs", status_code=201)
def make_pairs(session: SessionDep, run_id: int, wanted: JsonBody[PairsRequest]) -> PairsMade:
    """Make a dataset of preference pairs from judged answers, one a prompt.

    Of two answers the one with the preferred verdict is preferred. The dataset is like an uploaded
    one; its meta columns say which answers each pair is made of. All or nothing is stored.
    """
    return pairs.make_pairs(session, run_id, wanted)
