"""The pages of studies."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.core.paging import PAGE_SIZE, Offset
from app.datasets import queries as datasets
from app.models import queries as models
from app.pages.choices import finished_score_runs
from app.pages.study_form import study_forms
from app.pages.templating import render
from app.studies import queries as studies
from app.studies.kinds import KINDS as KINDS_OF_STUDIES
from app.web.session import SessionDep
from chesboard.configs import ModelConfig

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/studies")
def show_studies(request: Request, session: SessionDep, offset: Offset = 0) -> HTMLResponse:
    page = studies.list_studies(session, PAGE_SIZE, offset)
    return render(request, "studies.html", page=page, offset=offset, limit=PAGE_SIZE)


@router.get("/studies/new")
def show_new_study(
    request: Request,
    session: SessionDep,
    kind: Annotated[str, Query(max_length=100)] = "",
    dataset_id: int | None = None,
) -> HTMLResponse:
    names = [one.name for one in models.list_models(session) if one.problem is None]
    default = ModelConfig().model
    found = datasets.list_datasets(session)
    return render(
        request,
        "new_study.html",
        forms=study_forms(),
        kind=kind if kind in KINDS_OF_STUDIES else next(iter(KINDS_OF_STUDIES)),
        datasets=found,
        dataset_id=dataset_id or (found[0].id if found else None),
        models=names,
        model=default if default in names or not names else names[0],
        score_runs=[
            {"id": run.id, "name": run.name, "dataset_id": run.dataset_id}
            for run in finished_score_runs(session).items
        ],
    )


@router.get("/studies/{study_id}")
def show_study(request: Request, session: SessionDep, study_id: int) -> HTMLResponse:
    study = studies.get_study(session, study_id)
    grows = KINDS_OF_STUDIES[study.kind].grows if study.kind in KINDS_OF_STUDIES else ()
    return render(
        request,
        "study.html",
        study=study,
        data=study.model_dump(mode="json", exclude={"plan"}),
        grows=list(grows),
    )
