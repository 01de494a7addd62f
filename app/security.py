"""Who may talk to the server: the Host and Origin checks, and the access token.

By default the server listens on loopback and asks for nothing, so what has to be kept out is
another web page in the same browser. Such a page can send requests here, either openly (then
its Origin is not ours) or by pointing a name of its own at 127.0.0.1 (then the Host is not
ours). With a token set, every request must carry it; a browser gets a cookie from /login.
"""

import hashlib
import hmac
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ChesboardError, ForbiddenError, UnauthorizedError, respond, wants_page
from app.settings import Settings, get_settings

COOKIE = "chesboard_session"
COOKIE_SECONDS = 30 * 24 * 3600
READING = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
OPEN_PATHS = ("/login", "/static/")
"""What a browser needs to show the login form. None of it is anyone's data."""

MULTIPART_BYTES = 1 << 20
"""What a multipart body may have besides the file itself."""

MAX_JSON_BYTES = 16 << 20

HEADERS = {
    # Plotly writes style elements into the page, and makes its pictures from blobs.
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

router = APIRouter(include_in_schema=False)


class Guard:
    """ASGI middleware: refuses what must not come in and adds the security headers.

    Plain ASGI, so that event streams pass through without being buffered.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

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
        try:
            check_host(request.headers, self.settings)
            check_origin(request.method, request.headers)
            if not request.url.path.startswith(OPEN_PATHS):
                check_token(request, self.settings)
        except UnauthorizedError as error:
            if request.method == "GET" and wants_page(request):
                target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)
            return respond(request, error)
        except ChesboardError as error:
            return respond(request, error)
        return None


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
    passes, and the access token, without which it does not start, keeps strangers out.

    Raises:
        ForbiddenError: the Host is not ours.
    """
    if settings.host in WILDCARDS:
        return
    name = _host_and_port(headers.get("host", ""))[0]
    if name not in LOOPBACK and name != settings.host.lower():
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


def check_token(request: Request, settings: Settings) -> None:
    """Pass where no token is set, or the request carries it as bearer or by cookie.

    Raises:
        UnauthorizedError: it does not.
    """
    if settings.token is None:
        return
    token = settings.token.get_secret_value()
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and _same(given.strip(), token):
        return
    if _same(request.cookies.get(COOKIE, ""), _cookie_value(token)):
        return
    raise UnauthorizedError(
        "Send the access token as `Authorization: Bearer …`, or log in at /login."
    )


def _same(given: str, expected: str) -> bool:
    """Compared in constant time, so that the time taken tells nothing about the token."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _cookie_value(token: str) -> str:
    """Proves knowledge of the token without holding it; a new token ends all sessions."""
    return hmac.new(token.encode(), b"chesboard session", hashlib.sha256).hexdigest()


@router.get("/login", response_class=HTMLResponse)
def show_login(request: Request, next: str = "/") -> Response:
    return _login_page(request, next, wrong=False)


@router.post("/login", response_class=HTMLResponse)
def log_in(
    request: Request, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/"
) -> Response:
    expected = get_settings().token
    if expected is not None and not _same(token, expected.get_secret_value()):
        return _login_page(request, next, wrong=True)
    answer = RedirectResponse(_local(next), 303)
    if expected is not None:
        answer.set_cookie(
            COOKIE,
            _cookie_value(expected.get_secret_value()),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
    return answer


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
