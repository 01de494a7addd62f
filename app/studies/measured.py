"""Reads what finished runs recorded, as far as the tables of studies need it."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, aliased

from app.core.arrays import among, rows_among
from app.probes.curves import drawdowns
from app.probes.displacement import roles_at
from app.probes.headline import Observation
from app.probes.observations import observe_runs, opposite_groups_of
from app.store.probes import PositionStep, Probe, ProbeAnswer, ProbeStep
from app.store.runs import Metric, ReferenceLogprob, Run
from app.studies.plans import MadeRun
from chesboard.probing.destinations import TokenRoles
from chesboard.probing.drawdown import Drawdown

ROUNDING = 1e-6
"""A loss that rises by no more from one step to the next has not risen: float32 rounds so."""


def read_runs(session: Session, made: Iterable[MadeRun]) -> dict[int, Run]:
    """The runs themselves, those of them that have succeeded."""
    ids = [run.id for run in made if run.status == "succeeded"]
    return {run.id: run for run in session.scalars(select(Run).where(among(Run.id, ids)))}


def runs_whose_loss_rose(session: Session, run_ids: Collection[int]) -> set[int]:
    """Those in which the loss of some step is above that of the step before."""
    before = func.lag(Metric.loss).over(partition_by=Metric.run_id, order_by=Metric.step)
    changes = (
        select(Metric.run_id, (Metric.loss - before).label("change"))
        .where(among(Metric.run_id, run_ids))
        .subquery()
    )
    rose = select(changes.c.run_id).where(changes.c.change > ROUNDING).distinct()
    return set(session.scalars(rose))


def fork_drawdowns(session: Session, pairs: Mapping[int, int]) -> dict[int, Drawdown | None]:
    """Of each run the largest drawdown of the preferred token's probability at the fork of its
    pair. pairs: run id → pair."""
    found = drawdowns(session, list(pairs.items()))
    return {run_id: prob for (run_id, _), (prob, _) in found.items()}


@dataclass(frozen=True, slots=True)
class Gainers:
    """The tokens that gained most at the fork, at one step of one run."""

    run_id: int
    step: int
    tokens: list[tuple[str, float]]
    roles: TokenRoles


def fork_gainers(
    session: Session, runs: Mapping[int, Run], steps: Collection[int], top: int
) -> list[Gainers]:
    """At these steps of the one pair that each of these runs watches."""
    begin = {
        row.run_id: row.watched_probs
        for row in session.scalars(
            select(ProbeStep).where(among(ProbeStep.run_id, runs), ProbeStep.step == 0)
        )
    }
    rows = session.execute(
        select(Probe, ProbeStep.step, ProbeStep.gainers)
        .join(ProbeStep, (ProbeStep.run_id == Probe.run_id) & (ProbeStep.pair == Probe.pair))
        .where(among(Probe.run_id, runs), Probe.kind == "pair", among(ProbeStep.step, steps))
        .order_by(Probe.run_id, ProbeStep.step)
    )
    return [
        Gainers(
            probe.run_id,
            step,
            [(one["token"], one["change"]) for one in gainers if one["change"] is not None][:top],
            roles_at(
                probe,
                probe.fork_position,
                probe.watched,
                begin.get(probe.run_id, []),
                opposite_groups_of(runs[probe.run_id]),
            ),
        )
        for probe, step, gainers in rows
    ]


def trained_changes(session: Session, run_ids: Collection[int]) -> dict[int, dict[int, float]]:
    """run id → pair → change of log p(y+) after the last step, of the pairs trained on; nats."""
    change = ReferenceLogprob.final_preferred - ReferenceLogprob.preferred
    rows = session.execute(
        select(ReferenceLogprob.run_id, ReferenceLogprob.pair, change).where(
            among(ReferenceLogprob.run_id, run_ids), ReferenceLogprob.final_preferred.is_not(None)
        )
    )
    found: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for run_id, pair, value in rows:
        if value is not None and math.isfinite(value):
            found[run_id][pair] = value
    return found


def observations(session: Session, runs: Mapping[int, Run]) -> dict[int, list[Observation]]:
    """Of each run its watched pairs, the last recorded step against the first."""
    return observe_runs(session, list(runs.values()))


@dataclass(frozen=True, slots=True)
class Ends:
    """A watched pair at its first and last recorded step: log-probabilities in nats."""

    pair: int
    before: tuple[float, float]
    after: tuple[float, float]
    argmax_rise: float | None
    """Of the log-probability of the most likely token at the fork."""
    kl: float | None = None
    """KL divergence from the first step in nats, mean over the pair's positions that have a
    ledger; None in runs of earlier versions."""

    @property
    def changes(self) -> tuple[float, float]:
        return self.after[0] - self.before[0], self.after[1] - self.before[1]

    @property
    def joint_change(self) -> float:
        """Of log(p(y+) + p(y-)), the likelihood that the model gives one of the two."""
        return log_sum(*self.after) - log_sum(*self.before)


def log_sum(one: float, other: float) -> float:
    """log(exp(one) + exp(other)), for log-probabilities whose exponentials underflow."""
    greater, less = max(one, other), min(one, other)
    return greater if less == -math.inf else greater + math.log1p(math.exp(less - greater))


def ends(session: Session, run_ids: Collection[int]) -> dict[int, list[Ends]]:
    """Of each run its watched pairs, by ordinal."""
    key = (ProbeStep.run_id, ProbeStep.pair)
    bounds = (
        select(
            *key,
            func.min(ProbeStep.step).label("first"),
            func.max(ProbeStep.step).label("last"),
        )
        .where(among(ProbeStep.run_id, run_ids), ProbeStep.pair >= 0)
        .group_by(*key)
        .subquery()
    )
    first, last = aliased(ProbeStep), aliased(ProbeStep)
    query = select(first, last).select_from(bounds)
    for row, step in ((first, bounds.c.first), (last, bounds.c.last)):
        query = query.join(
            row,
            and_(row.run_id == bounds.c.run_id, row.pair == bounds.c.pair, row.step == step),
        )
    query = query.order_by(bounds.c.run_id, bounds.c.pair)
    rows = session.execute(query).all()
    positions = _position_kls(session, {now.run_id: now.step for _, now in rows})
    found: defaultdict[int, list[Ends]] = defaultdict(list)
    for begin, now in rows:
        rise = None
        if begin.argmax_logprob is not None and now.argmax_logprob is not None:
            rise = now.argmax_logprob - begin.argmax_logprob
        kl = now.kl
        if kl is not None:
            kl = fmean([kl, *positions.get((now.run_id, now.pair), ())])
        found[begin.run_id].append(Ends(begin.pair, _sums(begin), _sums(now), rise, kl))
    return found


def _position_kls(
    session: Session, steps: Mapping[int, int]
) -> Mapping[tuple[int, int], list[float]]:
    """(run, pair) → the divergence at each of its positions other than the fork. steps: run id →
    the step that is asked for."""
    found: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    query = select(PositionStep.run_id, PositionStep.pair, PositionStep.kl).where(
        rows_among((PositionStep.run_id, PositionStep.step), steps.items()),
        PositionStep.kl.is_not(None),
    )
    for run_id, pair, kl in session.execute(query):
        assert kl is not None
        found[run_id, pair].append(kl)
    return found


def last_answers(session: Session, run_ids: Collection[int]) -> dict[int, dict[int, str]]:
    """run id → watched pair → the last greedy answer to its prompt, where answers are recorded."""
    query = (
        select(ProbeAnswer.run_id, ProbeAnswer.pair, ProbeAnswer.text)
        .ext(distinct_on(ProbeAnswer.run_id, ProbeAnswer.pair))
        .where(among(ProbeAnswer.run_id, run_ids), ProbeAnswer.pair >= 0)
        .order_by(ProbeAnswer.run_id, ProbeAnswer.pair, ProbeAnswer.step.desc())
    )
    found: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for run_id, pair, text in session.execute(query):
        found[run_id][pair] = text
    return found


def _sums(row: ProbeStep) -> tuple[float, float]:
    return sum(row.preferred_logprobs), sum(row.dispreferred_logprobs)


def mean_changes(
    session: Session, run_ids: Collection[int], pairs: Sequence[int]
) -> dict[int, list[tuple[int, float | None, float | None]]]:
    """Of each run, by step: the mean changes of log p(y+) and log p(y-) over these watched
    pairs."""
    columns: list[Any] = [
        func.avg(ProbeStep.preferred_change.expression),
        func.avg(ProbeStep.dispreferred_change.expression),
    ]
    rows = session.execute(
        select(ProbeStep.run_id, ProbeStep.step, *columns)
        .where(among(ProbeStep.run_id, run_ids), among(ProbeStep.pair, pairs))
        .group_by(ProbeStep.run_id, ProbeStep.step)
        .order_by(ProbeStep.run_id, ProbeStep.step)
    )
    found: defaultdict[int, list[tuple[int, float | None, float | None]]] = defaultdict(list)
    for run_id, step, preferred, dispreferred in rows:
        found[run_id].append((step, preferred, dispreferred))
    return found
