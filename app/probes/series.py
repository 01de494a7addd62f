"""A probe's recorded steps as time series: log-probabilities, the fork, traces of tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import REAL, func, select
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.downsampling import pick
from app.core.nonfinite import nonfinite_to_none
from app.core.packed import read_columns
from app.core.windows import WHOLE, Window
from app.probes.curves import destination_onsets
from app.probes.ledgers import count_predicted, to_ledger
from app.probes.lookup import (
    Response,
    find_step,
    require_position,
    require_probe,
    steps_of,
)
from app.probes.observations import get_headline, objective_of, opposite_groups_of
from app.probes.schemas import (
    ForkSeries,
    ProbeSeries,
    ResponseSeries,
    TracedEntry,
    WatchedSeries,
    WatchedTrace,
    displacement_fields,
)
from app.store.lookup import require_run
from app.store.probes import Probe, ProbeStep
from app.store.runs import Run
from chesboard.probing.destinations import Destination

# Without the ledgers: they are the larger part of a row, and one of them is shown at a time.
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
    ProbeStep.kl,
)

MAX_NUMBERS = 2_000_000
"""Of an answer, about. Responses of an external run may have a hundred thousand tokens; more steps
than fit are downsampled, asked for or not."""


def get_series(
    session: Session, run_id: int, pair: int, step: int | None = None, window: Window = WHOLE
) -> ProbeSeries:
    """The recorded steps of one probe, with the ledger of `step` (default: the last).

    Raises:
        NotFoundError: no such run, the pair is not watched, or the step was not recorded.
    """
    # Read before the rows: a stream that starts from this revision may repeat some of them, but
    # misses none.
    run = require_run(session, run_id)
    revision = run.revision
    probe = require_probe(session, run_id, pair)
    now = find_step(session, probe, step)
    ledger = to_ledger(now)
    listed = [entry.token_id for entry in (*ledger.gainers, *ledger.losers)]
    traced = _watched_indexes(probe, listed)
    width = len(probe.preferred_tokens) + len(probe.dispreferred_tokens) + len(traced)
    steps, total = _chosen_steps(session, probe, window, width)
    rows = _rows(session, probe, steps, list(traced.values()))
    traces = {
        token_id: nonfinite_to_none([row.traced[column] for row in rows])
        for column, token_id in enumerate(traced)
    }
    headline = get_headline(session, run, probe, now)
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
        verdict=headline.sentence if headline else None,
        verdict_short=headline.short if headline else None,
        displaced=headline.displaced if headline else None,
        **displacement_fields(headline),
        destination_onsets=_onsets(session, run, probe, now),
        argmax_token=now.argmax_token if now else None,
        argmax_logprob=nonfinite_to_none(now.argmax_logprob) if now else None,
        kl=nonfinite_to_none([row.kl for row in rows]),
        preferred_change=nonfinite_to_none([row.preferred_change for row in rows]),
        dispreferred_change=nonfinite_to_none([row.dispreferred_change for row in rows]),
        rank_agreement=nonfinite_to_none([row.rank_agreement for row in rows]),
        onset_step=now.onset_step if now else None,
        predicted_hit=count_predicted(probe, now.gainers) if now else None,
    )


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
    require_run(session, run_id)
    probe = require_probe(session, run_id, pair)
    place = require_position(session, probe, response, position)
    table, key = steps_of(probe, place)
    # All positions are recorded at the same steps, so the fork's downsampling holds for each.
    watched = place.watched if place else probe.watched
    steps, total = _chosen_steps(session, probe, window, len(watched))
    query = select(table.step, table.watched_probs).where(*key).order_by(table.step)
    rows = session.execute(query if steps is None else query.where(among(table.step, steps))).all()
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


def _onsets(session: Session, run: Run, probe: Probe, now: Any) -> dict[Destination, int]:
    if now is None or probe.kind == "prompt" or objective_of(run) == "cross_entropy":
        return {}
    begin = session.scalar(
        select(ProbeStep)
        .where(ProbeStep.run_id == run.id, ProbeStep.pair == probe.pair)
        .order_by(ProbeStep.step)
        .limit(1)
    )
    if begin is None:
        return {}
    return destination_onsets(session, probe, begin, now.step, opposite_groups_of(run))


def _chosen_steps(
    session: Session, probe: Probe, window: Window, width: int
) -> tuple[list[int] | None, int]:
    """The downsampled steps of a probe (None: all of them), and how many there are.

    width: how many numbers each step adds to the answer.

    Read from a covering index (ix_probe_steps_curves): a long run has tens of thousands of steps.
    """
    _, key = steps_of(probe, None)
    key += window.conditions(ProbeStep.step)
    total = session.scalar(select(func.count()).select_from(ProbeStep).where(*key)) or 0
    most = max(2, MAX_NUMBERS // max(1, width))
    if total > most:
        window = replace(window, points=min(window.points or most, most))
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
    steps, series = read_columns(session, select(*curves).where(*key))
    if window.points is None:
        return steps.tolist(), total
    kept = steps[pick(len(steps), series, window.points)].tolist()
    if len(kept) > most:  # the extremes alone are too many
        kept = [kept[number * (len(kept) - 1) // (most - 1)] for number in range(most)]
    return kept, total


def _rows(
    session: Session, probe: Probe, steps: list[int] | None, traced: Sequence[int]
) -> Sequence[Any]:
    """The numbers of these steps (None: of all), and the watched tokens' at indexes `traced`."""
    _, key = steps_of(probe, None)
    probs = array([ProbeStep.watched_probs[index + 1] for index in traced], type_=REAL)
    query = select(*_SERIES, probs.label("traced")).where(*key).order_by(ProbeStep.step)
    if steps is not None:
        query = query.where(among(ProbeStep.step, steps))
    return session.execute(query).all()


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


def _watched_indexes(probe: Probe, token_ids: Sequence[int]) -> dict[int, int]:
    """token id → index among the watched tokens, of those of these tokens that are watched."""
    indexes = {token["token_id"]: index for index, token in enumerate(probe.watched)}
    return {token_id: indexes[token_id] for token_id in token_ids if token_id in indexes}


def _traced(
    entries: Sequence[Any], traces: Mapping[int, list[float | None]], steps: int
) -> list[TracedEntry]:
    return [
        TracedEntry(**entry.model_dump(), probs=traces.get(entry.token_id, [None] * steps))
        for entry in entries
    ]
