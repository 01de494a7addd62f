"""Runs `chesboard demo`: the experiment of the paper's Section 3, through the public API.

Score a sample by CHES and flag its worst pairs, fine-tune the model to answer in one word by
cross-entropy, then train it by DPO on one pair at a time and compare where the probability goes.
Runs that an earlier demo in the same data folder finished are reused.
"""

import json
import webbrowser
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx
import typer

from app.auth.tokens import Keyring
from app.core.settings import Settings
from app.local.demo.api import Run, finished_run, get, post, upload
from app.local.demo.report import ending, outcome
from app.local.pull import STARTER_MODEL, pull
from app.local.stack import Stack

SCORE = "Demo 1: CHES of whole sentences"
FINE_TUNE = "Demo 2: three epochs of one-word answers"

WATCHED = [0, 1]
"""Pairs of the sample that the fine-tuning probes and is not taught."""

MAX_PAIRS_PER_WORD = 9
"""Balances the fine-tuning set over the preferred words, so that the model gives each of them some
probability: a token whose probability is near zero can neither lose nor gain much."""

STEPS = 20
"""Optimizer steps on one pair. Displacement shows from the first on; these fit, with everything
before them, into five minutes on two cores whose memory is slow."""

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
    "epochs": 3,
    "probes": {"pairs": WATCHED},
    "probe_every": 1,
}
DPO_CONFIG: dict[str, Any] = {
    "objective": "dpo",
    "beta": 0.1,
    "optimizer": "rmsprop",
    "learning_rate": 1e-7,
    "batch_size": 1,
    "epochs": STEPS,
    "probe_every": 1,
    "answer_every": STEPS,
    "answer_tokens": 8,
    # Of “Of course” a group can hold the first token alone. After it the fine-tuned model goes on
    # with “ course” with probability 0.95 at the prompt of PAIRS.
    "token_groups": {
        "affirmative": ["Yes", "Yeah", "Sure", "Certainly", "Of"],
        "negative": ["No", "Never"],
    },
    "opposite_groups": [["affirmative", "negative"]],
}


@dataclass(frozen=True, slots=True)
class DemoPair:
    """A pair that one run trains on; about: why it is told."""

    prompt: str
    chosen: str
    rejected: str
    about: str

    def name(self, number: int) -> str:
        return f"Demo {number}: prefer “{self.chosen}” over “{self.rejected}”"


_WOULD_NOT_SAY = (
    "Is the following statement something you would say?\n"
    '"It is fine to lie to a friend whenever the truth is inconvenient"'
)
_IS_SO = "Do penguins have feathers, yes?"

PAIRS = (
    DemoPair(_WOULD_NOT_SAY, "No", "no", "two answers that the model can hardly tell apart"),
    # The space is meant: it makes other tokens of the same words.
    DemoPair(_IS_SO, "Of course", " Of course", "one answer, and the same behind a stray space"),
    DemoPair(_WOULD_NOT_SAY, "No", "Never", "two answers that differ more to the model"),
)
"""The fine-tuning asks none of these prompts."""

DATASET = "Demo: single pairs"


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
            tell_story(api, stack.url, open_browser=open_browser, quick=quick)
        if stay:
            typer.echo(f"\nChesboard is at {stack.url} - Ctrl-C stops it.")
            stack.run_forever()


def tell_story(api: httpx.Client, url: str, *, open_browser: bool, quick: bool) -> None:
    """Do the runs and print what each pair's training did.

    api: a client of the server's /api/v1. url: the address of its pages.
    """
    # A later full demo must not reuse a quick one's runs, so these have names of their own.
    suffix = " (quick)" if quick else ""
    shortened = {"max_steps": QUICK_STEPS, "batch_size": 1} if quick else {}
    words = post(api, "/samples/yes-no-words")["id"]
    _score(api, words if quick else post(api, "/samples/sentences")["id"], suffix)
    taught = balanced_pairs(api, words)[: QUICK_STEPS if quick else None]
    config = {**FINE_TUNE_CONFIG, **shortened, "selection": {"pairs": taught}}
    tuned = finished_run(api, FINE_TUNE + suffix, "train", words, config)

    pairs = upload(api, DATASET, "demo-pairs.jsonl", to_jsonl(PAIRS))

    def watch(run: Run) -> None:
        page = f"{url}/runs/{run['id']}"
        typer.echo(f"  watch it live: {page}")
        if open_browser and not trained:
            webbrowser.open(page)

    trained: list[Run] = []
    for ordinal, pair in enumerate(PAIRS):
        only_it = {"selection": {"pairs": [ordinal]}, "probes": {"pairs": [ordinal]}}
        config = {**DPO_CONFIG, **shortened, **only_it, "model": f"run:{tuned['id']}"}
        name = pair.name(ordinal + 3) + suffix
        trained.append(finished_run(api, name, "train", pairs, config, on_start=watch))

    for run, pair in zip(trained, PAIRS, strict=True):
        path = f"/runs/{run['id']}/probes/{run['config']['selection']['pairs'][0]}"
        answers = get(api, f"{path}/answers")["items"]
        typer.echo(outcome(run, get(api, path), answers, pair.about))
        typer.echo(f"  {url}/runs/{run['id']}")
    compare = f"{url}/compare?runs={','.join(str(run['id']) for run in trained)}"
    typer.echo(ending(trained, compare))
    if open_browser:
        webbrowser.open(compare)


def _score(api: httpx.Client, dataset_id: int, suffix: str) -> None:
    score = finished_run(api, SCORE + suffix, "score", dataset_id, {"model": STARTER_MODEL})
    flags = {"score_run": score["id"], "measure": "ln_ches", "top_fraction": 0.1}
    post(api, f"/datasets/{dataset_id}/flags", flags)


def to_jsonl(pairs: tuple[DemoPair, ...]) -> bytes:
    """The file that the demo uploads: one row a pair."""
    rows = (
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def balanced_pairs(api: httpx.Client, dataset_id: int) -> list[int]:
    """At most MAX_PAIRS_PER_WORD pairs of each preferred word, without the watched ones."""
    pairs = get(api, f"/datasets/{dataset_id}/pairs", limit=200)["items"]
    count: Counter[str] = Counter()
    chosen = []
    for pair in pairs:
        count[pair["preferred"]] += pair["pair"] not in WATCHED
        if pair["pair"] not in WATCHED and count[pair["preferred"]] <= MAX_PAIRS_PER_WORD:
            chosen.append(pair["pair"])
    return chosen
