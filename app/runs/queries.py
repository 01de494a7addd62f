"""Reading runs and their metrics."""

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.csv import csv_line
from app.core.database import transaction
from app.core.downsampling import pick
from app.core.packed import read_columns
from app.core.paging import EXPORT_ROWS, PAGE_SIZE
from app.core.windows import WHOLE, Window
from app.probes.headline import Headline, run_headline
from app.probes.observations import is_unfinished, objective_of, observe_runs
from app.runs.schemas import MetricList, MetricOut, RunOut, RunPage
from app.store.datasets import Dataset
from app.store.external import ExternalRun, numbers_pairs_as_dataset
from app.store.lookup import require_run
from app.store.runs import EXTERNAL, TRAINING, Metric, Run
from chesboard.records import METRICS


def get_run(session: Session, run_id: int) -> RunOut:
    """Raises:
    NotFoundError: no such run.
    """
    return describe(session, [require_run(session, run_id)])[0]


def list_runs(
    session: Session,
    *,
    kind: str | Collection[str] | None = None,
    status: str | None = None,
    dataset_id: int | None = None,
    linked: bool = False,
    limit: int = PAGE_SIZE,
    offset: int = 0,
) -> RunPage:
    """A page of runs, newest first, with the total number. kind: one, or several. linked: training
    runs whose pairs are those of their dataset with the same ordinals."""
    kinds = [kind] if isinstance(kind, str) else kind
    wanted = {Run.status: status, Run.dataset_id: dataset_id}
    conditions = [column == value for column, value in wanted.items() if value is not None]
    if kinds is not None:
        conditions.append(Run.kind.in_(kinds))
    if linked:
        conditions.append(numbers_pairs_as_dataset())
    total = session.scalar(select(func.count()).select_from(Run).where(*conditions)) or 0
    found = session.scalars(
        select(Run).where(*conditions).order_by(Run.id.desc()).limit(limit).offset(offset)
    )
    return RunPage(total=total, items=describe(session, list(found)))


def describe(session: Session, runs: Sequence[Run]) -> list[RunOut]:
    """Runs with the names of their datasets and, for training runs, a headline."""
    used = {run.dataset_id for run in runs}
    found = session.execute(select(Dataset.id, Dataset.name).where(among(Dataset.id, used)))
    names = {row.id: row.name for row in found}
    headlines = _headlines(session, [run for run in runs if run.kind in TRAINING])
    outside = [run.id for run in runs if run.kind == EXTERNAL]
    query = select(ExternalRun).where(among(ExternalRun.run_id, outside))
    external = {one.run_id: one for one in session.scalars(query)} if outside else {}
    return [
        RunOut.of(
            run,
            None if run.dataset_id is None else names[run.dataset_id],
            headlines.get(run.id),
            external.get(run.id),
        )
        for run in runs
    ]


def _headlines(session: Session, runs: Sequence[Run]) -> dict[int, Headline | None]:
    observed = observe_runs(session, runs)
    return {
        run.id: run_headline(observed[run.id], objective_of(run), running=is_unfinished(run))
        for run in runs
    }


def list_metrics(
    session: Session,
    run_id: int,
    since: int | None = None,
    window: Window = WHOLE,
    other: str | None = None,
) -> MetricList:
    """The metrics of the steps in a window, or of those of them after `since`.

    other: the name of one of a trainer's further metrics, whose extremes are kept as those of all
    others are.

    Raises:
        NotFoundError: no such run.
    """
    # Read before the rows: rows written in between are streamed again, none is missed.
    revision = require_run(session, run_id).revision
    query = _metrics(run_id, since).where(*window.conditions(Metric.step))
    total = session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
    if window.points is not None and total > window.points:
        columns = [getattr(Metric, name) for name in METRICS]
        if other is not None:
            columns.append(Metric.extra[other].astext)
        steps, series = read_columns(session, query.with_only_columns(Metric.step, *columns))
        kept = steps[pick(len(steps), series, window.points)]
        query = query.where(among(Metric.step, kept.tolist()))
    items = [MetricOut.of(metric) for metric in session.scalars(query)]
    return MetricList(revision=revision, total=total, decimated=len(items) < total, items=items)


def export_metrics_csv(run_id: int, since: int | None = None) -> Iterator[str]:
    """All metrics after `since` as CSV, header first, streamed; nonfinite numbers are empty. A
    trainer's further metrics come last, by its own names.

    Opens its own transaction.
    """
    with transaction() as session:
        others = other_names(session, run_id)
        yield csv_line(["step", *METRICS, *map(_column_name, others)])
        query = _metrics(run_id, since).execution_options(yield_per=EXPORT_ROWS)
        for partition in session.scalars(query).partitions():
            rows = (MetricOut.of(metric) for metric in partition)
            yield "".join(
                csv_line(
                    [
                        row.step,
                        *(getattr(row, name) for name in METRICS),
                        *((row.extra or {}).get(name) for name in others),
                    ]
                )
                for row in rows
            )


def other_names(session: Session, run_id: int) -> list[str]:
    """The names of what the trainer of an external run logged besides, in alphabetical order."""
    query = select(func.jsonb_object_keys(Metric.extra)).where(Metric.run_id == run_id).distinct()
    return sorted(session.scalars(query))


def _column_name(name: str) -> str:
    return f"extra.{name}" if name in (*METRICS, "step") else name


def _metrics(run_id: int, since: int | None) -> Select[Metric]:
    query = select(Metric).where(Metric.run_id == run_id).order_by(Metric.step)
    return query if since is None else query.where(Metric.step > since)
