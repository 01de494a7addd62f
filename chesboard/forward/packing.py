"""Packed rows: how a batch of pairs becomes rows of tokens, positions and masks.

Dimensions: B pairs, C tokens whose keys and values are prefilled, L input tokens of a row, U
predicting positions of all pairs of a batch one after the other, N response tokens of one side of
all pairs.

A row holds one pair, padded at the right:

    prompt[C:]  y[:f]  y+[f:n+ - 1]  y-[f:n- - 1]  padding        (f is the fork)
    positions C ...          | restart at the fork |

A branch mask hides the two responses from each other after the fork. The last token of a response
predicts nothing that is asked, so it is not an input. Up to the fork both responses are predicted
at the same positions, so a position has two targets: y+'s token and y-'s.

In the order of U, a pair has first the f + 1 positions that both responses share (the last prompt
token and y[:f], of which the last predicts the fork), then the n+ - f - 1 after the fork of y+,
then the n- - f - 1 after the fork of y-.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chesboard.forward.states import ResponseIndex
from chesboard.pairs import TokenizedPair

PAD_MULTIPLE = {"cuda": 8}
"""Row lengths are rounded up to a multiple of this: attention kernels on GPUs want it."""

SHARED, PREFERRED, DISPREFERRED, PADDING = range(4)
"""Segments of a row: prompt and common response tokens, y+ after the fork, y- after it, padding."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """The rows of a batch on the device; integers but for the index."""

    input_BL: Tensor
    position_BL: Tensor
    segment_BL: Tensor
    """int8: SHARED, PREFERRED, DISPREFERRED or PADDING."""
    predicting_U: Tensor
    """Indices into the flattened B x L."""
    targets_U2: Tensor
    """The tokens of y+ and y- that are predicted; 0 where a position predicts none of that side."""
    index: ResponseIndex


def row_tokens(pair: TokenizedPair) -> int:
    """Input tokens of the pair's row, its whole prompt counted."""
    responses = len(pair.preferred_ids) + len(pair.dispreferred_ids)
    return len(pair.prompt_ids) + responses - 2 - pair.fork_position


def common_prefix(pairs: Sequence[TokenizedPair]) -> tuple[int, ...]:
    """The tokens that all prompts begin with; the last of the shortest prompt is never among
    them, since it predicts."""
    # Whatever the lexicographically first and last prompts share, all between them share too.
    first, last = min(p.prompt_ids for p in pairs), max(p.prompt_ids for p in pairs)
    most = min(len(p.prompt_ids) for p in pairs) - 1
    count = 0
    while count < most and first[count] == last[count]:
        count += 1
    return tuple(first[:count])


def pack(
    pairs: Sequence[TokenizedPair], device: torch.device, prefilled: Sequence[int] | None = None
) -> PackedBatch:
    """The rows of a batch.

    prefilled: how many first tokens of each prompt are left out, because their keys and values
    are in the KV cache. Positions count them.
    """
    prefilled = prefilled or [0] * len(pairs)
    multiple = PAD_MULTIPLE.get(device.type, 1)
    longest = max(row_tokens(pair) - start for pair, start in zip(pairs, prefilled, strict=True))
    length = -(-longest // multiple) * multiple  # rounded up
    shape = (len(pairs), length)
    inputs, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    segments = np.full(shape, PADDING, np.int8)
    parts = [
        _pack_row(pair, prefilled[b], inputs[b], positions[b], segments[b])
        for b, pair in enumerate(pairs)
    ]
    predicting = np.concatenate([part + b * length for b, (part, _) in enumerate(parts)])
    targets = np.concatenate([part for _, part in parts])

    def on_device(array: Any) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return PackedBatch(
        input_BL=on_device(inputs),
        position_BL=on_device(positions),
        segment_BL=on_device(segments),
        predicting_U=on_device(predicting),
        targets_U2=on_device(targets),
        index=_shared_prefix_index(pairs, device),
    )


def _pack_row(
    pair: TokenizedPair, prefilled: int, inputs: Any, positions: Any, segments: Any
) -> Any:
    """Fill one row; return its predicting positions and their two targets, in U's order."""
    p, f = len(pair.prompt_ids) - prefilled, pair.fork_position
    preferred, dispreferred = pair.preferred_ids, pair.dispreferred_ids
    shared = p + f
    branches = (preferred[f:-1], dispreferred[f:-1])
    end = shared + len(branches[0]) + len(branches[1])
    # Tokens: what is left of the prompt, the common response tokens, then both branches.
    inputs[:end] = [*pair.prompt_ids[prefilled:], *preferred[:f], *branches[0], *branches[1]]
    # Positions and segments: each branch continues at the fork, as if the other were not there.
    positions[:shared] = np.arange(shared)
    segments[:shared] = SHARED
    start = shared
    for segment, branch in zip((PREFERRED, DISPREFERRED), branches, strict=True):
        positions[start : start + len(branch)] = np.arange(shared, shared + len(branch))
        segments[start : start + len(branch)] = segment
        start += len(branch)
    positions[:end] += prefilled
    # Targets: every position from the last prompt token on predicts. The first f + 1 predict both
    # responses; the rest of a branch predicts its own, shifted by one.
    targets = np.zeros((end - p + 1, 2), np.int64)
    targets[: f + 1, 0] = preferred[: f + 1]
    targets[: f + 1, 1] = dispreferred[: f + 1]
    middle = f + 1 + len(branches[0])
    targets[f + 1 : middle, 0] = preferred[f + 1 :]
    targets[middle:, 1] = dispreferred[f + 1 :]
    return np.arange(p - 1, end), targets


def _shared_prefix_index(pairs: Sequence[TokenizedPair], device: torch.device) -> ResponseIndex:
    """The index of packed rows: the first f + 1 positions of a pair belong to both responses."""
    preferred, dispreferred, forks, start = [], [], [], 0
    for pair in pairs:
        f = pair.fork_position
        shared = np.arange(start, start + f + 1)
        middle = start + len(pair.preferred_ids)
        end = middle + len(pair.dispreferred_ids) - f - 1
        preferred.append(np.arange(start, middle))
        dispreferred.append(np.concatenate([shared, np.arange(middle, end)]))
        forks.append(start + f)
        start = end
    return _index(preferred, dispreferred, forks, device)


def two_pass_index(pairs: Sequence[TokenizedPair], device: torch.device) -> ResponseIndex:
    """The index of two passes: y+ of all pairs first, then y- of all pairs."""
    preferred, dispreferred, forks, start = [], [], [], 0
    for pair in pairs:
        preferred.append(np.arange(start, start + len(pair.preferred_ids)))
        forks.append(start + pair.fork_position)
        start += len(pair.preferred_ids)
    for pair in pairs:
        dispreferred.append(np.arange(start, start + len(pair.dispreferred_ids)))
        start += len(pair.dispreferred_ids)
    return _index(preferred, dispreferred, forks, device)


def response_tokens(pairs: Sequence[TokenizedPair], device: torch.device) -> tuple[Tensor, Tensor]:
    """The token ids of all preferred and of all dispreferred responses, in the index's order."""
    sides = [pair.preferred_ids for pair in pairs], [pair.dispreferred_ids for pair in pairs]
    preferred, dispreferred = (
        torch.tensor([token_id for ids in side for token_id in ids], device=device)
        for side in sides
    )
    return preferred, dispreferred


def _index(
    preferred: list[Any], dispreferred: list[Any], forks: list[int], device: torch.device
) -> ResponseIndex:
    def rows(parts: list[Any]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(device)

    def owners(parts: list[Any]) -> Tensor:
        return torch.from_numpy(np.repeat(np.arange(len(parts)), list(map(len, parts)))).to(device)

    return ResponseIndex(
        pairs=len(forks),
        preferred_rows_N=rows(preferred),
        preferred_pair_N=owners(preferred),
        dispreferred_rows_N=rows(dispreferred),
        dispreferred_pair_N=owners(dispreferred),
        fork_rows_B=torch.tensor(forks, device=device),
    )


def branch_mask(segment_BL: Tensor, prefilled: Sequence[int] | None = None) -> Tensor:
    """mask_B1L(C+L) of booleans, True where a query (third) may attend to a key (last).

    prefilled: how many tokens of each pair are in the KV cache; C is the largest of them, and the
    keys of the others are padded at the right.
    """
    length = segment_BL.shape[1]
    # Within the row: earlier tokens that are shared or of the query's own segment.
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=segment_BL.device).tril()
    key_B1L, query_BL1 = segment_BL[:, None, :], segment_BL[:, :, None]
    mask_BLL = causal_LL & ((key_B1L == SHARED) | (key_B1L == query_BL1))
    # Before it: every cached token of the pair, none of the cache's padding.
    prefilled_B = torch.tensor(prefilled or [0] * len(segment_BL), device=segment_BL.device)
    cached_C = torch.arange(int(prefilled_B.max()), device=segment_BL.device)
    cached_BLC = (cached_C < prefilled_B[:, None])[:, None].expand(-1, length, -1)
    return torch.cat([cached_BLC, mask_BLL], dim=2)[:, None]


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The boolean mask as attention adds it to its scores: 0 where True, the dtype's lowest finite
    value where False. Made once for a pass: given booleans, every layer would convert them."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
        ~mask, torch.finfo(dtype).min
    )
