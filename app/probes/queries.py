"""The SQL of probes, and the shapes that are made of their rows."""

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import REAL, ColumnElement, Select, case, func, lateral, select
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.core.downsampling import pick, read_series
from app.core.errors import NotFoundError
from app.core.nonfinite import nonfinite_to_none
from app.core.windows import WHOLE, Window
from app.probes.headline import Observation, Verdict, probe_sentence, prompt_sentence
from app.probes.schemas import (
    AnswerList,
    AnswerOut,
    Bands,
    ForkSeries,
    Ledger,
    PositionLedger,
    Positions,
    PredictedOut,
    ProbeOut,
    ProbeSeries,
    Quantiles,
    RecentLedgerOut,
    ResponseSeries,
    TracedEntry,
    WatchedNow,
    WatchedSeries,
    WatchedTrace,
)
from app.store.probes import PositionStep, Probe, ProbeAnswer, ProbePosition, ProbeStep
from app.store.runs import Run
from chesboard.records import STILL_NATS

TOP_GAINERS = 3
"""So many gainers are looked for among the predicted ones."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Response = Literal["preferred", "dispreferred"]

# Without the ledgers: they are the larger part, and only one of them is shown at a time.
_SERIES = (
    ProbeStep.step,
    ProbeStep.preferred_logprobs,
    ProbeStep.dispreferred_logprobs,
    ProbeStep.preferred_change,
    ProbeStep.dispreferred_change,
    ProbeStep.preferred_prob,
    ProbeStep.dispreferred_prob,
    ProbeStep.other_prob,
    ProbeStep.group_probs,
    ProbeStep.moved_mass,
    ProbeStep.rank_agreement,
)


def list_probes(session: Session, run_id: int) -> list[ProbeOut]:
    """What a run watches: pairs by their ordinal, then prompts in the order they were given.

    Raises:
        NotFoundError: no such run.
    """
    _run(session, run_id)
    found = session.scalars(
        select(Probe).where(Probe.run_id == run_id).order_by(Probe.pair < 0, func.abs(Probe.pair))
    )
    return [_probe_out(probe) for probe in found]


def watched_pairs(session: Session, run_id: int) -> list[int]:
    """The ordinals of the pairs that a run watches, its prompts left out."""
    watched = select(Probe.pair).where(Probe.run_id == run_id, Probe.pair >= 0)
    return list(session.scalars(watched.order_by(Probe.pair)))


def get_series(
    session: Session, run_id: int, pair: int, step: int | None = None, window: Window = WHOLE
) -> ProbeSeries:
    """The recorded steps of one probe, with the ledger of `step` (default: the last).

    Raises:
        NotFoundError: no such run, the pair is not watched, or the step was not recorded.
    """
    # Read first: what the rows below hold beyond it, a stream from here on only repeats.
    run = _run(session, run_id)
    revision = run.revision
    probe = _probe(session, run_id, pair)
    now = _moment(session, probe, step)
    ledger = _ledger(now)
    listed = [entry.token_id for entry in (*ledger.gainers, *ledger.losers)]
    steps, total = _chosen_steps(session, probe, window)
    traced = _watched_places(probe, listed)
    rows = _rows(session, probe, steps, list(traced.values()))
    traces = {
        token_id: nonfinite_to_none([row.traced[column] for row in rows])
        for column, token_id in enumerate(traced)
    }
    verdict = _verdict(session, run, probe, now)
    return ProbeSeries(
        pair=pair,
        revision=revision,
        steps=[row.step for row in rows],
        total_steps=total,
        decimated=len(rows) < total,
        preferred=ResponseSeries(
            tokens=probe.preferred_tokens,
            logprobs=nonfinite_to_none([row.preferred_logprobs for row in rows]),
        ),
        dispreferred=ResponseSeries(
            tokens=probe.dispreferred_tokens,
            logprobs=nonfinite_to_none([row.dispreferred_logprobs for row in rows]),
        ),
        fork=_fork(probe, rows),
        ledger_step=ledger.step,
        gainers=_traced(ledger.gainers, traces, len(rows)),
        losers=_traced(ledger.losers, traces, len(rows)),
        rest_change=ledger.rest_change,
        moved_mass=nonfinite_to_none([row.moved_mass for row in rows]),
        verdict=verdict.sentence if verdict else None,
        displaced=verdict.displaced if verdict else None,
        preferred_change=nonfinite_to_none([row.preferred_change for row in rows]),
        dispreferred_change=nonfinite_to_none([row.dispreferred_change for row in rows]),
        rank_agreement=nonfinite_to_none([row.rank_agreement for row in rows]),
        onset_step=now.onset_step if now else None,
        predicted_hit=_predicted_hit(probe, now.gainers) if now else None,
    )


def get_ledger(
    session: Session,
    run_id: int,
    pair: int,
    step: int | None = None,
    response: Response = "preferred",
    position: int | None = None,
) -> PositionLedger:
    """The mass ledger of one step (default: the last recorded) at a position (the fork).

    Raises:
        NotFoundError: no such run, the pair is not watched, or the position or the step was not
            recorded.
    """
    _run(session, run_id)
    probe = _probe(session, run_id, pair)
    place = _place(session, probe, response, position)
    now = _moment(session, probe, step, place)
    return _position_ledger(probe, response, place, now)


def get_watched(
    session: Session,
    run_id: int,
    pair: int,
    response: Response,
    position: int | None,
    window: Window,
) -> WatchedSeries:
    """The watched tokens of a position at each recorded step.

    Raises:
        NotFoundError: as get_ledger.
    """
    _run(session, run_id)
    probe = _probe(session, run_id, pair)
    place = _place(session, probe, response, position)
    table, key = _steps_of(probe, place)
    # Steps are recorded for all positions at once, so the fork's choice holds for each.
    steps, total = _chosen_steps(session, probe, window)
    query = select(table.step, table.watched_probs).where(*key).order_by(table.step)
    rows = session.execute(query if steps is None else query.where(table.step.in_(steps))).all()
    watched = place.watched if place else probe.watched
    return WatchedSeries(
        position=place.position if place else probe.fork_position,
        response=response,
        steps=[row.step for row in rows],
        total_steps=total,
        decimated=len(rows) < total,
        tokens=[
            WatchedTrace(
                **token, probs=nonfinite_to_none([row.watched_probs[index] for row in rows])
            )
            for index, token in enumerate(watched)
        ],
    )


def list_answers(session: Session, run_id: int, pair: int) -> AnswerList:
    """Raises NotFoundError: no such run, or the pair is not watched."""
    _run(session, run_id)
    _probe(session, run_id, pair)
    found = session.scalars(
        select(ProbeAnswer)
        .where(ProbeAnswer.run_id == run_id, ProbeAnswer.pair == pair)
        .order_by(ProbeAnswer.step)
    )
    return AnswerList(items=[AnswerOut.model_validate(answer) for answer in found])


def _run(session: Session, run_id: int) -> Run:
    run = session.get(Run, run_id) if 0 < run_id < 2**63 else None
    if run is None:
        raise NotFoundError(f"There is no run {run_id}.")
    return run


def _probe(session: Session, run_id: int, pair: int) -> Probe:
    probe = session.get(Probe, (run_id, pair)) if abs(pair) < 2**31 else None
    if probe is None:
        raise NotFoundError(
            f"Run {run_id} does not watch pair {pair}. GET /runs/{run_id}/probes lists those "
            "that it watches; a run that has not begun watches none yet."
        )
    return probe


def _place(
    session: Session, probe: Probe, response: Response, position: int | None
) -> ProbePosition | None:
    """The position that was asked for; None for the fork, which stands in the probe itself."""
    if position is None or position == probe.fork_position:
        return None
    # Up to the fork both responses are one, and their ledgers are kept once.
    kept_under = "preferred" if position < probe.fork_position else response
    found = None
    if position < 2**31:
        key = (probe.run_id, probe.pair, kept_under, position)
        found = session.get(ProbePosition, key)
    if found is None:
        raise NotFoundError(
            f"Run {probe.run_id} keeps no ledger of the {response} response's position "
            f"{position} for pair {probe.pair}. Recorded are {probe.positions[response]}; a run's "
            "`ledger_positions` asks for more."
        )
    return found


def _steps_of(probe: Probe, place: ProbePosition | None) -> tuple[Any, list[ColumnElement[bool]]]:
    """The table that holds a position's steps, and the conditions that find them."""
    if place is None:
        return ProbeStep, [ProbeStep.run_id == probe.run_id, ProbeStep.pair == probe.pair]
    return PositionStep, [
        PositionStep.run_id == probe.run_id,
        PositionStep.pair == probe.pair,
        PositionStep.response == place.response,
        PositionStep.position == place.position,
    ]


def _moment(
    session: Session, probe: Probe, step: int | None, place: ProbePosition | None = None
) -> Any:
    """The row of a step (default: the last), or None where nothing has been recorded yet.

    Raises:
        NotFoundError: the step was not recorded.
    """
    table, key = _steps_of(probe, place)
    query = select(table).where(*key).order_by(table.step.desc()).limit(1)
    if step is None:
        return session.scalar(query)
    row = session.scalar(query.where(table.step == step)) if step < 2**31 else None
    if row is None:
        raise NotFoundError(
            f"Pair {probe.pair} was not looked at at step {step} of run {probe.run_id}. "
            f"`steps` of GET /runs/{probe.run_id}/probes/{probe.pair} lists those that were "
            "recorded."
        )
    return row


def _ledger(now: Any) -> Ledger:
    """now: a row of ProbeStep or PositionStep, or None."""
    if now is None:
        return Ledger(step=None, gainers=[], losers=[], rest_change=None, moved_mass=None)
    names = ("step", "gainers", "losers", "rest_change", "moved_mass")
    return Ledger.model_validate(nonfinite_to_none({name: getattr(now, name) for name in names}))


def _position_ledger(
    probe: Probe, response: Response, place: ProbePosition | None, now: Any
) -> PositionLedger:
    owner = place or probe
    recent = now.recent if now else None
    probs = now.watched_probs if now else []
    return PositionLedger(
        **_ledger(now).model_dump(),
        position=place.position if place else probe.fork_position,
        response=response,
        recent=RecentLedgerOut.model_validate(nonfinite_to_none(recent)) if recent else None,
        predicted=_predicted(owner.predicted, now),
        rank_agreement=nonfinite_to_none(now.rank_agreement) if now else None,
        watched=[
            WatchedNow(**token, prob=nonfinite_to_none(prob))
            for token, prob in zip(owner.watched, probs, strict=False)
        ],
        positions=Positions.model_validate(probe.positions),
    )


def _predicted(tokens: Sequence[Mapping[str, Any]], now: Any) -> list[PredictedOut]:
    changes = list(now.predicted_changes) if now else []
    ranks = list(now.predicted_ranks) if now else []
    return [
        PredictedOut(
            **token,
            predicted_rank=index + 1,
            # Nothing has moved at step 0, where no changes are stored.
            actual_change=nonfinite_to_none(changes[index]) if changes else 0.0,
            actual_rank=ranks[index] if ranks else None,
        )
        for index, token in enumerate(tokens)
    ]


def _predicted_hit(probe: Probe, gainers: Sequence[Mapping[str, Any]]) -> int | None:
    """How many of the top gainers theory named; None where it named none or nothing gained."""
    if not probe.predicted or not gainers:
        return None
    named = {token["token_id"] for token in probe.predicted}
    return sum(entry["token_id"] in named for entry in gainers[:TOP_GAINERS])


def _chosen_steps(session: Session, probe: Probe, window: Window) -> tuple[list[int] | None, int]:
    """The steps to show and how many there are; None for all of a probe's.

    Read from one index (ix_probe_steps_curves): a long run has tens of thousands.
    """
    _, key = _steps_of(probe, None)
    key += window.conditions(ProbeStep.step)
    total = session.scalar(select(func.count()).select_from(ProbeStep).where(*key)) or 0
    if window == WHOLE:
        return None, total
    curves = (
        ProbeStep.step,
        ProbeStep.preferred_change,
        ProbeStep.dispreferred_change,
        (ProbeStep.preferred_change - ProbeStep.dispreferred_change).label("margin"),
        ProbeStep.preferred_prob,
        ProbeStep.dispreferred_prob,
        ProbeStep.other_prob,
        ProbeStep.moved_mass,
        *(
            ProbeStep.group_probs[index + 1].label(f"group_{index}")
            for index in range(len(probe.groups))
        ),
    )
    steps, series = read_series(session, select(*curves).where(*key).order_by(ProbeStep.step))
    if window.points is None:
        return steps, total
    return [steps[place] for place in pick(len(steps), series, window.points)], total


def _rows(
    session: Session, probe: Probe, steps: list[int] | None, traced: Sequence[int]
) -> Sequence[Any]:
    """The steps' numbers (None: of all steps); of the watched tokens only those at these places."""
    _, key = _steps_of(probe, None)
    probs = array([ProbeStep.watched_probs[place + 1] for place in traced], type_=REAL)
    query = select(*_SERIES, probs.label("traced")).where(*key).order_by(ProbeStep.step)
    if steps is not None:
        query = query.where(ProbeStep.step == func.any(steps))
    return session.execute(query).all()


def _probe_out(probe: Probe) -> ProbeOut:
    computed = {
        "groups": {group["name"]: group["tokens"] for group in probe.groups},
        "groups_list": probe.groups,
        "watched": nonfinite_to_none(probe.watched),
        "predicted": nonfinite_to_none(probe.predicted),
    }
    plain = {name: getattr(probe, name) for name in ProbeOut.model_fields if name not in computed}
    return ProbeOut.model_validate(plain | computed)


def _fork(probe: Probe, rows: Sequence[Any]) -> ForkSeries:
    return ForkSeries(
        position=probe.fork_position,
        preferred_prob=nonfinite_to_none([row.preferred_prob for row in rows]),
        dispreferred_prob=nonfinite_to_none([row.dispreferred_prob for row in rows]),
        other_prob=nonfinite_to_none([row.other_prob for row in rows]),
        groups={
            group["name"]: nonfinite_to_none([row.group_probs[index] for row in rows])
            for index, group in enumerate(probe.groups)
        },
    )


def _watched_places(probe: Probe, token_ids: Sequence[int]) -> dict[int, int]:
    """Of these tokens, those that are watched: token → place among the watched ones."""
    places = {token["token_id"]: place for place, token in enumerate(probe.watched)}
    return {token_id: places[token_id] for token_id in token_ids if token_id in places}


def _traced(
    entries: Sequence[Any], traces: Mapping[int, list[float | None]], steps: int
) -> list[TracedEntry]:
    return [
        TracedEntry(**entry.model_dump(), probs=traces.get(entry.token_id, [None] * steps))
        for entry in entries
    ]


def _verdict(session: Session, run: Run, probe: Probe, now: Any) -> Verdict | None:
    """What happened from the first recorded step up to the ledger's."""
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
    running = is_going_on(run) and now is last
    if probe.kind == "prompt":
        gainers, losers = (_named(entries) for entries in (now.gainers, now.losers))
        return prompt_sentence(gainers, losers, now.moved_mass, running=running)
    return probe_sentence(
        _observation(probe, begin, now), run.config.get("objective", "dpo"), running=running
    )


def _named(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """(token, change) of each; a change that is not finite is left out."""
    return [(entry["token"], entry["change"]) for entry in entries if entry["change"] is not None]


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
        .where(Probe.run_id.in_(run_ids), Probe.kind == "pair")
        .order_by(Probe.run_id, Probe.pair)
    )
    for probe, begin, now in session.execute(query):
        found[probe.run_id].append(_observation(probe, begin, now))
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
        gainers=_named(now.gainers),
        group_changes={
            group["name"]: now.group_probs[index] - begin.group_probs[index]
            for index, group in enumerate(probe.groups)
        },
        moved_mass=now.moved_mass,
        onset_step=now.onset_step,
        predicted_hit=_predicted_hit(probe, now.gainers),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


# --- all watched pairs together ------------------------------------------------------------------


def get_bands(session: Session, run_id: int, window: Window = WHOLE) -> Bands:
    """Quantiles over the watched pairs at each step at which all of them were looked at: over some,
    while the others are still to come, they would jump. Values that are not finite are left out.

    Raises:
        NotFoundError: no such run.
    """
    _run(session, run_id)
    probes = session.scalar(
        select(func.count()).where(Probe.run_id == run_id, Probe.kind == "pair")
    )
    changes = (
        select(ProbeStep.step, *_CHANGES)
        .where(ProbeStep.run_id == run_id, ProbeStep.pair >= 0)
        .where(*window.conditions(ProbeStep.step))
    )
    is_whole = func.count() == probes
    steps, total = _band_steps(session, changes, is_whole, window)
    if steps is not None:
        changes = changes.where(ProbeStep.step == func.any(steps))
    each = changes.subquery()
    columns = (each.c.preferred_change, each.c.dispreferred_change, each.c.margin)
    rows = session.execute(
        select(
            each.c.step,
            *(
                func.percentile_cont(list(QUANTILES)).within_group(column).label(column.name)
                for column in columns
            ),
            func.avg(each.c.displaced).label("displaced"),
        )
        .group_by(each.c.step)
        .having(is_whole)
        .order_by(each.c.step)
    ).all()
    return Bands(
        steps=[row.step for row in rows],
        total_steps=total,
        decimated=len(rows) < total,
        probes=probes or 0,
        preferred_change=_quantiles([row.preferred_change for row in rows]),
        dispreferred_change=_quantiles([row.dispreferred_change for row in rows]),
        margin=_quantiles([row.margin for row in rows]),
        displaced_fraction=[_float(row.displaced) for row in rows],
    )


def _finite(value: InstrumentedAttribute[float | None]) -> ColumnElement[Any]:
    return case((value.between(-sys.float_info.max, sys.float_info.max), value))


_PREFERRED = _finite(ProbeStep.preferred_change)
_DISPREFERRED = _finite(ProbeStep.dispreferred_change)
_MARGIN = _PREFERRED - _DISPREFERRED
_CHANGES = (
    _PREFERRED.label("preferred_change"),
    _DISPREFERRED.label("dispreferred_change"),
    _MARGIN.label("margin"),
    # As app.runs.records.is_displaced.
    case(
        (_MARGIN.is_(None), None),
        ((_PREFERRED < -STILL_NATS) & (_MARGIN > STILL_NATS), 1.0),
        else_=0.0,
    ).label("displaced"),
)


def _band_steps(
    session: Session,
    changes: Select[*tuple[Any, ...]],
    is_whole: ColumnElement[bool],
    window: Window,
) -> tuple[list[int] | None, int]:
    """The steps to show; None for all. Those survive where the mean of a change or the smallest
    change of y+ is extreme: to look for it costs less than the quantiles of every step."""
    each = changes.with_only_columns(
        ProbeStep.step, ProbeStep.preferred_change, ProbeStep.dispreferred_change
    ).subquery()
    over_steps = (
        select(
            each.c.step,
            func.avg(each.c.preferred_change).label("mean_preferred"),
            func.min(each.c.preferred_change).label("least_preferred"),
            func.avg(each.c.dispreferred_change).label("mean_dispreferred"),
        )
        .group_by(each.c.step)
        .having(is_whole)
        .order_by(each.c.step)
    )
    steps, series = read_series(session, over_steps)
    if window.points is None or len(steps) <= window.points:
        return None, len(steps)
    return [steps[place] for place in pick(len(steps), series, window.points)], len(steps)


def _quantiles(rows: Sequence[Sequence[float | None] | None]) -> Quantiles:
    return Quantiles.model_validate(
        {
            f"q{round(100 * share):02d}": [row[place] if row else None for row in rows]
            for place, share in enumerate(QUANTILES)
        }
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
