"""Runs `chesboard demo`: the experiment of the paper's Section 3, through the public API.

Load the two samples, score one by CHES and flag its worst pairs, fine-tune the model to answer in
one word by cross-entropy, then train a single pair by DPO and watch where the probability goes.
Runs that an earlier demo in the same data folder finished are reused.
"""

import sys
import time
import webbrowser
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import typer

from app.auth.tokens import Keyring
from app.core.settings import Settings
from app.local.pull import STARTER_MODEL, pull
from app.local.stack import Stack

POLL_SECONDS = 0.3

SCORE = "Demo 1: CHES of whole sentences"
FINE_TUNE = "Demo 2: teach one-word answers"
DISPLACE = "Demo 3: prefer “No” over “Never”"

WATCHED = [0, 1]
"""Pairs of the sample that are probed: the one that DPO trains, and one that it does not."""

MAX_PAIRS_PER_WORD = 9
"""Balances the fine-tuning set over the preferred words, so that the model gives each of them some
probability: a token whose probability is near zero can neither lose nor gain much."""

QUICK_STEPS = 2
"""Optimizer steps of each training run of a quick demo."""

# The paper first fine-tunes with cross-entropy on one-word answers, then trains single pairs by
# DPO with RMSprop at 1e-7 and beta 0.1 (arXiv 2410.08847, Section 3).
FINE_TUNE_CONFIG: dict[str, Any] = {
    "model": STARTER_MODEL,
    "objective": "cross_entropy",
    "optimizer": "adamw",
    "learning_rate": 3e-5,
    "batch_size": 8,
    "epochs": 1,
    "probes": {"pairs": WATCHED},
    "probe_every": 1,
}
DISPLACE_CONFIG: dict[str, Any] = {
    "objective": "dpo",
    "beta": 0.1,
    "optimizer": "rmsprop",
    "learning_rate": 1e-7,
    "batch_size": 1,
    "epochs": 30,
    "selection": {"pairs": [0]},
    "probes": {"pairs": WATCHED},
    "probe_every": 1,
    "token_groups": {
        "affirmative": ["Yes", "Yeah", "Sure", "Certainly"],
        "negative": ["No", "Never"],
    },
}


class DemoError(Exception):
    """A step of the demo did not succeed."""


def run_demo(
    settings: Settings, *, stay: bool = True, open_browser: bool = True, quick: bool = False
) -> None:
    """Start everything, do the demo's runs, and with `stay` keep serving until stopped.

    With `quick`, the runs are of the same kinds and short: a check of the installation.

    Raises:
        DemoError: a run did not succeed; the message names it and says why.
    """
    pull(STARTER_MODEL, settings.models_path)
    typer.echo(f"Starting; the logs are in {settings.data_dir / 'logs'}.")
    with Stack(settings, quiet=True) as stack:
        stack.wait_ready()
        token = Keyring.of(settings).strongest()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"{stack.url}/api/v1", timeout=60, headers=headers) as api:
            _run_story(api, stack.url, open_browser, quick)
        if stay:
            typer.echo(f"\nChesboard is at {stack.url} - Ctrl-C stops it.")
            stack.run_forever()


def _run_story(api: httpx.Client, url: str, open_browser: bool, quick: bool) -> None:
    sentences = _post(api, "/samples/sentences")["id"]
    words = _post(api, "/samples/yes-no-words")["id"]

    # A later full demo must not reuse a quick one's runs, so these have names of their own.
    suffix = " (quick)" if quick else ""
    shortened = {"max_steps": QUICK_STEPS, "batch_size": 1} if quick else {}
    taught = _balanced_pairs(api, words)[: QUICK_STEPS if quick else None]
    scored = words if quick else sentences
    score = _run(api, SCORE + suffix, "score", scored, {"model": STARTER_MODEL})
    _post(
        api,
        f"/datasets/{scored}/flags",
        {"score_run": score["id"], "measure": "ln_ches", "top_fraction": 0.1},
    )
    tuned = _run(
        api,
        FINE_TUNE + suffix,
        "train",
        words,
        {**FINE_TUNE_CONFIG, **shortened, "selection": {"pairs": taught}},
    )

    def watch(run: dict[str, Any]) -> None:
        page = f"{url}/runs/{run['id']}"
        typer.echo(f"  watch it live: {page}")
        if open_browser:
            webbrowser.open(page)

    displaced = _run(
        api,
        DISPLACE + suffix,
        "train",
        words,
        {**DISPLACE_CONFIG, **shortened, "model": f"run:{tuned['id']}"},
        on_start=watch,
    )
    typer.echo(f"\n{displaced['verdict']}\n{url}/runs/{displaced['id']}")


def _balanced_pairs(api: httpx.Client, dataset_id: int) -> list[int]:
    """At most MAX_PAIRS_PER_WORD pairs of each preferred word, without the watched ones."""
    pairs = _get(api, f"/datasets/{dataset_id}/pairs", limit=200)["items"]
    count: Counter[str] = Counter()
    chosen = []
    for pair in pairs:
        count[pair["preferred"]] += pair["pair"] not in WATCHED
        if pair["pair"] not in WATCHED and count[pair["preferred"]] <= MAX_PAIRS_PER_WORD:
            chosen.append(pair["pair"])
    return chosen


def _run(
    api: httpx.Client,
    name: str,
    kind: str,
    dataset_id: int,
    config: dict[str, Any],
    on_start: Callable[[dict[str, Any]], None] = lambda run: None,
) -> dict[str, Any]:
    """Wait for the run of that name, an unfailed earlier one or a new one, and return it."""
    earlier = [
        run
        for run in _get(api, "/runs", dataset_id=dataset_id, limit=200)["items"]
        if run["name"] == name and run["status"] in ("queued", "running", "succeeded")
    ]
    run: dict[str, Any] = (
        earlier[0]
        if earlier
        else _post(
            api,
            "/runs",
            {"kind": kind, "name": name, "dataset_id": dataset_id, "config": config},
        )
    )
    typer.echo(f"{name}  (run {run['id']})")
    on_start(run)
    while run["status"] in ("queued", "running"):
        time.sleep(POLL_SECONDS)
        run = _get(api, f"/runs/{run['id']}")
        _show(_progress(run))
    _show(run["status"], last=True)
    if run["status"] != "succeeded":
        reason = (run["error"] or {}).get("message", "it was cancelled")
        raise DemoError(f"“{name}” (run {run['id']}) did not succeed: {reason}")
    return run


def _show(text: str, last: bool = False) -> None:
    """Overwrite one line on a terminal; elsewhere print the last state only."""
    if sys.stdout.isatty():
        typer.echo(f"\r  {text}".ljust(60), nl=last)
    elif last:
        typer.echo(f"  {text}")


def _progress(run: dict[str, Any]) -> str:
    phase = run["phase"] or {"name": run["status"], **run["progress"]}
    if not phase["total"]:
        return str(phase["name"])
    eta = phase["eta_seconds"]
    left = f", about {eta:.0f} s left" if eta is not None else ""
    return f"{phase['name']}: {phase['done']} of {phase['total']} {phase['unit']}{left}"


def _get(api: httpx.Client, path: str, **query: Any) -> Any:
    return _checked(api.get(path, params=query))


def _post(api: httpx.Client, path: str, body: dict[str, Any] | None = None) -> Any:
    return _checked(api.post(path, json=body))


def _checked(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise DemoError(f"{answer.request.url} answered {answer.status_code}: {answer.text}")
    return answer.json()
