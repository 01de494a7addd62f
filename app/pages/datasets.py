"""The pages of datasets: their pairs, their doctor and their review."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.core.paging import PAGE_SIZE
from app.datasets import queries as datasets
from app.doctor import queries as doctor
from app.models import queries as models
from app.pages.choices import finished_score_runs, named
from app.pages.templating import render
from app.reviews import queries as reviews
from app.runs import queries as runs
from app.samples import SAMPLES
from app.store.issues import count_issues
from app.web.session import SessionDep
from chesboard.issues import IssueKind

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/datasets")
def show_datasets(request: Request, session: SessionDep) -> HTMLResponse:
    return render(
        request, "datasets.html", datasets=datasets.list_datasets(session), samples=SAMPLES
    )


@router.get("/datasets/{dataset_id}")
def show_dataset(
    request: Request,
    session: SessionDep,
    dataset_id: int,
    pair: Annotated[int, Query(ge=0)] = 0,
    issue: Annotated[
        IssueKind | None, Query(description="Show only pairs with this issue.")
    ] = None,
) -> HTMLResponse:
    return render(
        request,
        "dataset.html",
        dataset=datasets.get_dataset(session, dataset_id),
        runs=runs.list_runs(session, dataset_id=dataset_id, limit=PAGE_SIZE).items,
        issues=count_issues(session, dataset_id),
        first_pair=pair,
        first_issue=issue,
    )


@router.get("/datasets/{dataset_id}/doctor")
def show_doctor(
    request: Request,
    session: SessionDep,
    dataset_id: int,
    model: Annotated[str, Query(max_length=500)] = "",
) -> HTMLResponse:
    known = [found.name for found in models.list_models(session)]
    examined = doctor.examine(session, dataset_id, model or None)
    return render(
        request,
        "doctor.html",
        dataset=datasets.get_dataset(session, dataset_id),
        doctor=examined,
        examples={
            kind.kind: [example.model_dump() for example in kind.examples]
            for kind in examined.kinds
        },
        models=known if not model or model in known else [model, *known],
    )


@router.get("/review")
def show_reviews(request: Request, session: SessionDep) -> HTMLResponse:
    """The datasets with their progress of review."""
    found = datasets.list_datasets(session)
    progress = {dataset.id: reviews.get_progress(session, dataset.id) for dataset in found}
    return render(request, "reviews.html", datasets=found, progress=progress)


@router.get("/datasets/{dataset_id}/review")
def show_review(request: Request, session: SessionDep, dataset_id: int) -> HTMLResponse:
    dataset = datasets.get_dataset(session, dataset_id)
    return render(
        request,
        "review.html",
        dataset=dataset,
        issues=count_issues(session, dataset_id),
        score_runs=named(finished_score_runs(session, dataset_id)),
        train_runs=named(
            runs.list_runs(session, dataset_id=dataset_id, linked=True, limit=PAGE_SIZE)
        ),
    )
