"""Who sent a request: by session cookie or bearer token. Guessing at tokens is slowed down."""

import asyncio
import hashlib
from collections import OrderedDict
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from app.auth.permissions import Role, Visitor
from app.auth.recorders import RecorderTokens
from app.auth.sessions import EndedSessions
from app.auth.tokens import Keyring, Token
from app.core.errors import TooManyRequestsError
from app.core.rate_limit import TokenBuckets, address_key
from app.core.settings import Settings

COOKIE = "chesboard_session"
LOCAL = "local"
"""Name of the visitor where no token is configured."""

MAX_WRONG_TOKENS = 10
WRONG_TOKENS_SECONDS = 60.0
"""After so many wrong tokens within that time, a token of the address is checked late, unless it
was right before. So whoever shares the address gets in, and the guesser waits for each answer."""
LATE_SECONDS = 2.0
MAX_KNOWN = 1000


class Authenticator:
    """Identifies visitors by the configured tokens; one per application."""

    def __init__(self, settings: Settings) -> None:
        self.keyring = Keyring.of(settings)
        self._recorders = RecorderTokens()
        self.ended = EndedSessions()
        self._failures = TokenBuckets(MAX_WRONG_TOKENS / WRONG_TOKENS_SECONDS, MAX_WRONG_TOKENS)
        self._known: OrderedDict[str, None] = OrderedDict()

    def identify(self, request: Request) -> Visitor | None:
        """The visitor; None without a valid token or session.

        Raises:
            TooManyRequestsError: the token is wrong, as many were that came from the address.
        """
        address = address_of(request)
        if not self.keyring:
            return Visitor(LOCAL, Role.OPERATOR, address)
        if token := self._by_session(request):
            return Visitor(token.name, token.role, address, by_cookie=True)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        given = given.strip()
        if (name := self._recorders.name_of(given)) is not None:
            return Visitor(name, Role.RECORDER, address)
        if token := self.check_token(given, address):
            return Visitor(token.name, token.role, address)
        return None

    def _by_session(self, request: Request) -> Token | None:
        cookie = request.cookies.get(COOKIE)
        if not cookie or cookie in self.ended:
            return None
        return self.keyring.by_session(cookie)

    async def prepare(self, request: Request) -> None:
        """What `identify` does not wait for: which sessions were ended, whether a token was made on
        a page, and the time that an address must wait which sent many wrong ones.

        Raises:
            UnavailableError: the database does not answer.
        """
        if not self.keyring:
            return
        if self._by_session(request):
            await self.ended.refresh()
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            await self.slow_down(given.strip(), address_of(request))
            await self._recorders.prepare(given.strip())

    async def slow_down(self, given: str, address: str) -> None:
        """To be awaited before a token is checked: asked often, an address waits."""
        is_known = _hashed(given) in self._known or self._recorders.name_of(given) is not None
        if not is_known and self._failures.wait_seconds(address_key(address)):
            await asyncio.sleep(LATE_SECONDS)

    def check_token(self, given: str, address: str) -> Token | None:
        """The token with this secret; None for a wrong one, which counts against the address.

        Raises:
            TooManyRequestsError: it is wrong, as many were that came before.
        """
        token = self.keyring.by_secret(given)
        if token is not None:
            self._remember(given)
        elif wait := self._failures.take(address_key(address)):
            raise TooManyRequestsError(
                "Too many wrong access tokens came from this address. Wait a moment.", wait
            )
        return token

    def _remember(self, given: str) -> None:
        self._known[_hashed(given)] = None
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def address_of(request: Request) -> str:
    """The client's address; uvicorn has resolved the X-Forwarded headers of trusted proxies."""
    return request.client.host if request.client else ""


def visitor_of(request: Request) -> Visitor | None:
    """The visitor that the guard identified; None for an anonymous request to an open path."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    return found


def person_of(scope: Scope) -> str:
    """By whom a request counts where there is a number for each person."""
    visitor = visitor_of(Request(scope))
    return visitor.name if visitor else ""


def page_context(request: Request) -> dict[str, Any]:
    """Template context of every page: the visitor, and the role that hides controls in CSS."""
    visitor = visitor_of(request)
    return {"visitor": visitor, "role": "none" if visitor is None else str(visitor.role)}
