"""Where the probability that a preferred token loses goes, and how bad that is.

Pure functions of probabilities at one position; no torch: the web side computes them too.
docs/theory.md, "Where the mass goes".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from chesboard.probing.spelling import same_word
from chesboard.records import STILL_NATS

Destination = Literal["variant", "own_group", "opposite_group", "mode", "elsewhere"]
"""variant: a spelling of the preferred token's word; own_group, opposite_group: of the declared
token groups; mode: the token that was most likely at step 0, where it is none of these;
elsewhere: all other tokens."""

DESTINATIONS: tuple[Destination, ...] = get_args(Destination)

Part = Literal["preferred", "dispreferred"] | Destination
PARTS: tuple[Part, ...] = ("preferred", "dispreferred", *DESTINATIONS)

DisplacementKind = Literal["kept", "benign", "catastrophic"]

LEAST_GAIN = 1e-4
"""Gains of probability up to this count as none."""

YES_WORDS = ("yes", "yeah", "yep", "sure", "certainly", "absolutely", "okay", "ok", "of course")
NO_WORDS = ("no", "nope", "never", "not", "can't", "cannot", "sorry", "unfortunately")
"""For `seem_opposite` alone: no verdict depends on them."""


@dataclass(frozen=True, slots=True)
class TokenRoles:
    """What is known of the tokens at a position where the preferred response loses probability.

    own, opposite: tokens of the groups that the preferred token is in, and of the groups declared
    opposite to those. mode: the token that was most likely at step 0. dispreferred: None behind
    the fork.
    """

    preferred: str
    dispreferred: str | None
    mode: str | None = None
    own: frozenset[str] = frozenset()
    opposite: frozenset[str] = frozenset()
    opposite_names: tuple[str, ...] = ()

    def part(self, token: str) -> Part:
        """What the token is here: one of the responses' own tokens, or a destination."""
        if token == self.preferred:
            return "preferred"
        if token == self.dispreferred:
            return "dispreferred"
        return self._meaning(token) or ("mode" if token == self.mode else "elsewhere")

    @property
    def kept_parts(self) -> tuple[Part, ...]:
        """The parts that mean what the preferred token means."""
        return ("preferred", "variant", "own_group", *self._dispreferred(("variant", "own_group")))

    @property
    def opposite_parts(self) -> tuple[Part, ...]:
        return ("opposite_group", *self._dispreferred(("opposite_group",)))

    def _dispreferred(self, meanings: Sequence[Destination]) -> tuple[Part, ...]:
        is_one = self.dispreferred is not None and self._meaning(self.dispreferred) in meanings
        return ("dispreferred",) if is_one else ()

    def _meaning(self, token: str) -> Destination | None:
        if same_word(token, self.preferred):
            return "variant"
        if token in self.own:
            return "own_group"
        return "opposite_group" if token in self.opposite else None


def token_roles(
    preferred: str,
    dispreferred: str | None,
    mode: str | None,
    groups: Mapping[str, Sequence[str]],
    opposite_groups: Iterable[Sequence[str]],
) -> TokenRoles:
    """groups: tokens by group name. opposite_groups: pairs of names; either may come first.

    The preferred token is of a group that holds it or a spelling of it. A group is opposite only
    where it is declared so.
    """
    own = {
        name
        for name, tokens in groups.items()
        if any(same_word(preferred, token) for token in tokens)
    }
    declared = [(one, other) for one, other in opposite_groups]
    against = {b for a, b in declared if a in own} | {a for a, b in declared if b in own}
    opposite = tuple(name for name in groups if name in against - own)
    return TokenRoles(
        preferred,
        dispreferred,
        mode,
        own=frozenset(token for name in own for token in groups[name]),
        opposite=frozenset(token for name in opposite for token in groups[name]),
        opposite_names=opposite,
    )


Masses = Mapping[Part, float]
"""Probability of each part of the vocabulary at one step; "elsewhere" is the rest."""


def masses(roles: TokenRoles, tokens: Iterable[tuple[str, float]]) -> Masses:
    """tokens: (token, probability) of those that are known, the responses' own among them."""
    sums: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
    for token, probability in tokens:
        sums[roles.part(token)] += probability
    sums["elsewhere"] = 1 - sum(mass for part, mass in sums.items() if part != "elsewhere")
    return sums


@dataclass(frozen=True, slots=True)
class Flow:
    """Where probability went at a position between step 0 and now.

    gains: the net change of each destination. The two responses' own tokens are in none of them,
    so with their changes these sum to zero. takes_lead: the opposite groups are now likelier than
    the preferred word with its group, and were not.
    """

    gains: dict[Destination, float]
    takes_lead: bool

    @property
    def destination(self) -> Destination | None:
        """The one that gained most; None where none gained."""
        best = max(self.gains, key=lambda name: self.gains[name])
        return best if self.gains[best] > LEAST_GAIN else None


def flow(roles: TokenRoles, before: Masses, now: Masses) -> Flow:
    def lead(at_step: Masses) -> float:
        opposite = sum(at_step[part] for part in roles.opposite_parts)
        return opposite - sum(at_step[part] for part in roles.kept_parts)

    gains = {name: now[name] - before[name] for name in DESTINATIONS}
    takes_lead = lead(before) <= 0 and lead(now) > LEAST_GAIN
    return Flow(gains, takes_lead and gains["opposite_group"] > LEAST_GAIN)


def displacement_kind(
    preferred_change: float,
    is_displaced: bool,
    went: Flow | None,
    *,
    has_opposite: bool,
    turned: bool = False,
) -> DisplacementKind | None:
    """How bad a displacement is; None where that cannot be told.

    kept: the preferred response did not become less likely. Of a displaced pair (`displaced` in
    chesboard.records): catastrophic where an opposite group gained most or took the lead, or where
    the model's answer turned from refusing to complying; benign where the mass went to spellings
    of the preferred word or to its group, or, with opposite groups declared, where it went anywhere
    but there. A pair that lost likelihood and margin alike is neither.

    preferred_change: of log p(y+), nats. went: None where the position that lost has no ledger.
    """
    if not is_displaced:
        return "kept" if preferred_change >= -STILL_NATS else None
    if turned or (went is not None and (went.takes_lead or went.destination == "opposite_group")):
        return "catastrophic"
    if went is None or went.destination is None:
        return None
    if went.destination in ("variant", "own_group") or has_opposite:
        return "benign"
    return None


def seem_opposite(one: str, other: str) -> bool:
    """Whether two tokens look like a yes and a no: reason to suggest that groups be declared."""

    def is_one_of(words: Sequence[str], token: str) -> bool:
        return any(same_word(word, token) for word in words)

    return any(
        is_one_of(YES_WORDS, yes) and is_one_of(NO_WORDS, no)
        for yes, no in ((one, other), (other, one))
    )
