"""How the processes that train one model together share its pairs.

Each process, or rank, holds a part of the weights, so every forward pass is one of all ranks, and
all of them do as many: a rank that has no pair left computes one of no weight.
"""

from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.nn import Parameter

from chesboard.forward.batching import TokenBudget, arranged, in_batches, token_batches
from chesboard.forward.by_length import ByLengthForward
from chesboard.forward.ready import ready_forward
from chesboard.forward.states import PairForward
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.reporting import (
    Control,
    LeaseLostError,
    Reporter,
    RunCancelledError,
    RunInterruptedError,
    RunStoppedError,
)
from chesboard.sharding import gathered, is_distributed, is_dtensor, within

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of its run."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that records."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.count == 1

    def look(self, loaded: LoadedModel, look: Callable[[], None]) -> None:
        """Call `look`, which runs the model without gradient, in all ranks alike."""
        if self.is_alone:
            look()
        else:
            with torch.no_grad():
                within(loaded.model, look)

    def ready_forward(
        self,
        loaded: LoadedModel,
        pairs: Sequence[TokenizedPair],
        reporter: Reporter,
        prefill: bool,
    ) -> PairForward:
        """`chesboard.forward.ready.ready_forward`, which runs the model, in all ranks alike.

        Of several ranks each layer gathers its weights from all: whatever its pairs are, every rank
        has to run it as often. So there is no prefill, which is one more pass for some batches.
        """
        found: list[PairForward] = []
        prefill = prefill and self.is_alone
        self.look(
            loaded, lambda: found.append(ready_forward(loaded, pairs, reporter, prefill=prefill))
        )
        if isinstance(found[0], ByLengthForward) and not self.is_alone:
            return TwoPassForward(loaded)  # of which that is one for some pairs alone
        return found[0]


ALONE = Ranks()


def current_ranks() -> Ranks:
    return Ranks(dist.get_rank(), dist.get_world_size()) if is_distributed() else ALONE


def micro_batches(
    ranks: Ranks,
    batch: Sequence[TokenizedPair],
    row_tokens: Callable[[TokenizedPair], int],
    budget: int,
    most_pairs: int,
) -> Iterator[tuple[list[TokenizedPair], bool]]:
    """This rank's part of a step's pairs, in as many micro-batches as every other rank has; and of
    each whether it has weight, or only keeps step."""
    parts = [
        token_batches(batch[rank :: ranks.count], row_tokens, budget, most_pairs)
        for rank in range(ranks.count)
    ]
    for pairs in parts[ranks.rank]:
        yield pairs, True
    for _ in range(max(map(len, parts)) - len(parts[ranks.rank])):
        yield [min(batch, key=row_tokens)], False


def in_shared_batches(
    ranks: Ranks,
    pairs: Sequence[TokenizedPair],
    row_tokens: Callable[[TokenizedPair], int],
    budget: TokenBudget,
    control: Control,
    work: Callable[[list[TokenizedPair]], Found],
    keep: Callable[[Found], None],
    most_pairs: int | None = None,
    done: Container[Hashable] = (),
) -> None:
    """`in_batches`, with the batches dealt out to the ranks. `keep` gets what `work` found of each
    batch, in their order and in every rank.

    Batches are those of one rank alone, so that sums over them are rounded alike.
    """
    if ranks.is_alone:
        in_batches(
            pairs, row_tokens, budget, control, lambda b: keep(work(b)), most_pairs, done=done
        )
        return
    batches = [
        batch
        for batch in arranged(token_batches(pairs, row_tokens, budget.tokens, most_pairs))
        if not all(pair.pair in done for pair in batch)
    ]
    for start in range(0, len(batches), ranks.count):
        control.check()
        # Ranks that the last batches do not reach compute one of them again, to keep step.
        batch = batches[min(start + ranks.rank, len(batches) - 1)]
        try:
            found = work(batch)
        except torch.OutOfMemoryError:
            budget.halve(batch)  # refuses: the budget of several ranks is fixed
            raise
        for one in gathered(found)[: len(batches) - start]:
            keep(one)


def add_up_gradients(parameters: Sequence[Parameter]) -> None:
    """Sum the gradients of weights that every rank holds whole, over the ranks. (Those of sharded
    weights are summed in the backward pass.) A weight without gradient in all ranks keeps none."""
    whole = [parameter for parameter in parameters if not is_dtensor(parameter)]
    if not whole:
        return
    device = whole[0].device
    has_gradient = torch.tensor([p.grad is not None for p in whole], dtype=torch.uint8)
    dist.all_reduce(has_gradient, op=dist.ReduceOp.MAX)
    used = [p for p, has in zip(whole, has_gradient.tolist(), strict=True) if has]
    if not used:
        return
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
    flat = torch.cat([part.flatten() for part in parts]).to(device)
    dist.all_reduce(flat)
    summed = torch.split(flat, [part.numel() for part in parts])
    for parameter, part in zip(used, summed, strict=True):
        parameter.grad = part.view_as(parameter).clone()


STOPS: tuple[type[RunStoppedError], ...] = (
    RunInterruptedError,
    RunCancelledError,
    LeaseLostError,
)
"""Why ranks stop; where two see different reasons, the later of these is that of all."""


class SharedControl:
    """Stops all ranks at the same place where one of them is told to stop: one small all-reduce a
    check, so every rank has to check as often."""

    def __init__(self, own: Control) -> None:
        self._own = own

    def check(self) -> None:
        reason, stop = 0, None
        try:
            self._own.check()
        except STOPS as error:
            reason, stop = 1 + STOPS.index(type(error)), error
        found = torch.tensor(reason)  # on the CPU: waits for no GPU
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        agreed = int(found)
        if not agreed:
            return
        if stop is not None and agreed == reason:
            raise stop
        raise STOPS[agreed - 1]("another process of the run was told to stop")
