"""The last recorded step of probes against their first, as the headlines describe it."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, lateral, select
from sqlalchemy.orm import Session, aliased

from app.probes.headline import Headline, Observation, probe_headline, prompt_headline
from app.probes.ledgers import count_predicted
from app.store.probes import Probe, ProbeStep
from app.store.runs import Run


def is_unfinished(run: Run) -> bool:
    """Whether more steps may follow."""
    return run.status in ("queued", "running")


def observe_runs(session: Session, run_ids: Collection[int]) -> dict[int, list[Observation]]:
    """Each watched pair of these runs: its last recorded step against its first."""
    found: dict[int, list[Observation]] = {run_id: [] for run_id in run_ids}
    if not run_ids:
        return found
    first = aliased(ProbeStep, lateral(_outermost(newest=False)), name="first")
    last = aliased(ProbeStep, lateral(_outermost(newest=True)), name="last")
    query = (
        select(Probe, first, last)
        .where(Probe.run_id.in_(run_ids), Probe.kind == "pair")
        .order_by(Probe.run_id, Probe.pair)
    )
    for probe, begin, now in session.execute(query):
        found[probe.run_id].append(_observation(probe, begin, now))
    return found


def _outermost(*, newest: bool) -> Select[ProbeStep]:
    """The first or the last step of the probe of the enclosing query."""
    order = ProbeStep.step.desc() if newest else ProbeStep.step
    return (
        select(ProbeStep)
        .where(ProbeStep.run_id == Probe.run_id, ProbeStep.pair == Probe.pair)
        .order_by(order)
        .limit(1)
        .correlate(Probe)
    )


def get_headline(session: Session, run: Run, probe: Probe, now: Any) -> Headline | None:
    """What happened to a probe from its first recorded step up to `now`, a row of ProbeStep.

    None where no step has been recorded.
    """
    if now is None:
        return None
    begin, last = (
        session.execute(
            select(ProbeStep)
            .where(ProbeStep.run_id == run.id, ProbeStep.pair == probe.pair)
            .order_by(order)
            .limit(1)
        ).scalar_one()
        for order in (ProbeStep.step, ProbeStep.step.desc())
    )
    running = is_unfinished(run) and now is last
    if probe.kind == "prompt":
        gainers, losers = (_changes(entries) for entries in (now.gainers, now.losers))
        return prompt_headline(gainers, losers, now.moved_mass, running=running)
    return probe_headline(
        _observation(probe, begin, now), run.config.get("objective", "dpo"), running=running
    )


def _changes(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """(token, change) of each ledger entry; one whose change is not finite is left out."""
    return [(entry["token"], entry["change"]) for entry in entries if entry["change"] is not None]


def _observation(probe: Probe, begin: ProbeStep, now: ProbeStep) -> Observation:
    return Observation(
        pair=probe.pair,
        preferred_tokens=probe.preferred_tokens,
        dispreferred_tokens=probe.dispreferred_tokens,
        fork_position=probe.fork_position,
        preferred_change=sum(now.preferred_logprobs) - sum(begin.preferred_logprobs),
        dispreferred_change=sum(now.dispreferred_logprobs) - sum(begin.dispreferred_logprobs),
        preferred_prob=(_number(begin.preferred_prob), _number(now.preferred_prob)),
        dispreferred_prob=(_number(begin.dispreferred_prob), _number(now.dispreferred_prob)),
        gainers=_changes(now.gainers),
        group_changes={
            group["name"]: now.group_probs[index] - begin.group_probs[index]
            for index, group in enumerate(probe.groups)
        },
        moved_mass=now.moved_mass,
        onset_step=now.onset_step,
        predicted_hit=count_predicted(probe, now.gainers),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
