"""Recording requests in the audit log: who did what, when and from where.

Which routes are recorded, and under which action, is declared beside their roles in
app/auth/permissions.py. An event is written after the change has committed and before the response
is sent, so a client that has its response finds the event in the log. If the log cannot be written
the response to a change is sent all the same, since it is made, and the server log gets the event;
a download is refused.
"""

import json
import logging
from typing import Any

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.permissions import READING, Match, Rule, Visitor
from app.core.errors import UnavailableError
from app.core.text import sanitize
from app.store.audit import NewEvent, record, record_first
from app.web.problems import respond

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""Of a response that is parsed for details; those of recorded changes are far smaller."""

MAX_TEXT = 300
"""Characters of a subject or a detail."""


class AuditTrail:
    """ASGI middleware: records successful requests whose rule has an action.

    It parses response bodies, so it sits inside the compression.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match: Match | None = scope.get("state", {}).get("match")
        if match is None or match.rule.action is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, _Recorder(scope, match, send))
        except _NotRecordedError:
            error = UnavailableError("The audit log cannot be written. Try again in a moment.")
            await respond(Request(scope), error)(scope, receive, send)


class _NotRecordedError(Exception):
    """A download was not recorded, and nothing of it was sent."""


class _Recorder:
    """Wraps `send`: delays a response until its event is written."""

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
            # A download is recorded at its start, not buffered.
            if not whole and self._match.rule.details and len(self._body) < MAX_BODY_BYTES:
                return
            start, self._start = self._start, None
            await self._record()
            await self._send(start)
            message = {**message, "body": self._body}
        await self._send(message)

    async def _record(self) -> None:
        if self._match.rule.method not in READING:
            await to_thread.run_sync(record, self._event())
            return
        try:
            await to_thread.run_sync(record_first, self._event())
        except SQLAlchemyError as error:
            log.warning("a download was refused: %s", str(error).splitlines()[0])
            raise _NotRecordedError from error

    def _event(self) -> NewEvent:
        response = _json_object(self._body) if self._match.rule.details else {}
        return describe(self._match, self._visitor, response)


def is_recorded(rule: Rule, status: int, headers: Headers) -> bool:
    if not 200 <= status < 300 or (rule.only is not None and status != rule.only):
        return False
    is_download = headers.get("content-disposition", "").startswith("attachment")
    return rule.method not in READING or is_download


def describe(match: Match, visitor: Visitor | None, response: dict[str, Any]) -> NewEvent:
    """The event of a request, from its rule, its path parameters and its JSON response."""
    rule = match.rule
    assert rule.action is not None
    known = {"id": response.get("id", "?"), **match.parameters}
    return NewEvent(
        rule.action,
        actor=visitor.name if visitor else "",
        role=str(visitor.role) if visitor else "",
        address=visitor.address if visitor else "",
        subject=_clean(rule.subject.format_map(known)),
        details={
            name: _clean(response[name]) for name in rule.details if response.get(name) is not None
        },
    )


def _clean(value: Any) -> Any:
    """Text that PostgreSQL can store, truncated; any other value as it is."""
    return sanitize(value)[:MAX_TEXT] if isinstance(value, str) else value


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
