"""Findings counted: in how many pairs there is one of a kind, and which are the first of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chesboard.findings import FindingKind
from chesboard.records import FindingRecord

NAMED_PAIRS = 5
"""How many pairs a message names; all of them are counted."""
LISTED = ", "
"""Between the things that the detail of a finding names: roles of turns, special tokens."""


@dataclass(frozen=True, slots=True)
class Tally:
    """count: pairs. first: at most NAMED_PAIRS of them; details: theirs."""

    count: int
    first: Sequence[int]
    details: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True)
class Tallies:
    """kinds: of the findings. roles: of pairs whose chat template leaves out a turn, by the role of
    that turn."""

    kinds: Mapping[FindingKind, Tally] = field(default_factory=dict)
    roles: Mapping[str, Tally] = field(default_factory=dict)


def tally(findings: Iterable[FindingRecord]) -> Tallies:
    """The tallies of findings, in their order."""
    kinds: dict[FindingKind, list[FindingRecord]] = {}
    roles: dict[str, list[FindingRecord]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
        if finding.kind == "turn_left_out":
            for role in (finding.detail or "").split(LISTED):
                roles.setdefault(role, []).append(finding)
    return Tallies(
        {kind: _counted(found) for kind, found in kinds.items()},
        {role: _counted(found) for role, found in roles.items()},
    )


def _counted(found: Sequence[FindingRecord]) -> Tally:
    first = found[:NAMED_PAIRS]
    return Tally(len(found), [one.pair for one in first], [one.detail for one in first])
