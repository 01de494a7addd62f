"""How bad a displacement is, in numbers and in a sentence. Pure functions of numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.probes.wording import probabilities, quoted, signed
from chesboard.probing.destinations import Destination, DisplacementKind
from chesboard.probing.drawdown import Drawdown

NO_DIFFERENCE = 1e-4
"""A drawdown that exceeds the fall from first to last by no more is not told."""


@dataclass(frozen=True, slots=True)
class Displacement:
    """What became of the probability that a pair's preferred response lost, up to one step.

    position: the token of y+ that the destination is about; None where no token lost. destination
    and gains: None and empty where that position has no ledger. is_squeezed: the token that was
    most likely at step 0 gained most. opposite_groups: those declared opposite to the preferred
    token. has_turned: the greedy answer refused at first and no longer does, which y+ would.
    looks_opposite: the preferred token and the top gainer, where they look like a yes and a no and
    nothing declares it.
    """

    kind: DisplacementKind | None
    position: int | None = None
    destination: Destination | None = None
    gains: Mapping[Destination, float] | None = None
    top_gainer: tuple[str, float] | None = None
    is_squeezed: bool = False
    opposite_groups: tuple[str, ...] = ()
    has_turned: bool = False
    looks_opposite: tuple[str, str] | None = None
    drawdown: Drawdown | None = None
    """Of the preferred token's probability at the fork."""
    logprob_drawdown: Drawdown | None = None
    """Of log p(y+), in nats, as a change since step 0."""


def severity_sentence(one: Displacement, token: str) -> str:
    """What the kind rests on; empty where nothing was displaced. token: the one of y+ at the
    position that the destination is about."""
    if one.kind == "kept" or one.position is None:
        return ""
    if one.kind is None:
        return _unknown(one, token)
    return f"{one.kind.capitalize()}: {severity_reason(one, token)}{_squeezing(one)}."


def severity_reason(one: Displacement, token: str) -> str:
    """The same as part of a sentence, without the kind; empty where that is not known."""
    if one.kind == "catastrophic":
        return _catastrophic(one, token)
    return _benign(one, token) if one.kind == "benign" else ""


def _catastrophic(one: Displacement, token: str) -> str:
    groups = _opposites(one)
    if one.destination == "opposite_group":
        return f"most mass went to the opposite of {quoted(token)}, {groups}{_gain(one)}"
    if one.has_turned:
        return "the model's answer refused at first and no longer does"
    return f"the opposite of {quoted(token)}, {groups}, took the lead"


def _benign(one: Displacement, token: str) -> str:
    match one.destination:
        case "variant":
            return f"most mass went to other spellings of {quoted(token)}{_gain(one)}"
        case "own_group":
            return f"most mass went to other words of its group{_gain(one)}"
        case "mode":
            where = "the token that was likeliest before"
        case _:
            where = "tokens outside of all groups"
    return f"most mass went to {where}{_gain(one)}, not to {_opposites(one)}"


def _unknown(one: Displacement, token: str) -> str:
    if one.destination is None:
        return (
            f"Most of the loss is at token {(one.position or 0) + 1}, {quoted(token)}, where no "
            "ledger says who gained: how bad this is is not known."
        )
    sentence = (
        f"No group is declared opposite to {quoted(token)}, so how bad this is is not "
        f"known{_squeezing(one)}."
    )
    if one.looks_opposite is None:
        return sentence
    return f"{sentence} {' and '.join(map(quoted, one.looks_opposite))} look like opposites."


def _opposites(one: Displacement) -> str:
    names = ", ".join(map(quoted, one.opposite_groups))
    return f"the group{'s' if len(one.opposite_groups) > 1 else ''} {names}"


def _gain(one: Displacement) -> str:
    if one.gains is None or one.destination is None:
        return ""
    return f" ({signed(one.gains[one.destination])})"


def _squeezing(one: Displacement) -> str:
    """The argmax rose: the softmax explains the receiver, whatever it means."""
    if not one.is_squeezed or one.top_gainer is None:
        return ""
    return f"; {quoted(one.top_gainer[0])} was the likeliest token already (squeezing)"


def trough_sentence(one: Displacement, token: str, fall: float) -> str:
    """The lowest point, where the first and the last step do not tell it.

    token: the preferred one at the fork. fall: how much its probability fell from the first to the
    last step.
    """
    down = one.drawdown
    if down is None or down.size <= max(fall, 0) + NO_DIFFERENCE:
        return ""
    peak, trough = probabilities(down.peak, down.trough)
    return (
        f"On the way {quoted(token)} fell from {peak} at step {down.peak_step} to {trough} at step "
        f"{down.trough_step}."
    )
