"""Select the forward pass: shared prefix if it reproduces the two-pass reference within TOLERANCE
on test pairs, else two passes, with the reason.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from chesboard.causal_lm import ModelError
from chesboard.forward.by_length import ByLengthForward
from chesboard.forward.layer_stream import run_together
from chesboard.forward.rope import (
    LengthDependentRope,
    length_dependent_rope,
    rope_of,
    text_lengths,
)
from chesboard.forward.shared_prefix import FLOAT32_TAIL_SHARE, SharedPrefixForward
from chesboard.forward.states import PairForward, PairStates
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import LoadedModel, causal_model, head_of
from chesboard.pairs import TokenizedPair

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Relative difference of hidden states and logits up to which two paths count as the same.
Rounding stays well below it; a mask that is ignored gives differences of order one."""


def select_forward(
    loaded: LoadedModel, pairs: Sequence[TokenizedPair], *, prefill: bool = True
) -> tuple[PairForward, str | None]:
    """The shared-prefix forward pass where it computes the same as two passes, else two passes and
    the reason.

    prefill: whether keys and values of one pass may be kept for another.

    Compares both on two of the pairs, cut down to the surroundings of their forks, which costs
    little, and once for a model.
    """
    reference = TwoPassForward(loaded)
    if not pairs:
        return reference, None
    reason = _config_refusal(loaded, pairs)
    if reason is None:
        support = _support(loaded, pairs)
        if support.mask_refusal is None:
            least = None if support.prefill and prefill else math.inf
            tails = FLOAT32_TAIL_SHARE if support.float32_tails and prefill else 0.0
            shared = SharedPrefixForward(loaded, least, least, tails)
            rope = length_dependent_rope(loaded.model)
            if rope is None:
                return shared, None
            return ByLengthForward(loaded, rope, shared), _apart_by_length(rope, pairs)
        reason = support.mask_refusal
    return reference, f"Prompts are computed once for each response, which is slower: {reason}."


def _apart_by_length(rope: LengthDependentRope, pairs: Sequence[TokenizedPair]) -> str | None:
    if all(rope.same_for_both(pair) for pair in pairs):
        return None
    return (
        "The model's rotary positions depend on the length of the text (LongRoPE, dynamic NTK): "
        "where they differ between the responses of a pair, the prompt is computed once for each, "
        "which is slower."
    )


@dataclass(frozen=True, slots=True)
class _Support:
    """What a model was found to support.

    mask_refusal: why it cannot use the branch mask, or None where it can. prefill: rows after a
    KV cache. float32_tails: such rows in float32 after a cache in a narrower dtype.
    """

    mask_refusal: str | None
    prefill: bool
    float32_tails: bool


_SUPPORT: WeakKeyDictionary[torch.nn.Module, dict[Any, _Support]] = WeakKeyDictionary()
"""Kept as long as the model is: a model that serves several runs is tested once."""


def _support(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> _Support:
    found = _SUPPORT.setdefault(loaded.model, {})
    key = (causal_model(loaded).config._attn_implementation, loaded.compute_dtype)
    if key not in found:
        sensitive = _sensitive_pairs(pairs)
        # One length for all: what the mask does is compared, and never two lengths of text.
        longest = max(max(text_lengths(pair)) for pair in sensitive)
        with rope_of(loaded.model, [longest]):
            found[key] = _compare(loaded, sensitive)
    return found[key]


def _compare(loaded: LoadedModel, sensitive: Sequence[TokenizedPair]) -> _Support:
    others = [_with_other_preferred(pair) for pair in sensitive]
    # Three variants, each with one feature more than the one before.
    rows_only = SharedPrefixForward.without_prefill(loaded)
    prefilled = SharedPrefixForward(loaded, min_saved_tokens=1, float32_tail_share=0.0)
    with_tails = SharedPrefixForward(loaded, float32_tail_share=math.inf)
    calls: list[Callable[[], PairStates | str]] = [
        partial(_states_of, TwoPassForward(loaded), sensitive),
        partial(_states_or_reason, rows_only, sensitive),
        partial(_states_or_reason, rows_only, others),
        partial(_states_or_reason, prefilled, sensitive),
        partial(_states_or_reason, with_tails, sensitive),
    ]
    expected, *found = run_together(causal_model(loaded), calls)
    assert isinstance(expected, PairStates)
    rows, rows_of_others, after_prefill, in_float32 = found
    mask_refusal = _difference(rows, expected, loaded) or _leak(rows, rows_of_others)
    prefill = mask_refusal is None and _difference(after_prefill, expected, loaded) is None
    tails = prefill and _difference(in_float32, expected, loaded) is None
    return _Support(mask_refusal, prefill, tails)


@torch.no_grad()
def _states_of(forward: PairForward, pairs: Sequence[TokenizedPair]) -> PairStates:
    return forward(pairs, forks=True)


def _states_or_reason(forward: PairForward, pairs: Sequence[TokenizedPair]) -> PairStates | str:
    """What a forward pass gives, or why it gives nothing."""
    try:
        return _states_of(forward, pairs)
    except (torch.OutOfMemoryError, ModelError):
        raise
    except Exception as error:
        return f"the model does not take the mask ({type(error).__name__}: {error})"


def _sensitive_pairs(pairs: Sequence[TokenizedPair]) -> list[TokenizedPair]:
    """Two pairs with many tokens after their forks, where an ignored mask changes most, and with
    a common prefix."""
    by_branch = sorted(
        pairs,
        key=lambda p: min(len(p.preferred_ids), len(p.dispreferred_ids)) - p.fork_position,
    )
    prefix = by_branch[-1].prompt_ids[:8]
    return [_cut_down(pair, prefix) for pair in (by_branch * 2)[-2:]]


def _cut_down(pair: TokenizedPair, prefix: Sequence[int]) -> TokenizedPair:
    """The surroundings of the pair's fork, as a pair of its own, after a common prefix. Some
    tokens follow the fork in any case: what short responses support says nothing of longer ones."""
    start, end, more = max(0, pair.fork_position - 4), pair.fork_position + 12, pair.prompt_ids[-4:]
    return replace(
        pair,
        prompt_ids=[*prefix, *pair.prompt_ids[-24:]],
        preferred_ids=[*pair.preferred_ids[start:end], *more],
        dispreferred_ids=[*pair.dispreferred_ids[start:end], *more],
        fork_position=pair.fork_position - start,
    )


def _config_refusal(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> str | None:
    """Reasons from the model's configuration, which a comparison on two pairs could miss."""
    config = causal_model(loaded).config.get_text_config()
    if getattr(config, "final_logit_softcapping", None):
        return "the model caps its logits"
    if head_of(loaded) is None:
        return "the model's output head is not a plain linear layer"
    window = _attention_window(config)
    longest = max(
        (
            len(pair.prompt_ids) + max(len(pair.preferred_ids), len(pair.dispreferred_ids))
            for pair in pairs
        ),
        default=0,
    )
    if window is not None and longest > window:
        return f"the model attends to {window} tokens only, and some pairs are longer"
    return None


def _attention_window(config: Any) -> int | None:
    """The tokens that a layer with sliding-window or chunked attention sees; None where every
    layer sees all."""
    layers = getattr(config, "layer_types", None)
    if getattr(config, "use_sliding_window", True) is False:
        return None
    if layers is not None and not any("full" not in layer for layer in layers):
        return None
    windows = [
        getattr(config, name, None)
        for name in ("sliding_window", "attention_chunk_size", "window_size")
    ]
    return min((window for window in windows if isinstance(window, int)), default=None)


def _difference(states: PairStates | str, expected: PairStates, loaded: LoadedModel) -> str | None:
    """How a path differs from what two passes gave, or None where they agree within TOLERANCE."""
    if isinstance(states, str):
        return states
    assert states.fork_logits_BV is not None
    assert expected.fork_logits_BV is not None
    tolerance = TOLERANCE.get(loaded.compute_dtype, 1e-3)
    for what, a, b in (
        ("hidden states", _hidden_of_both(states), _hidden_of_both(expected)),
        ("logits", states.fork_logits_BV, expected.fork_logits_BV),
        ("log-probabilities", _logprobs_of_both(states), _logprobs_of_both(expected)),
    ):
        relative = ((a - b).norm() / b.norm().clamp_min(1e-12)).item()
        if not relative <= tolerance:  # NaN is a difference too
            return f"its {what} would differ by {relative:.1%} with a shared prompt"
    return None


LEAK = 1e-3
"""Relative change of a hidden state from which on it counts as dependent on the other response.
Under attention there is none; experts whose products are batched (mixtures) round differently by
1e-7. Layers that carry state from token to token change states by 4 % and more (measured on models
of random weights)."""


def _leak(states: PairStates | str, of_others: PairStates | str) -> str | None:
    """How the first response of a row reaches the second, or None where it is hidden from it.

    of_others: the states of the same pairs with other tokens after the fork of y+.

    Convolutions and recurrences (LFM2, Jamba, MiniMax) carry state from one response into the
    other whatever the mask. That changes few states by much or all by little, which in bfloat16
    can be less than both paths differ by rounding: so it is tested within one path, for each token.
    """
    if isinstance(states, str) or isinstance(of_others, str):
        return next(one for one in (states, of_others) if isinstance(one, str))
    before, after = _after_dispreferred_fork(states), _after_dispreferred_fork(of_others)
    change = ((after - before).norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)).max().item()
    if change <= LEAK:
        return None
    return (
        "not all of its layers are attention, and others read on from one response into the next "
        f"(which changes a hidden state by {change:.1%})"
    )


def _with_other_preferred(pair: TokenizedPair) -> TokenizedPair:
    """The pair with other tokens after the fork of y+."""
    fork = pair.fork_position
    other = [token_id - 1 if token_id else 1 for token_id in pair.preferred_ids[fork:]]
    return replace(pair, preferred_ids=[*pair.preferred_ids[:fork], *other])


def _after_dispreferred_fork(states: PairStates) -> Tensor:
    """The hidden states that no token of y+ after the fork may reach."""
    shared = torch.isin(states.index.dispreferred_rows_N, states.index.preferred_rows_N)
    return states.hidden_UD[states.index.dispreferred_rows_N[~shared]].float()


def _hidden_of_both(states: PairStates) -> Tensor:
    rows = torch.cat([states.index.preferred_rows_N, states.index.dispreferred_rows_N])
    return states.hidden_UD[rows].float()


def _logprobs_of_both(states: PairStates) -> Tensor:
    return torch.cat([states.preferred_token_logprobs_N(), states.dispreferred_token_logprobs_N()])
