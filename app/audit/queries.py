"""Queries of the audit log: pages of events, filter values, and the export of all of them."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.audit.schemas import AuditEventOut, AuditPage
from app.core.database import transaction
from app.core.exports import RowFormat, export_rows
from app.core.paging import EXPORT_ROWS
from app.store.audit import AuditEvent

COLUMNS = ("id", "at", "action", "actor", "role", "address", "subject", "details")


def list_events(
    session: Session, *, action: str | None, actor: str | None, limit: int, offset: int
) -> AuditPage:
    """Events, newest first. `action` also matches as a prefix: 'run' finds 'run.create'."""
    conditions = _conditions(action, actor)
    total = session.scalar(select(func.count()).select_from(AuditEvent).where(*conditions)) or 0
    found = session.scalars(
        select(AuditEvent)
        .where(*conditions)
        .order_by(AuditEvent.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return AuditPage(total=total, items=[AuditEventOut.model_validate(event) for event in found])


def list_names(session: Session) -> tuple[list[str], list[str]]:
    """The distinct actions and actors, for the page's filters."""
    actions = session.scalars(select(AuditEvent.action).distinct().order_by(AuditEvent.action))
    actors = session.scalars(select(AuditEvent.actor).distinct().order_by(AuditEvent.actor))
    return list(actions), list(actors)


def export_events(action: str | None, actor: str | None, format: RowFormat) -> Iterator[str]:
    """All events, oldest first, one a line.

    Opens its own transaction.
    """
    return export_rows(COLUMNS, _exported(action, actor), format)


def _exported(action: str | None, actor: str | None) -> Iterator[list[dict[str, Any]]]:
    query = select(AuditEvent).where(*_conditions(action, actor)).order_by(AuditEvent.id)
    with transaction() as session:
        rows = session.scalars(query.execution_options(yield_per=EXPORT_ROWS))
        for part in rows.partitions():
            yield [AuditEventOut.model_validate(event).model_dump(mode="json") for event in part]


def _conditions(action: str | None, actor: str | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if action:
        same = AuditEvent.action == action
        conditions.append(same | AuditEvent.action.startswith(f"{action}.", autoescape=True))
    if actor is not None:
        conditions.append(AuditEvent.actor == actor)
    return conditions
