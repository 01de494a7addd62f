"""Access tokens: read from the settings and the tokens file, looked up, and session cookies signed
with them.

A session cookie is a random value with a timestamp and an HMAC keyed with the access token, by
itsdangerous. It proves knowledge of the token without holding it; replacing a token ends all its
sessions, and logging out the one (sessions.py).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from itsdangerous import BadSignature, TimestampSigner

from app.auth.permissions import Role
from app.core.settings import Settings

SESSION_SECONDS = 7 * 24 * 3600
# Narrower than what base64 decoding accepts, so that each session has one spelling.
_SESSION = re.compile(r"[\w.-]{1,200}", re.ASCII)


class TokenFileError(ValueError):
    """The tokens file cannot be used; the message names the line, never the token."""


@dataclass(frozen=True, slots=True)
class Token:
    name: str
    role: Role
    secret: str


class Keyring:
    """The access tokens of this server."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The tokens that the settings and the tokens file name.

        Raises:
            TokenFileError: the tokens file cannot be read, or one of its lines is malformed.
        """
        given = (
            (Role.OPERATOR, settings.token),
            (Role.REVIEWER, settings.reviewer_token),
            (Role.VIEWER, settings.viewer_token),
            (Role.RECORDER, settings.recorder_token),
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
        """A token of the highest role configured, for this program's own requests."""
        best = max(self._tokens, key=lambda token: token.role, default=None)
        return None if best is None else best.secret

    def by_secret(self, given: str) -> Token | None:
        """The token with this secret. Compares with every one, each in constant time."""
        data = given.encode("utf-8", "replace")
        found = None
        for token in self._tokens:
            if hmac.compare_digest(data, token.secret.encode()):
                found = token
        return found

    def by_session(self, cookie: str) -> Token | None:
        """The token that signed this session; None if the cookie is invalid or expired."""
        if not _SESSION.fullmatch(cookie):
            return None
        found = None
        for token in self._tokens:
            try:
                _signer(token).unsign(cookie, max_age=SESSION_SECONDS)
            except BadSignature:  # SignatureExpired included
                continue
            found = token
        return found


def new_session(token: Token) -> str:
    """The value of a session cookie, valid for `SESSION_SECONDS`."""
    return _signer(token).sign(secrets.token_urlsafe(16)).decode("ascii")


def _signer(token: Token) -> TimestampSigner:
    return TimestampSigner(
        token.secret,
        salt="chesboard session",
        key_derivation="hmac",
        # 48 bytes are 64 characters of base64 with no spare bits: no second spelling decodes to
        # the same signature.
        digest_method=hashlib.sha384,
    )


def read_tokens(path: Path) -> list[Token]:
    """The tokens of a file with a `role name token` on each line; # starts a comment line.

    Raises:
        TokenFileError: the file cannot be read, or a line is malformed.
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
                "reviewer, operator or recorder."
            )
        if len(words[2]) < Settings.MIN_TOKEN_CHARACTERS:
            raise TokenFileError(
                f"{path}, line {number}: a token has at least "
                f"{Settings.MIN_TOKEN_CHARACTERS} characters."
            )
        tokens.append(Token(words[1], Role.named(words[0]), words[2]))
    return tokens
