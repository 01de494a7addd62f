"""What training then did to the pairs of a pre-flight, in runs from the same model and data."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.errors import InvalidInputError
from app.core.nonfinite import finite_or_none
from app.displacement.schemas import MeasuredRun
from app.store.runs import ReferenceLogprob, Run

Change = tuple[float | None, float | None]
"""Of log p(y+) and of log p(y-), in nats."""


def list_train_runs(session: Session, run: Run, pairs: Sequence[int]) -> list[MeasuredRun]:
    """Training runs from the model of a pre-flight that measured any of its pairs, newest first.

    A run that was pre-flown at another revision of its model is not among them.
    """
    found = session.execute(
        select(Run.id, Run.name, func.count())
        .join(ReferenceLogprob, ReferenceLogprob.run_id == Run.id)
        .where(
            Run.dataset_id == run.dataset_id,
            Run.kind == "train",
            Run.config["model"].astext == run.config["model"],
            func.coalesce(Run.config["revision"].astext, "") == (run.config.get("revision") or ""),
            ReferenceLogprob.final_preferred.is_not(None),
            among(ReferenceLogprob.pair, pairs),
        )
        .group_by(Run.id)
        .order_by(Run.id.desc())
    )
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
    table = ReferenceLogprob
    rows = session.execute(
        select(
            table.pair,
            (table.final_preferred - table.preferred).label("preferred"),
            (table.final_dispreferred - table.dispreferred).label("dispreferred"),
        ).where(
            table.run_id == train_run, among(table.pair, pairs), table.final_preferred.is_not(None)
        )
    )
    return {
        row.pair: (finite_or_none(row.preferred), finite_or_none(row.dispreferred)) for row in rows
    }
