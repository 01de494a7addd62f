"""Quantile bands over all watched pairs of a run, and the displaced fraction, by step."""

import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.core.arrays import among
from app.core.downsampling import pick
from app.core.packed import read_columns
from app.core.windows import WHOLE, Window
from app.probes.schemas import Bands, Quantiles
from app.store.displaced import displaced_sql
from app.store.lookup import require_run
from app.store.probes import Probe, ProbeStep

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def get_bands(session: Session, run_id: int, window: Window = WHOLE) -> Bands:
    """Quantiles over the watched pairs at each step that is recorded for all of them.

    A step of which some pairs are still to be recorded is left out: the quantiles over the others
    would jump. Values that are not finite are left out.

    Raises:
        NotFoundError: no such run.
    """
    require_run(session, run_id)
    probes = session.scalar(
        select(func.count()).where(Probe.run_id == run_id, Probe.kind == "pair")
    )
    changes = (
        select(ProbeStep.step, *_CHANGES)
        .where(ProbeStep.run_id == run_id, ProbeStep.pair >= 0)
        .where(*window.conditions(ProbeStep.step))
    )
    is_whole = func.count() == probes
    steps, total = _band_steps(session, changes, is_whole, window)
    if steps is not None:
        changes = changes.where(among(ProbeStep.step, steps))
    each = changes.subquery()
    columns = (each.c.preferred_change, each.c.dispreferred_change, each.c.margin)
    rows = session.execute(
        select(
            each.c.step,
            *(
                func.percentile_cont(list(QUANTILES)).within_group(column).label(column.name)
                for column in columns
            ),
            func.avg(each.c.displaced).label("displaced"),
        )
        .group_by(each.c.step)
        .having(is_whole)
        .order_by(each.c.step)
    ).all()
    return Bands(
        steps=[row.step for row in rows],
        total_steps=total,
        decimated=len(rows) < total,
        probes=probes or 0,
        preferred_change=_quantiles([row.preferred_change for row in rows]),
        dispreferred_change=_quantiles([row.dispreferred_change for row in rows]),
        margin=_quantiles([row.margin for row in rows]),
        displaced_fraction=[_float(row.displaced) for row in rows],
    )


def _finite(value: InstrumentedAttribute[float | None]) -> ColumnElement[Any]:
    return case((value.between(-sys.float_info.max, sys.float_info.max), value))


_PREFERRED = _finite(ProbeStep.preferred_change)
_DISPREFERRED = _finite(ProbeStep.dispreferred_change)
_MARGIN = _PREFERRED - _DISPREFERRED
_CHANGES = (
    _PREFERRED.label("preferred_change"),
    _DISPREFERRED.label("dispreferred_change"),
    _MARGIN.label("margin"),
    # A pair without finite changes is left out of the fraction, not counted as not displaced.
    case(
        (_MARGIN.is_(None), None), (displaced_sql(_PREFERRED, _DISPREFERRED), 1.0), else_=0.0
    ).label("displaced"),
)


def _band_steps(
    session: Session,
    changes: Select[*tuple[Any, ...]],
    is_whole: ColumnElement[bool],
    window: Window,
) -> tuple[list[int] | None, int]:
    """The downsampled steps (None: all) and how many there are.

    Downsampling keeps the extremes of both mean changes and of the smallest change of y+, which
    cost less to compute at every step than the quantiles.
    """
    each = changes.with_only_columns(
        ProbeStep.step, ProbeStep.preferred_change, ProbeStep.dispreferred_change
    ).subquery()
    over_steps = (
        select(
            each.c.step,
            func.avg(each.c.preferred_change).label("mean_preferred"),
            func.min(each.c.preferred_change).label("least_preferred"),
            func.avg(each.c.dispreferred_change).label("mean_dispreferred"),
        )
        .group_by(each.c.step)
        .having(is_whole)
    )
    steps, series = read_columns(session, over_steps)
    if window.points is None or len(steps) <= window.points:
        return None, len(steps)
    return steps[pick(len(steps), series, window.points)].tolist(), len(steps)


def _quantiles(rows: Sequence[Sequence[float | None] | None]) -> Quantiles:
    return Quantiles.model_validate(
        {
            f"q{round(100 * share):02d}": [row[index] if row else None for row in rows]
            for index, share in enumerate(QUANTILES)
        }
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
