"""Headlines: plain sentences on what training did to a watched pair, a prompt, or a whole run.

Pure functions of numbers. Changes of log-probability are in nats, over the whole response with
its end token, against step 0; probabilities are those at the fork.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.probes.severity import (
    Displacement,
    severity_reason,
    severity_sentence,
    trough_sentence,
)
from app.probes.wording import (
    lower_first,
    nats,
    probabilities,
    probability,
    quoted,
    response,
    signed,
    upper_first,
    without_end,
)
from chesboard.records import STILL_NATS
from chesboard.records import displaced as is_displaced

NO_CHANGE = STILL_NATS
"""Changes below this, in nats or in probability, are called no change."""

MAX_NAMED = 3
MIN_SHARE = 0.05
"""A token is named where its change is at least this share of the moved mass."""


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
    """How many of the top three gainers were predicted; None where there is no prediction."""
    displacement: Displacement | None = None
    """None under cross-entropy."""

    @property
    def margin(self) -> float:
        return self.preferred_change - self.dispreferred_change

    @property
    def displaced(self) -> bool:
        """As chesboard.records.displaced; False where training diverged."""
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
class Headline:
    """short: what happened in one sentence. sentence: the same with the numbers at the fork, the
    theory and the lowest point. about: the pair that both describe; None for a prompt."""

    short: str
    sentence: str
    displaced: bool
    about: Observation | None = None


def run_headline(
    observations: Sequence[Observation], objective: str, *, running: bool
) -> Headline | None:
    """What a training run did to its watched pairs; None where none has been observed yet.

    Describes the most prominent pair, and counts the displaced ones where several are watched.
    """
    if not observations:
        return None
    chosen = most_prominent(observations)
    one = probe_headline(chosen, objective, running=running)
    if len(observations) == 1:
        return one
    counted = "" if objective == "cross_entropy" else _counted(observations, running)
    short, sentence = (
        f"Pair {chosen.pair}: {lower_first(told)}{counted}" for told in (one.short, one.sentence)
    )
    return Headline(short, sentence, one.displaced, chosen)


def _counted(observations: Sequence[Observation], running: bool) -> str:
    displaced = sum(observation.displaced for observation in observations)
    return (
        f" {displaced or 'None'} of the {len(observations)} watched pairs "
        f"{'is' if displaced == 1 else 'are'} displaced{' so far' if running else ''}."
    )


def most_prominent(observations: Sequence[Observation]) -> Observation:
    """A pair that diverged, else a catastrophic one, else a displaced one, among these the one
    whose preferred response lost most; else the one that moved most."""
    return max(observations, key=_prominence)


def _prominence(one: Observation) -> tuple[bool, bool, bool, float]:
    if not one.is_finite:
        return (True, True, True, 0.0)
    is_catastrophic = one.displacement is not None and one.displacement.kind == "catastrophic"
    size = -one.preferred_change if one.displaced else one.moved_mass
    return (False, is_catastrophic, one.displaced, size)


def probe_headline(observed: Observation, objective: str, *, running: bool) -> Headline:
    """What happened to one watched pair. running: more steps follow, and the sentence says so."""
    so_far = "So far, " if running else ""
    displaced = observed.displaced and objective != "cross_entropy"
    short, described = (
        upper_first(so_far + describe(observed, objective, running))
        for describe in (_summarize_pair, _describe_pair)
    )
    return Headline(short, described, displaced, observed)


def prompt_headline(
    gainers: Sequence[tuple[str, float]],
    losers: Sequence[tuple[str, float]],
    moved_mass: float,
    *,
    running: bool,
) -> Headline:
    """What happened to the token that follows a prompt.

    gainers, losers: (token, change of probability), largest first.
    """
    so_far = "So far, " if running else ""
    described = upper_first(so_far + _describe_prompt(gainers, losers, moved_mass, running))
    return Headline(described, described, displaced=False)


def _describe_prompt(
    gainers: Sequence[tuple[str, float]],
    losers: Sequence[tuple[str, float]],
    moved_mass: float,
    running: bool,
) -> str:
    if not math.isfinite(moved_mass):
        return "the numbers of this prompt are no longer finite (NaN or infinity)."
    if moved_mass < NO_CHANGE:
        return f"nothing has moved{' yet' if running else ''}: every change is below {NO_CHANGE:g}."
    least = max(NO_CHANGE, MIN_SHARE * moved_mass)
    parts = [
        f"{_named(changes, least)} {verb}"
        for changes, verb in ((gainers, "gained"), (losers, "lost"))
        if _named(changes, least)
    ]
    moved = f"{probability(moved_mass)} of the next token's probability moved"
    return f"{moved}: {' and '.join(parts)}." if parts else f"{moved}, spread over many tokens."


def _named(changes: Sequence[tuple[str, float]], least: float) -> str:
    return ", ".join(
        f"{quoted(token)} ({signed(change)})"
        for token, change in changes[:MAX_NAMED]
        if abs(change) >= least
    )


def _summarize_pair(observed: Observation, objective: str, running: bool) -> str:
    if told := _nothing_to_tell(observed, running):
        return told
    if objective == "cross_entropy":
        return f"{_likelihood(observed)}."
    if not observed.displaced:
        return f"{_likelihood(observed)}{_margin(observed)}."
    return f"{_likelihood(observed)} while the margin grew{_receiver(observed)}."


def _receiver(observed: Observation) -> str:
    """What the verdict on a displaced pair rests on, or what gained most where there is none."""
    one = observed.displacement
    if one is not None and (reason := severity_reason(one, _judged_token(observed, one))):
        return f"; {reason}"
    gainer = one.top_gainer if one else next(iter(observed.gainers), None)
    return f"; {quoted(gainer[0])} gained most ({signed(gainer[1])})" if gainer else ""


def _describe_pair(observed: Observation, objective: str, running: bool) -> str:
    if told := _nothing_to_tell(observed, running):
        return told
    where = _destination(observed)
    rest = f"; {_at_fork(observed)}{where}.{_theory(observed) if where else ''}"
    rest += _severity(observed)
    if objective == "cross_entropy":
        return f"{_likelihood(observed)}{rest}"
    return f"{_likelihood(observed)}{_margin(observed)}{_onset(observed)}{rest}"


def _nothing_to_tell(observed: Observation, running: bool) -> str:
    """Why there is nothing to tell of a pair; empty where there is."""
    if not observed.is_finite:
        return (
            "the numbers of this pair are no longer finite (NaN or infinity): the training "
            "diverged. A smaller learning rate may help."
        )
    if list(observed.preferred_tokens) == list(observed.dispreferred_tokens):
        return "nothing can set the two responses apart: they are the same tokens."
    if _has_not_moved(observed):
        return f"nothing has moved{' yet' if running else ''}: every change is below {NO_CHANGE:g}."
    return ""


def _has_not_moved(observed: Observation) -> bool:
    moved = (observed.preferred_change, observed.dispreferred_change, observed.moved_mass)
    return all(abs(value) < NO_CHANGE for value in moved)


def _likelihood(observed: Observation) -> str:
    preferred = response(observed.preferred_tokens)
    return f"the preferred response {preferred} {_lost_or_gained(observed.preferred_change)}"


def _lost_or_gained(change: float) -> str:
    if abs(change) < NO_CHANGE:
        return "kept its likelihood"
    return f"{'lost' if change < 0 else 'gained'} {nats(change)}"


def _margin(observed: Observation) -> str:
    """The change of y- and of the margin, in words that follow "gained/lost … nats"."""
    other = f"the dispreferred {response(observed.dispreferred_tokens)}"
    if observed.displaced:
        if observed.dispreferred_change < -NO_CHANGE:
            return f" while the margin grew ({other} lost {nats(observed.dispreferred_change)})"
        return " while the margin grew"
    if abs(observed.margin) < NO_CHANGE:
        return f" and {other} went with it, so the margin stayed"
    if observed.margin < 0:
        return f", but {other} {_lost_or_gained(observed.dispreferred_change)}: the margin shrank"
    return f" and {other} {_lost_or_gained(observed.dispreferred_change)}: the margin grew"


def _onset(observed: Observation) -> str:
    if not observed.displaced or observed.onset_step is None:
        return ""
    return f", displaced since step {observed.onset_step}"


def _severity(observed: Observation) -> str:
    """How bad the displacement is, and the lowest point on the way."""
    one = observed.displacement
    if one is None:
        return ""
    before, now = observed.preferred_prob
    said = (
        trough_sentence(one, _fork_token(observed), before - now),
        severity_sentence(one, _judged_token(observed, one)),
    )
    return "".join(f" {sentence}" for sentence in said if sentence)


def _judged_token(observed: Observation, one: Displacement) -> str:
    """The token of y+ that the destination is about."""
    return observed.preferred_tokens[
        observed.fork_position if one.position is None else one.position
    ]


def _theory(observed: Observation) -> str:
    """Whether the tokens that gained most were predicted."""
    hit, top = observed.predicted_hit, min(MAX_NAMED, len(observed.gainers))
    if hit is None or top == 0:
        return ""
    if top == 1:
        return f" Theory {'predicted' if hit else 'did not predict'} this gainer."
    counted = "none" if hit == 0 else "all" if hit == top else str(hit)
    return f" Theory predicted {counted} of the top {top} gainers."


def _at_fork(observed: Observation) -> str:
    before, now = observed.preferred_prob
    whose = f"the probability of {quoted(_fork_token(observed))}"
    if observed.fork_position > 0 or len(without_end(observed.preferred_tokens)) > 1:
        whose = f"at the fork, {whose}"
    if abs(now - before) < NO_CHANGE:
        return f"{whose} stayed at {probability(before)}"
    first, last = probabilities(before, now)
    return f"{whose} went from {first} to {last}"


def _destination(observed: Observation) -> str:
    """Where the mass went: the tokens that gained most, and the group that gained most."""
    fork_token = _fork_token(observed)
    change_itself = observed.preferred_prob[1] - observed.preferred_prob[0]
    gained_itself = change_itself > NO_CHANGE
    named = [
        (token, change)
        for token, change in observed.gainers
        if change >= max(NO_CHANGE, MIN_SHARE * observed.moved_mass)
        and not (gained_itself and token == fork_token)
    ][:MAX_NAMED]
    if not named:
        return ""
    where = ", ".join(f"{quoted(token)} ({signed(change)})" for token, change in named)
    if not gained_itself:
        what = "and the mass" if change_itself < -NO_CHANGE else "and mass"
    elif named[0][1] > change_itself:
        # The preferred token is not where most of the mass went: the sign of displacement.
        what = f"({signed(change_itself)}), but more of the mass"
    else:
        what = "and mass also"
    return f" {what} went to {where}{_group(observed.group_changes)}"


def _group(changes: Mapping[str, float]) -> str:
    if not changes:
        return ""
    name, change = max(changes.items(), key=lambda item: item[1])
    if not change >= NO_CHANGE:
        return ""
    return f"; the group {quoted(name)} as a whole gained {signed(change).lstrip('+')}"


def _fork_token(observed: Observation) -> str:
    return observed.preferred_tokens[
        min(observed.fork_position, len(observed.preferred_tokens) - 1)
    ]
