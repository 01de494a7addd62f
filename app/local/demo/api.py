"""The demo's calls of the public API: requests, datasets, and runs that it waits for."""

import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx
import typer

POLL_SECONDS = 0.3

Run = dict[str, Any]
"""A run, as `GET /api/v1/runs/{id}` answers."""


class DemoError(Exception):
    """A step of the demo did not succeed."""


def get(api: httpx.Client, path: str, **query: Any) -> Any:
    """The answer's JSON.

    Raises:
        DemoError: the server answered with an error.
    """
    return _checked(api.get(path, params=query))


def post(api: httpx.Client, path: str, body: dict[str, Any] | None = None) -> Any:
    """The answer's JSON.

    Raises:
        DemoError: the server answered with an error.
    """
    return _checked(api.post(path, json=body))


def upload(api: httpx.Client, name: str, file_name: str, content: bytes) -> int:
    """Store a dataset, unless the same file is stored already; its id.

    Raises:
        DemoError: the server does not take the file.
    """
    answer = api.post(
        "/datasets",
        files={"file": (file_name, content)},
        data={"name": name, "if_known": "refuse"},
    )
    stored = answer.headers.get("Location")
    if answer.status_code == HTTPStatus.CONFLICT and stored is not None:
        return int(stored.rpartition("/")[2])
    return int(_checked(answer)["id"])


def finished_run(
    api: httpx.Client,
    name: str,
    kind: str,
    dataset_id: int,
    config: dict[str, Any],
    on_start: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Wait for the run of that name, an unfailed earlier one or a new one, and return it.

    Raises:
        DemoError: the run failed or was cancelled; the message says why.
    """
    run = _earlier_run(api, name, dataset_id) or post(
        api, "/runs", {"kind": kind, "name": name, "dataset_id": dataset_id, "config": config}
    )
    typer.echo(f"{name}  (run {run['id']})")
    on_start(run)
    while run["status"] in ("queued", "running"):
        time.sleep(POLL_SECONDS)
        run = get(api, f"/runs/{run['id']}")
        _show(_progress(run))
    _show(run["status"], last=True)
    if run["status"] != "succeeded":
        reason = (run["error"] or {}).get("message", "it was cancelled")
        raise DemoError(f"“{name}” (run {run['id']}) did not succeed: {reason}")
    return run


def _earlier_run(api: httpx.Client, name: str, dataset_id: int) -> Run | None:
    runs: list[Run] = get(api, "/runs", dataset_id=dataset_id, limit=200)["items"]
    usable = ("queued", "running", "succeeded")
    return next((run for run in runs if run["name"] == name and run["status"] in usable), None)


def _show(text: str, last: bool = False) -> None:
    """Overwrite one line on a terminal; elsewhere print the last state only."""
    if sys.stdout.isatty():
        typer.echo(f"\r  {text}".ljust(60), nl=last)
    elif last:
        typer.echo(f"  {text}")


def _progress(run: Run) -> str:
    phase = run["phase"] or {"name": run["status"], **run["progress"]}
    if not phase["total"]:
        return str(phase["name"])
    eta = phase["eta_seconds"]
    left = f", about {eta:.0f} s left" if eta is not None else ""
    return f"{phase['name']}: {phase['done']} of {phase['total']} {phase['unit']}{left}"


def _checked(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise DemoError(f"{answer.request.url} answered {answer.status_code}: {answer.text}")
    return answer.json()
