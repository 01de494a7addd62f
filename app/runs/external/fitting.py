"""Whether the records of a batch fit the probes that they are about, those stored before included.

What reads them relies on it: one log-probability a token, one probability a watched token.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.errors import ErrorItem
from app.runs.external.reading import MAX_ERRORS, refusal
from app.store.probes import Probe, ProbePosition, ProbeStep
from chesboard.configs.external import MAX_TOKENS
from chesboard.records import (
    AnswerRecord,
    FinalRecord,
    LedgerEntry,
    LedgerRecord,
    PositionRecord,
    PositionStepRecord,
    ProbeRecord,
    ProbeStepRecord,
    Record,
    ReferenceRecord,
)

MAX_PROBES = 256
MAX_GROUPS = 48
"""Their sums are part of an index row, whose size is limited (app/store/probes.py)."""
MAX_WATCHED = 4096

Place = tuple[int, str, int]
Problems = Iterator[tuple[str, str]]
"""(field, message)"""


@dataclass(frozen=True, slots=True)
class _Shape:
    """The lengths of what is recorded of a probe, in the fields of its steps."""

    preferred_logprobs: int
    dispreferred_logprobs: int
    group_probs: int
    watched: int
    predicted: int

    @classmethod
    def of(cls, probe: Probe | ProbeRecord) -> "_Shape":
        return cls(
            *(len(probe.preferred_tokens), len(probe.dispreferred_tokens)),
            *(len(probe.groups), len(probe.watched), len(probe.predicted)),
        )


def check_fit(session: Session, run_id: int, records: Sequence[Record]) -> None:
    """Raises:
    InvalidInputError: a record does not fit its probe, or names one that is not watched; names
        the record's number and the field.
    """
    known = _Known(session, run_id)
    for one in records:  # in one batch a probe may come after its steps: it is stored first
        if isinstance(one, ProbeRecord):
            known.sent[one.pair] = _Shape.of(one)
        elif isinstance(one, PositionRecord):
            known.sent_places[one.pair, one.response, one.position] = (
                len(one.watched),
                len(one.predicted),
            )
    errors: list[ErrorItem] = []
    for number, one in enumerate(records, start=1):
        for field, message in known.problems(one):
            errors.append({"row": number, "field": field, "message": message})
        if len(errors) >= MAX_ERRORS:
            break
    if not errors and known.sent and known.count() > MAX_PROBES:
        errors = [{"row": 1, "field": "pair", "message": f"a run watches {MAX_PROBES} at most"}]
    if errors:
        raise refusal(errors[:MAX_ERRORS])


class _Known:
    """The probes of a run: those of this batch, and of those stored the ones that are asked for."""

    def __init__(self, session: Session, run_id: int) -> None:
        self._session, self._run_id = session, run_id
        self.sent: dict[int, _Shape] = {}
        self.sent_places: dict[Place, tuple[int, int]] = {}
        self._stored: dict[int, _Shape | None] = {}
        self._places: dict[Place, tuple[int, int] | None] = {}

    def count(self) -> int:
        stored = self._session.scalars(select(Probe.pair).where(Probe.run_id == self._run_id))
        return len({*stored, *self.sent})

    def _stored_shape(self, pair: int) -> _Shape | None:
        if pair not in self._stored:
            probe = self._session.get(Probe, (self._run_id, pair))
            self._stored[pair] = None if probe is None else _Shape.of(probe)
        return self._stored[pair]

    def _shape(self, pair: int) -> _Shape | None:
        return self.sent.get(pair) or self._stored_shape(pair)

    def _place(self, place: Place) -> tuple[int, int] | None:
        if place in self.sent_places:
            return self.sent_places[place]
        if place not in self._places:
            found = self._session.get(ProbePosition, (self._run_id, *place))
            lengths = (len(found.watched), len(found.predicted)) if found else None
            self._places[place] = lengths
        return self._places[place]

    def _has_steps(self, pair: int) -> bool:
        query = select(func.count()).where(ProbeStep.run_id == self._run_id, ProbeStep.pair == pair)
        return bool(self._session.scalar(query))

    def problems(self, one: Any) -> Problems:
        match one:
            case ProbeRecord():
                yield from _probe(one)
                before = self._stored_shape(one.pair)
                if before not in (None, _Shape.of(one)) and self._has_steps(one.pair):
                    yield "pair", f"probe {one.pair} was recorded with other tokens before"
            case ProbeStepRecord():
                shape = self._shape(one.pair)
                if shape is None:
                    yield "pair", f"no probe {one.pair} was sent"
                    return
                for name in ("preferred_logprobs", "dispreferred_logprobs", "group_probs"):
                    yield from _length(name, getattr(one, name), getattr(shape, name))
                yield from _ledger(one.ledger, shape.watched, shape.predicted)
            case PositionRecord():
                shape = self._shape(one.pair)
                if shape is None:
                    yield "pair", f"no probe {one.pair} was sent"
                elif one.position >= getattr(shape, f"{one.response}_logprobs"):
                    yield "position", f"the {one.response} response has fewer tokens"
            case PositionStepRecord():
                place = self._place((one.pair, one.response, one.position))
                if place is None:
                    yield "position", f"no position {one.position} of probe {one.pair} was sent"
                    return
                yield from _ledger(one.ledger, *place)
            case AnswerRecord() if self._shape(one.pair) is None:
                yield "pair", f"no probe {one.pair} was sent"
            case ReferenceRecord() | FinalRecord() if one.pair < 0:
                yield "pair", "must be a pair's ordinal, from 0"


def _probe(one: ProbeRecord) -> Problems:
    lengths = len(one.preferred_tokens), len(one.dispreferred_tokens)
    for name, length in zip(("preferred_tokens", "dispreferred_tokens"), lengths, strict=True):
        if length > MAX_TOKENS:
            yield name, f"has more than {MAX_TOKENS:,}"
    if one.kind == "prompt":
        if one.pair >= 0:
            yield "pair", "of a prompt it is -1, -2, …"
        if any(lengths) or one.fork_position:
            yield "preferred_tokens", "a prompt has no responses"
    else:
        if one.pair < 0:
            yield "pair", "must be a pair's ordinal, from 0"
        if not min(lengths):
            yield "preferred_tokens", "both responses have at least one token"
        elif one.fork_position >= min(lengths):
            yield "fork_position", "must be a position of both responses"
    if len(one.groups) > MAX_GROUPS:
        yield "groups", f"has more than {MAX_GROUPS}"
    if len(one.watched) > MAX_WATCHED:
        yield "watched", f"has more than {MAX_WATCHED}"
    if set(one.positions) != {"preferred", "dispreferred"}:
        yield "positions", "has the keys preferred and dispreferred"


def _ledger(ledger: LedgerRecord, watched: int, predicted: int) -> Problems:
    yield from _length("ledger.watched_probs", ledger.watched_probs, watched)
    for name in ("predicted_changes", "predicted_ranks"):
        values = getattr(ledger, name)
        if values:  # at the first step nothing has changed yet
            yield from _length(f"ledger.{name}", values, predicted)
    for name in ("gainers", "losers"):
        if len(getattr(ledger, name)) > MAX_WATCHED:
            yield f"ledger.{name}", f"has more than {MAX_WATCHED}"
        if not all(map(_is_whole, getattr(ledger, name))):
            yield f"ledger.{name}", "a change is a number where initial and final are"


def _is_whole(entry: LedgerEntry) -> bool:
    return not math.isfinite(entry.change) or (
        math.isfinite(entry.initial) and math.isfinite(entry.final)
    )


def _length(name: str, values: Sequence[Any], expected: int) -> Problems:
    if len(values) != expected:
        yield name, f"has {len(values)} values; its probe has {expected}"
