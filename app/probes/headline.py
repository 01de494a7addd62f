"""What happened to a pair during training, in a plain sentence.

Pure functions of numbers. Changes of log-probability are in nats, over the whole response with
its end token, against step 0; probabilities are those at the fork.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chesboard.records import STILL_NATS
from chesboard.records import displaced as is_displaced

STILL = STILL_NATS
"""Changes below this, in nats or in probability, are called no change."""

MOST_NAMED = 3
SHORTEST_SHARE = 0.05
"""A gainer is named where it took at least this share of the moved mass."""

MOST_CHARACTERS = 40
_SPECIAL = re.compile(r"<[^<>]+>|\[[A-Z]+\]")


@dataclass(frozen=True, slots=True)
class Observation:
    """One watched pair at one step, compared with step 0."""

    pair: int
    preferred_tokens: Sequence[str]
    dispreferred_tokens: Sequence[str]
    fork_position: int
    preferred_change: float
    dispreferred_change: float
    preferred_prob: tuple[float, float]
    """(at step 0, now), of the preferred response's token at the fork."""
    dispreferred_prob: tuple[float, float]
    gainers: Sequence[tuple[str, float]]
    """(token, change of probability at the fork), largest first."""
    group_changes: Mapping[str, float]
    moved_mass: float
    onset_step: int | None = None
    """The recorded step since which the pair has been displaced, where it is."""
    predicted_hit: int | None = None
    """How many of the first three gainers theory named; None where it named none."""

    @property
    def margin(self) -> float:
        return self.preferred_change - self.dispreferred_change

    @property
    def displaced(self) -> bool:
        """Design's word: y+ lost likelihood while the margin grew. Less than STILL is neither."""
        return self.is_finite and is_displaced(self.preferred_change, self.dispreferred_change)

    @property
    def is_finite(self) -> bool:
        return all(
            math.isfinite(value)
            for value in (
                self.preferred_change,
                self.dispreferred_change,
                self.moved_mass,
                *self.preferred_prob,
                *self.dispreferred_prob,
            )
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    sentence: str
    displaced: bool


def run_sentence(
    observations: Sequence[Observation], objective: str, *, running: bool
) -> Verdict | None:
    """What a training run did to the pairs it watches; None where it has seen none yet.

    Speaks of one pair, the one whose preferred response lost most among the displaced, else the
    one that moved most, and counts the displaced ones where several are watched.
    """
    if not observations:
        return None
    headline = max(observations, key=_prominence)
    verdict = probe_sentence(headline, objective, running=running)
    if len(observations) == 1:
        return verdict
    sentence = f"Pair {headline.pair}: {_lower_first(verdict.sentence)}"
    if objective == "cross_entropy":
        return Verdict(sentence, verdict.displaced)
    displaced = sum(one.displaced for one in observations)
    counted = f"{displaced or 'None'} of the {len(observations)} watched pairs"
    return Verdict(
        f"{sentence} {counted} {'is' if displaced == 1 else 'are'} displaced"
        f"{' so far' if running else ''}.",
        verdict.displaced,
    )


def _prominence(one: Observation) -> tuple[bool, bool, float]:
    if not one.is_finite:
        return (True, True, 0.0)
    return (False, one.displaced, -one.preferred_change if one.displaced else one.moved_mass)


def probe_sentence(seen: Observation, objective: str, *, running: bool) -> Verdict:
    """What happened to one watched pair. `running`: more is to come, and the sentence says so."""
    so_far = "So far, " if running else ""
    displaced = seen.displaced and objective != "cross_entropy"
    return Verdict(_upper_first(so_far + _told(seen, objective, running)), displaced)


def prompt_sentence(
    gainers: Sequence[tuple[str, float]],
    losers: Sequence[tuple[str, float]],
    moved_mass: float,
    *,
    running: bool,
) -> Verdict:
    """What happened to the token that follows a prompt.

    gainers, losers: (token, change of probability), largest first.
    """
    so_far = "So far, " if running else ""
    told = _prompt_told(gainers, losers, moved_mass, running)
    return Verdict(_upper_first(so_far + told), displaced=False)


def _prompt_told(
    gainers: Sequence[tuple[str, float]],
    losers: Sequence[tuple[str, float]],
    moved_mass: float,
    running: bool,
) -> str:
    if not math.isfinite(moved_mass):
        return "the numbers of this prompt are no longer finite (NaN or infinity)."
    if moved_mass < STILL:
        return f"nothing has moved{' yet' if running else ''}: every change is below {STILL:g}."
    least = max(STILL, SHORTEST_SHARE * moved_mass)
    parts = [
        f"{_named(changes, least)} {verb}"
        for changes, verb in ((gainers, "gained"), (losers, "lost"))
        if _named(changes, least)
    ]
    moved = f"{_probability(moved_mass)} of the next token's probability moved"
    return f"{moved}: {' and '.join(parts)}." if parts else f"{moved}, spread over many tokens."


def _named(changes: Sequence[tuple[str, float]], least: float) -> str:
    return ", ".join(
        f"{_quoted(token)} ({_signed(change)})"
        for token, change in changes[:MOST_NAMED]
        if abs(change) >= least
    )


def _told(seen: Observation, objective: str, running: bool) -> str:
    if not seen.is_finite:
        return (
            "the numbers of this pair are no longer finite (NaN or infinity): the training "
            "diverged. A smaller learning rate may help."
        )
    if list(seen.preferred_tokens) == list(seen.dispreferred_tokens):
        return "nothing can set the two responses apart: they are the same tokens."
    if _still(seen):
        return f"nothing has moved{' yet' if running else ''}: every change is below {STILL:g}."
    where = _destination(seen)
    rest = f"; {_at_fork(seen)}{where}.{_theory(seen) if where else ''}"
    if objective == "cross_entropy":
        return f"{_likelihood(seen)}{rest}"
    return f"{_likelihood(seen)}{_margin(seen)}{_onset(seen)}{rest}"


def _still(seen: Observation) -> bool:
    moved = (seen.preferred_change, seen.dispreferred_change, seen.moved_mass)
    return all(abs(value) < STILL for value in moved)


def _likelihood(seen: Observation) -> str:
    return (
        f"the preferred response {_response(seen.preferred_tokens)} {_went(seen.preferred_change)}"
    )


def _went(change: float) -> str:
    if abs(change) < STILL:
        return "kept its likelihood"
    return f"{'lost' if change < 0 else 'gained'} {_nats(change)}"


def _margin(seen: Observation) -> str:
    """How the other response and the margin went, in words that follow "gained/lost … nats"."""
    other = f"the dispreferred {_response(seen.dispreferred_tokens)}"
    if seen.displaced:
        if seen.dispreferred_change < -STILL:
            return f" while the margin grew ({other} lost {_nats(seen.dispreferred_change)})"
        return " while the margin grew"
    if abs(seen.margin) < STILL:
        return f" and {other} went with it, so the margin stayed"
    if seen.margin < 0:
        return f", but {other} {_went(seen.dispreferred_change)}: the margin shrank"
    return f" and {other} {_went(seen.dispreferred_change)}: the margin grew"


def _onset(seen: Observation) -> str:
    if not seen.displaced or seen.onset_step is None:
        return ""
    return f", displaced since step {seen.onset_step}"


def _theory(seen: Observation) -> str:
    """Whether theory named the tokens that gained most."""
    hit, top = seen.predicted_hit, min(MOST_NAMED, len(seen.gainers))
    if hit is None or top == 0:
        return ""
    if top == 1:
        return f" Theory {'predicted' if hit else 'did not predict'} this gainer."
    counted = "none" if hit == 0 else "all" if hit == top else str(hit)
    return f" Theory predicted {counted} of the top {top} gainers."


def _at_fork(seen: Observation) -> str:
    before, now = seen.preferred_prob
    whose = f"the probability of {_quoted(_fork_token(seen))}"
    if seen.fork_position > 0 or len(_without_end(seen.preferred_tokens)) > 1:
        whose = f"at the fork, {whose}"
    if abs(now - before) < STILL:
        return f"{whose} stayed at {before:.3f}"
    return f"{whose} went from {_probability(before)} to {_probability(now)}"


def _destination(seen: Observation) -> str:
    """Where the mass went: the tokens that gained most, and the group that did."""
    fork_token = _fork_token(seen)
    change_itself = seen.preferred_prob[1] - seen.preferred_prob[0]
    gained_itself = change_itself > STILL
    named = [
        (token, change)
        for token, change in seen.gainers
        if change >= max(STILL, SHORTEST_SHARE * seen.moved_mass)
        and not (gained_itself and token == fork_token)
    ][:MOST_NAMED]
    if not named:
        return ""
    where = ", ".join(f"{_quoted(token)} ({_signed(change)})" for token, change in named)
    if not gained_itself:
        what = "and the mass" if change_itself < -STILL else "and mass"
    elif named[0][1] > change_itself:
        # The preferred token is not where most of the mass went: the sign of displacement.
        what = f"({_signed(change_itself)}), but more of the mass"
    else:
        what = "and mass also"
    return f" {what} went to {where}{_group(seen.group_changes)}"


def _group(changes: Mapping[str, float]) -> str:
    if not changes:
        return ""
    name, change = max(changes.items(), key=lambda item: item[1])
    if not change >= STILL:
        return ""
    return f"; the group {_quoted(name)} as a whole gained {_signed(change).lstrip('+')}"


def _fork_token(seen: Observation) -> str:
    return seen.preferred_tokens[min(seen.fork_position, len(seen.preferred_tokens) - 1)]


def _without_end(tokens: Sequence[str]) -> list[str]:
    kept = list(tokens)
    if len(kept) > 1 and _SPECIAL.fullmatch(kept[-1].strip()):
        kept.pop()
    return kept


def _response(tokens: Sequence[str]) -> str:
    return _quoted("".join(_without_end(tokens)))


def _quoted(text: str) -> str:
    shown = " ".join(text.split()) or repr(text)[1:-1]
    if len(shown) > MOST_CHARACTERS:
        shown = shown[: MOST_CHARACTERS - 1].rstrip() + "…"
    return f"“{shown}”"


def _nats(change: float) -> str:
    size = abs(change)
    return f"{size:.1f} nats" if size >= 1 else f"{size:.2g} nats"


def _probability(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.1e}"


def _signed(change: float) -> str:
    return f"{change:+.3f}" if abs(change) >= 0.001 else f"{change:+.1e}"


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
