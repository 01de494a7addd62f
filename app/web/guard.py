"""Access control of every request: Host and Origin checks, authentication, role and rate limit.

By default the server listens on loopback and requires no token, so the threat is another web page
in the same browser. It can send requests here either openly (its Origin is foreign then) or by
DNS rebinding, pointing a name of its own at 127.0.0.1 (the Host is foreign then). With tokens
configured every request needs one; a browser gets a session cookie from /login. The role that each
route requires is declared in app/auth/permissions.py.

uvicorn takes the client's address and scheme from the X-Forwarded headers of the proxies that the
settings name; any other proxy counts as one client with one address.
"""

from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.authentication import Authenticator, address_of
from app.auth.permissions import READING, STATIC, Rule, Visitor, match
from app.core.errors import (
    ChesboardError,
    ForbiddenError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from app.core.rate_limit import TokenBuckets, address_key
from app.core.settings import Settings
from app.web.problems import respond, wants_page

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to

FOREIGN = "The request comes from another site's page and was not carried out."

BURST_SECONDS = 5.0
CHANGES_SHARE = 0.1
"""Rate limit of changes, as a fraction of that of all requests."""


class Guard:
    """ASGI middleware: refuses requests that access control does not permit.

    Sets in the request's state the visitor (`visitor`) and the matched rule (`match`). Plain
    ASGI, so that event streams are not buffered.
    """

    def __init__(self, app: ASGIApp, settings: Settings, authenticator: Authenticator) -> None:
        self.app = app
        self._settings = settings
        self._authenticator = authenticator
        rate = settings.requests_per_second
        self._requests = TokenBuckets(rate, rate * BURST_SECONDS)
        self._changes = TokenBuckets(rate * CHANGES_SHARE, rate * CHANGES_SHARE * BURST_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            await self._authenticator.prepare(request)
        except UnavailableError as error:
            await respond(request, error)(scope, receive, send)
            return
        refusal = self._refusal(request)
        await (self.app if refusal is None else refusal)(
            scope, receive, self._unstored(scope, send)
        )

    def _unstored(self, scope: Scope, send: Send) -> Send:
        """Keeps answers that need a token out of the caches of browsers and proxies."""
        if not self._authenticator.keyring or scope["state"]["match"].rule.role is None:
            return send

        async def send_unstored(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        return send_unstored

    def _refusal(self, request: Request) -> Response | None:
        found = match(request.method, request.scope["path"])
        request.state.match = found
        try:
            check_host(request.headers, self._settings)
            check_origin(request.method, request.headers)
            visitor = self._authenticator.identify(request)
            request.state.visitor = visitor
            if found.rule.path != STATIC:
                self._check_rate(request, visitor)
            check_role(visitor, found.rule)
        except UnauthorizedError as error:
            if request.method == "GET" and wants_page(request):
                target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)
            return respond(request, error)
        except ChesboardError as error:
            return respond(request, error)
        return None

    def _check_rate(self, request: Request, visitor: Visitor | None) -> None:
        """Raises:
        TooManyRequestsError: this visitor at this address exceeds the rate of the settings.
        """
        if not self._authenticator.keyring:
            return
        key = f"{visitor.name if visitor else ''}@{address_key(address_of(request))}"
        wait = self._requests.take(key)
        if request.method not in READING:
            wait = max(wait, self._changes.take(key))
        if wait:
            raise TooManyRequestsError("Rate limit exceeded. Wait a moment.", wait)


def check_role(visitor: Visitor | None, rule: Rule) -> None:
    """Raises:
    UnauthorizedError: an anonymous visitor, where the route is not open.
    ForbiddenError: the visitor's role does not permit it.
    """
    if rule.role is None:
        return
    if visitor is None:
        raise UnauthorizedError(
            "Send the access token as `Authorization: Bearer …`, or log in at /login."
        )
    if not visitor.may(rule):
        raise ForbiddenError(
            f"This requires the role {rule.role}; your token has the role {visitor.role}."
        )


def check_host(headers: Headers, settings: Settings) -> None:
    """Refuse a foreign Host header, against DNS rebinding.

    A server that listens on every address has names that cannot be foreseen: there any Host
    passes unless the settings list the allowed ones, and the access token, without which such a
    server does not start, keeps strangers out.

    Raises:
        ForbiddenError: the Host is foreign.
    """
    allowed = {name.strip().lower() for name in settings.allowed_hosts.split(",")} - {""}
    if settings.host in WILDCARDS and not allowed:
        return
    name = _host_and_port(headers.get("host", ""))[0]
    if name not in LOOPBACK and name not in allowed and name != settings.host.lower():
        raise ForbiddenError(
            f"This server does not answer to the name {name!r}. "
            "Open it by the address that it listens on."
        )


def check_origin(method: str, headers: Headers) -> None:
    """Refuse a change that another site's page sends, against cross-site request forgery.

    Browsers name the page's Origin, and newer ones its relation to this server. Programs send
    neither and pass.

    Raises:
        ForbiddenError: the page is foreign.
    """
    if method in READING:
        return
    origin = headers.get("origin")
    if origin is None:
        if headers.get("sec-fetch-site", "none").strip().lower() not in ("none", "same-origin"):
            raise ForbiddenError(FOREIGN)
        return
    # The scheme is not compared: behind a proxy that terminates TLS, it differs.
    scheme, _, netloc = origin.partition("://")
    default_port = {"http": "80", "https": "443"}.get(scheme, "")
    ours, theirs = _host_and_port(headers.get("host", "")), _host_and_port(netloc)
    if (theirs[0], theirs[1] or default_port) != (ours[0], ours[1] or default_port):
        raise ForbiddenError(FOREIGN)


def _host_and_port(netloc: str) -> tuple[str, str]:
    """("::1", "8000") of "[::1]:8000"; the port is "" if none is given."""
    if netloc.startswith("["):
        name, _, rest = netloc[1:].partition("]")
        return name.lower(), rest.removeprefix(":")
    name, _, port = netloc.partition(":")
    return name.lower(), port
