"""Log in and log out: the login form, and the session cookie it sets."""

from typing import Annotated, Literal, TypedDict

from anyio import to_thread
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.auth.authentication import COOKIE, Authenticator, address_of, visitor_of
from app.auth.tokens import SESSION_SECONDS, new_session
from app.store.audit import NewEvent, record

router = APIRouter(include_in_schema=False)


@router.get("/login", response_class=HTMLResponse)
def show_login(request: Request, next: str = "/") -> Response:
    return _login_page(request, next, wrong=False)


@router.post("/login", response_class=HTMLResponse)
async def log_in(
    request: Request, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/"
) -> Response:
    authenticator: Authenticator = request.app.state.authenticator
    response = RedirectResponse(_local_path(next), 303)
    if not authenticator.keyring:
        return response
    address = address_of(request)
    await authenticator.slow_down(token, address)
    known = authenticator.check_token(token, address)
    if known is None:
        await to_thread.run_sync(record, NewEvent("login.refused", address=address))
        return _login_page(request, next, wrong=True)
    await to_thread.run_sync(record, NewEvent("login", known.name, str(known.role), address))
    response.set_cookie(
        COOKIE, new_session(known), max_age=SESSION_SECONDS, **_cookie_flags(request)
    )
    return response


@router.post("/logout")
def log_out(request: Request) -> Response:
    """End the session: a copy of its cookie is worth nothing from now on."""
    if (visitor := visitor_of(request)) and visitor.by_cookie:
        authenticator: Authenticator = request.app.state.authenticator
        authenticator.ended.end(request.cookies[COOKIE])
        record(NewEvent("logout", visitor.name, str(visitor.role), visitor.address))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, **_cookie_flags(request))
    return response


class _CookieFlags(TypedDict):
    httponly: bool
    samesite: Literal["strict"]
    secure: bool


def _cookie_flags(request: Request) -> _CookieFlags:
    # Not always Secure: login has to work over plain HTTP in a private network too.
    return {"httponly": True, "samesite": "strict", "secure": request.url.scheme == "https"}


def _login_page(request: Request, target: str, *, wrong: bool) -> Response:
    page: Response = request.app.state.templates.TemplateResponse(
        request,
        "login.html",
        {"next": _local_path(target), "wrong": wrong},
        status_code=401 if wrong else 200,
    )
    return page


def _local_path(target: str) -> str:
    """The target if it is a path on this server, else "/": no open redirect."""
    plain = target.replace("\\", "/")
    is_local = plain.startswith("/") and not plain.startswith("//") and plain.isprintable()
    return target if is_local else "/"
