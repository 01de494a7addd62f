"""One forward pass for a pair: what both responses share is computed once.

Dimensions: B pairs, L input tokens of a row, D hidden size, V vocabulary, U predicting positions
of all pairs of a batch one after the other, N response tokens of one side of all pairs.

A row holds one pair, padded at the right:

    prompt  y[:f]  y+[f:n+ - 1]  y-[f:n- - 1]  padding        (f is the fork)
    positions 0 ...           | restart at the fork |

A mask hides each branch from the other. The last token of a response predicts nothing that is
asked, so it is no input. Up to the fork both responses are predicted at the same positions, so
these occur once among the U and have two targets.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from worker.loaded import LoadedModel
from worker.logprobs import Head, head_logits, logprobs_of_logits, token_logprobs
from worker.sink import Control
from worker.tokenising import TokenisedPair

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
class PairStates:
    """What a forward pass over B pairs gives.

    `logprobs_U2` holds the log-probability of y+'s token in column 0 and of y-'s in column 1;
    a column means something only at the rows that the index names for that side.
    """

    hidden_UD: Tensor
    logprobs_U2: Tensor | None
    fork_logits_BV: Tensor | None
    index: ResponseIndex

    def preferred_token_logprobs_N(self) -> Tensor:
        return self._token_logprobs(self.index.preferred_rows_N, 0)

    def dispreferred_token_logprobs_N(self) -> Tensor:
        return self._token_logprobs(self.index.dispreferred_rows_N, 1)

    def preferred_logprobs_B(self) -> Tensor:
        """float32 sums over each pair's y+, in nats."""
        return _sum_by_pair(
            self.preferred_token_logprobs_N(), self.index.preferred_pair_N, self.index.pairs
        )

    def dispreferred_logprobs_B(self) -> Tensor:
        return _sum_by_pair(
            self.dispreferred_token_logprobs_N(), self.index.dispreferred_pair_N, self.index.pairs
        )

    def _token_logprobs(self, rows_N: Tensor, column: int) -> Tensor:
        assert self.logprobs_U2 is not None, "the forward pass was not asked for log-probabilities"
        return self.logprobs_U2.view(-1).index_select(0, 2 * rows_N + column)


def _sum_by_pair(values_N: Tensor, pair_N: Tensor, pairs: int) -> Tensor:
    return values_N.new_zeros(pairs).index_add(0, pair_N, values_N)


class PairForward(Protocol):
    """Computes the states of a batch of pairs. Gradients flow where they are enabled."""

    kind: str

    def row_tokens(self, pair: TokenisedPair) -> int:
        """Input tokens that the pair takes in a batch, padding apart."""

    def __call__(
        self, pairs: Sequence[TokenisedPair], *, logprobs: bool = True, forks: bool = False
    ) -> PairStates: ...


def computing(loaded: LoadedModel) -> AbstractContextManager[Any]:
    """Autocast where the model computes in a narrower dtype than its weights have."""
    weights = next(loaded.model.parameters()).dtype
    if weights == loaded.compute_dtype:
        return nullcontext()
    return torch.autocast(loaded.device.type, dtype=loaded.compute_dtype)


def causal_model(loaded: LoadedModel) -> Any:
    """The CausalLM itself, without the wrapper that adapters put around it."""
    model = loaded.model
    return model.get_base_model() if hasattr(model, "peft_config") else model


def head_of(loaded: LoadedModel) -> Head | None:
    """The model's unembedding, or None where it is no plain linear layer."""
    layer = causal_model(loaded).get_output_embeddings()
    if type(layer) is not torch.nn.Linear:
        return None
    return Head(layer.weight, layer.bias, loaded.compute_dtype)


def unembedding_VD(loaded: LoadedModel) -> Tensor:
    """The rows W_z of design's theory."""
    weight: Tensor = causal_model(loaded).get_output_embeddings().weight
    return weight.detach()


class SharedPrefixForward:
    """The layout above; the head only at the predicting positions."""

    kind = "shared prefix"

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def row_tokens(self, pair: TokenisedPair) -> int:
        responses = len(pair.preferred_ids) + len(pair.dispreferred_ids)
        return len(pair.prompt_ids) + responses - 2 - pair.fork_position

    def __call__(
        self, pairs: Sequence[TokenisedPair], *, logprobs: bool = True, forks: bool = False
    ) -> PairStates:
        loaded = self._loaded
        layout = _lay_out(pairs, loaded.device)
        decoder = causal_model(loaded).base_model
        mask = _branch_mask(layout.segment_BL)
        if decoder.config._attn_implementation != "sdpa":
            mask = _additive(mask, loaded.compute_dtype)
        with computing(loaded):
            hidden_BLD = decoder(
                input_ids=layout.input_BL,
                attention_mask=mask,
                position_ids=layout.position_BL,
                use_cache=False,
            ).last_hidden_state
        hidden_UD = hidden_BLD.flatten(0, 1).index_select(0, layout.predicting_U)
        head = head_of(loaded)
        assert head is not None, "choose_forward allows this path only with a linear head"
        return PairStates(
            hidden_UD=hidden_UD,
            logprobs_U2=token_logprobs(head, hidden_UD, layout.targets_U2) if logprobs else None,
            fork_logits_BV=(
                head_logits(head, hidden_UD.detach()[layout.index.fork_rows_B]) if forks else None
            ),
            index=layout.index,
        )


class TwoForwards:
    """Each response behind its own copy of the prompt, through the model's own head.

    For models that can't take the mask or whose logits are not a plain linear map.
    """

    kind = "two forwards"

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def row_tokens(self, pair: TokenisedPair) -> int:
        longest = max(len(pair.preferred_ids), len(pair.dispreferred_ids))
        return 2 * (len(pair.prompt_ids) + longest - 1)

    def __call__(
        self, pairs: Sequence[TokenisedPair], *, logprobs: bool = True, forks: bool = False
    ) -> PairStates:
        preferred = self._side(pairs, [pair.preferred_ids for pair in pairs])
        dispreferred = self._side(pairs, [pair.dispreferred_ids for pair in pairs])
        index = _two_row_index(pairs, self._loaded.device)
        logprobs_U2 = fork_logits_BV = None
        if logprobs:
            logprobs_U2 = torch.cat(
                [
                    logprobs_of_logits(side.logits_NV, side.targets_N[:, None].expand(-1, 2))
                    for side in (preferred, dispreferred)
                ]
            )
        if forks:
            fork_logits_BV = preferred.logits_NV.detach()[index.fork_rows_B].float()
        return PairStates(
            hidden_UD=torch.cat([preferred.hidden_ND, dispreferred.hidden_ND]),
            logprobs_U2=logprobs_U2,
            fork_logits_BV=fork_logits_BV,
            index=index,
        )

    def _side(self, pairs: Sequence[TokenisedPair], responses: Sequence[Sequence[int]]) -> "_Side":
        device = self._loaded.device
        rows = [
            [*pair.prompt_ids, *response[:-1]]
            for pair, response in zip(pairs, responses, strict=True)
        ]
        length = max(map(len, rows))
        input_BL = np.zeros((len(rows), length), dtype=np.int64)
        mask_BL = np.zeros((len(rows), length), dtype=np.int64)
        predicting: list[int] = []
        for b, row in enumerate(rows):
            input_BL[b, : len(row)] = row
            mask_BL[b, : len(row)] = 1
            first = b * length + len(pairs[b].prompt_ids) - 1
            predicting.extend(range(first, first + len(responses[b])))
        hidden_BLD, logits_BLV = self._run(
            torch.from_numpy(input_BL).to(device), torch.from_numpy(mask_BL).to(device)
        )
        predicting_N = torch.tensor(predicting, device=device)
        targets = [token_id for response in responses for token_id in response]
        return _Side(
            hidden_ND=hidden_BLD.flatten(0, 1).index_select(0, predicting_N),
            logits_NV=logits_BLV.flatten(0, 1).index_select(0, predicting_N),
            targets_N=torch.tensor(targets, device=device),
        )

    def _run(self, input_BL: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and logits of the model's own forward pass, which runs once."""
        model = causal_model(self._loaded)
        seen: list[Tensor] = []

        def keep(_module: Any, _inputs: Any, outputs: Any) -> None:
            seen.append(outputs[0])

        hook = model.base_model.register_forward_hook(keep)
        try:
            with computing(self._loaded):
                logits = model(input_ids=input_BL, attention_mask=mask_BL, use_cache=False).logits
        finally:
            hook.remove()
        return seen[0], logits


@dataclass(frozen=True, slots=True)
class _Side:
    hidden_ND: Tensor
    logits_NV: Tensor
    targets_N: Tensor


@dataclass(frozen=True, slots=True)
class _Layout:
    input_BL: Tensor
    position_BL: Tensor
    segment_BL: Tensor
    """0: shared, 1: behind the fork of y+, 2: of y-, 3: padding."""
    predicting_U: Tensor
    """Indices into the flattened B x L."""
    targets_U2: Tensor
    index: ResponseIndex


def _lay_out(pairs: Sequence[TokenisedPair], device: torch.device) -> _Layout:
    forward_lengths = [
        len(p.prompt_ids) + len(p.preferred_ids) + len(p.dispreferred_ids) - 2 - p.fork_position
        for p in pairs
    ]
    multiple = PAD_MULTIPLE.get(device.type, 1)
    length = -(-max(forward_lengths) // multiple) * multiple
    shape = (len(pairs), length)
    inputs, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    segments = np.full(shape, 3, np.int8)
    parts = [_lay_out_row(p, inputs[b], positions[b], segments[b]) for b, p in enumerate(pairs)]
    predicting = np.concatenate([part + b * length for b, (part, _) in enumerate(parts)])
    targets = np.concatenate([part for _, part in parts])

    def on_device(array: Any) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return _Layout(
        input_BL=on_device(inputs),
        position_BL=on_device(positions),
        segment_BL=on_device(segments),
        predicting_U=on_device(predicting),
        targets_U2=on_device(targets),
        index=_shared_index(pairs, device),
    )


def _lay_out_row(pair: TokenisedPair, inputs: Any, positions: Any, segments: Any) -> Any:
    """Fill one row; return its predicting positions and their two targets, in U's order."""
    p, f = len(pair.prompt_ids), pair.fork_position
    preferred, other = pair.preferred_ids, pair.dispreferred_ids
    shared = p + f
    branches = (preferred[f:-1], other[f:-1])
    end = shared + len(branches[0]) + len(branches[1])
    inputs[:end] = [*pair.prompt_ids, *preferred[:f], *branches[0], *branches[1]]
    positions[:shared] = np.arange(shared)
    segments[:shared] = 0
    start = shared
    for number, branch in enumerate(branches, start=1):
        positions[start : start + len(branch)] = np.arange(shared, shared + len(branch))
        segments[start : start + len(branch)] = number
        start += len(branch)
    targets = np.zeros((end - p + 1, 2), np.int64)
    targets[: f + 1, 0] = preferred[: f + 1]
    targets[: f + 1, 1] = other[: f + 1]
    middle = f + 1 + len(branches[0])
    targets[f + 1 : middle, 0] = preferred[f + 1 :]
    targets[middle:, 1] = other[f + 1 :]
    return np.arange(p - 1, end), targets


def _shared_index(pairs: Sequence[TokenisedPair], device: torch.device) -> ResponseIndex:
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


def _two_row_index(pairs: Sequence[TokenisedPair], device: torch.device) -> ResponseIndex:
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


def _branch_mask(segment_BL: Tensor) -> Tensor:
    """mask_B1LL, True where a query (third) may look at a key (last)."""
    length = segment_BL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=segment_BL.device).tril()
    key_B1L, query_BL1 = segment_BL[:, None, :], segment_BL[:, :, None]
    return (causal_LL & ((key_B1L == 0) | (key_B1L == query_BL1)))[:, None]


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
        ~mask, torch.finfo(dtype).min
    )


def token_batches(
    pairs: Sequence[TokenisedPair],
    row_tokens: Callable[[TokenisedPair], int],
    budget: int,
    most_pairs: int | None = None,
) -> list[list[TokenisedPair]]:
    """Pairs sorted by length, longest first, in batches of at most `budget` padded tokens.

    A pair that is longer than the budget gets a batch of its own.
    """
    batches: list[list[TokenisedPair]] = []
    widest = 0
    for pair in sorted(pairs, key=row_tokens, reverse=True):
        full = (
            not batches
            or widest * (len(batches[-1]) + 1) > budget
            or len(batches[-1]) == most_pairs
        )
        if full:
            batches.append([])
            widest = row_tokens(pair)
        batches[-1].append(pair)
    return batches


TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Relative difference of hidden states and logits below which two paths count as the same.
Rounding stays well under it; a mask that is ignored gives differences of order one."""


def choose_forward(
    loaded: LoadedModel, pairs: Sequence[TokenisedPair]
) -> tuple[PairForward, str | None]:
    """The fast path where the model computes the same with it, else the plain one and the reason.

    Compares both on two pairs, cut down to what lies around their forks, so it costs little.
    """
    plain = TwoForwards(loaded)
    reason = _refusal(loaded, pairs)
    if reason is None and pairs:
        reason = _difference(SharedPrefixForward(loaded), plain, _telling_pairs(pairs), loaded)
    if reason is None:
        return SharedPrefixForward(loaded), None
    return plain, f"Prompts are computed once for each response, which is slower: {reason}."


def _telling_pairs(pairs: Sequence[TokenisedPair]) -> list[TokenisedPair]:
    """Two pairs with much behind their forks, where a mask that is ignored shows most."""
    branchy = sorted(
        pairs,
        key=lambda p: min(len(p.preferred_ids), len(p.dispreferred_ids)) - p.fork_position,
    )
    return [_cut_down(pair) for pair in branchy[-2:]]


def _cut_down(pair: TokenisedPair) -> TokenisedPair:
    """The pair's surroundings of its fork, as a pair of its own."""
    start, end = max(0, pair.fork_position - 4), pair.fork_position + 12
    return replace(
        pair,
        prompt_ids=pair.prompt_ids[-24:],
        preferred_ids=pair.preferred_ids[start:end],
        dispreferred_ids=pair.dispreferred_ids[start:end],
        fork_position=pair.fork_position - start,
    )


def _refusal(loaded: LoadedModel, pairs: Sequence[TokenisedPair]) -> str | None:
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
    pairs: Sequence[TokenisedPair],
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


def _hidden_of_both(states: PairStates) -> Tensor:
    rows = torch.cat([states.index.preferred_rows_N, states.index.dispreferred_rows_N])
    return states.hidden_UD[rows].float()


def _logprobs_of_both(states: PairStates) -> Tensor:
    return torch.cat([states.preferred_token_logprobs_N(), states.dispreferred_token_logprobs_N()])


class TokenBudget:
    """How many tokens a forward pass may hold; halved each time memory runs out."""

    SMALLEST = 16

    def __init__(self, tokens: int, tell: Callable[[str], None]) -> None:
        self.tokens = tokens
        self._tell = tell

    def halve(self, batch: Sequence[TokenisedPair]) -> None:
        """Go on with half, after a batch that did not fit.

        Raises:
            MemoryError: the batch was a single pair.
        """
        torch.cuda.empty_cache()
        if len(batch) == 1 or self.tokens <= self.SMALLEST:
            raise MemoryError(
                f"Pair {batch[0].pair} alone does not fit into the GPU's memory. Lower "
                "max_prompt_tokens or max_response_tokens, or take a smaller model."
            )
        self.tokens = max(self.SMALLEST, self.tokens // 2)
        self._tell(f"Out of GPU memory: going on with {self.tokens} tokens in a forward pass.")


def in_batches(
    pairs: Sequence[TokenisedPair],
    row_tokens: Callable[[TokenisedPair], int],
    budget: TokenBudget,
    control: Control,
    work: Callable[[list[TokenisedPair]], None],
    most_pairs: int | None = None,
) -> None:
    """Call `work` on batches that together hold every pair once.

    The longest comes first, so that memory runs out at once or never; the others in a fixed
    random order, so that the share done so far tells the time that is left. A batch that runs
    out of GPU memory is cut and tried again, so `work` must act only once it has its results.
    """
    waiting = _arrange(token_batches(pairs, row_tokens, budget.tokens, most_pairs))
    while waiting:
        control.check()
        batch = waiting.popleft()
        fits = True
        try:
            work(batch)
        except torch.OutOfMemoryError:
            fits = False
        if not fits:  # outside the except block, whose traceback keeps tensors alive
            budget.halve(batch)
            rest = [*batch, *(pair for other in waiting for pair in other)]
            waiting = _arrange(token_batches(rest, row_tokens, budget.tokens, most_pairs))


def _arrange(batches: list[list[TokenisedPair]]) -> deque[list[TokenisedPair]]:
    others = batches[1:]
    random.Random(0).shuffle(others)  # noqa: S311 - an order, not a secret
    return deque([*batches[:1], *others])


def refuse_too_long(loaded: LoadedModel, pairs: Sequence[TokenisedPair]) -> None:
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
