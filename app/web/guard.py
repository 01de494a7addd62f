"""Who may talk to the server: Host and Origin checks, access tokens, roles and rates.

By default the server listens on loopback and asks for nothing, so what has to be kept out is
another web page in the same browser. Such a page can send requests here, either openly (then
its Origin is not ours) or by pointing a name of its own at 127.0.0.1 (then the Host is not
ours). With tokens set, every request must carry one; a browser gets a cookie from /login. What
each token may do stands in app/auth/permissions.py.

Behind a proxy on this machine, uvicorn takes the visitor's address and scheme from the
X-Forwarded headers; a proxy on another machine is one visitor with one address.
"""

import time
from base64 import b64encode
from hashlib import sha256
from typing import Annotated, Literal, TypedDict
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.audit import recording as audit
from app.auth import permissions as access
from app.auth.permissions import LOCAL, READING, Keyring, Role, Rule, Visitor
from app.core.errors import (
    ChesboardError,
    ForbiddenError,
    TooManyRequestsError,
    UnauthorizedError,
)
from app.core.settings import Settings
from app.web.problems import respond, wants_page
from app.web.rate_limit import Buckets, address_key

COOKIE = "chesboard_session"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to

WRONG_TOKENS = 10
WRONG_TOKENS_SECONDS = 60.0
"""So many wrong tokens in that time from one address, and no more are looked at for a while."""

BURST_SECONDS = 5.0
CHANGES_SHARE = 0.1
"""Changes may come at this part of the rate of all requests."""

MULTIPART_BYTES = 1 << 20
"""What a multipart body may have besides the file itself."""

MAX_JSON_BYTES = 16 << 20

PLOTLY_STYLES = (
    # Of a style element that it fills by script, and of the parts of a color bar.
    "",
    # Of a heat map.
    "image-rendering: optimizeSpeed; image-rendering: -moz-crisp-edges; "
    "image-rendering: -o-crisp-edges; image-rendering: -webkit-optimize-contrast; "
    "image-rendering: optimize-contrast; image-rendering: crisp-edges; "
    "image-rendering: pixelated; ",
)
"""All the inline styles that pages may have, by their hashes. Our own have none."""

_ALLOWED_STYLES = " ".join(
    (
        "'unsafe-hashes'",
        *(
            f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
            for style in PLOTLY_STYLES
        ),
    )
)

HEADERS = {
    # Plotly makes its pictures from blobs.
    "Content-Security-Policy": f"default-src 'self'; style-src 'self' {_ALLOWED_STYLES}; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

router = APIRouter(include_in_schema=False)


class Gatekeeper:
    """What one application knows of its visitors: the tokens, and how often each address came."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keyring = Keyring.of(settings)
        rate = settings.requests_per_second
        self._requests = Buckets(rate, rate * BURST_SECONDS)
        self._changes = Buckets(rate * CHANGES_SHARE, rate * CHANGES_SHARE * BURST_SECONDS)
        self._wrong = Buckets(WRONG_TOKENS / WRONG_TOKENS_SECONDS, WRONG_TOKENS)

    def visitor(self, request: Request) -> Visitor | None:
        """Who sent the request; None for a stranger.

        Raises:
            TooManyRequestsError: the address has sent too many wrong tokens.
        """
        address = address_of(request)
        if not self.keyring:
            return Visitor(LOCAL, Role.OPERATOR, address)
        cookie = request.cookies.get(COOKIE)
        if cookie and (token := self.keyring.by_session(cookie, time.time())):
            return Visitor(token.name, token.role, address, by_cookie=True)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if token := self.admit(given.strip(), address):
            return Visitor(token.name, token.role, address)
        return None

    def admit(self, given: str, address: str) -> access.Token | None:
        """Whose token that is; a wrong one counts against the address.

        Raises:
            TooManyRequestsError: it has sent too many wrong ones, so this one was not looked at.
        """
        key = address_key(address)
        if wait := self._wrong.wait_seconds(key):
            raise TooManyRequestsError(
                "Too many wrong access tokens came from this address. Wait a moment.", wait
            )
        token = self.keyring.by_secret(given)
        if token is None:
            self._wrong.take(key)
        return token

    def check_rate(self, method: str, visitor: Visitor | None, address: str) -> None:
        """Raises:
        TooManyRequestsError: this person at this address asks more often than the settings allow.
        """
        if not self.keyring:
            return
        key = f"{visitor.name if visitor else ''}@{address_key(address)}"
        wait = self._requests.take(key)
        if method not in READING:
            wait = max(wait, self._changes.take(key))
        if wait:
            raise TooManyRequestsError("Rate limit exceeded. Wait a moment.", wait)


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


class Guard:
    """ASGI middleware: refuses what must not come in and adds the security headers.

    Leaves in the request's state who came (`visitor`) and by which rule (`rule`). Plain ASGI,
    so that event streams pass through without being buffered.
    """

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper) -> None:
        self.app = app
        self.gatekeeper = gatekeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope, receive)
        refusal = self._refusal(request)
        answer = self.app if refusal is None else refusal
        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        gatekeeper = self.gatekeeper
        match = access.match(request.method, request.scope["path"])
        request.state.match = match
        try:
            check_host(request.headers, gatekeeper.settings)
            check_origin(request.method, request.headers)
            visitor = gatekeeper.visitor(request)
            request.state.visitor = visitor
            if match.rule.path != access.STATIC:
                gatekeeper.check_rate(request.method, visitor, address_of(request))
            check_role(visitor, match.rule)
        except UnauthorizedError as error:
            if request.method == "GET" and wants_page(request):
                target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)
            return respond(request, error)
        except ChesboardError as error:
            return respond(request, error)
        return None


def check_role(visitor: Visitor | None, rule: Rule) -> None:
    """Pass who may use a route.

    Raises:
        UnauthorizedError: a stranger, where the route is not open.
        ForbiddenError: somebody whose role does not go so far.
    """
    if rule.role is None:
        return
    if visitor is None:
        raise UnauthorizedError(
            "Send the access token as `Authorization: Bearer …`, or log in at /login."
        )
    if not visitor.may(rule.role):
        raise ForbiddenError(
            f"That takes the role {rule.role}; your token has the role {visitor.role}."
        )


class BodyLimit:
    """ASGI middleware: stops reading a request's body where it is larger than any may be.

    The framework would otherwise spool the whole of an upload to disk before a route sees it.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_bytes = settings.max_upload_bytes + MULTIPART_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        upload = Headers(scope=scope).get("content-type", "").startswith("multipart/form-data")
        max_bytes = self.max_bytes if upload else MAX_JSON_BYTES
        seen = 0

        async def receive_some() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > max_bytes:
                # The framework's own kind: it turns any other that passes its body parser
                # into "400 There was an error parsing the body".
                raise HTTPException(413, f"The request is larger than {max_bytes:,} bytes.")
            return message

        await self.app(scope, receive_some, send)


def check_host(headers: Headers, settings: Settings) -> None:
    """Refuse a Host that is not this server's, so that no other name can be pointed at it.

    A server that listens on every address is known by names we cannot foresee: there any Host
    passes unless the settings say which, and the access token, without which it does not start,
    keeps strangers out.

    Raises:
        ForbiddenError: the Host is not ours.
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
    """Refuse a change that another site's page asks for. Programs send no Origin and pass.

    Raises:
        ForbiddenError: the Origin is not this server's.
    """
    origin = headers.get("origin")
    if method in READING or origin is None:
        return
    # The scheme is left out: behind a proxy that ends TLS, it is not the one we see.
    scheme, _, netloc = origin.partition("://")
    default_port = {"http": "80", "https": "443"}.get(scheme, "")
    ours, theirs = _host_and_port(headers.get("host", "")), _host_and_port(netloc)
    if (theirs[0], theirs[1] or default_port) != (ours[0], ours[1] or default_port):
        raise ForbiddenError("The request comes from another site's page and was not carried out.")


def _host_and_port(netloc: str) -> tuple[str, str]:
    """("::1", "8000") of "[::1]:8000"; the port is "" where there is none."""
    if netloc.startswith("["):
        name, _, rest = netloc[1:].partition("]")
        return name.lower(), rest.removeprefix(":")
    name, _, port = netloc.partition(":")
    return name.lower(), port


@router.get("/login", response_class=HTMLResponse)
def show_login(request: Request, next: str = "/") -> Response:
    return _login_page(request, next, wrong=False)


@router.post("/login", response_class=HTMLResponse)
def log_in(
    request: Request, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/"
) -> Response:
    gatekeeper: Gatekeeper = request.app.state.gatekeeper
    answer = RedirectResponse(_local(next), 303)
    if not gatekeeper.keyring:
        return answer
    address = address_of(request)
    known = gatekeeper.admit(token, address)
    if known is None:
        audit.record(audit.Event("login.refused", address=address))
        return _login_page(request, next, wrong=True)
    audit.record(audit.Event("login", known.name, str(known.role), address))
    answer.set_cookie(
        COOKIE,
        access.new_session(known, time.time()),
        max_age=access.COOKIE_SECONDS,
        **_cookie_flags(request),
    )
    return answer


@router.post("/logout")
def log_out(request: Request) -> Response:
    if (visitor := access.visitor_of(request)) and visitor.by_cookie:
        audit.record(audit.Event("logout", visitor.name, str(visitor.role), visitor.address))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, **_cookie_flags(request))
    return answer


class _CookieFlags(TypedDict):
    httponly: bool
    samesite: Literal["strict"]
    secure: bool


def _cookie_flags(request: Request) -> _CookieFlags:
    # Plain HTTP on a network of one's own must still be able to log in.
    return {"httponly": True, "samesite": "strict", "secure": request.url.scheme == "https"}


def _login_page(request: Request, target: str, *, wrong: bool) -> Response:
    page: Response = request.app.state.templates.TemplateResponse(
        request,
        "login.html",
        {"next": _local(target), "wrong": wrong},
        status_code=401 if wrong else 200,
    )
    return page


def _local(target: str) -> str:
    """The address where it lies on this server, else "/": a login must not send people away."""
    plain = target.replace("\\", "/")
    is_local = plain.startswith("/") and not plain.startswith("//") and plain.isprintable()
    return target if is_local else "/"
