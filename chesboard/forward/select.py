"""Which way a model's pairs are computed: the fast one where it gives the same as the plain one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from chesboard.forward.shared_prefix import (
    SHORT_ENDS,
    PairForward,
    PairStates,
    SharedPrefixForward,
    TwoForwards,
    causal_model,
    head_of,
)
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Relative difference of hidden states and logits below which two paths count as the same.
Rounding stays well under it; a mask that is ignored gives differences of order one."""


def choose_forward(
    loaded: LoadedModel, pairs: Sequence[TokenizedPair]
) -> tuple[PairForward, str | None]:
    """The fast path where the model computes the same with it, else the plain one and the reason.

    Compares both on two pairs, cut down to what lies around their forks, so it costs little.
    """
    plain = TwoForwards(loaded)
    if not pairs:
        return plain, None
    reason = _refusal(loaded, pairs)
    if reason is None:
        takes = _takes(loaded, pairs)
        if takes.the_mask is None:
            ahead = None if takes.starts else math.inf
            ends = SHORT_ENDS if takes.ends else 0.0
            return SharedPrefixForward(loaded, ahead, ahead, ends), None
        reason = takes.the_mask
    return plain, f"Prompts are computed once for each response, which is slower: {reason}."


@dataclass(frozen=True, slots=True)
class _Takes:
    """What a model was seen to take: `the_mask` is None, or why not; `starts`: keys and values
    that were computed ahead of the rows; `ends`: in a wider precision behind those."""

    the_mask: str | None
    starts: bool
    ends: bool


_SEEN: WeakKeyDictionary[torch.nn.Module, dict[Any, _Takes]] = WeakKeyDictionary()
"""A model that is kept between runs is looked at once."""


def _takes(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> _Takes:
    seen = _SEEN.setdefault(loaded.model, {})
    key = (causal_model(loaded).config._attn_implementation, loaded.compute_dtype)
    if key not in seen:
        plain, telling = TwoForwards(loaded), _telling_pairs(pairs)
        rows_only = SharedPrefixForward(loaded, math.inf, math.inf, 0.0)
        ahead = SharedPrefixForward(loaded, smallest_saving=1, short_ends=0.0)
        exact_ends = SharedPrefixForward(loaded, short_ends=math.inf)
        the_mask = _difference(rows_only, plain, telling, loaded) or _leak(rows_only, telling)
        starts = the_mask is None and _difference(ahead, plain, telling, loaded) is None
        ends = starts and _difference(exact_ends, plain, telling, loaded) is None
        seen[key] = _Takes(the_mask, starts, ends)
    return seen[key]


def _telling_pairs(pairs: Sequence[TokenizedPair]) -> list[TokenizedPair]:
    """Two pairs with much behind their forks, where a mask that is ignored shows most, and with
    one beginning."""
    branchy = sorted(
        pairs,
        key=lambda p: min(len(p.preferred_ids), len(p.dispreferred_ids)) - p.fork_position,
    )
    beginning = branchy[-1].prompt_ids[:8]
    return [_cut_down(pair, beginning) for pair in (branchy * 2)[-2:]]


def _cut_down(pair: TokenizedPair, beginning: Sequence[int]) -> TokenizedPair:
    """The pair's surroundings of its fork, as a pair of its own, behind a common beginning. Some
    tokens follow the fork in any case: what there is in short responses says nothing of others."""
    start, end, more = max(0, pair.fork_position - 4), pair.fork_position + 12, pair.prompt_ids[-4:]
    return replace(
        pair,
        prompt_ids=[*beginning, *pair.prompt_ids[-24:]],
        preferred_ids=[*pair.preferred_ids[start:end], *more],
        dispreferred_ids=[*pair.dispreferred_ids[start:end], *more],
        fork_position=pair.fork_position - start,
    )


def _refusal(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> str | None:
    """Reasons that a comparison of a few numbers could miss."""
    config = causal_model(loaded).config.get_text_config()
    if head_of(loaded) is None:
        return "the model's output head is not a plain linear layer"
    if getattr(config, "final_logit_softcapping", None):
        return "the model caps its logits"
    window = _attention_window(config)
    longest = max(
        (
            len(pair.prompt_ids) + max(len(pair.preferred_ids), len(pair.dispreferred_ids))
            for pair in pairs
        ),
        default=0,
    )
    if window is not None and longest > window:
        return f"the model attends to {window} tokens only and a pair is {longest} tokens long"
    return None


def _attention_window(config: Any) -> int | None:
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


def _difference(
    shared: PairForward,
    plain: PairForward,
    pairs: Sequence[TokenizedPair],
    loaded: LoadedModel,
) -> str | None:
    """Why the two paths are not the same, or None."""
    try:
        with torch.no_grad():
            fast, slow = shared(pairs, forks=True), plain(pairs, forks=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return f"the model does not take the mask ({type(error).__name__}: {error})"
    assert fast.fork_logits_BV is not None
    assert slow.fork_logits_BV is not None
    tolerance = TOLERANCE.get(loaded.compute_dtype, 1e-3)
    for what, a, b in (
        ("hidden states", _hidden_of_both(fast), _hidden_of_both(slow)),
        ("logits", fast.fork_logits_BV, slow.fork_logits_BV),
        ("log-probabilities", _logprobs_of_both(fast), _logprobs_of_both(slow)),
    ):
        relative = ((a - b).norm() / b.norm().clamp_min(1e-12)).item()
        if not relative <= tolerance:
            return f"its {what} would differ by {relative:.1%} with a shared prompt"
    return None


LEAK = 1e-3
"""Relative change of a hidden state from which on it is said to depend on the other response.
Behind attention there is none; experts that are multiplied together (mixtures) round otherwise by
1e-7. What reads on changed states by 4 % and more (models of random weights)."""


def _leak(shared: PairForward, pairs: Sequence[TokenizedPair]) -> str | None:
    """Why the first response of a row is not hidden from the second, or None.

    Convolutions and recurrences (LFM2, Jamba, MiniMax) read on from one response into the other
    whatever the mask. That changes few states by much or all by little, which in bfloat16 can be
    less than both paths differ by rounding: so it is looked for in one path, at each token.
    """
    others = [_with_other_preferred(pair) for pair in pairs]
    with torch.no_grad():
        before, after = (
            _behind_dispreferred_fork(shared(rows, logprobs=False)) for rows in (pairs, others)
        )
    change = ((after - before).norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)).max().item()
    if change <= LEAK:
        return None
    return (
        "not all of its layers are attention, and others read on from one response into the next "
        f"(which changes a hidden state by {change:.1%})"
    )


def _with_other_preferred(pair: TokenizedPair) -> TokenizedPair:
    """The pair with other tokens behind the fork of y+."""
    fork = pair.fork_position
    other = [token_id - 1 if token_id else 1 for token_id in pair.preferred_ids[fork:]]
    return replace(pair, preferred_ids=[*pair.preferred_ids[:fork], *other])


def _behind_dispreferred_fork(states: PairStates) -> Tensor:
    """The hidden states that no token of y+ behind the fork may reach."""
    shared = torch.isin(states.index.dispreferred_rows_N, states.index.preferred_rows_N)
    return states.hidden_UD[states.index.dispreferred_rows_N[~shared]].float()


def _hidden_of_both(states: PairStates) -> Tensor:
    rows = torch.cat([states.index.preferred_rows_N, states.index.dispreferred_rows_N])
    return states.hidden_UD[rows].float()


def _logprobs_of_both(states: PairStates) -> Tensor:
    return torch.cat([states.preferred_token_logprobs_N(), states.dispreferred_token_logprobs_N()])


def refuse_too_long(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> None:
    """Raises:
    ValueError: a pair has more tokens than the model has learned positions.
    """
    config = causal_model(loaded).config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or getattr(config, "rope_parameters", None) is not None:
        return  # rotary positions have no table that could end
    for pair in pairs:
        longest = max(len(pair.preferred_ids), len(pair.dispreferred_ids)) - 1
        if len(pair.prompt_ids) + longest > limit:
            raise ValueError(
                f"Pair {pair.pair} has {len(pair.prompt_ids) + longest} tokens, but the model "
                f"reads at most {limit}. Lower max_prompt_tokens and max_response_tokens so that "
                "together they fit."
            )
