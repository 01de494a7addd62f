"""Rows that a run wrote after a given revision, encoded as Server-Sent Events; synchronous reads.

Rows written in one transaction share a revision, and only the last event of a revision carries
an `id:` line. So a browser that was disconnected within a revision gets all of it again, and one
that received all of it gets nothing twice.
"""

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from typing import Any

from sqlalchemy import Select, select, union_all
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
BYTES_A_CHUNK = 4 << 20
"""After so many a chunk ends with the revision that it is in: the rows of an external run may be as
long as a batch."""
ROWS_A_FETCH = 10
"""What the database driver holds at a time."""

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
    kinds: list[tuple[Any, Callable[[Any], bytes], list[Any]]] = [
        (Rewind, _rewind_event, []),
        (Metric, _metric_event, [Metric.step]),
        (ProbeStep, _probe_event, [ProbeStep.step, ProbeStep.pair]),
        (ProbeAnswer, _answer_event, [ProbeAnswer.step, ProbeAnswer.pair]),
    ]
    found = [
        _encoded(
            session,
            select(table)
            .where(table.run_id == run_id, table.revision > start, table.revision <= end)
            .order_by(table.revision, *order),
            event,
        )
        for table, event, order in kinds
    ]
    rows: list[tuple[int, bytes]] = []
    size = 0
    for revision, group in groupby(merge(*found, key=_revision), key=_revision):
        written = list(group)
        rows += written
        size += sum(len(event) for _, event in written)
        if size >= BYTES_A_CHUNK:
            end = revision
            break
    for one in found:
        one.close()
    if closing is not None and end == upto:
        rows.append((upto, closing))
    return Chunk(start, end, _join(rows))


def _encoded(
    session: Session, query: Select[Any], event: Callable[[Any], bytes]
) -> Generator[tuple[int, bytes], None, None]:
    """Revisions and events of the rows, of which a few are in memory at a time."""
    with session.scalars(query.execution_options(yield_per=ROWS_A_FETCH)) as found:
        for row in found:
            yield row.revision, event(row)


def _revision(row: tuple[int, bytes]) -> int:
    return row[0]


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
