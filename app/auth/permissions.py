"""Who may do what: the three roles, the tokens that give them, and the rule of every route.

    viewer     reads: pages, data, downloads, the status page
    reviewer   and judges pairs: flags, verdicts
    operator   and uploads, runs, deletes, and reads the audit log

Each role may do what those above it may. Where no token is set the server listens on loopback
only, and whoever reaches it is the operator "local".

RULES has one line for every route of the application, and tests/app/auth/test_permissions.py fails
on a route without one. A line also says how a change is named in the audit log (app/audit).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

from starlette.requests import Request
from starlette.routing import compile_path

from app.core.settings import Settings

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Role(IntEnum):
    VIEWER = 1
    REVIEWER = 2
    OPERATOR = 3

    @classmethod
    def named(cls, name: str) -> Self:
        """Raises KeyError where no role is called that."""
        return cls[name.upper()]

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request."""

    name: str
    role: Role
    address: str
    by_cookie: bool = False

    def may(self, role: Role) -> bool:
        return self.role >= role


# --- tokens -----------------------------------------------------------------------------------

LOCAL = "local"
"""Who comes in where no token is set."""

COOKIE_SECONDS = 7 * 24 * 3600
_SESSION = re.compile(r"(\d{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


class TokenFileError(ValueError):
    """The tokens file cannot be used; the message names the line, never the token."""


@dataclass(frozen=True, slots=True)
class Token:
    name: str
    role: Role
    secret: str


class Keyring:
    """The tokens that this server knows."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that the settings name.

        Raises:
            TokenFileError: the tokens file cannot be read, or a line of it is not as it should be.
        """
        given = (
            (Role.OPERATOR, settings.token),
            (Role.REVIEWER, settings.reviewer_token),
            (Role.VIEWER, settings.viewer_token),
        )
        tokens = [
            Token(str(role), role, secret.get_secret_value())
            for role, secret in given
            if secret is not None
        ]
        if settings.tokens_file is not None:
            tokens += read_tokens(settings.tokens_file)
        if len({token.secret for token in tokens}) < len(tokens):
            raise TokenFileError("The same access token is given twice, with different names.")
        return cls(tokens)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def strongest(self) -> str | None:
        """A token of the highest role there is: for this program's own calls."""
        best = max(self._tokens, key=lambda token: token.role, default=None)
        return None if best is None else best.secret

    def by_secret(self, given: str) -> Token | None:
        """Whose token that is. Every one is compared with, each in constant time."""
        data = given.encode("utf-8", "replace")
        found = None
        for token in self._tokens:
            if hmac.compare_digest(data, token.secret.encode()):
                found = token
        return found

    def by_session(self, cookie: str, now: float) -> Token | None:
        """Whose session that is; None where it is none of ours or has run out."""
        parts = _SESSION.fullmatch(cookie)
        if parts is None or int(parts[1]) < now:
            return None
        found = None
        for token in self._tokens:
            if hmac.compare_digest(_signature(token.secret, parts[1], parts[2]), parts[3]):
                found = token
        return found


def new_session(token: Token, now: float) -> str:
    """A cookie's value: proves knowledge of the token without holding it, for a week.

    A new token ends all sessions of the old one.
    """
    expires, salt = str(int(now) + COOKIE_SECONDS), secrets.token_hex(16)
    return f"{expires}.{salt}.{_signature(token.secret, expires, salt)}"


def _signature(secret: str, expires: str, salt: str) -> str:
    message = f"chesboard session {expires} {salt}"
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def read_tokens(path: Path) -> list[Token]:
    """The tokens of a file with a `role name token` on each line; # begins a comment.

    Raises:
        TokenFileError: it cannot be read, or a line is not of that form.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"The tokens file {path} cannot be read: {error}.") from None
    tokens = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or words[0].upper() not in Role.__members__:
            raise TokenFileError(
                f"{path}, line {number}: expected `role name token` with the role viewer, "
                "reviewer or operator."
            )
        if len(words[2]) < Settings.MIN_TOKEN_CHARACTERS:
            raise TokenFileError(
                f"{path}, line {number}: a token has at least "
                f"{Settings.MIN_TOKEN_CHARACTERS} characters."
            )
        tokens.append(Token(words[1], Role.named(words[0]), words[2]))
    return tokens


# --- rules ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route asks for, and how its use is recorded.

    role: None means that it is open. action: its name in the audit log; None where it is not
    recorded. subject: what it was done to, filled in from the path and the JSON that is answered.
    details: fields of that JSON that are worth keeping. Reading is recorded where it is a download
    (the answer is an attachment), a change where it succeeded; `only`: with this status.
    """

    method: str
    path: str
    role: Role | None
    action: str | None = None
    subject: str = ""
    details: tuple[str, ...] = ()
    only: int | None = None


OPEN, VIEWER, REVIEWER, OPERATOR = None, Role.VIEWER, Role.REVIEWER, Role.OPERATOR
STATIC = "/static/{path:path}"
_API = "/api/v1"
_RUN = f"{_API}/runs/{{run_id}}"
_DATASET = f"{_API}/datasets/{{dataset_id}}"
_PAIR = f"{_DATASET}/pairs/{{pair}}"
_NAMED = "dataset {dataset_id}, pair {pair}"
_OF_VERDICT = ("verdict", "reviewer", "previous")
_OF_DATASET = ("name", "pairs", "rejected", "source_filename", "source_sha256")
_OF_RUN = ("name", "kind", "status", "dataset_id")

RULES: tuple[Rule, ...] = (
    # What a browser needs to show the login form, and a supervisor to see that we are up.
    Rule("GET", "/login", OPEN),
    Rule("POST", "/login", OPEN),
    Rule("POST", "/logout", OPEN),
    Rule("GET", STATIC, OPEN),
    Rule("GET", "/healthz", OPEN),
    # Pages.
    Rule("GET", "/", VIEWER),
    Rule("GET", "/datasets", VIEWER),
    Rule("GET", "/datasets/{dataset_id}", VIEWER),
    Rule("GET", "/datasets/{dataset_id}/new", OPERATOR),
    Rule("GET", "/datasets/{dataset_id}/review", VIEWER),
    Rule("GET", "/runs", VIEWER),
    Rule("GET", "/runs/{run_id}", VIEWER),
    Rule("GET", "/compare", VIEWER),
    Rule("GET", "/docs", VIEWER),
    Rule("GET", "/status", VIEWER),
    Rule("GET", "/audit", OPERATOR),
    # Seeing inside.
    Rule("GET", "/metrics", VIEWER),
    Rule("GET", f"{_API}/openapi.json", VIEWER),
    Rule("GET", f"{_API}/status", VIEWER),
    Rule("GET", f"{_API}/audit", OPERATOR, "audit.export"),
    # Datasets.
    Rule("GET", f"{_API}/datasets", VIEWER),
    Rule("POST", f"{_API}/datasets", OPERATOR, "dataset.upload", "dataset {id}", _OF_DATASET),
    Rule("GET", _DATASET, VIEWER),
    Rule("DELETE", _DATASET, OPERATOR, "dataset.delete", "dataset {dataset_id}"),
    Rule("GET", f"{_DATASET}/pairs", VIEWER),
    Rule("GET", f"{_DATASET}/export", VIEWER, "dataset.export", "dataset {dataset_id}"),
    Rule("GET", f"{_DATASET}/export/manifest", VIEWER),
    Rule("GET", f"{_API}/samples", VIEWER),
    Rule(
        *("POST", f"{_API}/samples/{{name}}", OPERATOR, "dataset.upload", "dataset {id}"),
        details=_OF_DATASET,
        only=201,  # 200 says that it was there already
    ),
    Rule("POST", f"{_API}/datasets/preview", OPERATOR),
    Rule("GET", f"{_API}/datasets/progress/{{key}}", OPERATOR),
    Rule("DELETE", f"{_API}/datasets/progress/{{key}}", OPERATOR, "dataset.upload.cancel"),
    Rule("GET", f"{_DATASET}/rejected", VIEWER, "dataset.export", "dataset {dataset_id}"),
    Rule("POST", f"{_DATASET}/selection", OPERATOR),
    # Judging pairs.
    Rule("GET", "/review", VIEWER),
    Rule("GET", _PAIR, VIEWER),
    Rule("PATCH", _PAIR, REVIEWER, "pair.edit", _NAMED),
    Rule("GET", f"{_PAIR}/review", VIEWER),
    Rule("GET", f"{_PAIR}/review/history", VIEWER),
    Rule("PUT", f"{_PAIR}/review", REVIEWER, "verdict", _NAMED, _OF_VERDICT),
    Rule("DELETE", f"{_PAIR}/review", REVIEWER, "verdict.clear", _NAMED, _OF_VERDICT),
    Rule("POST", f"{_PAIR}/review/undo", REVIEWER, "verdict.undo", _NAMED, _OF_VERDICT),
    Rule("GET", f"{_DATASET}/review", VIEWER),
    Rule("GET", f"{_DATASET}/reviews", VIEWER, "dataset.export", "dataset {dataset_id}"),
    Rule("GET", f"{_DATASET}/reviews/order", VIEWER),
    Rule("GET", f"{_DATASET}/reviews/progress", VIEWER),
    Rule("GET", f"{_DATASET}/reviews/batches", VIEWER),
    Rule("POST", f"{_DATASET}/reviews/bulk", REVIEWER, "verdict.bulk", "dataset {dataset_id}"),
    Rule(
        *("POST", f"{_DATASET}/reviews/batches/{{batch_id}}/undo", REVIEWER, "verdict.bulk.undo"),
        subject="dataset {dataset_id}",
    ),
    Rule("GET", f"{_DATASET}/flags", VIEWER),
    Rule("POST", f"{_DATASET}/flags", REVIEWER, "flags.set", "dataset {dataset_id}", ("total",)),
    Rule("DELETE", f"{_DATASET}/flags", REVIEWER, "flags.clear", "dataset {dataset_id}"),
    # Runs.
    Rule("GET", f"{_API}/models", VIEWER),
    Rule("GET", f"{_API}/runs", VIEWER),
    Rule("POST", f"{_API}/runs", OPERATOR, "run.create", "run {id}", _OF_RUN),
    Rule("GET", _RUN, VIEWER),
    Rule("PATCH", _RUN, OPERATOR, "run.rename", "run {run_id}", ("name",)),
    Rule("DELETE", _RUN, OPERATOR, "run.delete", "run {run_id}"),
    Rule("POST", f"{_RUN}/cancel", OPERATOR, "run.cancel", "run {run_id}", _OF_RUN),
    Rule("POST", f"{_RUN}/resume", OPERATOR, "run.resume", "run {run_id}", _OF_RUN),
    Rule("GET", f"{_RUN}/events", VIEWER),
    Rule("GET", f"{_RUN}/metrics", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/scores", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/scores/summary", VIEWER),
    Rule("GET", f"{_RUN}/probes", VIEWER),
    Rule("GET", f"{_RUN}/probes/{{pair}}", VIEWER),
    Rule("GET", f"{_RUN}/probes/{{pair}}/ledger", VIEWER),
    Rule("GET", f"{_RUN}/probes/{{pair}}/answers", VIEWER),
    Rule("GET", f"{_RUN}/probes/{{pair}}/watched", VIEWER),
    Rule("GET", f"{_RUN}/probes/bands", VIEWER),
    Rule("GET", f"{_RUN}/displacement", VIEWER),
    Rule("GET", f"{_RUN}/displacement.csv", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/displacements", VIEWER),
    Rule("GET", f"{_RUN}/pairs", VIEWER),
    Rule("GET", f"{_RUN}/weights", VIEWER, "run.export", "run {run_id}"),
)


STORES_NOTHING = frozenset({f"{_API}/datasets/preview", f"{_DATASET}/selection"})
"""Asked by POST for the size of the question; nothing is changed, so nothing is recorded."""


def _compiled(rules: Iterable[Rule]) -> Mapping[str, tuple[tuple[re.Pattern[str], Rule], ...]]:
    methods = {rule.method for rule in rules}
    return {
        method: tuple((compile_path(rule.path)[0], rule) for rule in rules if rule.method == method)
        for method in methods
    }


_COMPILED = _compiled(RULES)
UNKNOWN = "(other)"
"""The path of the rule for addresses that are no route's; few names, whatever strangers ask for."""


@dataclass(frozen=True, slots=True)
class Match:
    rule: Rule
    parameters: dict[str, str]


def match(method: str, path: str) -> Match:
    """The rule of a request. Where several routes fit the path, the strictest.

    An address that is no route's will be told "not found", to those who are logged in.
    """
    method = "GET" if method == "HEAD" else method
    found = [
        Match(rule, parts.groupdict())
        for pattern, rule in _COMPILED.get(method, ())
        if (parts := pattern.match(path))
    ]
    if not found:
        return Match(Rule(method, UNKNOWN, VIEWER if method in READING else OPERATOR), {})
    return max(found, key=lambda match: match.rule.role or 0)


# --- what pages need to know ------------------------------------------------------------------


def visitor_of(request: Request) -> Visitor | None:
    """Who sent the request; None for a stranger at an open address."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    return found


def page_context(request: Request) -> dict[str, Any]:
    """For every template: who looks, and so what is to be hidden (see the end of style.css)."""
    visitor = visitor_of(request)
    return {"visitor": visitor, "role": "none" if visitor is None else str(visitor.role)}
