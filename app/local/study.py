"""`chesboard study`: starts a study on a running server and follows it to its end."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import typer

from app.auth.tokens import Keyring
from app.core.settings import Settings
from app.local.errors import SetupError

POLL_SECONDS = 2.0


def run_study(settings: Settings, url: str, file: Path, *, token: str | None, wait: bool) -> None:
    """Print the study's address, its progress and, at the end, what came out.

    token: of an operator. Default: this machine's own.

    Raises:
        SetupError: the file is no plan, the server refuses it or does not answer, or the study
            does not succeed.
    """
    plan = _read(file)
    key = token or Keyring.of(settings).strongest()
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=f"{url}/api/v1", timeout=60, headers=headers) as api:
            study = _checked(api.post("/studies", json=plan))
            typer.echo(f"{study['name']}: {url}/studies/{study['id']}")
            if wait:
                _follow(api, study)
    except httpx.TransportError as error:
        raise SetupError(
            f"No Chesboard answers at {url} ({error}). Start one, or give --url."
        ) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{file} cannot be read as a plan: {error}") from None
    if not isinstance(plan, dict):
        raise SetupError(f"{file} holds no plan: it has to be a JSON object.")
    return plan


def _follow(api: httpx.Client, study: dict[str, Any]) -> None:
    told = ""
    while study["status"] in ("queued", "running"):
        time.sleep(POLL_SECONDS)
        study = _checked(api.get(f"/studies/{study['id']}"))
        progress = study["progress"]
        line = f"  {progress['succeeded']} of {progress['total']} runs"
        if progress["eta_seconds"] is not None:
            line += f", about {progress['eta_seconds'] / 60:.0f} min left"
        if line != told:
            typer.echo(line)
        told = line
    for sentence in (study["result"] or {}).get("sentences", []):
        typer.echo(sentence)
    if study["status"] != "succeeded":
        raise SetupError(f"The study {study['status']}. {study['error'] or ''}".strip())


def _checked(answer: httpx.Response) -> Any:
    if not answer.is_error:
        return answer.json()
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    told = [f"{one.get('field')}: {one['message']}" for one in problem.get("errors", [])]
    said = "; ".join(told) or problem.get("detail") or answer.reason_phrase
    raise SetupError(f"The server refuses the plan: {said}")
