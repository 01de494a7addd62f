"""Slow twins of the fast paths: float64, one response at a time, formulas as in docs/theory.md."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from chesboard.measures.registry import MEASURE_NAMES, SIMILARITY_MEASURES
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import ScoreRecord


@dataclass
class NaiveResponse:
    hidden: list[Tensor]
    """h(x, y_<k) for k = 1..n."""
    logprobs: list[float]
    distributions: list[Tensor]


@torch.no_grad()
def read(loaded: LoadedModel, prompt: Sequence[int], response: Sequence[int]) -> NaiveResponse:
    model = copy.deepcopy(loaded.model).double()
    output = model(torch.tensor([[*prompt, *response]]), output_hidden_states=True, use_cache=False)
    seen = NaiveResponse([], [], [])
    for k, token_id in enumerate(response):
        position = len(prompt) + k - 1
        seen.hidden.append(output.hidden_states[-1][0, position])
        distribution = torch.log_softmax(output.logits[0, position].double(), -1)
        seen.logprobs.append(distribution[token_id].item())
        seen.distributions.append(distribution.exp())
    return seen


@dataclass
class NaiveScores:
    ches: float
    ln_ches: float
    last_hidden_inner_product: float
    normalized_edit_distance: float
    preferred_logprob: float
    dispreferred_logprob: float
    implicit_gap: float
    length_gap: float
    head_shift: float
    head_cosine: float
    preferred_grad_norm: float
    dispreferred_grad_norm: float
    scales: dict[str, float]
    """The size of the terms that each measure is a sum or difference of. Rounding is relative
    to these: a difference may cancel and an inner product may be of vectors at right angles."""


def assert_scored(loaded: LoadedModel, pair: TokenizedPair, record: ScoreRecord) -> None:
    expected = score(loaded, pair)
    is_capped = getattr(loaded.model.config, "final_logit_softcapping", None) is not None
    for name in MEASURE_NAMES:
        is_at_head = name.startswith("head") or name.endswith("grad_norm")
        has_none = pair.has_same_tokens and (name in SIMILARITY_MEASURES or is_at_head)
        # A cap on the logits makes the head's own gradients another model's.
        has_none |= is_at_head and is_capped
        value = None if has_none else getattr(expected, name)
        # float32 forward passes against float64 ones
        assert getattr(record, name) == near(value, expected.scales[name])


def near(value: float | None, scale: float) -> Any:
    """Equal up to the rounding of float32 in numbers of this scale; None equals None."""
    return None if value is None else pytest.approx(value, rel=0, abs=1e-5 * scale)


def score(loaded: LoadedModel, pair: TokenizedPair) -> NaiveScores:
    preferred = read(loaded, pair.prompt_ids, pair.preferred_ids)
    dispreferred = read(loaded, pair.prompt_ids, pair.dispreferred_ids)
    s_plus = torch.stack(preferred.hidden).sum(0)
    s_minus = torch.stack(dispreferred.hidden).sum(0)
    n_plus, n_minus = len(pair.preferred_ids), len(pair.dispreferred_ids)
    y_plus, y_minus = pair.preferred_ids[:-1], pair.dispreferred_ids[:-1]
    longer = max(len(y_plus), len(y_minus))
    last_plus, last_minus = preferred.hidden[-1], dispreferred.hidden[-1]
    scale = logit_scale(loaded)
    grad_plus = scale * head_gradient(preferred, pair.preferred_ids)
    grad_minus = scale * head_gradient(dispreferred, pair.dispreferred_ids)
    norm_plus, norm_minus = grad_plus.norm(), grad_minus.norm()
    mean_plus, mean_minus = s_plus / n_plus, s_minus / n_minus
    scores = NaiveScores(
        ches=(s_plus @ s_minus - s_plus @ s_plus).item(),
        ln_ches=(s_plus @ s_minus / (n_plus * n_minus) - s_plus @ s_plus / n_plus**2).item(),
        last_hidden_inner_product=(last_plus @ last_minus).item(),
        normalized_edit_distance=edit_distance(y_plus, y_minus) / longer if longer else 0.0,
        preferred_logprob=math.fsum(preferred.logprobs),
        dispreferred_logprob=math.fsum(dispreferred.logprobs),
        implicit_gap=math.fsum(preferred.logprobs) - math.fsum(dispreferred.logprobs),
        length_gap=n_minus - n_plus,
        head_shift=(grad_plus.square().sum() - (grad_plus * grad_minus).sum()).item(),
        head_cosine=((grad_plus * grad_minus).sum() / (norm_plus * norm_minus)).item(),
        preferred_grad_norm=norm_plus.item(),
        dispreferred_grad_norm=norm_minus.item(),
        scales={
            "length_gap": 1.0,
            "head_shift": (norm_plus * (norm_plus + norm_minus)).item(),
            "head_cosine": 1.0,
            "preferred_grad_norm": norm_plus.item(),
            "dispreferred_grad_norm": norm_minus.item(),
            "ches": (s_plus.norm() * s_minus.norm() + s_plus @ s_plus).item(),
            "ln_ches": (mean_plus.norm() * mean_minus.norm() + mean_plus @ mean_plus).item(),
            "last_hidden_inner_product": (last_plus.norm() * last_minus.norm()).item(),
            "normalized_edit_distance": 1.0,
        },
    )
    scores.scales["preferred_logprob"] = abs(scores.preferred_logprob)
    scores.scales["dispreferred_logprob"] = abs(scores.dispreferred_logprob)
    scores.scales["implicit_gap"] = abs(scores.preferred_logprob) + abs(scores.dispreferred_logprob)
    return scores


def logit_scale(loaded: LoadedModel) -> float:
    config = loaded.model.config
    return getattr(config, "logit_scale", None) or 1 / getattr(config, "logits_scaling", 1)


def head_gradient(seen: NaiveResponse, response: Sequence[int]) -> Tensor:
    """Of log p(y) with respect to the unembedding: sum over k of (e_{y_k} - pi_k) h_k^T."""
    by_logit = -torch.stack(seen.distributions)
    by_logit[torch.arange(len(response)), torch.tensor(response)] += 1
    return by_logit.T @ torch.stack(seen.hidden)


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """Levenshtein by its table."""
    row = list(range(len(b) + 1))
    for i, token_a in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, token_b in enumerate(b, start=1):
            best = min(diagonal + (token_a != token_b), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], best
    return row[-1]
