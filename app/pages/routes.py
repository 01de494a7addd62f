"""The addresses of the pages, and what each hands to its template."""

from dataclasses import asdict
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from pydantic import StringConstraints

from app.audit import queries as audit
from app.audit.routes import FilterText
from app.auth.authentication import page_context
from app.core.paging import PAGE_SIZE, Offset
from app.core.resources import folder
from app.core.settings import get_settings
from app.datasets import queries as datasets
from app.datasets.issues import Issue
from app.models import queries as models
from app.ops.health import check_health
from app.ops.snapshot import take_snapshot
from app.ops.status import describe
from app.pages import filters, forms, labels
from app.pages.selection import prefilled
from app.probes.listing import watched_pairs
from app.reviews import queries as reviews
from app.runs import queries as runs
from app.runs.schemas import RunPage
from app.runs.selection import list_run_pairs
from app.samples import SAMPLES
from app.store.runs import FINAL, Kind, Status
from app.store.selection import count_selected
from app.web.session import SessionDep
from app.web.static import PLOTLY_URL
from chesboard.configs import CONFIGS, Rules, Verdict
from chesboard.measures.registry import MEASURES

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

templates = Jinja2Templates(folder("templates"), context_processors=[page_context])
templates.env.filters.update(filters.FILTERS)
templates.env.globals.update(
    KINDS=labels.KINDS,
    FORMATS=labels.FORMATS,
    ISSUES=labels.ISSUES,
    REASONS=labels.REASONS,
    PLOTLY_URL=PLOTLY_URL,
    measures=[asdict(measure) for measure in MEASURES],
)

LAST_RUNS = 8
EVENTS_PER_PAGE = 100
MAX_PAIRS_LISTED = 1000
CLEANED = Rules(exclude_flagged=True, exclude_verdicts=["drop"])
"""The rules that "train again" offers."""
_EXCLUSION = "|".join(("flagged", *get_args(Verdict)))
Without = Annotated[str, StringConstraints(pattern=rf"^({_EXCLUSION})(,({_EXCLUSION}))*$")]
RunIds = Annotated[str, Query(alias="runs", description="Run ids, separated by commas.")]


def _page(request: Request, name: str, **context: Any) -> HTMLResponse:
    # no-store: the back button reloads the page, whose content may have changed.
    return templates.TemplateResponse(request, name, context, headers={"Cache-Control": "no-store"})


@router.get("/")
def show_home(request: Request, session: SessionDep) -> HTMLResponse:
    unfinished = [
        run
        for status in ("running", "queued")
        for run in runs.list_runs(session, status=status, limit=PAGE_SIZE).items
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
    issue: Annotated[Issue | None, Query(description="Show only pairs with this issue.")] = None,
) -> HTMLResponse:
    return _page(
        request,
        "dataset.html",
        dataset=datasets.get_dataset(session, dataset_id),
        runs=runs.list_runs(session, dataset_id=dataset_id, limit=PAGE_SIZE).items,
        first_pair=pair,
        first_issue=issue,
    )


@router.get("/review")
def show_reviews(request: Request, session: SessionDep) -> HTMLResponse:
    """The datasets with their progress of review."""
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
                limit=PAGE_SIZE,
            )
        ),
        train_runs=_named(
            runs.list_runs(session, kind="train", dataset_id=dataset_id, limit=PAGE_SIZE)
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
    like: Annotated[int | None, Query(description="A run whose settings are copied.")] = None,
    without: Annotated[
        Without | None, Query(description="Exclude flagged pairs or verdicts, separated by commas.")
    ] = None,
    control: Annotated[
        bool, Query(description="As many pairs as that leaves, drawn at random.")
    ] = False,
) -> HTMLResponse:
    values: dict[str, Any] = {}
    if like is not None:
        earlier = runs.get_run(session, like)
        values = dict(earlier.config)
        watched = dict(values.get("probes") or {})
        if earlier.dataset_id == dataset_id:
            # Whatever is left out now: only the same pairs can be laid over each other.
            watched["pairs"] = watched_pairs(session, like) or watched.get("pairs")
        else:
            # These name pairs and score runs of the other dataset.
            values.pop("selection", None)
            watched.pop("pairs", None)
        values["probes"] = watched
    values["selection"] = prefilled(
        values.get("selection") or {}, without.split(",") if without else (), control
    )
    known = models.list_models(session)
    # The default is the starter model; if that is not installed, the first model.
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
                limit=PAGE_SIZE,
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
    return _page(
        request,
        "runs.html",
        page=found,
        offset=offset,
        limit=PAGE_SIZE,
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
        given=list_run_pairs(session, run_id, 0, MAX_PAIRS_LISTED),
        left=count_selected(session, run.dataset_id, CLEANED),
    )


@router.get("/status")
def show_status(request: Request) -> HTMLResponse:
    # Without a session: the page must render while the database is unreachable.
    return _page(request, "status.html", status=describe(take_snapshot(), get_settings()))


@router.get("/audit")
def show_audit(
    request: Request,
    session: SessionDep,
    action: FilterText = "",
    actor: FilterText = "",
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
            limit=EVENTS_PER_PAGE,
            offset=offset,
        ),
        offset=offset,
        limit=EVENTS_PER_PAGE,
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
        candidates=runs.list_runs(session, kind="train", limit=PAGE_SIZE).items,
        chosen=chosen,
        pairs={run.id: filters.pairs(list_run_pairs(session, run.id, 0, 0)) for run in chosen},
    )
