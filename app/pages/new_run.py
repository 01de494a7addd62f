"""The forms of new runs."""

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import StringConstraints

from app.core.errors import NotFoundError
from app.core.settings import get_settings
from app.datasets import queries as datasets
from app.models import queries as models
from app.models.folder import within_time
from app.pages import forms
from app.pages.choices import finished_score_runs, named, reward_models
from app.pages.selection import keep_lowest, prefilled
from app.pages.templating import render
from app.probes.listing import watched_pairs
from app.runs import queries as runs
from app.store.lookup import find_run
from app.store.runs import EXTERNAL, Kind
from app.web.session import SessionDep
from chesboard.configs import JudgeConfig, ModelConfig, ObjectiveConfig, PreflightConfig, Verdict
from chesboard.issues import IssueKind
from chesboard.judging.classifier_files import list_classifiers

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

_EXCLUSION = "|".join(("flagged", *get_args(Verdict)))
Without = Annotated[str, StringConstraints(pattern=rf"^({_EXCLUSION})(,({_EXCLUSION}))*$")]
Ordinals = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(,[0-9]{1,9})*$")]


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
    exclude_issue: Annotated[
        list[IssueKind], Query(description="Exclude pairs with one of these issues.")
    ] = [],  # noqa: B006 - FastAPI copies defaults
    only_issue: Annotated[
        list[IssueKind], Query(description="Only pairs with one of these issues.")
    ] = [],  # noqa: B006
    keep: Annotated[
        float | None,
        Query(
            gt=0, le=1, description="Only the lowest fraction by ln_ches of the score run `like`."
        ),
    ] = None,
    pairs: Annotated[
        Ordinals | None, Query(description="Ordinals of pairs to name, separated by commas.")
    ] = None,
) -> HTMLResponse:
    """Objective and coefficients (chesboard.configs.ObjectiveConfig) may be in the address too."""
    if kind == EXTERNAL:
        raise NotFoundError("Runs that are trained elsewhere are made by their trainers.")
    if kind == "judge":
        raise NotFoundError("Answers are judged from the page of the run that generated them.")
    values: dict[str, Any] = {}
    if like is not None:
        earlier = runs.get_run(session, like)
        if earlier.kind == EXTERNAL:
            raise NotFoundError(f"Run {like} is trained elsewhere; its settings are not ours.")
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
        if kind == "train" and earlier.dataset_id == dataset_id:
            chosen_by = like if earlier.kind == "score" else values.get("forecast_run")
            values["forecast_run"] = chosen_by if find_run(session, chosen_by or 0) else None
        else:
            values.pop("forecast_run", None)
        if keep is not None:
            values["selection"] = keep_lowest(values.get("selection") or {}, like, keep)
    values |= forms.objective_values(request.query_params)
    values["selection"] = prefilled(
        values.get("selection") or {},
        without.split(",") if without else (),
        control,
        exclude_issues=exclude_issue,
        only_issues=only_issue,
    )
    if pairs is not None:
        values["selection"] = {"pairs": [int(pair) for pair in pairs.split(",")]}
    elif kind == "preflight" and like is None:
        values["selection"] |= PreflightConfig().selection.model_dump(exclude_defaults=True)
    known = models.list_models(session)
    # The default is the starter model; if that is not installed, the first that can be used.
    names = [model.name for model in known if model.problem is None]
    if names and values.get("model") not in names:
        default = ModelConfig().model
        values["model"] = default if default in names else names[0]
        values.pop("forecast_run", None)
    return render(
        request,
        "new_run.html",
        dataset=datasets.get_dataset(session, dataset_id),
        kind=kind,
        groups=forms.run_form(kind, values),
        objective_fields=list(ObjectiveConfig.model_fields),
        models=known,
        reward_models=reward_models() if kind == "train" else [],
        score_runs=named(finished_score_runs(session, dataset_id)),
    )


@router.get("/runs/{run_id}/judge")
def show_new_judge(
    request: Request,
    session: SessionDep,
    run_id: int,
    like: Annotated[int | None, Query(description="A judge run whose settings are copied.")] = None,
) -> HTMLResponse:
    """The form of a judge of a generate run's answers."""
    run = runs.get_run(session, run_id)
    if run.kind != "generate":
        raise NotFoundError(f"Run {run_id} generated no answers to judge.")
    earlier = {} if like is None else runs.get_run(session, like).config
    classifiers = within_time(lambda: list_classifiers(get_settings().models_path))
    values = JudgeConfig.model_construct(generate_run=run_id).model_dump() | earlier
    return render(
        request,
        "new_judge.html",
        run=run,
        values=values,
        help={name: one.description for name, one in JudgeConfig.model_fields.items()},
        classifiers=classifiers,
        labels={one.name: [] if one.is_reward_model else one.labels for one in classifiers},
        has_endpoint=get_settings().judge_url is not None,
    )
