"""Batches of pairs: sorted by length, filled to a token budget, split when memory runs out."""

import random
from collections import deque
from collections.abc import Callable, Container, Hashable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import torch

from chesboard.reporting import Control


class _OfAPair(Protocol):
    @property
    def pair(self) -> int:
        """Ordinal of the pair that it is about."""


Item = TypeVar("Item", bound=_OfAPair)
"""What is computed in batches: a pair, or an answer to the prompt of one."""

MIN_BATCH_SHARE = 1 / 8
"""Share of the budget from which on a batch is large enough to compute efficiently, so that it is
closed rather than padded."""
MIN_ROW_FILL = 0.8
"""A row of which less than this share would be filled then opens a new batch."""


def token_batches(
    pairs: Sequence[Item],
    row_tokens: Callable[[Item], int],
    budget: int,
    most_pairs: int | None = None,
) -> list[list[Item]]:
    """Pairs sorted by length, longest first, in batches of at most `budget` padded tokens.

    A pair that is longer than the budget gets a batch of its own. A batch may end before the
    budget does where the next rows would be mostly padding.
    """
    batches: list[list[Item]] = []
    widest = 0
    for pair in sorted(pairs, key=row_tokens, reverse=True):
        tokens, held = row_tokens(pair), len(batches[-1]) if batches else 0
        ragged = tokens < MIN_ROW_FILL * widest and widest * held >= MIN_BATCH_SHARE * budget
        if not batches or widest * (held + 1) > budget or held == most_pairs or ragged:
            batches.append([])
            widest = tokens
        batches[-1].append(pair)
    return batches


class TokenBudget:
    """How many input tokens, padding included, a forward pass may hold; halved each time GPU
    memory runs out."""

    SMALLEST = 16

    def __init__(
        self,
        tokens: int,
        report: Callable[[str], None],
        limits: str = "max_prompt_tokens or max_response_tokens",
        *,
        is_fixed: bool = False,
    ) -> None:
        """report: receives a message each time the budget is halved. limits: the settings to lower
        where a single pair does not fit. is_fixed: it cannot be halved, because other processes
        take part in each pass and may have had enough memory."""
        self.tokens = tokens
        self._report = report
        self._limits = limits
        self.is_fixed = is_fixed

    def halve(self, batch: Sequence[Item]) -> None:
        """Halve the budget after a batch that did not fit.

        Raises:
            MemoryError: the batch was a single pair, or the budget is fixed.
        """
        torch.cuda.empty_cache()
        if self.is_fixed:
            raise MemoryError(
                f"A forward pass of {len(batch)} pairs does not fit into the memory of one of the "
                f"GPUs. Lower batch_tokens (now {self.tokens:,}), or train with "
                "gradient_checkpointing, LoRA or more GPUs."
            )
        if len(batch) == 1 or self.tokens <= self.SMALLEST:
            raise MemoryError(
                f"Pair {batch[0].pair} alone does not fit into the GPU's memory. Lower "
                f"{self._limits}, or use a smaller model."
            )
        self.tokens = max(self.SMALLEST, self.tokens // 2)
        self._report(f"Out of GPU memory: continuing with {self.tokens} tokens in a forward pass.")


class Schedule(Protocol):
    """Which batches are computed at the same time: one by one by default."""

    def take(self, waiting: deque[list[Any]]) -> list[list[Any]]:
        """Remove the batches that are computed next from the left; at least one."""

    def run(self, calls: Sequence[Callable[[], None]]) -> None:
        """Compute batches that were taken."""

    def take_fewer(self) -> None:
        """Several batches did not fit at the same time."""


class OneByOne:
    """The schedule of a model that is in memory as a whole."""

    def take(self, waiting: deque[list[Any]]) -> list[list[Any]]:
        return [waiting.popleft()]

    def run(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            call()

    def take_fewer(self) -> None:
        raise AssertionError("one batch at a time")


def in_batches(
    pairs: Sequence[Item],
    row_tokens: Callable[[Item], int],
    budget: TokenBudget,
    control: Control,
    work: Callable[[list[Item]], None],
    most_pairs: int | None = None,
    done: Container[Hashable] = (),
    key: Callable[[Item], Hashable] = lambda item: item.pair,
    too_large: Callable[[Item], None] | None = None,
    schedule: Schedule | None = None,
) -> None:
    """Call `work` on batches that together hold every pair once.

    done: the keys of the pairs that an earlier attempt at the run finished. The batches are made of
    all pairs, and those whose pairs are all done are skipped: the sums over a batch are rounded by
    its shape, so a resumed run that batched the rest anew would get other last digits than an
    uninterrupted one.
    too_large: called with a single pair that does not fit, which is then left out.
    schedule: which batches are computed at the same time.

    The longest batch comes first, so that memory runs out at once or never; the others in a fixed
    random order, so that the share of pairs done predicts the time that is left. A batch that runs
    out of GPU memory is split and retried, so `work` must have no effect before it has its results.

    Raises:
        MemoryError: a single pair does not fit, and there is no `too_large`.
        What `control.check()` raises, between two batches.
    """
    schedule = schedule or OneByOne()
    computed: set[int] = set()

    def compute(batch: list[Item]) -> None:
        work(batch)
        computed.add(id(batch))

    def batches_of(left: Sequence[Item]) -> deque[list[Item]]:
        batches = arranged(token_batches(left, row_tokens, budget.tokens, most_pairs))
        return deque(batch for batch in batches if not all(key(pair) in done for pair in batch))

    waiting = batches_of(pairs)
    while waiting:
        control.check()
        taken = schedule.take(waiting)
        fits = True
        try:
            schedule.run([partial(compute, batch) for batch in taken])
        except torch.OutOfMemoryError:
            fits = False
        left = [batch for batch in taken if id(batch) not in computed]
        computed.clear()
        if fits:
            continue
        if len(left) > 1:
            torch.cuda.empty_cache()
            schedule.take_fewer()
            waiting.extendleft(reversed(left))
            continue
        [batch] = left
        if len(batch) == 1 and too_large is not None and not budget.is_fixed:
            too_large(batch[0])
        else:  # outside the except block, whose traceback keeps tensors alive
            budget.halve(batch)
            waiting = batches_of([*batch, *(pair for other in waiting for pair in other)])


def arranged(batches: list[list[Item]]) -> list[list[Item]]:
    """The first batch, which is the longest, and then the others in a fixed random order."""
    others = batches[1:]
    random.Random(0).shuffle(others)  # noqa: S311 - an order, not a secret
    return [*batches[:1], *others]
