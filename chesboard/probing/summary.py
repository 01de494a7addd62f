"""What a run's summary says of its probes: changes in nats, the fork, and where the mass went."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from chesboard.probing.probes import WatchedPair, WatchedPrompt
from chesboard.records import ProbeStepRecord, displaced
from chesboard.tokenization import token_text

TOP_GAINERS = 3


def summarize_pair(probe: WatchedPair, tokenizer: Any) -> dict[str, Any]:
    """A watched pair at its last observed step, compared with step 0."""
    last, initial_V = probe.last, probe.fork.initial_V
    assert last is not None
    preferred_id, dispreferred_id = probe.fork_ids
    gainers = [entry.token_id for entry in last.ledger.gainers[:TOP_GAINERS]]
    return {
        "pair": probe.pair,
        "preferred_change": last.preferred_change,
        "dispreferred_change": last.dispreferred_change,
        "moved_mass": last.ledger.moved_mass,
        "onset_step": last.onset_step,
        "predicted_hit": sum(token_id in probe.fork.predicted for token_id in gainers),
        "fork": {
            "position": probe.tokens.fork_position,
            "preferred_token": token_text(tokenizer, preferred_id),
            "dispreferred_token": token_text(tokenizer, dispreferred_id),
            "preferred_initial": initial_V[preferred_id].item(),
            "preferred_final": last.preferred_prob,
            "dispreferred_initial": initial_V[dispreferred_id].item(),
            "dispreferred_final": last.dispreferred_prob,
        },
        "top_gainers": _top_gainers(last),
    }


def summarize_prompt(probe: WatchedPrompt) -> dict[str, Any]:
    """A watched prompt at its last observed step: moved mass, top gainers, and group sums."""
    last = probe.last
    assert last is not None
    return {
        "pair": probe.pair,
        "name": probe.config.name,
        "moved_mass": last.ledger.moved_mass,
        "top_gainers": _top_gainers(last),
        "groups": [
            {
                "name": name,
                "initial": probe.fork.initial_V[members].sum().item(),
                "final": final,
            }
            for (name, members), final in zip(probe.groups.items(), last.group_probs, strict=True)
        ],
    }


def _top_gainers(last: ProbeStepRecord) -> list[dict[str, Any]]:
    return [
        {"token": entry.token, "change": entry.change}
        for entry in last.ledger.gainers[:TOP_GAINERS]
    ]


def mean(values: Sequence[float]) -> float:
    """The mean, independent of the order of the values. NaN and infinity propagate."""
    total = sum(values)
    return math.fsum(values) / len(values) if math.isfinite(total) else total / len(values)


def summarize_probes(probes: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the pairs' summaries; None without pairs."""
    names = ("preferred_change", "dispreferred_change", "moved_mass")
    if not probes:
        return dict.fromkeys([*names, "displaced_fraction"])
    return {
        **{name: mean([probe[name] for probe in probes]) for name in names},
        "displaced_fraction": mean(
            [displaced(probe["preferred_change"], probe["dispreferred_change"]) for probe in probes]
        ),
    }
