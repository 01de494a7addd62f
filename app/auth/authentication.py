"""Who sent a request: by session cookie or bearer token, with a limit on wrong tokens."""

from typing import Any

from starlette.requests import Request

from app.auth.permissions import Role, Visitor
from app.auth.recorders import RecorderTokens
from app.auth.tokens import Keyring, Token
from app.core.errors import TooManyRequestsError
from app.core.rate_limit import TokenBuckets, address_key
from app.core.settings import Settings

COOKIE = "chesboard_session"
LOCAL = "local"
"""Name of the visitor where no token is configured."""

MAX_WRONG_TOKENS = 10
WRONG_TOKENS_SECONDS = 60.0
"""After so many wrong tokens within that time, no token of the address is checked for a while."""


class Authenticator:
    """Identifies visitors by the configured tokens; one per application."""

    def __init__(self, settings: Settings) -> None:
        self.keyring = Keyring.of(settings)
        self._recorders = RecorderTokens()
        self._failures = TokenBuckets(MAX_WRONG_TOKENS / WRONG_TOKENS_SECONDS, MAX_WRONG_TOKENS)

    def identify(self, request: Request) -> Visitor | None:
        """The visitor; None without a valid token or session.

        Raises:
            TooManyRequestsError: too many wrong tokens came from the address.
        """
        address = address_of(request)
        if not self.keyring:
            return Visitor(LOCAL, Role.OPERATOR, address)
        cookie = request.cookies.get(COOKIE)
        if cookie and (token := self.keyring.by_session(cookie)):
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

    async def prepare(self, request: Request) -> None:
        """Look up a token that was made on a page, which `identify` does not wait for.

        Raises:
            UnavailableError: the database does not answer.
        """
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if self._failures.wait_seconds(address_key(address_of(request))):
            return  # `identify` refuses it
        if self.keyring and scheme.lower() == "bearer":
            await self._recorders.prepare(given.strip())

    def check_token(self, given: str, address: str) -> Token | None:
        """The token with this secret; None for a wrong one, which counts against the address.

        Raises:
            TooManyRequestsError: too many wrong ones came before; this one was not checked.
        """
        key = address_key(address)
        if wait := self._failures.wait_seconds(key):
            raise TooManyRequestsError(
                "Too many wrong access tokens came from this address. Wait a moment.", wait
            )
        token = self.keyring.by_secret(given)
        if token is None:
            self._failures.take(key)
        return token


def address_of(request: Request) -> str:
    """The client's address; uvicorn has resolved the X-Forwarded headers of a local proxy."""
    return request.client.host if request.client else ""


def visitor_of(request: Request) -> Visitor | None:
    """The visitor that the guard identified; None for an anonymous request to an open path."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    return found


def page_context(request: Request) -> dict[str, Any]:
    """Template context of every page: the visitor, and the role that hides controls in CSS."""
    visitor = visitor_of(request)
    return {"visitor": visitor, "role": "none" if visitor is None else str(visitor.role)}
