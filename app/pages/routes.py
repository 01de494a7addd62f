"""Which page has which address."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from pydantic import StringConstraints

from app.audit import queries as audit
from app.audit.routes import Words
from app.auth.permissions import page_context
from app.core.database import SessionDep
from app.core.settings import PROJECT_ROOT, get_settings
from app.datasets import queries as datasets
from app.datasets.issues import Issue
from app.models import queries as models
from app.ops.health import check_health
from app.ops.snapshot import observe
from app.ops.status import describe
from app.pages import forms, words
from app.pages import selection as selecting
from app.pages.measures import MEASURES
from app.probes import queries as probes
from app.reviews import queries as reviews
from app.runs import queries as runs
from app.runs import selection as selections
from app.runs.schemas import FINAL, Kind, RunPage, Status
from app.samples import SAMPLES
from app.store.selection import count_selected
from app.web.static import PLOTLY_URL
from chesboard.configs import CONFIGS, Rules

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

templates = Jinja2Templates(PROJECT_ROOT / "templates", context_processors=[page_context])
templates.env.filters.update(words.FILTERS)
templates.env.globals.update(
    KINDS=words.KINDS, measures=MEASURES, FORMATS=words.FORMATS, PLOTLY_URL=PLOTLY_URL
)
templates.env.globals.update(ISSUES=words.ISSUES, REASONS=words.REASONS)

LAST_RUNS = 8
RUNS_A_PAGE = 50
EVENTS_A_PAGE = 100
PAIRS_NAMED = 1000
CLEANED = Rules(exclude_flagged=True, exclude_verdicts=["drop"])
"""What "train again" offers."""
Without = Annotated[
    str,
    StringConstraints(
        pattern=r"^(flagged|keep|drop|fix|unsure)(,(flagged|keep|drop|fix|unsure))*$"
    ),
]
RunIds = Annotated[str, Query(alias="runs", description="Run ids, separated by commas.")]


def _page(request: Request, name: str, **context: Any) -> HTMLResponse:
    # What a page shows may have changed by the time that someone goes back to it.
    return templates.TemplateResponse(request, name, context, headers={"Cache-Control": "no-store"})


@router.get("/")
def show_home(request: Request, session: SessionDep) -> HTMLResponse:
    unfinished = [
        run
        for status in ("running", "queued")
        for run in runs.list_runs(session, status=status, limit=RUNS_A_PAGE).items
    ]
    return _page(
        request,
        "home.html",
        unfinished=unfinished,
        last_runs=[
            run
            for run in runs.list_runs(session, limit=LAST_RUNS + len(unfinished)).items
            if run.status in FINAL
        ][:LAST_RUNS],
        datasets=datasets.list_datasets(session),
        health=check_health(),
        samples=SAMPLES,
    )


@router.get("/datasets")
def show_datasets(request: Request, session: SessionDep) -> HTMLResponse:
    return _page(
        request, "datasets.html", datasets=datasets.list_datasets(session), samples=SAMPLES
    )


@router.get("/datasets/{dataset_id}")
def show_dataset(
    request: Request,
    session: SessionDep,
    dataset_id: int,
    pair: Annotated[int, Query(ge=0)] = 0,
    issue: Annotated[Issue | None, Query(description="Show only pairs with it.")] = None,
) -> HTMLResponse:
    return _page(
        request,
        "dataset.html",
        dataset=datasets.get_dataset(session, dataset_id),
        runs=runs.list_runs(session, dataset_id=dataset_id, limit=RUNS_A_PAGE).items,
        first_pair=pair,
        first_issue=issue,
    )


@router.get("/review")
def show_reviews(request: Request, session: SessionDep) -> HTMLResponse:
    """Where to review: each dataset and how far it is."""
    found = datasets.list_datasets(session)
    progress = {dataset.id: reviews.get_progress(session, dataset.id) for dataset in found}
    return _page(request, "reviews.html", datasets=found, progress=progress)


@router.get("/datasets/{dataset_id}/review")
def show_review(request: Request, session: SessionDep, dataset_id: int) -> HTMLResponse:
    dataset = datasets.get_dataset(session, dataset_id)
    return _page(
        request,
        "review.html",
        dataset=dataset,
        score_runs=_named(
            runs.list_runs(
                session,
                kind="score",
                status="succeeded",
                dataset_id=dataset_id,
                limit=RUNS_A_PAGE,
            )
        ),
        train_runs=_named(
            runs.list_runs(session, kind="train", dataset_id=dataset_id, limit=RUNS_A_PAGE)
        ),
    )


def _named(page: RunPage) -> list[dict[str, Any]]:
    return [{"id": run.id, "name": run.name} for run in page.items]


@router.get("/datasets/{dataset_id}/new")
def show_new_run(
    request: Request,
    session: SessionDep,
    dataset_id: int,
    kind: Kind = "train",
    like: Annotated[int | None, Query(description="A run whose settings are taken over.")] = None,
    without: Annotated[
        Without | None, Query(description="Leave out flagged, or a verdict.")
    ] = None,
    control: Annotated[bool, Query(description="As many as that leaves, but at random.")] = False,
) -> HTMLResponse:
    values: dict[str, Any] = {}
    if like is not None:
        earlier = runs.get_run(session, like)
        values = dict(earlier.config)
        watched = dict(values.get("probes") or {})
        if earlier.dataset_id == dataset_id:
            # Whatever is left out now: only the same pairs can be laid over each other.
            watched["pairs"] = probes.watched_pairs(session, like) or watched.get("pairs")
        else:
            # It names pairs and scores of the other dataset.
            values.pop("selection", None)
            watched.pop("pairs", None)
        values["probes"] = watched
    values["selection"] = selecting.prefilled(
        values.get("selection") or {}, without.split(",") if without else (), control
    )
    known = models.list_models(session)
    # The default names the starter model; where that is not there, the first one is as good.
    if known and values.get("model") not in {model.name for model in known}:
        default = CONFIGS[kind]().model
        names = [model.name for model in known]
        values["model"] = default if default in names else names[0]
    return _page(
        request,
        "new_run.html",
        dataset=datasets.get_dataset(session, dataset_id),
        kind=kind,
        groups=forms.run_form(kind, values),
        models=known,
        score_runs=_named(
            runs.list_runs(
                session,
                kind="score",
                status="succeeded",
                dataset_id=dataset_id,
                limit=RUNS_A_PAGE,
            )
        ),
    )


@router.get("/runs")
def show_runs(
    request: Request,
    session: SessionDep,
    kind: Annotated[Kind | Literal[""], Query()] = "",
    status: Annotated[Status | Literal[""], Query()] = "",
    dataset_id: Annotated[int | Literal[""], Query()] = "",
    offset: Annotated[int, Query(ge=0)] = 0,
) -> HTMLResponse:
    found = runs.list_runs(
        session,
        kind=kind or None,
        status=status or None,
        dataset_id=dataset_id or None,
        offset=offset,
        limit=RUNS_A_PAGE,
    )
    return _page(
        request,
        "runs.html",
        page=found,
        offset=offset,
        limit=RUNS_A_PAGE,
        filters={"kind": kind, "status": status, "dataset_id": dataset_id},
        datasets=datasets.list_datasets(session),
    )


@router.get("/runs/{run_id}")
def show_run(request: Request, session: SessionDep, run_id: int) -> HTMLResponse:
    run = runs.get_run(session, run_id)
    if run.kind != "train":
        return _page(request, "run_score.html", run=run)
    return _page(
        request,
        "run_train.html",
        run=run,
        given=selections.list_run_pairs(session, run_id, 0, PAIRS_NAMED),
        left=count_selected(session, run.dataset_id, CLEANED),
    )


@router.get("/status")
def show_status(request: Request) -> HTMLResponse:
    # Without a session: the page is there to say that the database is not.
    return _page(request, "status.html", status=describe(observe(), get_settings()))


@router.get("/audit")
def show_audit(
    request: Request,
    session: SessionDep,
    action: Words = "",
    actor: Words = "",
    offset: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> HTMLResponse:
    actions, actors = audit.list_names(session)
    return _page(
        request,
        "audit.html",
        page=audit.list_events(
            session,
            action=action or None,
            actor=actor or None,
            limit=EVENTS_A_PAGE,
            offset=offset,
        ),
        offset=offset,
        limit=EVENTS_A_PAGE,
        filters={"action": action or "", "actor": actor or ""},
        actions=actions,
        actors=actors,
    )


@router.get("/compare")
def show_compare(request: Request, session: SessionDep, runs_: RunIds = "") -> HTMLResponse:
    named = [int(part) for part in runs_.split(",") if part.strip().isdigit()]
    chosen = [runs.get_run(session, run_id) for run_id in dict.fromkeys(named)]
    return _page(
        request,
        "compare.html",
        candidates=runs.list_runs(session, kind="train", limit=RUNS_A_PAGE).items,
        chosen=chosen,
        pairs={
            run.id: words.pairs(selections.list_run_pairs(session, run.id, 0, 0)) for run in chosen
        },
    )
