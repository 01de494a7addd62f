"""Scoring of a dataset: the measures of every pair, and a summary of their values."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from chesboard.configs import ModelConfig
from chesboard.forward.batching import TokenBudget, in_batches
from chesboard.forward.ready import ready_forward
from chesboard.forward.states import PairForward, PairStates
from chesboard.forward.stream_schedule import schedule_for
from chesboard.measures.ches import hidden_measures
from chesboard.measures.edit_distance import normalized_edit_distance
from chesboard.measures.head import head_measures
from chesboard.measures.registry import MEASURE_NAMES
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import ScoreRecord
from chesboard.reporting import Control, Reporter
from chesboard.text_messages import named

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def score_pairs(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    config: ModelConfig,
    reporter: Reporter,
    control: Control,
    already: Mapping[int, Mapping[str, float | None]] | None = None,
    measures: bool = True,
) -> dict[str, Any]:
    """Score the pairs that are not in `already`, report their records, and return a summary.

    already: pair → its measures, of the pairs that an earlier attempt at the run scored. The
    values are the same to the last bit however often the run was interrupted; the summary's
    seconds and speed (tokens per second) are of this call.
    measures: False computes log-probabilities only (an `evaluate` run).

    On a CPU, `chesboard.cpu.install(loaded.model)` beforehand makes this faster.

    Raises:
        MemoryError: one pair alone does not fit into the GPU's memory.
        ValueError: a pair is longer than the model can read, or has a token that it does not know.
        What `control.check()` raises, between two batches.
    """
    scored = dict(already or {})
    todo = [pair for pair in pairs if pair.pair not in scored]
    forward = ready_forward(loaded, pairs, reporter)

    def score(batch: list[TokenizedPair]) -> None:
        records = [r for r in _score_batch(forward, batch, measures) if r.pair not in scored]
        reporter.put(*records)
        scored.update({r.pair: {name: getattr(r, name) for name in MEASURE_NAMES} for r in records})
        reporter.progress(len(scored), len(pairs), "pairs")

    report_truncation(pairs, reporter)
    report_same_tokens(pairs, reporter, "have no CHES and are not ranked")
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
    seconds = time.perf_counter() - started
    if any(one["ches"] is not None and one["head_shift"] is None for one in scored.values()):
        reporter.message(
            "What is measured at the output head (head shift, head cosine, gradient norms) is "
            "missing: this model's logits are not a linear function of its hidden states."
        )
    return {
        **_summarize(pairs, [scored[pair.pair] for pair in pairs]),
        "forward": forward.kind,
        "seconds": seconds,
        "tokens_per_second": sum(pair.tokens for pair in todo) / seconds,
    }


def report_truncation(pairs: Sequence[TokenizedPair], reporter: Reporter) -> None:
    """Report how many tokens truncation removed and how many pairs were tokenized apart."""
    cut = [pair for pair in pairs if pair.cut_tokens]
    if cut:
        tokens = sum(pair.cut_tokens for pair in cut)
        reporter.message(
            f"{len(cut)} of {len(pairs)} pairs were too long: {tokens} tokens were cut. "
            "Raise max_prompt_tokens or max_response_tokens to keep them."
        )
    apart = sum(pair.retokenized for pair in pairs)
    if apart:
        reporter.message(
            f"In {apart} of {len(pairs)} pairs, prompt and response were tokenized apart, "
            "because joining them changes the prompt's last token."
        )


def report_same_tokens(
    pairs: Sequence[TokenizedPair], reporter: Reporter, consequence: str
) -> None:
    """Report the pairs whose two responses are the same tokens to the model, and what would help.

    consequence: what becomes of these pairs, as the end of a sentence.
    """
    same = [pair for pair in pairs if pair.has_same_tokens]
    if not same:
        return
    cut = sum(pair.preferred_cut > 0 for pair in same)
    advice = (
        f"{cut} of them differ only behind the cut: raise max_response_tokens to keep them apart."
        if cut
        else "The tokenizer turns both texts into the same tokens."
    )
    reporter.message(
        f"In {len(same)} of {len(pairs)} pairs ({named([pair.pair for pair in same])}) both "
        f"responses are the same tokens to the model, so they {consequence}. {advice}"
    )


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


def _summarize(
    pairs: Sequence[TokenizedPair], scored: Sequence[Mapping[str, float | None]]
) -> dict[str, Any]:
    return {
        "pairs": len(pairs),
        "tokens": sum(pair.tokens for pair in pairs),
        "cut_tokens": sum(pair.cut_tokens for pair in pairs),
        "cut_pairs": sum(pair.cut_tokens > 0 for pair in pairs),
        "same_token_pairs": sum(pair.has_same_tokens for pair in pairs),
        "retokenised_pairs": sum(pair.retokenized for pair in pairs),
        "measures": {name: statistics([one[name] for one in scored]) for name in MEASURE_NAMES},
    }


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
        **{f"q{q * 100:02.0f}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
    }
