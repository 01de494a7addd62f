"""The pages of runs: their list, each kind's own, and training runs side by side."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.alarms import queries as alarms
from app.alarms.schemas import LABELS, WITH_THRESHOLD
from app.auth import recorders
from app.core.paging import PAGE_SIZE, Offset
from app.core.settings import get_settings
from app.datasets import queries as datasets
from app.findings.queries import count_kinds
from app.findings.told import untold
from app.pages import filters
from app.pages.templating import render
from app.pages.trainers import TRAINERS
from app.runs import queries as runs
from app.runs.selection import list_run_pairs
from app.store.lookup import Id
from app.store.runs import EXTERNAL, TRAINING, Kind, Status
from app.store.selection import count_selected
from app.studies import requests as study_requests
from app.web.session import SessionDep
from chesboard.configs import Rules

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

MAX_PAIRS_LISTED = 1000
PAGES = {
    "train": "run_train.html",
    EXTERNAL: "run_train.html",
    "check": "run_check.html",
    "preflight": "run_preflight.html",
    "generate": "run_generate.html",
    "judge": "run_judge.html",
}
"""Templates of the pages of runs; other kinds have scores."""
CLEANED = Rules(exclude_flagged=True, exclude_verdicts=["drop"])
"""The rules that "train again" offers."""
_RUN_ID = re.compile(r"\d{1,18}", re.ASCII)
RunIds = Annotated[str, Query(alias="runs", description="Run ids, separated by commas.")]


@router.get("/runs")
def show_runs(
    request: Request,
    session: SessionDep,
    kind: Annotated[Kind | Literal[""], Query()] = "",
    status: Annotated[Status | Literal[""], Query()] = "",
    dataset_id: Annotated[int | Literal[""], Query()] = "",
    offset: Offset = 0,
) -> HTMLResponse:
    found = runs.list_runs(
        session,
        kind=kind or None,
        status=status or None,
        dataset_id=dataset_id or None,
        offset=offset,
        limit=PAGE_SIZE,
    )
    return render(
        request,
        "runs.html",
        page=found,
        alarmed=alarms.count_open(session, [run.id for run in found.items]),
        offset=offset,
        limit=PAGE_SIZE,
        filters={"kind": kind, "status": status, "dataset_id": dataset_id},
        datasets=datasets.list_datasets(session),
    )


@router.get("/runs/watch")
def show_watch(request: Request, session: SessionDep) -> HTMLResponse:
    """How to record a run that is trained elsewhere."""
    known = runs.list_runs(session, kind=EXTERNAL, limit=1).items
    return render(
        request,
        "watch.html",
        address=str(request.base_url).rstrip("/"),
        needs_token=bool(request.app.state.authenticator.keyring),
        tokens=recorders.list_all(session),
        trainers=TRAINERS,
        newest=known[0].id if known else 0,
    )


@router.get("/alarms")
def show_alarms(
    request: Request,
    session: SessionDep,
    run: Annotated[Id | None, Query(description="Of this run alone.")] = None,
    offset: Offset = 0,
) -> HTMLResponse:
    rules = alarms.list_rules(session)
    return render(
        request,
        "alarms.html",
        page=alarms.list_alarms(session, run, limit=PAGE_SIZE, offset=offset),
        offset=offset,
        limit=PAGE_SIZE,
        run=None if run is None else runs.get_run(session, run),
        rules=[one for one in rules if run is None or one.run_id in (None, run)],
        labels=LABELS,
        thresholds=WITH_THRESHOLD,
        has_webhook=bool(get_settings().webhooks),
    )


@router.get("/runs/{run_id}")
def show_run(request: Request, session: SessionDep, run_id: int) -> HTMLResponse:
    run = runs.get_run(session, run_id)
    findings = count_kinds(session, run_id)
    page = PAGES.get(run.kind, "run_score.html")
    about = {
        "run": run,
        "study": study_requests.study_of(session, run_id),
        "findings": findings,
        "messages": untold(run.messages, findings),
        "alarms": alarms.list_alarms(session, run_id, unacknowledged=True, limit=10).items,
    }
    # The pairs of an external run are its trainer's.
    if run.kind != "train" or run.dataset_id is None:
        return render(request, page, **about)
    return render(
        request,
        page,
        **about,
        given=list_run_pairs(session, run_id, 0, MAX_PAIRS_LISTED),
        left=count_selected(session, run.dataset_id, CLEANED),
    )


@router.get("/compare")
def show_compare(request: Request, session: SessionDep, runs_: RunIds = "") -> HTMLResponse:
    named = [int(part) for part in map(str.strip, runs_.split(",")) if _RUN_ID.fullmatch(part)]
    given = [runs.get_run(session, run_id) for run_id in dict.fromkeys(named)]
    chosen = [run for run in given if run.kind in TRAINING]
    return render(
        request,
        "compare.html",
        candidates=runs.list_runs(session, kind=TRAINING, limit=PAGE_SIZE).items,
        chosen=chosen,
        others=[run for run in given if run not in chosen],
        pairs={
            run.id: filters.pairs(list_run_pairs(session, run.id, 0, 0))
            for run in chosen
            if run.kind != EXTERNAL
        },
    )
