"""The calls by which a run that is trained elsewhere reaches a server.

Imports httpx, and nothing that computes.
"""

import gzip
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from chesboard.retrying import retry_after_seconds

ANSWER_SECONDS, CONNECT_SECONDS = 30.0, 10.0
STILL_POSSIBLE = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may succeed later."""


class UnreachableError(Exception):
    """Not now: try again, after `retry_after` seconds where the server says so."""

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


ADVICE = {
    401: "Set CHESBOARD_TOKEN to an access token of the role recorder.",
    403: "Its token may not record runs; it needs the role recorder.",
    404: "The run was deleted there.",
    409: "Another process goes on with the run.",
    422: "Is its Chesboard older than this one?",
}
"""What to do, by the status of a refusal."""


class RefusedError(Exception):
    """The server does not take it, however often it is sent."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status

    @property
    def with_advice(self) -> str:
        return f"{self} {ADVICE.get(self.status, '')}".rstrip()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says of the run after a batch."""

    recorded_through: int | None
    cancel_requested: bool
    lease_seconds: float | None


class Wire:
    """A connection to one server. Not thread-safe."""

    def __init__(self, url: str, token: str | None, seconds: float = ANSWER_SECONDS) -> None:
        """seconds: to wait for an answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
        self._client = httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=timeout)
        self.url = url

    def close(self) -> None:
        self._client.close()

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The run of this key, made where there is none: id, url, attempt, recorded_through."""
        return self._post("/runs", body)

    def begin_attempt(self, run_id: int, resumed_from_step: int) -> int:
        """Go on from a checkpoint: forget the later steps, and every earlier attempt."""
        answer = self._post(f"/runs/{run_id}/attempts", {"resumed_from_step": resumed_from_step})
        return int(answer["attempt"])

    def send(
        self,
        run_id: int,
        attempt: int,
        records: Sequence[Mapping[str, Any]],
        messages: Sequence[str] = (),
    ) -> Answer:
        """Store records and messages; none: say that the run goes on."""
        body: dict[str, Any] = {"attempt": attempt, "records": list(records)}
        if messages:
            body["messages"] = list(messages)
        found = self._post(f"/runs/{run_id}/records", body, packed=True)
        return Answer(
            found.get("recorded_through"),
            bool(found.get("cancel_requested")),
            found.get("lease_seconds"),
        )

    def finish(self, run_id: int, attempt: int, ended: Mapping[str, Any]) -> None:
        self._post(f"/runs/{run_id}/finish", {"attempt": attempt, **ended})

    def texts(self, dataset_id: int, pairs: Sequence[int]) -> list[dict[str, Any]]:
        """The texts of these pairs of a dataset: pair, prompt, preferred, dispreferred."""
        numbers: dict[str, Any] = {"pair": list(pairs)}
        found = self._ask("GET", f"/datasets/{dataset_id}/texts", params=numbers)
        items: list[dict[str, Any]] = found["items"]
        return items

    def _post(self, path: str, body: Mapping[str, Any], *, packed: bool = False) -> dict[str, Any]:
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if packed:
            content = gzip.compress(content, compresslevel=5, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return self._ask("POST", path, content=content, headers=headers)

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Raises:
        UnreachableError: no answer, or one that says to try later.
        RefusedError: any other answer but one of success.
        """
        try:
            response = self._client.request(method, path, **request)
            answer = response.json() if response.content else {}
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise RefusedError(0, f"{self.url} is no address: {error}") from error
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"{self.url} cannot be reached: {reason}") from error
        except ValueError:
            answer = None
        status = response.status_code
        if response.is_success and isinstance(answer, dict):
            return answer
        problem = f"{self.url} answered {status} to {path}: {_problem(answer, response)}"
        if response.is_success or status >= 500 or status in STILL_POSSIBLE:
            raise UnreachableError(
                problem, retry_after_seconds(response.headers.get("Retry-After"))
            )
        raise RefusedError(status, problem)


def _problem(answer: Any, response: httpx.Response) -> str:
    """What the server says is wrong, by its problem document (RFC 9457)."""
    if isinstance(answer, dict) and answer.get("detail"):
        errors = answer.get("errors")
        first = f" {json.dumps(errors[:3], ensure_ascii=False)}" if errors else ""
        return f"{answer['detail']}{first}"
    return " ".join(response.text.split())[:200] or response.reason_phrase
