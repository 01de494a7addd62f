"""The last recorded step of probes against their first, as the headlines describe it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Select, lateral, select
from sqlalchemy.orm import Session, aliased

from app.core.arrays import among
from app.probes.curves import Key, drawdowns
from app.probes.displacement import Case, OppositeGroups, displacements_of
from app.probes.headline import (
    Headline,
    Observation,
    most_prominent,
    probe_headline,
    prompt_headline,
)
from app.probes.ledgers import count_predicted
from app.probes.severity import Displacement
from app.store.probes import Probe, ProbeStep
from app.store.runs import Run
from chesboard.probing.drawdown import Drawdown


def is_unfinished(run: Run) -> bool:
    """Whether more steps may follow."""
    return run.status in ("queued", "running", "lost")


def observe_runs(session: Session, runs: Collection[Run]) -> dict[int, list[Observation]]:
    """Each watched pair of these runs: its last recorded step against its first.

    The drawdowns, which take the whole curve, are those of each run's most prominent pair alone.
    """
    by_id = {run.id: run for run in runs}
    found = _ends(session, by_id)
    prominent = {run_id: most_prominent(seen) for run_id, seen in found.items() if seen}
    falls = drawdowns(session, [(run_id, one.pair) for run_id, one in prominent.items()])
    for run_id, one in prominent.items():
        seen = found[run_id]
        seen[seen.index(one)] = _with_drawdowns(one, falls, run_id)
    return found


def observe_run(session: Session, run: Run) -> list[Observation]:
    """Each watched pair of a run, with its drawdowns."""
    seen = _ends(session, {run.id: run})[run.id]
    falls = drawdowns(session, [(run.id, one.pair) for one in seen])
    return [_with_drawdowns(one, falls, run.id) for one in seen]


def _with_drawdowns(
    one: Observation, falls: Mapping[Key, tuple[Drawdown | None, Drawdown | None]], run_id: int
) -> Observation:
    if one.displacement is None or (run_id, one.pair) not in falls:
        return one
    prob, logprob = falls[run_id, one.pair]
    return replace(
        one, displacement=replace(one.displacement, drawdown=prob, logprob_drawdown=logprob)
    )


def _ends(session: Session, runs: Mapping[int, Run]) -> dict[int, list[Observation]]:
    found: dict[int, list[Observation]] = {run_id: [] for run_id in runs}
    if not runs:
        return found
    first = aliased(ProbeStep, lateral(_outermost(newest=False)), name="first")
    last = aliased(ProbeStep, lateral(_outermost(newest=True)), name="last")
    query = (
        select(Probe, first, last)
        .where(among(Probe.run_id, runs), Probe.kind == "pair")
        .order_by(Probe.run_id, Probe.pair)
    )
    cases = [
        _case(runs[probe.run_id], probe, begin, now) for probe, begin, now in session.execute(query)
    ]
    for case, observed in zip(cases, _observations(session, cases), strict=True):
        found[case.probe.run_id].append(observed)
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
    [observed] = _observations(session, [_case(run, probe, begin, now)])
    falls = drawdowns(session, [(run.id, probe.pair)], upto=now.step)
    observed = _with_drawdowns(observed, falls, run.id)
    return probe_headline(observed, objective_of(run), running=running)


def objective_of(run: Run) -> str:
    return str(run.config.get("objective", "dpo"))


def _changes(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """(token, change) of each ledger entry; one whose change is not finite is left out."""
    return [(entry["token"], entry["change"]) for entry in entries if entry["change"] is not None]


def _case(run: Run, probe: Probe, begin: ProbeStep, now: ProbeStep) -> Case:
    is_preference = objective_of(run) != "cross_entropy"
    return Case(probe, begin, now, opposite_groups_of(run), is_preference)


def _observations(session: Session, cases: Sequence[Case]) -> list[Observation]:
    judged = displacements_of(session, cases)
    return [_observation(case, one) for case, one in zip(cases, judged, strict=True)]


def _observation(case: Case, displacement: Displacement | None) -> Observation:
    probe, begin, now = case.probe, case.begin, case.now
    preferred_change, dispreferred_change = case.changes
    return Observation(
        pair=probe.pair,
        preferred_tokens=probe.preferred_tokens,
        dispreferred_tokens=probe.dispreferred_tokens,
        fork_position=probe.fork_position,
        preferred_change=preferred_change,
        dispreferred_change=dispreferred_change,
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
        displacement=displacement,
    )


def opposite_groups_of(run: Run) -> OppositeGroups:
    """As the run's configuration declares them; runs of earlier versions declare none."""
    return run.config.get("opposite_groups") or []


def _number(value: float | None) -> float:
    return math.nan if value is None else value
