"""The SQL of watched pairs, and the shapes that are made of their rows."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, lateral, select
from sqlalchemy.orm import Session, aliased

from app.errors import NotFoundError
from app.gaps import gaps
from app.probes.schemas import (
    ForkSeries,
    Ledger,
    ProbeOut,
    ProbeSeries,
    ResponseSeries,
    TracedEntry,
)
from app.probes.tables import Probe, ProbeStep
from app.runs.tables import Run
from app.verdicts import Observation, Verdict, probe_sentence

# Without the ledgers: they are the larger part, and only one of them is shown at a time.
_SERIES = (
    ProbeStep.step,
    ProbeStep.preferred_logprobs,
    ProbeStep.dispreferred_logprobs,
    ProbeStep.preferred_prob,
    ProbeStep.dispreferred_prob,
    ProbeStep.other_prob,
    ProbeStep.group_probs,
    ProbeStep.watched_probs,
    ProbeStep.moved_mass,
)


def list_probes(session: Session, run_id: int) -> list[ProbeOut]:
    """The watched pairs of a run, by their ordinal.

    Raises:
        NotFoundError: no such run.
    """
    _run(session, run_id)
    found = session.scalars(select(Probe).where(Probe.run_id == run_id).order_by(Probe.pair))
    return [_probe_out(probe) for probe in found]


def get_series(session: Session, run_id: int, pair: int, step: int | None = None) -> ProbeSeries:
    """Every recorded step of one watched pair, with the ledger of `step` (default: the last).

    Raises:
        NotFoundError: no such run, the pair is not watched, or the step was not recorded.
    """
    # Read first: what the rows below hold beyond it, a stream from here on only repeats.
    run = _run(session, run_id)
    revision = run.revision
    probe = _probe(session, run_id, pair)
    rows = session.execute(
        select(*_SERIES)
        .where(ProbeStep.run_id == run_id, ProbeStep.pair == pair)
        .order_by(ProbeStep.step)
    ).all()
    ledger = _ledger(session, run_id, pair, step)
    traces = _traces(probe, rows)
    verdict = _verdict(run, probe, rows, ledger)
    return ProbeSeries(
        pair=pair,
        revision=revision,
        steps=[row.step for row in rows],
        preferred=ResponseSeries(
            tokens=probe.preferred_tokens, logprobs=gaps([row.preferred_logprobs for row in rows])
        ),
        dispreferred=ResponseSeries(
            tokens=probe.dispreferred_tokens,
            logprobs=gaps([row.dispreferred_logprobs for row in rows]),
        ),
        fork=_fork(probe, rows),
        ledger_step=ledger.step,
        gainers=_traced(ledger.gainers, traces, len(rows)),
        losers=_traced(ledger.losers, traces, len(rows)),
        rest_change=ledger.rest_change,
        moved_mass=gaps([row.moved_mass for row in rows]),
        verdict=verdict.sentence if verdict else None,
        displaced=verdict.displaced if verdict else None,
    )


def get_ledger(session: Session, run_id: int, pair: int, step: int | None = None) -> Ledger:
    """The mass ledger of one step (default: the last recorded).

    Raises:
        NotFoundError: no such run, the pair is not watched, or the step was not recorded.
    """
    _run(session, run_id)
    _probe(session, run_id, pair)
    return _ledger(session, run_id, pair, step)


def _run(session: Session, run_id: int) -> Run:
    run = session.get(Run, run_id) if 0 < run_id < 2**63 else None
    if run is None:
        raise NotFoundError(f"There is no run {run_id}.")
    return run


def _probe(session: Session, run_id: int, pair: int) -> Probe:
    probe = session.get(Probe, (run_id, pair)) if 0 <= pair < 2**31 else None
    if probe is None:
        raise NotFoundError(
            f"Run {run_id} does not watch pair {pair}. GET /runs/{run_id}/probes lists those "
            "that it watches; a run that has not begun watches none yet."
        )
    return probe


def _ledger(session: Session, run_id: int, pair: int, step: int | None) -> Ledger:
    query = (
        select(
            ProbeStep.step,
            ProbeStep.gainers,
            ProbeStep.losers,
            ProbeStep.rest_change,
            ProbeStep.moved_mass,
        )
        .where(ProbeStep.run_id == run_id, ProbeStep.pair == pair)
        .order_by(ProbeStep.step.desc())
        .limit(1)
    )
    if step is not None:
        query = query.where(ProbeStep.step == step)
    row = session.execute(query).one_or_none() if step is None or abs(step) < 2**31 else None
    if row is not None:
        return Ledger.model_validate(gaps(dict(row._mapping)))
    if step is not None:
        raise NotFoundError(
            f"Pair {pair} was not looked at at step {step} of run {run_id}. "
            f"`steps` of GET /runs/{run_id}/probes/{pair} lists those that were recorded."
        )
    return Ledger(step=None, gainers=[], losers=[], rest_change=None, moved_mass=None)


def _probe_out(probe: Probe) -> ProbeOut:
    fields = {name: getattr(probe, name) for name in ProbeOut.model_fields}
    return ProbeOut.model_validate({**fields, "watched": gaps(probe.watched)})


def _fork(probe: Probe, rows: Sequence[Any]) -> ForkSeries:
    return ForkSeries(
        position=probe.fork_position,
        preferred_prob=gaps([row.preferred_prob for row in rows]),
        dispreferred_prob=gaps([row.dispreferred_prob for row in rows]),
        other_prob=gaps([row.other_prob for row in rows]),
        groups={
            name: gaps([row.group_probs[index] for row in rows])
            for index, name in enumerate(probe.groups)
        },
    )


def _traces(probe: Probe, rows: Sequence[Any]) -> dict[int, list[float | None]]:
    """Of each watched token, its probability at every recorded step."""
    return {
        token["token_id"]: gaps([row.watched_probs[index] for row in rows])
        for index, token in enumerate(probe.watched)
    }


def _traced(
    entries: Sequence[Any], traces: Mapping[int, list[float | None]], steps: int
) -> list[TracedEntry]:
    return [
        TracedEntry(**entry.model_dump(), probs=traces.get(entry.token_id, [None] * steps))
        for entry in entries
    ]


def _verdict(run: Run, probe: Probe, rows: Sequence[Any], ledger: Ledger) -> Verdict | None:
    """What happened from the first recorded step up to the ledger's."""
    if ledger.step is None:
        return None
    now = next(row for row in rows if row.step == ledger.step)
    gainers = [(entry.token, entry.change or 0.0) for entry in ledger.gainers]
    return probe_sentence(
        _observation(probe, rows[0], now, gainers),
        run.config.get("objective", "dpo"),
        running=is_going_on(run) and now is rows[-1],
    )


def is_going_on(run: Run) -> bool:
    return run.status in ("queued", "running")


# --- the last look at each probe, for the verdicts of whole runs ---------------------------------


def observe(session: Session, run_ids: Collection[int]) -> dict[int, list[Observation]]:
    """Each watched pair of these runs: its last recorded step against its first."""
    found: dict[int, list[Observation]] = {run_id: [] for run_id in run_ids}
    if not run_ids:
        return found
    first = aliased(ProbeStep, lateral(_end(newest=False)), name="first")
    last = aliased(ProbeStep, lateral(_end(newest=True)), name="last")
    query = (
        select(Probe, first, last)
        .where(Probe.run_id.in_(run_ids))
        .order_by(Probe.run_id, Probe.pair)
    )
    for probe, begin, now in session.execute(query):
        gainers = [(entry["token"], entry["change"]) for entry in now.gainers]
        found[probe.run_id].append(_observation(probe, begin, now, gainers))
    return found


def _end(*, newest: bool) -> Select[ProbeStep]:
    """The first or the last step of the probe that stands in the outer query."""
    order = ProbeStep.step.desc() if newest else ProbeStep.step
    return (
        select(ProbeStep)
        .where(ProbeStep.run_id == Probe.run_id, ProbeStep.pair == Probe.pair)
        .order_by(order)
        .limit(1)
        .correlate(Probe)
    )


def _observation(
    probe: Probe, begin: Any, now: Any, gainers: Sequence[tuple[str, float]]
) -> Observation:
    """begin, now: rows of ProbeStep or of `_SERIES`."""
    return Observation(
        pair=probe.pair,
        preferred_tokens=probe.preferred_tokens,
        dispreferred_tokens=probe.dispreferred_tokens,
        fork_position=probe.fork_position,
        preferred_change=sum(now.preferred_logprobs) - sum(begin.preferred_logprobs),
        dispreferred_change=sum(now.dispreferred_logprobs) - sum(begin.dispreferred_logprobs),
        preferred_prob=(begin.preferred_prob, now.preferred_prob),
        dispreferred_prob=(begin.dispreferred_prob, now.dispreferred_prob),
        gainers=gainers,
        group_changes={
            name: now.group_probs[index] - begin.group_probs[index]
            for index, name in enumerate(probe.groups)
        },
        moved_mass=now.moved_mass,
    )
