"""Rows that a run wrote after a given revision, encoded as Server-Sent Events; synchronous reads.

Rows written in one transaction share a revision, and only the last event of a revision carries
an `id:` line. So a browser that was disconnected within a revision gets all of it again, and one
that received all of it gets nothing twice.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, union_all
from sqlalchemy.orm import Session

from app.core.errors import NotFoundError
from app.core.nonfinite import nonfinite_to_none
from app.runs.queries import get_run
from app.runs.schemas import MetricOut, RunOut
from app.store.external import Rewind
from app.store.probes import ProbeAnswer, ProbeStep
from app.store.runs import FINAL, Metric

ROWS_A_CHUNK = 200
"""Approximate number of rows in memory at a time, for each watcher. A revision is never split,
however large."""

_PROBE_COLUMNS = [
    column.name for column in ProbeStep.__table__.c if column.name not in ("run_id", "revision")
]
# Fields that change at every step; a change of any other is a `status` event.
_PROGRESS = frozenset(
    {
        "progress",
        "phase",
        "revision",
        "verdict",
        "verdict_short",
        "verdict_pair",
        "displaced",
        "displacement_kind",
        "displacement",
        "heard_at",
        "recorded_through",
    }
)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Chunk:
    """The events of the revisions in (start, end], encoded."""

    start: int
    end: int
    data: bytes


def read_run(session: Session, run_id: int) -> RunOut | None:
    """The run as the API returns it; None if it does not exist."""
    try:
        return get_run(session, run_id)
    except NotFoundError:
        return None


def is_final(run: RunOut) -> bool:
    return run.status in FINAL


def read_rows(
    session: Session, run_id: int, start: int, upto: int, closing: bytes | None = None
) -> Chunk:
    """The rows of the next revisions after `start`, at most up to `upto`.

    closing: encoded event that ends revision `upto`, if any; it carries the id.
    """
    end = _chunk_end(session, run_id, start, upto)
    metrics = session.scalars(
        select(Metric)
        .where(Metric.run_id == run_id, Metric.revision > start, Metric.revision <= end)
        .order_by(Metric.revision, Metric.step)
    )
    probe_steps = session.scalars(
        select(ProbeStep)
        .where(ProbeStep.run_id == run_id, ProbeStep.revision > start, ProbeStep.revision <= end)
        .order_by(ProbeStep.revision, ProbeStep.step, ProbeStep.pair)
    )
    answers = session.scalars(
        select(ProbeAnswer)
        .where(
            ProbeAnswer.run_id == run_id,
            ProbeAnswer.revision > start,
            ProbeAnswer.revision <= end,
        )
        .order_by(ProbeAnswer.revision, ProbeAnswer.step, ProbeAnswer.pair)
    )
    rewinds = session.scalars(
        select(Rewind)
        .where(Rewind.run_id == run_id, Rewind.revision > start, Rewind.revision <= end)
        .order_by(Rewind.revision)
    )
    rows = [(row.revision, _rewind_event(row)) for row in rewinds]
    rows += [(row.revision, _metric_event(row)) for row in metrics]
    rows += [(row.revision, _probe_event(row)) for row in probe_steps]
    rows += [(row.revision, _answer_event(row)) for row in answers]
    rows.sort(key=lambda row: row[0])
    if closing is not None and end == upto:
        rows.append((upto, closing))
    return Chunk(start, end, _join(rows))


def _chunk_end(session: Session, run_id: int, start: int, upto: int) -> int:
    """Last revision of the chunk after `start`: `upto`, or an earlier one to bound its rows."""
    revisions = union_all(
        *(
            select(table.revision)
            .where(table.run_id == run_id, table.revision > start, table.revision <= upto)
            .order_by(table.revision)
            .limit(ROWS_A_CHUNK)
            .subquery()
            .select()
            for table in (Metric, ProbeStep, ProbeAnswer)
        )
    ).subquery()
    found = session.scalars(
        select(revisions.c.revision).order_by(revisions.c.revision).limit(ROWS_A_CHUNK)
    ).all()
    return found[-1] if len(found) == ROWS_A_CHUNK else upto


def _join(rows: Sequence[tuple[int, bytes]]) -> bytes:
    """Concatenate events; the last one of each revision carries its id."""
    parts: list[bytes] = []
    for index, (revision, event) in enumerate(rows):
        is_last = index + 1 == len(rows) or rows[index + 1][0] != revision
        parts.append(b"id: %d\n%s" % (revision, event) if is_last else event)
    return b"".join(parts)


def status_event(run: RunOut) -> bytes:
    return encode("status", run.model_dump(mode="json"))


def change_event(before: RunOut, now: RunOut) -> bytes:
    """`progress` if nothing else has changed, otherwise `status` with the whole run."""
    if before.model_dump(exclude=set(_PROGRESS)) != now.model_dump(exclude=set(_PROGRESS)):
        return status_event(now)
    rest = now.model_dump(mode="json", include=set(_PROGRESS) - {"progress"})
    return encode("progress", {**now.progress.model_dump(mode="json"), **rest})


def _rewind_event(row: Rewind) -> bytes:
    return encode("rewound", {"step": row.step, "attempt": row.attempt})


def _metric_event(metric: Metric) -> bytes:
    return encode("metric", MetricOut.of(metric).model_dump(mode="json"))


def _probe_event(row: ProbeStep) -> bytes:
    values = {name: getattr(row, name) for name in _PROBE_COLUMNS}
    values["recorded_at"] = row.recorded_at.isoformat()
    return encode("probe", nonfinite_to_none(values))


def _answer_event(row: ProbeAnswer) -> bytes:
    values = {"pair": row.pair, "step": row.step, "text": row.text, "ended": row.ended}
    return encode("answer", values)


def encode(event: str, data: dict[str, Any]) -> bytes:
    # JSON on one line escapes line breaks within strings, so one `data:` line is enough.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {event}\ndata: {text}\n\n".encode()
