"""What training then did to the pairs of a pre-flight, in runs from the same model and data."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select, union_all
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.errors import InvalidInputError
from app.core.nonfinite import finite_or_none
from app.displacement.schemas import MeasuredRun
from app.store.displaced import ended_changes, watched_changes
from app.store.external import numbers_pairs_as_dataset
from app.store.probes import ProbeStep
from app.store.runs import EXTERNAL, ReferenceLogprob, Run

Change = tuple[float | None, float | None]
"""Of log p(y+) and of log p(y-), in nats."""


def list_train_runs(session: Session, run: Run, pairs: Sequence[int]) -> list[MeasuredRun]:
    """Training runs from the model of a pre-flight that measured any of its pairs, newest first.

    A run that was pre-flown at another revision of its model is not among them. Of external runs
    those that succeeded and watched such pairs; their model may stand in another folder.
    """
    revision = func.coalesce(Run.config["revision"].astext, "")
    over_same = (Run.dataset_id == run.dataset_id, revision == (run.config.get("revision") or ""))
    model = Run.config["model"].astext
    ours = (
        select(Run.id, Run.name, func.count().label("measured"))
        .join(ReferenceLogprob, ReferenceLogprob.run_id == Run.id)
        .where(
            Run.kind == "train",
            model == run.config["model"],
            ReferenceLogprob.final_preferred.is_not(None),
            among(ReferenceLogprob.pair, pairs),
            *over_same,
        )
        .group_by(Run.id)
    )
    theirs = (
        select(Run.id, Run.name, func.count(ProbeStep.pair.distinct()).label("measured"))
        .join(ProbeStep, ProbeStep.run_id == Run.id)
        .where(
            Run.kind == EXTERNAL,
            Run.status == "succeeded",
            numbers_pairs_as_dataset(),
            func.regexp_replace(model, "^.*/", "") == run.config["model"].rpartition("/")[2],
            among(ProbeStep.pair, pairs),
            ProbeStep.step > 0,
            *over_same,
        )
        .group_by(Run.id)
    )
    both = union_all(ours, theirs).subquery()
    found = session.execute(select(both).order_by(both.c.id.desc()))
    return [MeasuredRun(run_id=id, name=name, measured=count) for id, name, count in found]


def chosen_run(runs: Sequence[MeasuredRun], wanted: int | None) -> int | None:
    """The wanted run, or the newest.

    Raises:
        InvalidInputError: the wanted one is none of them.
    """
    if wanted is None:
        return runs[0].run_id if runs else None
    if wanted not in {run.run_id for run in runs}:
        message = f"Run {wanted} did not train on these pairs from the same model."
        raise InvalidInputError(message, [{"field": "train_run", "message": message}])
    return wanted


def measured_changes(
    session: Session, train_run: int | None, pairs: Sequence[int]
) -> Mapping[int, Change]:
    """pair → its changes in that run, of the pairs that it measured."""
    if train_run is None:
        return {}
    is_external = session.get_one(Run, train_run).kind == EXTERNAL
    changes = (watched_changes if is_external else ended_changes)(train_run).subquery()
    rows = session.execute(select(changes).where(among(changes.c.pair, pairs)))
    return {
        row.pair: (finite_or_none(row.preferred_change), finite_or_none(row.dispreferred_change))
        for row in rows
    }
