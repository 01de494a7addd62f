"""Where records go: from arguments, else from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

Mode = Literal["online", "offline"]

FOLDER = "chesboard"
"""Name of the folder of the spools, in the trainer's output folder."""


class ClientError(ValueError):
    """What was asked for cannot be done; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the records of a run go.

    url: the server's address, without a slash at its end; None writes to the spool alone.
    token: an access token of the role recorder, where the server asks for one.
    folder: holds a folder for each run.
    """

    url: str | None
    token: str | None
    folder: Path


def destination(
    url: str | None = None,
    token: str | None = None,
    mode: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    output_dir: str | os.PathLike[str] = ".",
) -> Destination:
    """What is not given is read from CHESBOARD_URL, CHESBOARD_TOKEN, CHESBOARD_MODE and
    CHESBOARD_DIR. Without an address the mode is offline. folder: `output_dir`/chesboard by
    default.

    Raises:
        ClientError: a mode that is none, or an address that is none.
    """
    chosen = mode or os.environ.get("CHESBOARD_MODE") or "online"
    if chosen not in ("online", "offline"):
        raise ClientError(f"CHESBOARD_MODE is online or offline, not “{chosen}”.")
    return Destination(
        address(url) if cast(Mode, chosen) == "online" else None,
        access_token(token),
        Path(folder or os.environ.get("CHESBOARD_DIR") or Path(output_dir) / FOLDER),
    )


def address(url: str | None = None) -> str | None:
    """The server's address, from CHESBOARD_URL where none is given.

    Raises:
        ClientError: it does not begin with http:// or https://.
    """
    found = (url or os.environ.get("CHESBOARD_URL") or "").strip().rstrip("/")
    if found and not found.startswith(("http://", "https://")):
        raise ClientError(
            f"The address “{found}” does not begin with http:// or https://. Set CHESBOARD_URL to "
            "that of your Chesboard, such as http://127.0.0.1:8000."
        )
    return found or None


def access_token(token: str | None = None) -> str | None:
    return (token or os.environ.get("CHESBOARD_TOKEN") or "").strip() or None
