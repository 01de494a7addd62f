"""Scoring of pairs: the measures of each."""

import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from chesboard.configs import ModelConfig
from chesboard.forward.batching import TokenBudget, in_batches
from chesboard.forward.ready import ready_forward
from chesboard.forward.states import PairForward, PairStates
from chesboard.forward.stream_schedule import layers_reported, schedule_for
from chesboard.measures.ches import hidden_measures
from chesboard.measures.edit_distance import normalized_edit_distance
from chesboard.measures.head import head_measures
from chesboard.model import LoadedModel
from chesboard.pair_counts import PairCounts, same_tokens_message, truncation_messages
from chesboard.pairs import TokenizedPair
from chesboard.records import ScoreRecord
from chesboard.reporting import Control, Reporter

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def score_pairs(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    config: ModelConfig,
    reporter: Reporter,
    control: Control,
    already: Collection[int] = (),
    measures: bool = True,
) -> dict[str, Any]:
    """Score the pairs that are not in `already`, and report their records.

    already: those of the pairs that an earlier attempt scored. The values are the same to the last
    bit however often it was interrupted.
    measures: False computes log-probabilities only (an `evaluate` run).

    On a CPU, `chesboard.cpu.install(loaded.model)` beforehand makes this faster.

    Returns how it was computed: the kind of `forward` pass and, of this call, `seconds` and the
    `scored_tokens` of its pairs.

    Raises:
        MemoryError: one pair alone does not fit into the GPU's memory.
        ValueError: a pair is longer than the model can read, or has a token that it does not know.
        What `control.check()` raises, between two batches; of a model that is read layer by
        layer, also while a layer is read.
    """
    scored = set(already)
    todo = [pair for pair in pairs if pair.pair not in scored]
    with layers_reported(loaded, "comparing forward passes", reporter, control):
        forward = ready_forward(loaded, pairs, reporter)
    lacks_head = False

    def score(batch: list[TokenizedPair]) -> None:
        nonlocal lacks_head
        records = [r for r in _score_batch(forward, batch, measures) if r.pair not in scored]
        reporter.put(*records)
        scored.update(record.pair for record in records)
        lacks_head |= any(one.ches is not None and one.head_shift is None for one in records)
        reporter.progress(len(scored), len(pairs), "pairs")

    started = time.perf_counter()
    reporter.phase("scoring")
    reporter.progress(len(scored), len(pairs), "pairs")
    budget = TokenBudget(config.batch_tokens, reporter.message)
    in_batches(
        pairs,
        forward.row_tokens,
        budget,
        control,
        score,
        done=frozenset(scored),
        schedule=schedule_for(loaded, forward, reporter, control),
    )
    if lacks_head:
        reporter.message(
            "What is measured at the output head (head shift, head cosine, gradient norms) is "
            "missing: this model's logits are not a linear function of its hidden states."
        )
    return {
        "forward": forward.kind,
        "seconds": time.perf_counter() - started,
        "scored_tokens": sum(pair.tokens for pair in todo),
    }


NOT_RANKED = "have no CHES and are not ranked"
"""What becomes of pairs whose responses are the same tokens, where pairs are scored."""


def report_truncation(pairs: Sequence[TokenizedPair], reporter: Reporter) -> None:
    """Report how many tokens truncation removed and how many pairs were tokenized apart."""
    for message in truncation_messages(PairCounts.of(pairs)):
        reporter.message(message)


def report_same_tokens(
    pairs: Sequence[TokenizedPair], reporter: Reporter, consequence: str
) -> None:
    """Report the pairs whose two responses are the same tokens to the model, and what would help.

    consequence: what becomes of these pairs, as the end of a sentence.
    """
    same = [pair.pair for pair in pairs if pair.has_same_tokens]
    if same:
        reporter.message(same_tokens_message(PairCounts.of(pairs), same, consequence))


@torch.no_grad()
def _score_batch(
    forward: PairForward, batch: Sequence[TokenizedPair], measures: bool
) -> list[ScoreRecord]:
    states = forward(batch, gram=measures)
    preferred = states.preferred_logprobs_B().tolist()
    dispreferred = states.dispreferred_logprobs_B().tolist()
    columns = _similarity_columns(states) if measures else {}
    records = []
    for b, pair in enumerate(batch):
        # Of equal responses every measure says "most similar", which would rank a pair without
        # any preference as the worst of a dataset.
        is_measured = measures and not pair.has_same_tokens
        found = {name: column[b] if is_measured else None for name, column in columns.items()}
        records.append(
            ScoreRecord(
                pair=pair.pair,
                ches=found.pop("ches", None),
                ln_ches=found.pop("ln_ches", None),
                last_hidden_inner_product=found.pop("last_hidden_inner_product", None),
                normalized_edit_distance=normalized_edit_distance(pair) if is_measured else None,
                preferred_logprob=preferred[b],
                dispreferred_logprob=dispreferred[b],
                preferred_tokens=len(pair.preferred_ids),
                dispreferred_tokens=len(pair.dispreferred_ids),
                prompt_tokens=len(pair.prompt_ids),
                cut_tokens=pair.cut_tokens,
                preferred_ends=pair.preferred_ends,
                dispreferred_ends=pair.dispreferred_ends,
                implicit_gap=preferred[b] - dispreferred[b],
                length_gap=float(len(pair.dispreferred_ids) - len(pair.preferred_ids)),
                **found,
            )
        )
    return records


def _similarity_columns(states: PairStates) -> dict[str, list[float]]:
    """What hidden states and, where the head is linear, its gradients say of each pair, by name."""
    hidden = hidden_measures(states)
    columns = {
        "ches": hidden.ches_B,
        "ln_ches": hidden.ln_ches_B,
        "last_hidden_inner_product": hidden.last_hidden_inner_product_B,
    }
    if states.head_gram is not None:
        head = head_measures(states.head_gram)
        columns |= {
            "head_shift": head.head_shift_B,
            "head_cosine": head.head_cosine_B,
            "preferred_grad_norm": head.preferred_grad_norm_B,
            "dispreferred_grad_norm": head.dispreferred_grad_norm_B,
        }
    return {name: column_B.tolist() for name, column_B in columns.items()}


def statistics(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean and quantiles of the finite values; None where there are none."""
    numbers = np.array([value for value in values if value is not None], dtype=float)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return None
    quantiles = np.quantile(finite, QUANTILES)
    return {
        "mean": float(finite.mean()),
        "median": float(np.median(finite)),
        "minimum": float(finite.min()),
        "maximum": float(finite.max()),
        "not_finite": float(numbers.size - finite.size),
        **dict(zip(quantile_names(), map(float, quantiles), strict=True)),
    }


def quantile_names() -> dict[str, float]:
    """The quantiles of a summary by what they are called in it."""
    return {f"q{q * 100:02.0f}": q for q in QUANTILES}
