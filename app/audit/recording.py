"""Writing the audit log: who did what, when and from where.

Which routes are recorded, and as what, stands beside their roles in app/auth/permissions.py. An
event is written after the change has committed and before the answer goes out, so whoever has been
told that something was done finds it in the log. Where the log cannot be written the answer is
sent all the same, since the change is made, and the server's own log says what is missing.
"""

import json
import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from anyio import to_thread
from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.permissions import READING, Match, Rule, Visitor
from app.core.database import transaction
from app.store.audit import AuditEvent

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""Of an answer that is looked into for its details; those of recorded changes are far smaller."""

MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class Event:
    action: str
    actor: str = ""
    role: str = ""
    address: str = ""
    subject: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def record(event: Event) -> None:
    """Write an event in a transaction of its own. Never fails: see above."""
    try:
        with transaction() as session:
            add(session, event)
    except SQLAlchemyError as error:
        log.error("not in the audit log: %s (%s)", asdict(event), str(error).splitlines()[0])


def add(session: Session, event: Event) -> None:
    """Write an event in the caller's transaction."""
    session.execute(insert(AuditEvent), [asdict(event)])


class AuditTrail:
    """ASGI middleware: records what succeeded and is to be recorded. Inside of compression."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match: Match | None = scope.get("state", {}).get("match")
        if match is None or match.rule.action is None:
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _Recorder(scope, match, send))


class _Recorder:
    """Stands in for `send`: holds an answer back until its event is written."""

    def __init__(self, scope: Scope, match: Match, send: Send) -> None:
        self._match = match
        self._visitor: Visitor | None = scope["state"].get("visitor")
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if is_recorded(self._match.rule, message["status"], Headers(raw=message["headers"])):
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            whole = not message.get("more_body", False)
            # A download is recorded when it begins.
            if not whole and self._match.rule.details and len(self._body) < MAX_BODY_BYTES:
                return
            start, self._start = self._start, None
            await to_thread.run_sync(record, self._event())
            await self._send(start)
            message = {**message, "body": self._body}
        await self._send(message)

    def _event(self) -> Event:
        answer = _json_object(self._body) if self._match.rule.details else {}
        return describe(self._match, self._visitor, answer)


def is_recorded(rule: Rule, status: int, headers: Headers) -> bool:
    if not 200 <= status < 300 or (rule.only is not None and status != rule.only):
        return False
    is_download = headers.get("content-disposition", "").startswith("attachment")
    return rule.method not in READING or is_download


def describe(match: Match, visitor: Visitor | None, answer: dict[str, Any]) -> Event:
    """The event of a request: its rule, the values in its path, and what was answered."""
    rule = match.rule
    assert rule.action is not None
    known = {"id": answer.get("id", "?"), **match.parameters}
    return Event(
        rule.action,
        actor=visitor.name if visitor else "",
        role=str(visitor.role) if visitor else "",
        address=visitor.address if visitor else "",
        subject=_short(rule.subject.format_map(known)),
        details={name: _short(answer[name]) for name in rule.details if name in answer},
    )


def _short(value: Any) -> Any:
    """Text without what PostgreSQL cannot hold, and not the whole of a novel."""
    if not isinstance(value, str):
        return value
    storable = value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return storable[:MAX_TEXT]


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
