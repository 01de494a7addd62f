"""The summary of a training run: its last step, its pairs and its probes."""

from collections.abc import Sequence
from typing import Any

from chesboard.pairs import TokenizedPair
from chesboard.probing.observer import ProbeObserver
from chesboard.probing.summary import summarize_probes
from worker.training.checkpoints import Progress
from worker.training.plan import Plan


def summarize(
    at: Progress, pairs: Sequence[TokenizedPair], plan: Plan, observer: ProbeObserver
) -> dict[str, Any]:
    """Of a run that has ended, but for the displacement of all its pairs."""
    probes = observer.summarize()
    summary = {
        "steps": at.step,
        "pairs": len(pairs),
        "seconds": at.seconds,
        "tokens_seen": at.tokens_seen,
        "tokens_per_second": at.tokens_seen / at.seconds if at.seconds else None,
        "final_loss": at.loss,
        "final_margin": at.margin,
        "cut_tokens": sum(pair.cut_tokens for pair in pairs),
        "retokenised_pairs": sum(pair.retokenized for pair in pairs),
        "probes": probes,
        "prompts": observer.summarize_prompts(),
        **summarize_probes(probes),
    }
    if plan.left:
        summary["dropped_pairs"] = len(pairs) - len(plan.left[-1])
    return summary
