"""Requests to an OpenAI-compatible chat endpoint, retried; its errors without address and key."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from chesboard.judging.answers import JudgeError
from chesboard.judging.pace import Pace
from chesboard.retrying import backoff_seconds, retry_after_seconds

ATTEMPTS = 6
"""Requests for one reply before it is given up."""
LONGEST_WAIT = 600.0
"""Seconds of a Retry-After up to which the request waits."""
REPLY_TOKENS = 512
MAX_RESPONSE_BYTES = 1 << 20
QUOTED_CHARACTERS = 200
"""Of an endpoint's error, in messages."""
_REFUSALS = {
    401: "does not accept the key (401): set CHESBOARD_JUDGE_KEY",
    403: "denies access (403): set a CHESBOARD_JUDGE_KEY that may use the model",
    404: "has no such model or address (404): check endpoint_model and CHESBOARD_JUDGE_URL",
    405: "is no chat endpoint (405): check CHESBOARD_JUDGE_URL",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how fast to ask.

    url: the base address as clients of the OpenAI API take it, http://localhost:8000/v1.
    requests_per_minute: None: no limit. timeout: seconds of one request. backoff: seconds before
    the second attempt, doubled for each further one.
    """

    url: SecretStr
    key: SecretStr | None = None
    requests_per_minute: float | None = None
    concurrency: int = 4
    timeout: float = 60.0
    backoff: float = 1.0


class NoReplyError(Exception):
    """No usable response was had; the message says why, for the user."""

    def __init__(self, message: str, *, is_retryable: bool) -> None:
        """is_retryable: it need not be the request's fault: another time it may work."""
        super().__init__(message)
        self.is_retryable = is_retryable


class ChatClient:
    """Asks one model single questions, at temperature 0. An async context manager."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self._endpoint = endpoint
        self._model = model
        self._pace = Pace(endpoint.requests_per_minute)
        key = None if endpoint.key is None else endpoint.key.get_secret_value()
        # Compressed, a few hundred bytes can be gigabytes.
        headers = {"Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        base = endpoint.url.get_secret_value().rstrip("/")
        is_whole = base.endswith("/chat/completions")
        self._address = base if is_whole else f"{base}/chat/completions"
        self._secrets = tuple(_secrets(base, key))
        self._http = httpx.AsyncClient(headers=headers, timeout=endpoint.timeout)

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def reply(self, question: str) -> str:
        """The model's reply to a question.

        Raises:
            NoReplyError: the request is refused, or every attempt failed.
            JudgeError: no request can succeed: no access, no such model.
        """
        for attempt in range(1, ATTEMPTS + 1):
            await self._pace.start()
            wait = backoff_seconds(attempt, self._endpoint.backoff)
            try:
                async with asyncio.timeout(self._endpoint.timeout):
                    status, headers, body = await self._post(question)
            except TimeoutError:
                seconds = self._endpoint.timeout
                failure = f"The judge's endpoint gave no whole answer within {seconds:g} seconds."
            except httpx.HTTPError as error:
                failure = f"The judge's endpoint cannot be reached ({type(error).__name__})."
            else:
                if status == 200 and (text := _content(body)) is not None:
                    return text
                failure = self._failure(status, body)
                asked = retry_after_seconds(headers.get("Retry-After"))
                if asked is not None:
                    wait = self._hold(asked)
            if attempt < ATTEMPTS:
                await asyncio.sleep(wait)
        raise NoReplyError(f"{failure} {ATTEMPTS} attempts were made.", is_retryable=True)

    def without_secrets(self, text: str) -> str:
        """A text of the endpoint's without address and key, wherever it quotes them."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text

    async def _post(self, question: str) -> tuple[int, httpx.Headers, bytes]:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": REPLY_TOKENS,
        }
        async with self._http.stream("POST", self._address, json=body) as response:
            read = bytearray()
            async for chunk in response.aiter_raw():
                read += chunk
                if len(read) > MAX_RESPONSE_BYTES:
                    break
            return response.status_code, response.headers, bytes(read)

    def _failure(self, status: int, body: bytes) -> str:
        """What went wrong with a request that may be repeated.

        Raises:
            NoReplyError, JudgeError: it may not.
        """
        if status == 200:
            return "The judge's endpoint answered with something else than a chat completion."
        if status in (408, 425, 429) or status >= 500:
            return f"The judge's endpoint answered with an error ({status})."
        if status in _REFUSALS:
            raise JudgeError(f"The judge's endpoint {_REFUSALS[status]}. {self._told(body)}")
        if 300 <= status < 400:
            raise JudgeError(
                f"The judge's endpoint sends on to another address ({status}), and is not followed "
                "there: set CHESBOARD_JUDGE_URL to that address."
            )
        raise NoReplyError(
            f"The judge's endpoint refused the request ({status}). {self._told(body)}".strip(),
            is_retryable=False,
        )

    def _hold(self, seconds: float) -> float:
        if seconds > LONGEST_WAIT:
            raise JudgeError(
                f"The judge's endpoint asks to wait {seconds:,.0f} seconds before the next request "
                "(Retry-After). Queue the run again then: what was judged is kept."
            )
        self._pace.hold(seconds)
        return seconds

    def _told(self, body: bytes) -> str:
        """The endpoint's own words about an error, if it has any."""
        found = _json(body)
        error = found.get("error", found) if isinstance(found, dict) else None
        told = error.get("message") if isinstance(error, dict) else error
        if not isinstance(told, str):
            return ""
        text = " ".join(self.without_secrets(told).split())
        return f"It says: {text[:QUOTED_CHARACTERS]}"


def _content(body: bytes) -> str | None:
    """The text of a chat completion; None: the body is no such thing."""
    try:
        content = _json(body)["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        return None
    # Null where a reasoning model spent all its tokens before it said anything.
    return "" if content is None else content if isinstance(content, str) else None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _secrets(url: str, key: str | None) -> Iterator[str]:
    """What must not be quoted, longer texts first."""
    parts = urlsplit(url)
    if key:
        yield key
    yield from (part for part in (url, parts.netloc, parts.hostname) if part)
