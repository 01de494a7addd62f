"""How bad watched pairs' displacements are and where their mass went, from their recorded steps.

The rules are those of chesboard.probing.destinations; here they meet the tables.
"""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.probes.evidence import (
    AnswerKey,
    PositionKey,
    RecordedPosition,
    recorded_positions,
    turned_answers,
)
from app.probes.severity import Displacement
from app.store.probes import PositionStep, Probe, ProbeStep
from chesboard.probing.destinations import (
    Flow,
    TokenRoles,
    displacement_kind,
    flow,
    masses,
    seem_opposite,
    token_roles,
)
from chesboard.records import displaced
from chesboard.refusals import declines

OppositeGroups = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Ledger:
    """A recorded position: its tokens' roles, and where the mass went."""

    position: int
    roles: TokenRoles
    went: Flow
    top_gainer: tuple[str, float] | None

    @property
    def is_catastrophic(self) -> bool:
        return self.went.takes_lead or self.went.destination == "opposite_group"


@dataclass(frozen=True, slots=True)
class Case:
    """A watched pair to judge at one step.

    begin, now: its first recorded step and the one that is judged.
    """

    probe: Probe
    begin: ProbeStep
    now: ProbeStep
    opposite_groups: OppositeGroups
    is_preference: bool

    @property
    def changes(self) -> tuple[float, float]:
        """Of log p(y+) and log p(y-), in nats."""
        begin, now = self.begin, self.now
        return (
            sum(now.preferred_logprobs) - sum(begin.preferred_logprobs),
            sum(now.dispreferred_logprobs) - sum(begin.dispreferred_logprobs),
        )

    @property
    def has_verdict(self) -> bool:
        """Cross-entropy has no margin, and numbers that are not finite say nothing."""
        return self.is_preference and all(map(math.isfinite, self.changes))

    @property
    def is_displaced(self) -> bool:
        return self.has_verdict and displaced(*self.changes)

    @property
    def lost_most(self) -> int | None:
        """The index of the token of y+ that lost most log-probability; None where none lost."""
        before, now = self.begin.preferred_logprobs, self.now.preferred_logprobs
        changes = [after - first for first, after in zip(before, now, strict=True)]
        least = min(range(len(changes)), key=changes.__getitem__)
        return least if changes[least] < 0 else None

    @property
    def position_key(self) -> PositionKey | None:
        """Where most was lost, if that is not the fork and has a ledger."""
        position = self.lost_most
        if position is None or position == self.probe.fork_position:
            return None
        if position not in self.probe.positions["preferred"]:
            return None
        return self.probe.run_id, self.probe.pair, position, self.now.step

    @property
    def answer_key(self) -> AnswerKey | None:
        """None where y+ is no refusal: then no answer can have turned away from it."""
        if not declines("".join(self.probe.preferred_tokens)):
            return None
        return self.probe.run_id, self.probe.pair, self.now.step


def displacements_of(session: Session, cases: Sequence[Case]) -> list[Displacement | None]:
    """One for each case; None where it has no verdict."""
    fallen = [case for case in cases if case.is_displaced]
    positions = recorded_positions(
        session, set(filter(None, (case.position_key for case in fallen)))
    )
    turned = turned_answers(session, set(filter(None, (case.answer_key for case in fallen))))
    return [_displacement(case, positions, turned) for case in cases]


def _displacement(
    case: Case, positions: Mapping[PositionKey, RecordedPosition], turned: Container[AnswerKey]
) -> Displacement | None:
    if not case.has_verdict:
        return None
    probe, begin, now = case.probe, case.begin, case.now
    preferred_change = case.changes[0]
    fork = _ledger(probe, probe.fork_position, probe.watched, begin, now, case.opposite_groups)
    if not case.is_displaced:
        kind = displacement_kind(preferred_change, False, None, has_opposite=False)
        return Displacement(kind, top_gainer=fork.top_gainer if fork else None)
    lost_most = case.lost_most
    judged = fork if lost_most == probe.fork_position else None
    if lost_most is not None and judged is None:
        judged = _behind_fork(case, positions)
        if fork and fork.is_catastrophic and _fell(begin.preferred_prob, now.preferred_prob):
            judged = fork
    has_turned = case.answer_key in turned
    if judged is None:
        kind = displacement_kind(
            preferred_change, True, None, has_opposite=False, turned=has_turned
        )
        return Displacement(kind, position=lost_most, has_turned=has_turned)
    return _judge(judged, preferred_change, has_turned)


def _judge(ledger: _Ledger, preferred_change: float, turned: bool) -> Displacement:
    roles, gainer = ledger.roles, ledger.top_gainer
    kind = displacement_kind(
        preferred_change,
        True,
        ledger.went,
        has_opposite=bool(roles.opposite_names),
        turned=turned,
    )
    looks = gainer is not None and kind is None and seem_opposite(roles.preferred, gainer[0])
    return Displacement(
        kind=kind,
        position=ledger.position,
        destination=ledger.went.destination,
        gains=ledger.went.gains,
        top_gainer=gainer,
        is_squeezed=gainer is not None and gainer[0] == roles.mode,
        opposite_groups=roles.opposite_names,
        has_turned=turned,
        looks_opposite=(roles.preferred, gainer[0]) if looks and gainer else None,
    )


def _fell(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now < before


def _behind_fork(case: Case, positions: Mapping[PositionKey, RecordedPosition]) -> _Ledger | None:
    key = case.position_key
    found = positions.get(key) if key else None
    if found is None:
        return None
    place = found.place
    return _ledger(
        case.probe, place.position, place.watched, found.begin, found.now, case.opposite_groups
    )


def roles_at(
    probe: Probe,
    position: int,
    watched: Sequence[Mapping[str, Any]],
    initial_probs: Sequence[float],
    opposite_groups: OppositeGroups,
) -> TokenRoles:
    """The roles of tokens at a position of y+, whose watched tokens these are."""
    likeliest = max(zip(initial_probs, watched, strict=False), key=lambda one: one[0], default=None)
    is_fork = position == probe.fork_position
    return token_roles(
        probe.preferred_tokens[min(position, len(probe.preferred_tokens) - 1)],
        probe.dispreferred_tokens[min(position, len(probe.dispreferred_tokens) - 1)]
        if is_fork
        else None,
        likeliest[1]["token"] if likeliest else None,
        {group["name"]: group["tokens"] for group in probe.groups},
        opposite_groups,
    )


def _ledger(
    probe: Probe,
    position: int,
    watched: Sequence[Mapping[str, Any]],
    begin: ProbeStep | PositionStep,
    now: ProbeStep | PositionStep,
    opposite_groups: OppositeGroups,
) -> _Ledger | None:
    """None where a probability is not finite or no token is watched."""
    roles = roles_at(probe, position, watched, begin.watched_probs, opposite_groups)
    known = list(_known_tokens(watched, begin, now))
    if not known or not all(math.isfinite(p) for _, *probs in known for p in probs):
        return None
    went = flow(
        roles,
        masses(roles, ((token, initial) for token, initial, _ in known)),
        masses(roles, ((token, final) for token, _, final in known)),
    )
    gainer = next(((one["token"], one["change"]) for one in now.gainers), None)
    return _Ledger(position, roles, went, gainer)


def _known_tokens(
    watched: Sequence[Mapping[str, Any]],
    begin: ProbeStep | PositionStep,
    now: ProbeStep | PositionStep,
) -> Iterator[tuple[str, float, float]]:
    """(token, initial, final) of the watched tokens and of those in the ledger, each once."""
    for token, initial, final in zip(watched, begin.watched_probs, now.watched_probs, strict=False):
        yield token["token"], initial, final
    seen = {token["token_id"] for token in watched}
    for entry in (*now.gainers, *now.losers):
        if entry["token_id"] not in seen and entry["change"] is not None:
            yield entry["token"], entry["initial"], entry["final"]
