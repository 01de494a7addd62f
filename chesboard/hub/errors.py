"""What can be wrong with a repository of the hub, each in a sentence that says what to do.

No message quotes an address, a header or the library's own text: these may hold a token.
"""

import re
from collections.abc import Mapping
from typing import Literal

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # httpx's or httpx2's, whichever the library's client is
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

TRANSPORT_ERRORS = (HTTPError, ConnectionError)
"""What a request raises: no connection, a stalled or broken one, and every error status."""

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

AUTHORIZE = (
    "set HF_TOKEN in the environment of Chesboard to a token of an account with access, and "
    "restart it"
)


Noun = Literal["dataset", "model"]


def page_address(name: str, revision: str | None = None, noun: Noun = "dataset") -> str:
    """The repository's page on the hub, at a commit."""
    at = f"/tree/{revision}" if revision else ""
    return f"{constants.ENDPOINT}/{'datasets/' if noun == 'dataset' else ''}{name}{at}"


class HubError(Exception):
    """A repository that cannot be had; the message is for the user and says what to do."""


class HubRequestError(HubError):
    """What was named is not there, or not for this server. field: the field of the request."""

    def __init__(self, message: str, field: str = "hub") -> None:
        super().__init__(message)
        self.field = field


class HubUnreachableError(HubError):
    """Offline, or the hub does not answer as it should: worth another try later."""


class HubBusyError(HubError):
    """The hub limits the rate of requests. wait_seconds: until it accepts some again."""

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


def explain(
    error: Exception, name: str, revision: str | None = None, noun: Noun = "dataset"
) -> HubError:
    """The error of a request about the repository `name`, in words."""
    match error:
        case HubError():
            return error
        case OfflineModeIsEnabled():
            return HubUnreachableError(
                "This server is offline (HF_HUB_OFFLINE is set), so nothing is fetched from the "
                "hub. Unset it, or download the file elsewhere and upload it."
            )
        case HFValidationError():
            return HubRequestError(
                f"“{name}” is no name of a {noun} on the hub. Name it as org/name, as the "
                "address of its page ends."
            )
        case GatedRepoError():
            return HubRequestError(
                f"The {noun} “{name}” is gated. Accept its terms at "
                f"{page_address(name, noun=noun)}, logged in; then {AUTHORIZE}."
            )
        case RevisionNotFoundError():
            return HubRequestError(
                f"The {noun} “{name}” has no revision “{revision or 'main'}”. Name a branch, a "
                "tag or a full commit id, or leave it out.",
                "revision",
            )
        case DisabledRepoError():
            return HubRequestError(f"The hub has disabled the {noun} “{name}”.")
        case EntryNotFoundError():
            return HubRequestError(
                f"A file that the {noun} “{name}” lists is not there any more. Look it up again."
            )
        case HfHubHTTPError():
            return _of_status(error, name, noun)
    return HubUnreachableError(
        "The hub does not answer: this server has no connection to it. Try again, or download "
        "the file elsewhere and upload it."
    )


def _of_status(error: HfHubHTTPError, name: str, noun: Noun) -> HubError:
    status = error.response.status_code
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return HubRequestError(
            f"The hub has no {noun} “{name}”, or a private one. Check its name; if it is private, "
            f"{AUTHORIZE}."
        )
    if status == 429:
        wait = wait_seconds(error.response.headers)
        return HubBusyError(
            f"The hub accepts no more requests from here for now. Try again in {wait:.0f} "
            "seconds; with a token (HF_TOKEN in the environment of Chesboard) the limit is higher.",
            wait,
        )
    if status in (401, 403):
        return HubRequestError(
            f"The hub refuses access to the {noun} “{name}”. To be let in, {AUTHORIZE}. A "
            "token that is set already is invalid or lacks the permission."
        )
    return HubUnreachableError(
        f"The hub answers with an error (status {status}). Try again in a few minutes."
    )


_RATE_LIMIT_RESET = re.compile(r"\bt\s*=\s*(\d+)")
DEFAULT_WAIT = 60.0


def wait_seconds(headers: Mapping[str, str]) -> float:
    """How long a rate limit lasts: by Retry-After or RateLimit, else a minute."""
    after = headers.get("retry-after", "").strip()
    if after.isdigit():
        return float(after)
    reset = _RATE_LIMIT_RESET.search(headers.get("ratelimit", ""))
    return float(reset[1]) if reset else DEFAULT_WAIT
