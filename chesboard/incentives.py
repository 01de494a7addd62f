"""What an objective does to the two incentives of a pair at the start of training, in words.

The incentives are the pushes d+ and d- of `chesboard.forecast`; their ratio decides whether y+ is
taken along when y- is pushed down (`docs/theory.md`, equation 21).
"""

from chesboard.configs.objective import ObjectiveConfig
from chesboard.forecast import ScoredPairs, first_push

TYPICAL = ScoredPairs(-20.0, -20.0, 20, 20, 0.0, 1.0, 1.0)
"""Both responses alike, of 20 tokens: what depends on the pair is said beside."""

_BESIDE = {
    "ipo": "Both push only until the margin is 1/(2 beta), and back beyond it.",
    "slic": "Both stop once beta times the margin reaches delta.",
    "simpo": "For other lengths the ratio is n−/n+: the shorter response is pushed harder a token.",
    "dpop": "That is once y+ has fallen below the reference; before, both are pushed alike.",
    "odpo": "Alike, but harder the larger alpha times the offset is.",
    "dpo_shift": "The less y− is pushed down, the less it takes y+ along.",
    "bdpo": "y− is pushed down only so far: its push fades as it loses against the reference.",
    "cal_dpo": "Both are drawn to 1/(2 beta) nats above and below the reference, and held there.",
    "apo_zero": "Both pushes fade apart: each as its own response has moved.",
    "alphapo": "For other pairs the ratio is (n−/n+) (p−/p+)^alpha, p of a mean token.",
}


def push_ratio(config: ObjectiveConfig) -> float | None:
    """r = d+ / d- of a typical pair; None where y- is not pushed at all."""
    push = first_push(config, TYPICAL)
    return float(push.preferred / push.dispreferred) if push.dispreferred else None


def describe_incentives(config: ObjectiveConfig) -> str:
    """A sentence or two on the ratio of the pushes at the start, and what it depends on."""
    ratio = push_ratio(config)
    if ratio is None:
        return "Only y+ is pushed up; y− is not pushed at all, and there is no margin."
    if abs(ratio - 1) < 1e-9:
        start = "At the start y+ is pushed up as hard as y− is pushed down"
    else:
        start = f"At the start y+ is pushed up {ratio:.3g} times as hard as y− is pushed down"
    of = "" if not _depends_on_lengths(config) else ", where both are of the same length"
    said = f"{start} (r = {ratio:.3g}){of}."
    beside = _BESIDE.get(config.objective)
    return f"{said} {beside}" if beside else said


def _depends_on_lengths(config: ObjectiveConfig) -> bool:
    per_token = config.length_normalize and (config.objective == "ipo" or config.sft_coef > 0)
    return config.objective in ("simpo", "alphapo") or per_token
