"""How a batch of pairs is laid out as rows of tokens.

Dimensions: B pairs, C tokens that all pairs of the batch begin with, L input tokens of a row, U
predicting positions of all pairs of a batch one after the other, N response tokens of one side of
all pairs.

A row holds one pair, padded at the right:

    prompt[C:]  y[:f]  y+[f:n+ - 1]  y-[f:n- - 1]  padding        (f is the fork)
    positions C ...          | restart at the fork |

A mask hides each branch from the other. The last token of a response predicts nothing that is
asked, so it is no input. Up to the fork both responses are predicted at the same positions, so
these occur once among the U and have two targets. What all prompts begin with (a system prompt,
mostly) stands in no row: it is computed once for the batch, and every token may look at it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chesboard.pairs import TokenizedPair

PAD_MULTIPLE = {"cuda": 8}
"""Attention kernels on GPUs want rows of a multiple of 8."""


@dataclass(frozen=True, slots=True)
class ResponseIndex:
    """Where among the U positions each response of each pair is predicted.

    `preferred_rows_N[i]` predicts a token of y+ of the batch's pair `preferred_pair_N[i]`; each
    pair's tokens follow each other in order. `fork_rows_B` predict both forks.
    """

    pairs: int
    preferred_rows_N: Tensor
    preferred_pair_N: Tensor
    dispreferred_rows_N: Tensor
    dispreferred_pair_N: Tensor
    fork_rows_B: Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    input_BL: Tensor
    position_BL: Tensor
    segment_BL: Tensor
    """0: shared, 1: behind the fork of y+, 2: of y-, 3: padding."""
    predicting_U: Tensor
    """Indices into the flattened B x L."""
    targets_U2: Tensor
    index: ResponseIndex


def row_tokens(pair: TokenizedPair) -> int:
    """Input tokens of the pair's row, its whole prompt counted."""
    responses = len(pair.preferred_ids) + len(pair.dispreferred_ids)
    return len(pair.prompt_ids) + responses - 2 - pair.fork_position


def common_beginning(pairs: Sequence[TokenizedPair]) -> tuple[int, ...]:
    """The tokens that all prompts begin with; the last of the shortest prompt is never among
    them, since it predicts."""
    first, last = min(p.prompt_ids for p in pairs), max(p.prompt_ids for p in pairs)
    most = min(len(p.prompt_ids) for p in pairs) - 1
    count = 0
    while count < most and first[count] == last[count]:
        count += 1
    return tuple(first[:count])


def lay_out(
    pairs: Sequence[TokenizedPair], device: torch.device, starts: Sequence[int] | None = None
) -> Layout:
    """The rows of a batch, without the first so many tokens of each prompt."""
    starts = starts or [0] * len(pairs)
    multiple = PAD_MULTIPLE.get(device.type, 1)
    longest = max(row_tokens(pair) - start for pair, start in zip(pairs, starts, strict=True))
    length = -(-longest // multiple) * multiple
    shape = (len(pairs), length)
    inputs, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    segments = np.full(shape, 3, np.int8)
    parts = [
        _lay_out_row(pair, starts[b], inputs[b], positions[b], segments[b])
        for b, pair in enumerate(pairs)
    ]
    predicting = np.concatenate([part + b * length for b, (part, _) in enumerate(parts)])
    targets = np.concatenate([part for _, part in parts])

    def on_device(array: Any) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return Layout(
        input_BL=on_device(inputs),
        position_BL=on_device(positions),
        segment_BL=on_device(segments),
        predicting_U=on_device(predicting),
        targets_U2=on_device(targets),
        index=_shared_index(pairs, device),
    )


def _lay_out_row(
    pair: TokenizedPair, ahead: int, inputs: Any, positions: Any, segments: Any
) -> Any:
    """Fill one row; return its predicting positions and their two targets, in U's order."""
    p, f = len(pair.prompt_ids) - ahead, pair.fork_position
    preferred, other = pair.preferred_ids, pair.dispreferred_ids
    shared = p + f
    branches = (preferred[f:-1], other[f:-1])
    end = shared + len(branches[0]) + len(branches[1])
    inputs[:end] = [*pair.prompt_ids[ahead:], *preferred[:f], *branches[0], *branches[1]]
    positions[:shared] = np.arange(shared)
    segments[:shared] = 0
    start = shared
    for number, branch in enumerate(branches, start=1):
        positions[start : start + len(branch)] = np.arange(shared, shared + len(branch))
        segments[start : start + len(branch)] = number
        start += len(branch)
    positions[:end] += ahead
    targets = np.zeros((end - p + 1, 2), np.int64)
    targets[: f + 1, 0] = preferred[: f + 1]
    targets[: f + 1, 1] = other[: f + 1]
    middle = f + 1 + len(branches[0])
    targets[f + 1 : middle, 0] = preferred[f + 1 :]
    targets[middle:, 1] = other[f + 1 :]
    return np.arange(p - 1, end), targets


def _shared_index(pairs: Sequence[TokenizedPair], device: torch.device) -> ResponseIndex:
    preferred, other, forks, start = [], [], [], 0
    for pair in pairs:
        f, n_pref, n_other = pair.fork_position, len(pair.preferred_ids), len(pair.dispreferred_ids)
        shared = np.arange(start, start + f + 1)
        middle = start + n_pref
        preferred.append(np.arange(start, middle))
        other.append(np.concatenate([shared, np.arange(middle, middle + n_other - f - 1)]))
        forks.append(start + f)
        start = middle + n_other - f - 1
    return _index(preferred, other, forks, device)


def two_row_index(pairs: Sequence[TokenizedPair], device: torch.device) -> ResponseIndex:
    """All of y+ of all pairs come first, then all of y-."""
    preferred, other, forks, start = [], [], [], 0
    for pair in pairs:
        preferred.append(np.arange(start, start + len(pair.preferred_ids)))
        forks.append(start + pair.fork_position)
        start += len(pair.preferred_ids)
    for pair in pairs:
        other.append(np.arange(start, start + len(pair.dispreferred_ids)))
        start += len(pair.dispreferred_ids)
    return _index(preferred, other, forks, device)


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


def branch_mask(segment_BL: Tensor, starts: Sequence[int] | None = None) -> Tensor:
    """mask_B1L(C+L), True where a query (third) may look at a key (last).

    starts: how many tokens of each pair were computed ahead; C is the largest of them, and the
    keys of the others are padded at the right.
    """
    length = segment_BL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=segment_BL.device).tril()
    key_B1L, query_BL1 = segment_BL[:, None, :], segment_BL[:, :, None]
    mask_BLL = causal_LL & ((key_B1L == 0) | (key_B1L == query_BL1))
    starts_B = torch.tensor(starts or [0] * len(segment_BL), device=segment_BL.device)
    ahead_C = torch.arange(int(starts_B.max()), device=segment_BL.device)
    ahead_BLC = (ahead_C < starts_B[:, None])[:, None].expand(-1, length, -1)
    return torch.cat([ahead_BLC, mask_BLL], dim=2)[:, None]


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as attention adds it to its scores. Made once: else every layer would make it."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
        ~mask, torch.finfo(dtype).min
    )
