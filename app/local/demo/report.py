"""What the demo prints of its runs: plain words around the numbers that the API gives."""

from collections.abc import Sequence
from typing import Any

from app.local.demo.api import Run
from app.probes.wording import probabilities, probability, quoted

Number = float | None
"""null in the API where it is not finite."""


def outcome(run: Run, probe: dict[str, Any], answers: Sequence[dict[str, Any]], about: str) -> str:
    """What training did to a run's one watched pair.

    probe: as `GET /runs/{id}/probes/{pair}` answers. answers: the model's to the pair's prompt, by
    step, as `GET /runs/{id}/probes/{pair}/answers` lists them.
    """
    fork = probe["fork"]
    lines = [
        f"\n{run['name']}: {about}",
        f"  log-probability of the preferred response: {_nats(probe['preferred_change'][-1])}; "
        f"{_displaced(run, probe['onset_step'])}",
        f"  its probability: {_from_to(fork['preferred_prob'])}",
    ]
    lines += [f"  {name} words together: {_from_to(p)}" for name, p in fork["groups"].items()]
    if probe["gainers"]:
        top = probe["gainers"][0]
        lines.append(f"  gained most: {quoted(top['token'])}, {_signed(top['change'], 3)}")
    if answers:
        first, last = answers[0]["text"], answers[-1]["text"]
        lines.append(f"  the model's own answer: “{first}” → “{last}”")
    return "\n".join([*lines, f"  {run['verdict']}"])


def ending(runs: Sequence[Run], compare: str) -> str:
    """How many of the runs are displaced, and the address where they are compared."""
    displaced = [run["id"] for run in runs if run["displaced"]]
    which = f" (run {', '.join(map(str, displaced))})" if displaced else ""
    count = f"{len(displaced) or 'None'} of the {len(runs)} pairs"
    is_ = "is" if len(displaced) == 1 else "are"
    return f"\n{count} {is_} displaced{which}. Side by side:\n{compare}"


def _displaced(run: Run, onset: int | None) -> str:
    if not run["displaced"]:
        return "not displaced"
    since = "displaced" if onset is None else f"displaced since step {onset}"
    kind = run.get("displacement_kind")
    return f"{since}, {kind}" if kind else since


def _from_to(values: Sequence[Number]) -> str:
    before, after = values[0], values[-1]
    if before is None or after is None:
        first, last = ("not finite" if one is None else probability(one) for one in (before, after))
    else:
        first, last = probabilities(before, after)
    return f"{first} → {last}"


def _nats(value: Number) -> str:
    return "not finite" if value is None else f"{_signed(value, 2)} nats"


def _signed(value: Number, digits: int) -> str:
    return "not finite" if value is None else f"{value:+.{digits}f}".replace("-", "−")
